package webhook_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// sandboxRef has the form of a reference.
var sandboxRef = "b1-6650f1a2b3c4d5e6f7a8b9c0-1795596400-" + strings.Repeat("18c9ac33", 8)

// collector is a webhook made of this package alone. It keeps the events.
type collector struct {
	t *testing.T

	mu      sync.Mutex
	secret  []byte
	events  []webhook.Event
	skipped []webhook.Skipped
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		challenge, err := webhook.Challenge(r.URL.Query(), [][]byte{[]byte(sandbox.DefaultVerifyToken)})
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, challenge)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sandbox has abandoned the request
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !webhook.Verify([][]byte{c.secret}, r.Header.Get(webhook.SignatureHeader), body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	batch, err := webhook.Parse(body, time.Now())
	if err != nil {
		c.t.Errorf("%s: %v", body, err)
	}
	c.events, c.skipped = append(c.events, batch.Events...), append(c.skipped, batch.Skipped...)
}

// startSandbox starts a sandbox with one page that reports to a collector, and returns both.
func startSandbox(t *testing.T, receipts bool) (*sandbox.Sandbox, *collector) {
	t.Helper()
	c := &collector{t: t, secret: []byte(sandbox.DefaultAppSecret)}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page, Token: "token"}}, Webhook: sandbox.Webhook{Receipts: receipts,
		Fields: []string{"messages", "messaging_postbacks", "messaging_referrals", "messaging_optins", "message_reactions", "messaging_account_linking",
			"messaging_policy_enforcement", "message_deliveries", "message_reads", "message_echoes"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := sandbox.Webhook{URL: server.URL, RetryEvery: time.Hour, Batch: 5, Receipts: receipts}
	if err := s.SetWebhook(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// collected waits until nothing is to be sent any more, and returns the events.
func (c *collector) collected(s *sandbox.Sandbox) []webhook.Event {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); s.WebhookCounts().Waiting > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("still waiting: %+v", s.WebhookCounts())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, skipped := range c.skipped {
		c.t.Errorf("skipped %+v", skipped)
	}
	list := c.events
	c.events, c.skipped = nil, nil
	return list
}

// What the sandbox's people do is read as what it is, whatever the sandbox varies: two readings of Facebook's pages agree.
func TestSandboxEvents(t *testing.T) {
	s, c := startSandbox(t, false)
	for _, tt := range []struct {
		write sandbox.Write
		kind  webhook.Kind
		from  webhook.Origin // of the reference; empty: none
		opens bool
	}{
		{sandbox.Write{Text: "schön / 日本 😀"}, webhook.KindMessage, "", true},
		{sandbox.Write{Text: "Hi", Ref: sandboxRef}, webhook.KindMessage, webhook.FromMessageReferral, true},
		{sandbox.Write{Kind: sandbox.KindQuickReply, Ref: sandboxRef}, webhook.KindMessage, webhook.FromQuickReply, true},
		{sandbox.Write{Payload: sandboxRef}, webhook.KindPostback, webhook.FromPostback, true},
		{sandbox.Write{Kind: sandbox.KindPostback, Ref: sandboxRef}, webhook.KindPostback, webhook.FromPostback, true},
		{sandbox.Write{Kind: sandbox.KindGetStarted}, webhook.KindPostback, "", true},
		{sandbox.Write{Ref: sandboxRef, New: true}, webhook.KindPostback, webhook.FromPostbackReferral, true},
		{sandbox.Write{Ref: sandboxRef}, webhook.KindReferral, webhook.FromReferral, true},
		{sandbox.Write{Kind: sandbox.KindOptin, Ref: sandboxRef}, webhook.KindOptin, webhook.FromOptin, false},
		{sandbox.Write{Kind: sandbox.KindOptin, Payload: sandboxRef}, webhook.KindOptin, webhook.FromOptinPayload, false},
		{sandbox.Write{Kind: sandbox.KindReaction}, webhook.KindReaction, "", true},
		{sandbox.Write{Kind: sandbox.KindAccountLinking, Ref: sandboxRef}, webhook.KindAccountLinking, webhook.FromAccountLinking, false},
		{sandbox.Write{Kind: sandbox.KindDelivery}, webhook.KindDelivery, "", false},
		{sandbox.Write{Kind: sandbox.KindRead}, webhook.KindRead, "", false},
	} {
		name := fmt.Sprintf("%+v", tt.write)
		tt.write.Times = 12
		at := time.Now()
		if _, err := s.Write(psid, tt.write); err != nil {
			t.Fatal(err)
		}
		keys := map[string]bool{}
		for _, e := range c.collected(s) {
			keys[e.Key] = true
			var from webhook.Origin
			if len(e.Refs) == 1 && e.Refs[0].Ref == sandboxRef {
				from = e.Refs[0].From
			}
			if e.Kind != tt.kind || e.Page != page || e.PSID != psid || from != tt.from || e.Opens != tt.opens || e.OtherRef || e.At.Sub(at).Abs() > time.Hour {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if len(keys) != 12 {
			t.Errorf("%s: %d different events, want 12", name, len(keys))
		}
	}
	if n := s.WebhookCounts(); n.Failed > 0 {
		t.Errorf("%+v", n)
	}
}

// An event that Facebook repeats has one key.
func TestSandboxRepeats(t *testing.T) {
	s, c := startSandbox(t, false)
	for _, kind := range []string{sandbox.KindMessage, sandbox.KindPostback, sandbox.KindReferral, sandbox.KindOptin} {
		if _, err := s.Write(psid, sandbox.Write{Kind: kind, Times: 10, Repeat: 1}); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for s.WebhookCounts().Waiting > 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := map[string]bool{}
	for _, e := range c.events {
		keys[e.Key] = true
	}
	duplicates := 0
	for _, skipped := range c.skipped { // repetitions in the same body
		if skipped.Why != webhook.WhyDuplicate {
			t.Errorf("skipped %+v", skipped)
		}
		duplicates++
	}
	if len(keys) != 40 || len(c.events)+duplicates != 80 {
		t.Errorf("%d keys of %d events and %d duplicates, want 40 of 80", len(keys), len(c.events), duplicates)
	}
}

// Policy and receipts of messages that the sandbox took.
func TestSandboxReceipts(t *testing.T) {
	s, c := startSandbox(t, true)
	if err := s.Policy(page, "warning", "Too many messages."); err != nil {
		t.Fatal(err)
	}
	if list := c.collected(s); len(list) != 1 || list[0].Kind != webhook.KindPolicy || list[0].Action != "warning" {
		t.Errorf("%+v", list)
	}
	req, err := http.NewRequest(http.MethodPost, s.URL()+"/me/messages", strings.NewReader(
		`{"recipient":{"id":"`+psid+`"},"messaging_type":"UPDATE","message":{"text":"Hi","metadata":"01JD"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	mid := s.Find(sandbox.Query{})[0].MessageID
	seen := map[webhook.Kind]bool{}
	for _, e := range c.collected(s) {
		seen[e.Kind] = true
		wrong := e.Kind == webhook.KindEcho && (e.MID != mid || e.Metadata != "01JD" || e.AppID == "") ||
			e.Kind != webhook.KindEcho && e.Watermark.IsZero() || len(e.MIDs) == 1 && e.MIDs[0] != mid
		if wrong || e.PSID != psid || e.Page != page || e.Opens {
			t.Errorf("%+v", e)
		}
	}
	if !seen[webhook.KindEcho] || !seen[webhook.KindDelivery] || !seen[webhook.KindRead] {
		t.Errorf("only %v", seen)
	}
}

// A body signed with another secret is refused, and accepted once the secret is there.
func TestSandboxRotatesSecret(t *testing.T) {
	s, c := startSandbox(t, false)
	c.mu.Lock()
	c.secret = []byte("another")
	c.mu.Unlock()
	if _, err := s.Write(psid, sandbox.Write{}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); s.WebhookCounts().Failed < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", s.WebhookCounts())
		}
	}
	if d := s.Deliveries(0)[0]; d.Status != http.StatusUnauthorized || d.State != sandbox.Waiting {
		t.Errorf("%+v", d)
	}
}

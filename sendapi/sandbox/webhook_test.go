package sandbox

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// callback is an app's server: it verifies like one, and keeps what it is sent.
type callback struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	secret string   // empty: signatures are not checked
	tokens []string // valid verify tokens
	answer func(n int, r *http.Request) int
	bodies []string // in the order of arrival
}

func newCallback(t *testing.T) *callback {
	c := &callback{t: t, secret: DefaultAppSecret, tokens: []string{DefaultVerifyToken}}
	server := httptest.NewServer(c)
	c.url = server.URL + "/webhook"
	t.Cleanup(server.Close)
	return c
}

func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		c.mu.Lock()
		defer c.mu.Unlock()
		if q.Get("hub.mode") != "subscribe" || !slices.Contains(c.tokens, q.Get("hub.verify_token")) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, q.Get("hub.challenge"))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sandbox closes
	}
	n, answer := c.take(r.Header, body)
	if answer != nil {
		w.WriteHeader(answer(n, r))
	}
}

// take keeps a body and returns its number, and what answers it.
func (c *callback) take(h http.Header, body []byte) (int, func(int, *http.Request) int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret != "" {
		c.checkSignature(h, body)
	}
	c.bodies = append(c.bodies, string(body))
	return len(c.bodies), c.answer
}

func (c *callback) checkSignature(h http.Header, body []byte) {
	mac := hmac.New(sha256.New, []byte(c.secret))
	mac.Write(body)
	if got, want := h.Get("X-Hub-Signature-256"), "sha256="+hex.EncodeToString(mac.Sum(nil)); got != want {
		c.t.Errorf("X-Hub-Signature-256 is %q, want %q", got, want)
	}
	mac = hmac.New(sha1.New, []byte(c.secret))
	mac.Write(body)
	if got, want := h.Get("X-Hub-Signature"), "sha1="+hex.EncodeToString(mac.Sum(nil)); got != want {
		c.t.Errorf("X-Hub-Signature is %q, want %q", got, want)
	}
	if h.Get("X-Sandbox") != "brazier" || h.Get("Content-Type") != "application/json" {
		c.t.Errorf("headers %v", h)
	}
}

func (c *callback) set(change func(*callback)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *callback) received() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.bodies...)
}

// envelopeJSON is a body as read.
type envelopeJSON struct {
	Object string `json:"object"`
	Entry  []struct {
		ID        string      `json:"id"`
		Time      int64       `json:"time"`
		Messaging []eventJSON `json:"messaging"`
	} `json:"entry"`
}

type eventJSON struct {
	Sender    struct{ ID string } `json:"sender"`
	Recipient struct{ ID string } `json:"recipient"`
	Timestamp int64               `json:"timestamp"`
	Message   *struct {
		MID         string           `json:"mid"`
		Text        string           `json:"text"`
		IsEcho      bool             `json:"is_echo"`
		AppID       any              `json:"app_id"`
		Metadata    string           `json:"metadata"`
		Attachments []map[string]any `json:"attachments"`
		QuickReply  *struct {
			Payload string `json:"payload"`
		} `json:"quick_reply"`
		Referral *referralJSON `json:"referral"`
	} `json:"message"`
	Postback *struct {
		MID      string        `json:"mid"`
		Title    string        `json:"title"`
		Payload  string        `json:"payload"`
		Referral *referralJSON `json:"referral"`
	} `json:"postback"`
	Referral *referralJSON     `json:"referral"`
	Optin    map[string]string `json:"optin"`
	Reaction map[string]string `json:"reaction"`
	Linking  map[string]string `json:"account_linking"`
	Policy   map[string]string `json:"policy_enforcement"`
	Delivery *receiptJSON      `json:"delivery"`
	Read     *receiptJSON      `json:"read"`
}

type referralJSON struct {
	Ref    string  `json:"ref"`
	Source *string `json:"source"`
	Type   string  `json:"type"`
	AdID   string  `json:"ad_id"`
}

type receiptJSON struct {
	MIDs      []string `json:"mids"`
	Watermark int64    `json:"watermark"`
}

// events reads bodies and returns their events in order.
func events(t *testing.T, bodies []string) []eventJSON {
	t.Helper()
	var list []eventJSON
	for _, b := range bodies {
		var e envelopeJSON
		if err := json.Unmarshal([]byte(b), &e); err != nil || e.Object != "page" || len(e.Entry) == 0 {
			t.Fatalf("body %s: %v", b, err)
		}
		for _, entry := range e.Entry {
			if len(entry.Messaging) == 0 || entry.Time < 1e12 {
				t.Fatalf("body %s: an entry without events or time", b)
			}
			for _, event := range entry.Messaging {
				page := event.Recipient.ID
				if event.Message != nil && event.Message.IsEcho {
					page = event.Sender.ID
				}
				if page != entry.ID {
					t.Errorf("body %s: an event of page %s under %s", b, page, entry.ID)
				}
				list = append(list, event)
			}
		}
	}
	return list
}

// until polls for what has to become true soon.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// settled waits until no event waits, and returns the counts.
func (r *rig) settled() WebhookCounts {
	r.t.Helper()
	until(r.t, "no event waits", func() bool { return r.WebhookCounts().Waiting == 0 })
	return r.WebhookCounts()
}

func (r *rig) write(psid string, w Write) Written {
	r.t.Helper()
	out, err := r.Write(psid, w)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// startHooked starts a sandbox with page 10, which reports to a callback.
func startHooked(t *testing.T, w Webhook) (*rig, *callback) {
	t.Helper()
	c := newCallback(t)
	w.URL = c.url
	return start(t, Config{Pages: []Page{{ID: "10", Token: "token"}}, Webhook: w}), c
}

func TestWebhookRefuses(t *testing.T) {
	const loopback = "http://127.0.0.1:1/webhook"
	tests := []struct {
		name string
		c    Config
		want string // the field
	}{
		{"no URL", Config{Webhook: Webhook{URL: "webhook"}}, "Webhook.URL:"},
		{"not HTTP", Config{Webhook: Webhook{URL: "ftp://127.0.0.1/"}}, "Webhook.URL:"},
		{"another machine", Config{Webhook: Webhook{URL: "https://brazier.example.com/webhook"}}, "Webhook.URL:"},
		{"timeout", Config{Webhook: Webhook{URL: loopback, Timeout: -1}}, "Webhook.Timeout:"},
		{"retry every", Config{Webhook: Webhook{RetryEvery: 48 * time.Hour}}, "Webhook.RetryEvery:"},
		{"retry for", Config{Webhook: Webhook{RetryFor: -1}}, "Webhook.RetryFor:"},
		{"batch", Config{Webhook: Webhook{Batch: 1001}}, "Webhook.Batch:"},
		{"parallel", Config{Webhook: Webhook{Parallel: -1}}, "Webhook.Parallel:"},
		{"field", Config{Webhook: Webhook{Fields: []string{"message"}}}, "Webhook.Fields:"},
		{"app without name", Config{Webhook: Webhook{Apps: []App{{Name: "a"}, {Secret: "s"}}}}, "Webhook.Apps[1].Name:"},
		{"app twice", Config{Webhook: Webhook{Apps: []App{{Name: "a"}, {Name: "a"}}}}, "Webhook.Apps[1].Name:"},
		{"page of no app", Config{Pages: []Page{{ID: "1", App: "b"}}, Webhook: Webhook{Apps: []App{{Name: "a"}}}}, "Pages[0].App:"},
		{"any page of an app", Config{AnyPage: Page{App: "a"}}, "AnyPage:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(tt.c)
			if err == nil {
				s.Close()
				t.Fatal("started")
			}
			if !strings.HasPrefix(err.Error(), "sandbox: "+tt.want) {
				t.Errorf("error %q does not name %s", err, tt.want)
			}
		})
	}
}

func TestWebhookOfAnotherMachineIfMeant(t *testing.T) {
	r := start(t, Config{AllowRemote: true, Webhook: Webhook{URL: "https://brazier.example.com/webhook"}})
	if r.webhook().URL == "" {
		t.Error("no URL")
	}
}

// SetWebhook asks once for each app, and installs nothing that does not answer with the challenge.
func TestSetWebhookVerifies(t *testing.T) {
	c := newCallback(t)
	c.tokens = []string{"one", "two"}
	r := start(t, Config{Pages: []Page{{ID: "10", App: "b"}}, Webhook: Webhook{Apps: []App{{Name: "a"}, {Name: "b"}}}})
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/other":
			_, _ = io.WriteString(w, "1158201444")
		case "/longer":
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge")+"\n")
		case "/redirect":
			http.Redirect(w, r, c.url+"?"+r.URL.RawQuery, http.StatusFound)
		case "/hang":
			<-r.Context().Done()
		}
	}))
	t.Cleanup(elsewhere.Close)
	good := []App{{Name: "a", VerifyToken: "one"}, {Name: "b", VerifyToken: "two"}}
	for _, tt := range []struct {
		name, url string
		apps      []App
		want      string // part of the error; empty: accepted
	}{
		{"wrong token of one", c.url, []App{{Name: "a", VerifyToken: "one"}, {Name: "b", VerifyToken: "secret-typo"}}, `app "b" was answered 403`},
		{"no challenge", elsewhere.URL, good, "not answered with hub.challenge"},
		{"another challenge", elsewhere.URL + "/other", good, "not answered with hub.challenge"},
		{"more than the challenge", elsewhere.URL + "/longer", good, "not answered with hub.challenge"},
		{"redirect", elsewhere.URL + "/redirect", good, "was answered 302"},
		{"no answer", elsewhere.URL + "/hang", good, "got no answer"},
		{"nobody listens", "http://127.0.0.1:1/webhook", good, "got no answer"},
		{"an app of a page is missing", c.url, good[:1], `"b", the app of page 10`},
		{"another machine", "http://192.0.2.1/webhook", good, "another machine"},
		{"good", c.url, good, ""},
		{"good, with a query", c.url + "?tenant=1", good, ""},
		{"none", "", good, ""},
	} {
		before := r.webhook().URL
		timeout := 30 * time.Second
		if tt.name == "no answer" {
			timeout = 10 * time.Millisecond
		}
		err := r.SetWebhook(within(t), Webhook{URL: tt.url, Apps: tt.apps, Timeout: timeout})
		switch {
		case tt.want == "" && (err != nil || r.webhook().URL != tt.url):
			t.Errorf("%s: %v, URL %q", tt.name, err, r.webhook().URL)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || r.webhook().URL != before):
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "secret-typo"):
			t.Errorf("%s: the error %v has the verify token", tt.name, err)
		}
	}
}

// Each page's events are signed with the secret of its app, and a body holds those of one app.
func TestWebhookOfSeveralApps(t *testing.T) {
	type hit struct{ body, signature string }
	hits := make(chan hit, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hits <- hit{string(body), r.Header.Get("X-Hub-Signature-256")}
	}))
	t.Cleanup(server.Close)
	r := start(t, Config{
		Pages:   []Page{{ID: "10", Token: "x"}, {ID: "11", Token: "y", App: "b"}},
		Webhook: Webhook{Apps: []App{{Name: "a", Secret: "sa"}, {Name: "b", Secret: "sb"}}, Batch: 10, Parallel: 1},
	})
	r.hold(server.URL, func() {
		r.write("1", Write{Page: "10"})
		r.write("1", Write{Page: "11"})
		r.write("1", Write{Page: "10"})
	})
	r.settled()
	close(hits)
	secrets := map[string]string{"10": "sa", "11": "sb"}
	n := 0
	for h := range hits {
		n++
		mac := hmac.New(sha256.New, []byte(secrets[events(t, []string{h.body})[0].Recipient.ID]))
		mac.Write([]byte(h.body))
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); h.signature != want {
			t.Errorf("signature %s of %s, want %s", h.signature, h.body, want)
		}
	}
	if n != 3 {
		t.Errorf("%d bodies, want 3", n)
	}
}

// hold runs f while nothing is sent, and then sends to url. It keeps Parallel deliveries occupied meanwhile, as Write needs a URL.
func (r *rig) hold(url string, f func()) {
	r.mu.Lock()
	r.hooks.URL = url
	r.hooks.underWay += maxParallel
	r.mu.Unlock()
	f()
	r.mu.Lock()
	r.hooks.underWay -= maxParallel
	r.hooks.signal()
	r.mu.Unlock()
}

// A secret or a verify token appears neither on the control listener nor in an error.
func TestWebhookKeepsSecrets(t *testing.T) {
	c := newCallback(t)
	c.tokens = []string{"verify-me"}
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}}})
	var answers []string
	for _, step := range [][3]string{
		{"PUT", "/webhook", fmt.Sprintf(`{"url":%q,"secret":"hush-hush","verify_token":"verify-me-not"}`, c.url)},
		{"PUT", "/webhook", fmt.Sprintf(`{"url":%q,"secret":"hush-hush","verify_token":"verify-me"}`, c.url)},
		{"GET", "/webhook", ""},
		{"GET", "/webhook/record", ""},
	} {
		_, body := r.control(step[0], step[1], step[2])
		answers = append(answers, body)
	}
	if all := strings.Join(answers, "\n"); strings.Contains(all, "hush-hush") || strings.Contains(all, "verify-me") || !strings.Contains(answers[1], "ok") {
		t.Errorf("answers %s", all)
	}
}

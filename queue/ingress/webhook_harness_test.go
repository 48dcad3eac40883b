package ingress_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// The pages of the app of the webhooks in webhook_events.jsonl.
const (
	eventPage      = "104857600000017"
	otherEventPage = "104857600000024"
)

func secrets(of ...string) func() ([][]byte, error) {
	var all [][]byte
	for _, s := range of {
		all = append(all, []byte(s))
	}
	return func() ([][]byte, error) { return all, nil }
}

func testApp() ingress.App {
	return ingress.App{Name: "acme-app", Secrets: secrets(appSecret), VerifyTokens: secrets(verifyToken), Pages: []string{eventPage, otherEventPage}}
}

// withRoadBack is the configuration of a queue of the test's own that stores events.
func withRoadBack(t testing.TB) queue.Config {
	return queue.Config{InProcess: queuetest.Server(t, ""), RoadBack: true}
}

func openWebhooks(t testing.TB, cfg ingress.Config, jobs queue.Config) *harness {
	t.Helper()
	if cfg.Apps == nil {
		cfg.Apps = []ingress.App{testApp()}
	}
	jobs.RoadBack = true
	return openOn(t, cfg, jobs)
}

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// webhookRequest makes a webhook of a body, as Facebook would, with the given changes.
func webhookRequest(url, body string, options ...func(*http.Request)) *http.Request {
	r, err := http.NewRequest(http.MethodPost, url+"/webhook", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(webhook.SignatureHeader, sign(appSecret, body))
	for _, o := range options {
		o(r)
	}
	return r
}

// webhook posts a body as Facebook would, with the given changes.
func (h *harness) webhook(body string, options ...func(*http.Request)) answer {
	h.t.Helper()
	resp, err := h.client.Do(webhookRequest(h.url, body, options...).WithContext(h.t.Context()))
	if err != nil {
		h.t.Errorf("webhook: %v", err)
		return answer{}
	}
	return h.read(resp)
}

// taken checks that a webhook was answered 200 and nothing else.
func (h *harness) taken(a answer) {
	h.t.Helper()
	if a.status != http.StatusOK || a.body != "" {
		h.t.Errorf("status %d, want 200 without a body: %s", a.status, a.body)
	}
}

// deliver posts a body as Facebook does, again until it is answered 200: on a busy machine the queue may not answer in time.
func (h *harness) deliver(body string, options ...func(*http.Request)) {
	h.t.Helper()
	h.eventually("a webhook is stored", func() bool {
		a := h.webhook(body, options...)
		if a.status == http.StatusServiceUnavailable {
			h.unavailable(a)
			return false
		}
		h.taken(a)
		return true
	})
}

// eventBody returns a webhook with messages of these mids.
func eventBody(mids ...string) string {
	var events []string
	for _, mid := range mids {
		events = append(events, fmt.Sprintf(`{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":1795600000123,"message":{"mid":%q,"text":%q}}`, psid, eventPage, mid, greeting))
	}
	return fmt.Sprintf(`{"object":"page","entry":[{"id":%q,"time":1795600000523,"messaging":[%s]}]}`, eventPage, strings.Join(events, ","))
}

// takeEvents removes all events from the queue and returns them, oldest first. It publishes a last one to know when it has seen
// all of them.
func (h *harness) takeEvents() (events []webhook.Event) {
	h.t.Helper()
	end := queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Events, Accepted: time.Now()}
	if _, err := h.q.Publish(h.t.Context(), &end); err != nil {
		h.t.Fatalf("publish the end: %v", err)
	}
	for {
		job := h.next(queue.AllPages, queue.Events)
		if job.ID == end.ID {
			return events
		}
		var e webhook.Event
		if err := json.Unmarshal(job.Body, &e); err != nil {
			h.t.Fatalf("stored is no event: %v", err)
		}
		if job.Page != e.Page || time.Since(job.Accepted).Abs() > time.Minute || job.Key == "" {
			h.t.Errorf("stored is a job of page %s, accepted %v, key %q", job.Page, job.Accepted, job.Key)
		}
		for _, shown := range []string{job.ID, job.Key, job.Recipient} {
			if e.PSID != "" && strings.Contains(shown, e.PSID) {
				h.t.Errorf("what is shown of the job contains the PSID: %q", shown)
			}
		}
		if bytes.Contains(job.Body, []byte(greeting)) {
			h.t.Errorf("the text is stored")
		}
		events = append(events, e)
	}
}

// mids takes all events and returns how often each mid was among them.
func (h *harness) mids() map[string]int {
	h.t.Helper()
	n := map[string]int{}
	for _, e := range h.takeEvents() {
		n[e.MID]++
	}
	return n
}

func (h *harness) noEvents() {
	h.t.Helper()
	if events := h.takeEvents(); len(events) != 0 {
		h.t.Errorf("%d events are stored, want none", len(events))
	}
}

package ingress_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Each body that Facebook is known to send is answered 200, and what it holds of events to be captured is stored, once.
func TestWebhookVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../sendapi/webhook/testdata/webhook_events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	type stored struct{ Kind, PSID, Page, At string }
	h := openWebhooks(t, ingress.Config{}, withRoadBack(t))
	var again []func()
	for line := range strings.Lines(string(data)) {
		var v struct {
			Name, Body string
			Signature  string `json:"x_hub_signature_256"`
			Expect     []struct{ Do, Kind, PSID, Page, At string }
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		send := func() { h.deliver(v.Body, with("X-Hub-Signature-256", v.Signature)) }
		again = append(again, send)
		t.Run(v.Name, func(t *testing.T) {
			send()
			var want, got []stored
			for _, x := range v.Expect {
				if x.Do == "capture" || x.Do == "page_alert" {
					want = append(want, stored{x.Kind, x.PSID, x.Page, x.At})
				}
			}
			for _, e := range h.in(t).takeEvents() {
				at := e.At.Format("2006-01-02T15:04:05.000Z07:00")
				if e.PSID == "" {
					at = "" // the file has none of a policy
				}
				got = append(got, stored{string(e.Kind), e.PSID, e.Page, at})
			}
			less := func(a, b stored) bool { return a.Page+a.PSID < b.Page+b.PSID }
			if diff := cmp.Diff(want, got, cmpopts.SortSlices(less)); diff != "" {
				t.Errorf("events (-want +stored):\n%s", diff)
			}
		})
	}
	if len(again) < 61 {
		t.Errorf("only %d bodies were sent", len(again))
	}
	var sending sync.WaitGroup
	for _, send := range again {
		sending.Go(send)
	}
	sending.Wait()
	h.noEvents()
}

// TestWebhookAnswers has what is not to be trusted or not to be read: the answer, what is stored, and what is logged.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	reader := openWebhooks(t, ingress.Config{}, withRoadBack(t))
	app, retired := testApp(), testApp()
	app.Secrets = secrets("", appSecret, oldSecret) // while one is replaced
	second := ingress.App{Name: "second", Secrets: secrets("secret-of-the-second"), Pages: []string{acme}}
	unreadable := ingress.App{Name: "unreadable", Secrets: failing, VerifyTokens: failing, Pages: []string{eventPage}}
	ordinary := eventBody("m_1")
	large := eventBody("m_large") + strings.Repeat(" ", 10<<20)
	signed := func(secret, body string) func(*http.Request) { return with("X-Hub-Signature-256", sign(secret, body)) }
	unsigned := without("X-Hub-Signature-256")
	get := func(query string) func(*http.Request) {
		return func(r *http.Request) {
			r.Method, r.Body, r.ContentLength, r.URL.RawQuery = http.MethodGet, nil, 0, query
		}
	}
	for _, c := range []struct {
		name    string
		apps    []ingress.App // instead of those above
		body    string
		options []func(*http.Request)
		status  int
		stored  int
		logged  string // event, cause
	}{
		{"signed", nil, ordinary, nil, 200, 1, ""},
		{"replayed", nil, ordinary, nil, 200, 0, ""},
		{"secret before", nil, eventBody("m_2"), []func(*http.Request){signed(oldSecret, eventBody("m_2"))}, 200, 1, ""},
		{"secret before, once it is retired", []ingress.App{retired}, eventBody("m_3"), []func(*http.Request){signed(oldSecret, eventBody("m_3"))}, 401, 0, "webhook_refused signature"},
		{"another app's secret", nil, eventBody("m_4"), []func(*http.Request){signed("secret-of-the-second", eventBody("m_4"))}, 200, 0, "webhook_unknown_page "},
		{"wrong page", nil, strings.ReplaceAll(ordinary, eventPage, "104857600000031"), nil, 200, 0, "webhook_unknown_page "},
		{"two of a wrong page", nil, strings.ReplaceAll(eventBody("m_5", "m_6"), eventPage, "104857600000031"), nil, 200, 0, "webhook_unknown_page "},
		{"unsigned", nil, ordinary, []func(*http.Request){unsigned}, 401, 0, "webhook_refused unsigned"},
		{"SHA-1 alone", nil, ordinary, []func(*http.Request){unsigned, with("X-Hub-Signature", "sha1=0123456789abcdef0123456789abcdef01234567")}, 401, 0, "webhook_refused unsigned"},
		{"SHA-1 instead", nil, ordinary, []func(*http.Request){with("X-Hub-Signature-256", "sha1=0123456789abcdef0123456789abcdef01234567")}, 401, 0, "webhook_refused signature"},
		{"wrong secret", nil, ordinary, []func(*http.Request){signed("guessed", ordinary)}, 401, 0, "webhook_refused signature"},
		{"empty secret", nil, ordinary, []func(*http.Request){signed("", ordinary)}, 401, 0, "webhook_refused signature"},
		{"another body", nil, eventBody("m_6"), []func(*http.Request){signed(appSecret, ordinary)}, 401, 0, "webhook_refused signature"},
		{"no body", nil, "", []func(*http.Request){signed("guessed", "")}, 401, 0, "webhook_refused signature"},
		{"10 MB", nil, large, nil, 413, 0, "webhook_refused too_large"},
		{"10 MB in chunks", nil, large, []func(*http.Request){func(r *http.Request) { r.ContentLength = -1 }}, 413, 0, "webhook_refused too_large"},
		{"10 MB unsigned", nil, large, []func(*http.Request){unsigned}, 401, 0, "webhook_refused unsigned"},
		{"gzip", nil, ordinary, []func(*http.Request){with("Content-Encoding", "gzip")}, 415, 0, "webhook_refused encoding"},
		{"identity", nil, ordinary, []func(*http.Request){with("Content-Encoding", "identity")}, 200, 0, ""},
		{"not JSON", nil, "<html>", nil, 200, 0, "webhook_unreadable "},
		{"not an object", nil, "[]", nil, 200, 0, "webhook_unreadable "},
		{"signed nothing", nil, "", nil, 200, 0, "webhook_unreadable "},
		{"no events", nil, "{}", nil, 200, 0, ""},
		{"receipts", nil, strings.ReplaceAll(ordinary, `"message":{"mid":"m_1","text":"`+greeting+`"}`, `"read":{"watermark":1795600000123}`), nil, 200, 0, ""},
		{"one of two events is broken", nil, strings.Replace(eventBody("m_7", "m_8"), psid, "nobody", 1), nil, 200, 1, ""},
		{"with a slash", nil, eventBody("m_9"), []func(*http.Request){at("/webhook/")}, 200, 1, ""},
		{"below the path", nil, ordinary, []func(*http.Request){at("/webhook/1")}, 404, 0, "rejected path"},
		{"PUT", nil, ordinary, []func(*http.Request){func(r *http.Request) { r.Method = "PUT" }}, 405, 0, "webhook_refused method"},
		{"secrets cannot be read", []ingress.App{unreadable}, ordinary, nil, 503, 0, "webhook_error secrets"},
		{"secrets of another app cannot be read", []ingress.App{unreadable, retired}, eventBody("m_10"), nil, 200, 1, ""},
		{"verified", nil, "", []func(*http.Request){get("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=" + verifyToken)}, 200, 0, "webhook_verified "},
		{"wrong token", nil, "", []func(*http.Request){get("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=guessed")}, 403, 0, "webhook_refused verify_token"},
		{"no token", nil, "", []func(*http.Request){get("hub.mode=subscribe&hub.challenge=1158201444")}, 403, 0, "webhook_refused verify_token"},
		{"a page as challenge", nil, "", []func(*http.Request){get("hub.mode=subscribe&hub.challenge=%3Chtml%3E&hub.verify_token=" + verifyToken)}, 403, 0, "webhook_refused verify_token"},
		{"nothing asked", nil, "", []func(*http.Request){get("")}, 403, 0, "webhook_refused verify_token"},
		{"tokens cannot be read", []ingress.App{unreadable}, "", []func(*http.Request){get("hub.mode=subscribe&hub.challenge=1&hub.verify_token=" + verifyToken)}, 503, 0, "webhook_error secrets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			apps := c.apps
			if apps == nil {
				apps = []ingress.App{app, second}
			}
			seen, lines := observer.New(zap.InfoLevel)
			h := serve(t, ingress.Config{Apps: apps, Log: zap.New(seen)}, reader.q) // another each time, since refusals are sampled
			a := h.webhook(c.body, c.options...)
			switch {
			case c.status != 200:
				h.refused(a, c.status)
			case c.name == "verified":
				if a.status != 200 || a.body != "1158201444" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("answer %d %v %q", a.status, a.header, a.body)
				}
			default:
				h.taken(a)
			}
			if got := logged(lines.TakeAll()); got != c.logged {
				t.Errorf("logged: %q, want %q", got, c.logged)
			}
			if got := len(reader.in(t).takeEvents()); got != c.stored {
				t.Errorf("%d events are stored, want %d", got, c.stored)
			}
		})
	}
}

func failing() ([][]byte, error) { return nil, errors.New("open secrets/app.secret: no such file") }

func (h *harness) setApps(apps ...ingress.App) {
	h.t.Helper()
	if err := h.server.SetApps(apps); err != nil {
		h.t.Fatal(err)
	}
}

// logged returns the event and the cause of each line.
func logged(lines []observer.LoggedEntry) string {
	var all []string
	for _, line := range lines {
		fields := line.ContextMap()
		cause, _ := fields["cause"].(string)
		all = append(all, fmt.Sprint(fields["event"], " ", cause))
	}
	return strings.Join(all, ", ")
}

// Without apps the path is as any other, and with them it has nothing to do with AllowFrom.
func TestWebhookOff(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{AllowFrom: prefixes("203.0.113.0/24")}, withRoadBack(t))
	body := eventBody("m_1")
	h.refused(h.webhook(body), http.StatusForbidden) // the address, as for every path
	h.setApps(testApp())
	h.taken(h.webhook(body))
	if err := h.server.SetApps([]ingress.App{{Name: "no secrets"}}); err == nil {
		t.Error("an app without secrets is taken")
	}
	h.taken(h.webhook(body))
	h.setApps()
	h.refused(h.webhook(body), http.StatusForbidden)
	if n := len(h.takeEvents()); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}

	open := openOn(t, ingress.Config{}, fresh(t))
	open.refused(open.webhook(body), http.StatusNotFound)
	open.refused(open.webhook("", func(r *http.Request) { r.Method = http.MethodGet }), http.StatusNotFound)
}

func TestWebhookAllowFrom(t *testing.T) {
	t.Parallel()
	h := openWebhooks(t, ingress.Config{WebhookAllowFrom: prefixes("::ffff:203.0.113.0/120"), TrustedProxies: prefixes("127.0.0.0/8")}, withRoadBack(t))
	h.refused(h.webhook(eventBody("m_1"), with("X-Forwarded-For", "192.0.2.1")), http.StatusForbidden)
	h.taken(h.webhook(eventBody("m_2"), with("X-Forwarded-For", "203.0.113.1")))
	h.accepted(h.post(with("X-Forwarded-For", "192.0.2.1")), "queued")
	if got := h.mids(); len(got) != 1 || got["m_2"] != 1 {
		t.Errorf("stored: %v", got)
	}
}

// A queue without the streams for webhooks stores nothing, and says so.
func TestWebhookWithoutRoadBack(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	h := openOn(t, ingress.Config{Apps: []ingress.App{testApp()}, Log: zap.New(seen)}, fresh(t))
	h.unavailable(h.webhook(eventBody("m_1")))
	found := lines.FilterField(zap.String("event", "webhook_error")).All()
	if len(found) != 1 || !strings.Contains(fmt.Sprint(found[0].ContextMap()["error"]), queue.ErrNoRoadBack.Error()) {
		t.Errorf("logged: %v", found)
	}
}

// While the Server ends, what comes through another HTTP server is answered 503.
func TestWebhookDraining(t *testing.T) {
	t.Parallel()
	h := openWebhooks(t, ingress.Config{}, withRoadBack(t))
	if err := h.shut(); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, webhookRequest("", eventBody("m_1"), func(r *http.Request) { r.Method = method }))
		h.unavailable(h.read(w.Result()))
	}
	h.noEvents()
}

func TestWebhookPanic(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.ErrorLevel)
	app := testApp()
	app.Secrets = func() ([][]byte, error) { panic(errors.New(appSecret)) }
	h := openWebhooks(t, ingress.Config{Apps: []ingress.App{app}, Log: zap.New(seen)}, withRoadBack(t))
	h.unavailable(h.webhook(eventBody("m_1")))
	if got := logged(lines.All()); got != "panic *errors.errorString" {
		t.Errorf("logged: %s", got)
	}
	h.setApps(testApp())
	h.taken(h.webhook(eventBody("m_1")))
	h.gauge("brazier_webhook_waiting_requests", 0)
	h.gauge("brazier_webhook_waiting_bytes", 0)
}

func TestWebhookMetrics(t *testing.T) {
	t.Parallel()
	h := openWebhooks(t, ingress.Config{}, withRoadBack(t))
	body := eventBody("m_1", "m_2", "m_2")
	h.webhook(body)
	h.webhook(body)
	h.webhook(body, without("X-Hub-Signature-256"))
	h.webhook("<")
	h.webhook(strings.ReplaceAll(body, eventPage, "104857600000031"))
	h.webhook(strings.ReplaceAll(eventBody("m_3"), `"message":{"mid":"m_3","text":"`+greeting+`"}`, `"read":{"watermark":1795600000123}`))
	want := map[string]float64{
		"requests_total accepted 200": 4, "requests_total unreadable 200": 1, "requests_total unsigned 401": 1,
		"events_total message stored": 2, "events_total message duplicate": 2, "events_total message skipped_duplicate": 3,
		"events_total message unknown_page": 2, "events_total read receipt": 1,
		"request_duration_seconds 200": 5, "request_duration_seconds 401": 1,
		"waiting_requests": 0, "waiting_requests_limit": 512, "waiting_bytes": 0, "waiting_bytes_limit": 32 << 20,
	}
	got := map[string]float64{}
	for name, value := range h.metrics() {
		if name, ok := strings.CutPrefix(name, "brazier_webhook_"); ok {
			got[name] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// A flood of unsigned webhooks logs at most 10 lines a second and the count of the others, and does not suppress the lines about
// webhooks of Facebook.
func TestWebhookRefusalsAreSampled(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	q := queuetest.New(t)
	q.Now() // starts to measure its clock, outside of the bubble
	server, err := ingress.Open(ingress.Config{Queue: q, Apps: []ingress.App{testApp()}, Listen: "127.0.0.1:0", Log: zap.New(seen)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	synctest.Test(t, func(t *testing.T) {
		for range 1000 {
			server.ServeHTTP(httptest.NewRecorder(), webhookRequest("", "{", without("X-Hub-Signature-256")))
		}
		server.ServeHTTP(httptest.NewRecorder(), webhookRequest("", "{"))
		<-time.After(time.Second)
		synctest.Wait()
		n := map[string]int{}
		for _, line := range lines.TakeAll() {
			fields := line.ContextMap()
			n[fields["event"].(string)]++
			if fields["event"] == "left_out" && (fields["of"] != "webhook_refused" || fields["count"] != int64(990)) {
				t.Errorf("left out: %v", fields)
			}
		}
		if diff := cmp.Diff(map[string]int{"webhook_refused": 10, "webhook_unreadable": 1, "left_out": 1}, n); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
}

// The body of a webhook has to arrive within the time in which Facebook waits for the answer.
func TestWebhookSlow(t *testing.T) {
	t.Parallel()
	h := openWebhooks(t, ingress.Config{BodyTimeout: time.Minute}, withRoadBack(t))
	conn := h.dial()
	defer conn.Close()
	began := time.Now()
	fmt.Fprintf(conn, "POST /webhook HTTP/1.1\r\nHost: brazier.example\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 200000\r\n\r\n{")
	status, body := h.readRaw(conn)
	if took := time.Since(began); status != http.StatusRequestTimeout || took > 30*time.Second {
		t.Errorf("status %d after %v: %s", status, took, body)
	}
	_, _ = io.Copy(io.Discard, conn)
	h.gauge("brazier_webhook_waiting_bytes", 0)
}

package ingress_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// webhookStatuses are the statuses that a webhook is answered with.
var webhookStatuses = []int{200, 400, 401, 403, 405, 408, 413, 415, 503}

// FuzzWebhook posts arbitrary bodies, signed with a secret of the app or not: 200 is answered to what is signed alone, and then
// the queue holds each event that was not there before, and nothing else. length is by how much Content-Length is wrong.
func FuzzWebhook(f *testing.F) {
	data, err := os.ReadFile("../../sendapi/webhook/testdata/webhook_events.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var v struct{ Body string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			f.Fatal(err)
		}
		f.Add("POST", "", "", "", true, []byte(v.Body), 0)
	}
	f.Add("GET", "hub.mode=subscribe&hub.challenge=1&hub.verify_token="+verifyToken, "", "", false, []byte(nil), 0)
	f.Add("POST", "", "sha256="+strings.Repeat("0", 64), "gzip", false, []byte("{}"), 0)
	f.Add("POST", "%zz;", "sha1=00", "", true, []byte(eventBody("m_1", "m_2")+strings.Repeat(" ", 5000)), 1)
	f.Add("put", "", "", "", true, []byte("{}"), -1)

	h := openWebhooks(f, ingress.Config{MaxWebhookBody: 64 << 10}, withRoadBack(f))
	events := h.q.Source(queue.AllPages, queue.Events, 256)
	f.Cleanup(events.Stop)
	known := map[string]bool{}
	f.Fuzz(func(t *testing.T, method, query, signature, encoding string, signed bool, body []byte, length int) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: "/webhook", RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "203.0.113.1:80",
			Header: make(http.Header), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(max(-1, len(body)+length)), Host: "brazier.example",
		}
		if signed {
			signature = sign(appSecret, string(body))
		}
		r.Header["X-Hub-Signature-256"], r.Header["Content-Encoding"] = []string{signature}, []string{encoding}
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, r.WithContext(t.Context()))
		h := h.in(t)
		a := h.read(w.Result())
		if !slices.Contains(webhookStatuses, a.status) {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		if a.status != http.StatusOK {
			h.refused(a, a.status)
			return
		}
		if method == http.MethodGet {
			if a.body == "" {
				t.Error("verified without a challenge")
			}
			return
		}
		read := body
		if r.ContentLength >= 0 {
			read = body[:min(len(body), int(r.ContentLength))]
		}
		if sign(appSecret, string(read)) != strings.ToLower(signature) {
			t.Fatal("200 for what is not signed")
		}
		h.expectNew(events, known, read)
	})
}

// expectNew takes the events of a body that were not known before, and compares.
func (h *harness) expectNew(events *queue.Source, known map[string]bool, body []byte) {
	h.t.Helper()
	batch, _ := webhook.Parse(body, time.Now())
	want := map[string]bool{}
	for _, e := range batch.Events {
		if (e.Page == eventPage || e.Page == otherEventPage) && !e.Kind.IsReceipt() && !known[e.Key] {
			want[e.Key], known[e.Key] = true, true
		}
	}
	for len(want) > 0 {
		ctx := h.t.Context()
		defer time.AfterFunc(within, events.Stop).Stop()
		d, err := events.Next(ctx)
		if err != nil {
			h.t.Fatalf("%d events are not stored: %v", len(want), err)
		}
		var e webhook.Event
		if err := json.Unmarshal(d.Body, &e); err != nil || !want[e.Key] {
			h.t.Errorf("stored is %s, %v, which is not in the body or was stored before", d.ID, err)
		}
		delete(want, e.Key)
		if err := d.Done(ctx); err != nil {
			h.t.Fatal(err)
		}
	}
}

package ingress_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue/ingress"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	const limit = 4096
	h := openOn(t, ingress.Config{MaxBody: limit}, fresh(t))
	flat := `{"recipient":"{\"id\":\"` + psid + `\"}","messaging_type":"UPDATE","message":"{\"text\":\"` + greeting + `\"}"}`
	form := `recipient=%7B%22id%22%3A%22` + psid + `%22%7D&messaging_type=UPDATE&message=%7B%22text%22%3A%22` +
		strings.ReplaceAll(greeting, " ", "+") + `%22%7D`
	const json, encoded = "application/json", "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, contentType, body string
		want                    int
	}{
		{"nested", json, nested, 202},
		{"nested with charset", json + "; charset=utf-8", nested, 202},
		{"nested without type", "", nested, 202},
		{"nested called text", "text/plain", nested, 202},
		{"nested called a form", encoded, nested, 202},
		{"nested in spaces", json, "\r\n  " + nested + "\r\n", 202},
		{"flat", json, flat, 202},
		{"flat without type", "", flat, 202},
		{"form", encoded, form, 202},
		{"form called JSON", json, form, 202},
		{"form without type", "", form, 202},
		{"as long as the limit", json, nested + strings.Repeat(" ", limit-len(nested)), 202},
		{"a byte over the limit", json, nested + strings.Repeat(" ", limit-len(nested)+1), 413},
		{"far over the limit", json, nested + strings.Repeat(" ", 1<<20), 413},
		{"empty", json, "", 400},
		{"spaces", json, " \r\n", 400},
		{"broken JSON", json, strings.TrimSuffix(nested, "}"), 400},
		{"a quote that was not escaped", json, strings.Replace(nested, "parcel", `"parcel"`, 1), 400},
		{"two values", json, nested + nested, 400},
		{"not an object", json, `["` + psid + `"]`, 400},
		{"null", json, "null", 400},
		{"no recipient", json, `{"message":{"text":"` + greeting + `"}}`, 400},
		{"empty PSID", json, `{"recipient":{"id":""},"message":{"text":"` + greeting + `"}}`, 400},
		{"blank PSID", json, `{"recipient":{"id":"  "},"message":{"text":"` + greeting + `"}}`, 400},
		{"not UTF-8", json, "\xff\xfe\x00", 400},
	} {
		for _, chunked := range []bool{false, true} {
			name := c.name
			if chunked {
				name += ", chunked"
			}
			t.Run(name, func(t *testing.T) {
				h := h.in(t)
				a := h.post(with("Content-Type", c.contentType), withBody(c.body), func(r *http.Request) {
					if chunked {
						r.ContentLength = -1
					}
				})
				if c.want != http.StatusAccepted {
					h.refused(a, c.want)
					return
				}
				h.accepted(a, "queued")
				job := h.only(acme)
				if job.ID != a.ID {
					t.Errorf("stored under %s, answered %s", job.ID, a.ID)
				}
				if diff := cmp.Diff(parsed(t, []byte(nested)), parsed(t, job.Body)); diff != "" {
					t.Errorf("body (-sent +stored):\n%s", diff)
				}
				if strings.HasPrefix(c.name, "nested") && string(job.Body) != nested {
					t.Errorf("the caller's bytes were changed: %s", job.Body)
				}
			})
		}
	}
	h.nothingStored()
}

// Requests that an HTTP library would not send.
func TestBrokenRequests(t *testing.T) {
	t.Parallel()
	h := open(t)
	head := "POST " + messages + " HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer " + acmeKey + "\r\n"
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"body shorter than it says", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(nested)+1, nested), 400},
		{"chunks that break off", head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(nested), nested), 400},
		{"not chunks", head + "Transfer-Encoding: chunked\r\n\r\nnone\r\n", 400},
		{"a body without a length", head + "\r\n" + nested, 400},
		// net/http itself answers these.
		{"two lengths", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + nested, 400},
		{"control bytes in a header", head + "X-Brazier-Campaign: a\x01b\r\n\r\n", 400},
		{"headers over the limit", head + "X-Brazier-Campaign: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			if status, body := h.raw(c.request, true); status != c.want {
				t.Errorf("status %d, want %d: %s", status, c.want, body)
			}
		})
	}
	h.nothingStored()
}

// A body that does not arrive in time is answered 408, since Braze retries 408 and no other 4xx but 429.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	h := open(t)
	body, other := net.Pipe()
	defer body.Close()
	defer other.Close()
	_ = body.SetReadDeadline(time.Now().Add(-time.Second))
	r := httptest.NewRequest(http.MethodPost, messages, body)
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, r)
	h.refused(h.read(w.Result()), http.StatusRequestTimeout)
	h.nothingStored()
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.DebugLevel)
	h := openOn(t, ingress.Config{Log: zap.New(seen)}, fresh(t))
	a := h.post(with("X-Brazier-Campaign", "spring"), with("X-Brazier-Dispatch", "d1"), with("X-Brazier-User", "u1"), with("Idempotency-Key", "k"))
	h.post(with("Idempotency-Key", "k"))
	h.post(with("Idempotency-Key", "k"), withBody(strings.Replace(nested, greeting, greeting+"!", 1)))
	h.post(withBody("{"))
	h.post(without("Authorization"))

	bytes := int64(len(nested))
	for _, want := range []struct {
		event, level string
		fields       map[string]any // nil: any value
	}{
		{"accepted", "debug", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "spring", "dispatch": "d1", "user": "u1", "bytes": bytes, "took_ms": nil}},
		{"duplicate", "debug", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "", "dispatch": "", "user": "", "bytes": bytes, "took_ms": nil, "body_differs": false}},
		{"duplicate", "warn", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "", "dispatch": "", "user": "", "bytes": bytes + 1, "took_ms": nil, "body_differs": true}},
		{"rejected", "warn", map[string]any{"page": "acme", "reason": nil, "cause": "syntax", "status": int64(400), "remote": nil}},
		{"rejected", "warn", map[string]any{"page": "", "reason": nil, "cause": "key", "status": int64(401), "remote": nil}},
	} {
		t.Run(want.event, func(t *testing.T) {
			for _, line := range lines.All() {
				got := line.ContextMap()
				if got["event"] != want.event || got["status"] != want.fields["status"] || got["body_differs"] != want.fields["body_differs"] {
					continue
				}
				if line.Level.String() != want.level {
					t.Errorf("level is %v, want %s", line.Level, want.level)
				}
				delete(got, "event")
				for name, value := range want.fields {
					if value == nil && got[name] != nil {
						want.fields[name] = got[name]
					}
				}
				if diff := cmp.Diff(want.fields, got); diff != "" {
					t.Errorf("fields (-want +got):\n%s", diff)
				}
				return
			}
			t.Error("no such line")
		})
	}
}

package ingress_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// BenchmarkIngress measures a message from its request to 202, on the embedded server without a flush for each message. The
// allocations are those of the whole process: the server and, in the case http, the client too.
func BenchmarkIngress(b *testing.B) {
	b.Run("handler", func(b *testing.B) {
		h := open(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
				r.Header.Set("Authorization", "Bearer "+acmeKey)
				w := httptest.NewRecorder()
				if h.server.ServeHTTP(w, r); w.Code != http.StatusAccepted {
					b.Errorf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	})
	b.Run("http", func(b *testing.B) {
		h := open(b)
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, _ := http.NewRequest(http.MethodPost, h.url+messages, strings.NewReader(nested))
				r.Header.Set("Authorization", "Bearer "+acmeKey)
				resp, err := h.client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusAccepted {
					b.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	})
	b.Run("refused", func(b *testing.B) { // an unknown key: what an unauthenticated request costs
		h := open(b)
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
			r.Header.Set("Authorization", "Bearer "+unknownKey)
			w := httptest.NewRecorder()
			if h.server.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
				b.Errorf("status %d", w.Code)
			}
		}
	})
}

// BenchmarkWebhook measures signed webhooks from the request to 200, on the embedded server without a flush for each batch: events
// a second, and processor time for each event of the whole process, the server and the making of the requests included.
func BenchmarkWebhook(b *testing.B) {
	for _, events := range []int{1, 20, 1000} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			h := openWebhooks(b, ingress.Config{}, withRoadBack(b))
			var made atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(64 / min(events, 32))
			began := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					body := eventBody(mids(fmt.Sprint(made.Add(1)), events)...)
					w := httptest.NewRecorder()
					if h.server.ServeHTTP(w, webhookRequest("", body)); w.Code != http.StatusOK {
						b.Errorf("status %d: %s", w.Code, w.Body)
					}
				}
			})
			n := float64(b.N * events)
			b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64((processorTime(b)-began).Microseconds())/n, "cpu-µs/event")
		})
	}
	b.Run("unsigned", func(b *testing.B) { // what a sender without a secret costs who signs a large body
		h := openWebhooks(b, ingress.Config{}, withRoadBack(b))
		body := eventBody("m_1") + strings.Repeat(" ", 1<<20)
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/webhook", strings.NewReader(body))
			r.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
			if h.server.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
				b.Errorf("status %d", w.Code)
			}
		}
	})
}

package ingress_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkDoor measures a message from request to 202, on the embedded server without a flush for each message. The
// allocations are those of the whole process, the server and, with http, the client included.
func BenchmarkDoor(b *testing.B) {
	b.Run("handler", func(b *testing.B) {
		h := open(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
				r.Header.Set("Authorization", "Bearer "+acmeKey)
				w := httptest.NewRecorder()
				if h.door.ServeHTTP(w, r); w.Code != http.StatusAccepted {
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
	b.Run("refused", func(b *testing.B) { // a key that is unknown: what a stranger can cost
		h := open(b)
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
			r.Header.Set("Authorization", "Bearer "+strangeKey)
			w := httptest.NewRecorder()
			if h.door.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
				b.Errorf("status %d", w.Code)
			}
		}
	})
}

package sandbox

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkSend is the whole way over real HTTP, client included: what a load test on the same machine pays per message.
func BenchmarkSend(b *testing.B) {
	s, err := New(Config{Control: controlOff, AnyPage: Page{Rate: Off, HighVolume: Off}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			body := fmt.Sprintf(`{"recipient":{"id":"%d"},"messaging_type":"UPDATE","message":{"text":"Your order is on its way."}}`, 1_000_000_000_000_000+n.Add(1))
			req, _ := http.NewRequest("POST", s.URL()+"/v26.0/me/messages", strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer benchmark")
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

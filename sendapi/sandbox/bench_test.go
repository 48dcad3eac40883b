package sandbox

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func benchSandbox(b *testing.B) *Sandbox {
	b.Helper()
	s, err := New(Config{Control: controlOff, AnyPage: Page{Rate: Off, HighVolume: Off}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func benchBody(n int64) string {
	return textBody(fmt.Sprint(1_000_000_000_000_000+n), "Your order is on its way.")
}

// BenchmarkSend measures a call over real HTTP, client included: the cost per message of a load test on the same machine.
func BenchmarkSend(b *testing.B) {
	s := benchSandbox(b)
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequest("POST", s.URL()+"/v26.0/me/messages", strings.NewReader(benchBody(n.Add(1))))
			if err != nil {
				b.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer benchmark")
			req.Header.Set("Content-Type", jsonBody)
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

// BenchmarkJudge measures the sandbox's own share: reading, judging, recording and answering, without the connection. Its bytes/call is
// what stays in memory.
func BenchmarkJudge(b *testing.B) {
	s := benchSandbox(b)
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for i := range b.N {
		r, err := http.NewRequest("POST", "/v26.0/me/messages", strings.NewReader(benchBody(int64(i))))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer benchmark")
		r.Header.Set("Content-Type", jsonBody)
		req, gerr := readHead(r)
		if gerr == nil {
			gerr = req.readBody(r)
		}
		graphHandler{s}.compose(http.Header{}, s.judge(&req, gerr))
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(b.N), "kept-B/op")
	runtime.KeepAlive(s)
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimiter(Page{Rate: 300, MediaRate: 10, HighVolume: Off, Block: time.Second})
	b.ReportAllocs()
	for i := range b.N {
		l.take(time.Duration(i)*100*time.Microsecond, true, false) // 10,000 calls a second
	}
}

// serve serves on a free port of the loopback interface until the benchmark ends, and returns the URL.
func serve(b *testing.B, server *http.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends when the server is closed
	}()
	b.Cleanup(func() {
		server.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

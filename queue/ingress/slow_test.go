package ingress_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// clients is a number of open connections to a Server, of which some send a byte a second and the others are good.
type clients struct {
	h     *harness
	good  chan net.Conn // those that are not in use, longest unused first
	stop  chan struct{}
	ended sync.WaitGroup
}

// connect opens the connections. Half of the slow ones never come to the end of their headers, half never to the end of
// a body.
func (h *harness) connect(total, slow int) *clients {
	h.t.Helper()
	c := &clients{h: h, good: make(chan net.Conn, total-slow), stop: make(chan struct{})}
	var slows []net.Conn
	for n := range total {
		conn := h.dial()
		if n >= slow {
			c.good <- conn
			continue
		}
		slows = append(slows, conn)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: 200000\r\n", messages, acmeKey)
		if n%2 == 0 {
			_, _ = io.WriteString(conn, "\r\n")
		} else {
			_, _ = io.WriteString(conn, "X-Brazier-Campaign: ")
		}
	}
	c.ended.Go(func() {
		const turns = 20 // a twentieth of them each time
		tick := time.NewTicker(time.Second / turns)
		defer tick.Stop()
		for turn := 0; ; turn++ {
			for n := turn % turns; n < len(slows); n += turns {
				_, _ = io.WriteString(slows[n], "x") // one that was cut off makes no difference
			}
			select {
			case <-tick.C:
			case <-c.stop:
				for _, conn := range slows {
					conn.Close()
				}
				return
			}
		}
	})
	return c
}

// close ends all connections.
func (c *clients) close() {
	close(c.stop)
	c.ended.Wait()
	for range cap(c.good) {
		(<-c.good).Close()
	}
}

// post sends a good request over the good connection that was silent for longest, and returns how long its answer took.
func (c *clients) post(answers *bufio.Reader) time.Duration {
	conn := <-c.good
	defer func() { c.good <- conn }()
	began := time.Now()
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		messages, acmeKey, len(nested), nested)
	if err != nil {
		c.h.t.Error(err)
		return 0
	}
	answers.Reset(conn)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		c.h.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
		c.h.t.Errorf("status %d, error %v", resp.StatusCode, err)
	}
	return time.Since(began)
}

// Beside 300 connections that send a byte a second, 700 others get their answers, and the slow ones hold neither permits
// nor memory.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{}, fresh(t))
	c := h.connect(1000, 300)
	defer c.close()
	var posters sync.WaitGroup
	for range 16 {
		posters.Go(func() {
			answers := bufio.NewReader(nil)
			for range 1400 / 16 {
				c.post(answers)
			}
		})
	}
	posters.Wait()
	h.gauge("waiting_requests", 0)
	h.gauge("waiting_bytes", 0)
	if accepted := h.metrics()["requests_total acme accepted 202"]; accepted != 1400/16*16 {
		t.Errorf("%v accepted", accepted)
	}
}

// BenchmarkSlowSenders measures the good ones of 5,000 open connections, of which 1,000 send a byte a second, and without
// these. Memory is that of the process, which holds both ends of each connection, beyond what it held before them.
func BenchmarkSlowSenders(b *testing.B) {
	for _, slow := range []int{0, 1000} {
		b.Run(fmt.Sprintf("%d-of-5000", slow), func(b *testing.B) {
			h := openOn(b, ingress.Config{HeaderTimeout: time.Hour, BodyTimeout: time.Hour}, fresh(b)) // they stay to the end
			before := inUse()
			c := h.connect(5000, slow)
			defer c.close()
			var mu sync.Mutex
			var took []time.Duration
			b.ReportAllocs()
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				answers := bufio.NewReader(nil)
				var mine []time.Duration
				for pb.Next() {
					mine = append(mine, c.post(answers))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
			})
			b.StopTimer()
			slices.Sort(took)
			ms := func(q float64) float64 { return took[int(q*float64(len(took)-1))].Seconds() * 1000 }
			b.ReportMetric(ms(.5), "p50-ms")
			b.ReportMetric(ms(.99), "p99-ms")
			b.ReportMetric((inUse()-before)/(1<<20), "MiB")
		})
	}
}

// inUse is what heap and stacks take after a collection, in bytes.
func inUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}

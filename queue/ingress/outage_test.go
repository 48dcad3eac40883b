package ingress_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// traffic is a number of callers that post one job after another, each with a key of its own. They retry a refused request
// until it is accepted, and post every fourth accepted one again, as Braze does when an answer was lost.
type traffic struct {
	h    *harness
	stop chan struct{} // closed to end all callers

	mu       sync.Mutex
	sent     map[string]string // body by id, of all that was accepted
	accepted []exchange
	refused  []exchange
}

// exchange is one request, from its sending to its answer.
type exchange struct{ began, ended time.Time }

// pause is how long a caller waits after a refusal.
const pause = 200 * time.Millisecond

func (r *traffic) call(caller int) {
	for n := 0; ; n++ {
		id := r.postUntilAccepted(caller, n, "queued")
		if id == "" { // the test has failed
			return
		}
		if n%4 == 0 && r.postUntilAccepted(caller, n, "duplicate") != id {
			r.h.t.Errorf("the repetition of %s has another id", id)
		}
		select {
		case <-r.stop:
			return
		default:
		}
	}
}

// postUntilAccepted posts a job until it is accepted with the given status, and returns its id.
func (r *traffic) postUntilAccepted(caller, n int, status string) (id string) {
	body := sendText(caller*1_000_000 + n)
	again := time.NewTicker(pause)
	defer again.Stop()
	for ; ; <-again.C {
		began := time.Now()
		a := r.h.post(with("Idempotency-Key", fmt.Sprint("caller-", caller, "-", n)), withBody(body))
		v := exchange{began, time.Now()}
		if a.status == http.StatusAccepted {
			r.h.accepted(a, status)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent[a.ID] = body
			r.accepted = append(r.accepted, v)
			return a.ID
		}
		r.h.unavailable(a)
		if !strings.Contains(a.Error.Message, "too many requests are waiting") {
			r.h.t.Errorf("a request with a permit is refused: %s", a.body)
		}
		r.mu.Lock()
		r.refused = append(r.refused, v)
		r.mu.Unlock()
		if a.status == 0 || r.h.t.Failed() {
			return ""
		}
	}
}

// beganAfter counts the exchanges that began after at.
func (r *traffic) beganAfter(at time.Time, of *[]exchange) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range *of {
		if v.began.After(at) {
			n++
		}
	}
	return n
}

// NATS is killed under traffic, while it stores batches, and started again. Requests with a permit wait for it, the others
// are refused at once, and what was accepted is stored exactly once.
func TestTrafficOverOutage(t *testing.T) {
	t.Parallel()
	const callers, permits, rounds = 80, 24, 8
	nats := newNATS(t)
	nats.start()
	h := openOn(t, ingress.Config{MaxWaiting: permits, Wait: time.Minute}, queue.Config{URL: "nats://" + nats.address})
	r := &traffic{h: h, stop: make(chan struct{}), sent: make(map[string]string)}
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() { r.call(caller) })
	}
	stop := sync.OnceFunc(func() { close(r.stop) })
	defer calling.Wait()
	defer stop()
	h.eventually("traffic", func() bool { return r.beganAfter(time.Time{}, &r.accepted) > 3*callers })

	nats.kill()
	gone := time.Now()
	// Only requests without a permit are refused, long before the Wait of the others is over.
	h.eventually("the others are refused", func() bool { return r.beganAfter(gone, &r.refused) > rounds*(callers-permits) })
	if err := h.q.Ready(t.Context()); err == nil {
		t.Error("ready without NATS")
	}
	if n := r.beganAfter(gone, &r.accepted); n > 0 {
		t.Errorf("%d requests were accepted without NATS", n)
	}

	returning := time.Now()
	nats.start()
	back := time.Now()
	h.eventually("traffic", func() bool { return r.beganAfter(back, &r.accepted) > 3*callers })
	h.eventually("ready", func() bool { return h.q.Ready(t.Context()) == nil })
	stop()
	calling.Wait()

	var first, last time.Time // of those who waited
	waited := 0
	for _, v := range r.accepted {
		if v.ended.Before(returning) {
			continue
		}
		if first.IsZero() || v.ended.Before(first) {
			first = v.ended
		}
		if v.began.Before(returning) {
			waited++
			if v.ended.After(last) {
				last = v.ended
			}
		}
	}
	if waited < permits {
		t.Errorf("%d requests waited for NATS, with %d permits", waited, permits)
	}
	t.Logf("NATS was gone for %v; %d accepted in all; after it was back the first answer came after %v, the last of those who waited after %v",
		back.Sub(gone).Round(time.Millisecond), len(r.sent), first.Sub(back).Round(time.Millisecond), last.Sub(back).Round(time.Millisecond))
	h.storedExactly(r.sent)
}

// eventually polls until ok.
func (h *harness) eventually(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for poll := time.NewTicker(10 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// hangingLine connects to a server. While hangs is set, the answers of the server are lost.
type hangingLine struct {
	server connector
	hangs  atomic.Bool
}

type hangingConn struct {
	net.Conn
	line *hangingLine
}

func (l *hangingLine) InProcessConn() (net.Conn, error) {
	conn, err := l.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return hangingConn{conn, l}, nil
}

func (c hangingConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.line.hangs.Load() {
			return n, err
		}
	}
}

// A Server that ends while NATS hangs answers every request first: those that are stored singly and those that wait for a
// batch.
func TestEndWhileNATSHangs(t *testing.T) {
	t.Parallel()
	line := &hangingLine{server: queuetest.Server(t, "")}
	h := openOn(t, ingress.Config{}, queue.Config{InProcess: line, Flushed: true})
	h.accepted(h.post(), "queued")
	line.hangs.Store(true)
	const requests = 40
	var together sync.WaitGroup
	for n := range requests {
		together.Go(func() { h.unavailable(h.post(withBody(sendText(n)))) })
	}
	h.gauge("waiting_requests", requests)
	if err := h.shut(); err != nil {
		t.Errorf("requests were cut off: %v", err)
	}
	together.Wait()
	line.hangs.Store(false)
}

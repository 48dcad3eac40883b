package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// traffic is callers who post without end, each job under a key of its own. They repeat what was refused until it is
// accepted, and now and then what was accepted, as Braze does when an answer was lost.
type traffic struct {
	h    *house
	stop chan struct{} // closed when no new job is to be begun

	mu       sync.Mutex
	sent     map[string]string // body by id, of all that was accepted
	accepted []exchange
	refused  []exchange
}

// exchange is one request, from its sending to its answer.
type exchange struct{ began, ended time.Time }

// pause is how long a caller waits when it was refused.
const pause = 200 * time.Millisecond

func (r *traffic) call(caller int) {
	for n := 0; ; n++ {
		id := r.insist(caller, n, "queued")
		if n%4 == 0 && r.insist(caller, n, "duplicate") != id {
			r.h.t.Errorf("the repetition of %s has another id", id)
		}
		select {
		case <-r.stop:
			return
		default:
		}
	}
}

// insist posts until the job is accepted.
func (r *traffic) insist(caller, n int, status string) (id string) {
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
		if !strings.Contains(a.Error.Message, "too many requests wait") {
			r.h.t.Errorf("a request that waited, or found room to, is refused: %s", a.body)
		}
		r.mu.Lock()
		r.refused = append(r.refused, v)
		r.mu.Unlock()
		if a.status == 0 || r.h.t.Failed() {
			return ""
		}
	}
}

// beganAfter counts those of the exchanges that began after at.
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

// NATS is killed under traffic, with batches on their way, and comes back: who finds room waits for it, the others are
// told at once to come again, and what was accepted is stored exactly once.
func TestTrafficOverOutage(t *testing.T) {
	t.Parallel()
	const callers, places, rounds = 80, 24, 8
	nats := newNATS(t, "nats", "")
	nats.start()
	h := openOn(t, ingress.Config{MaxWaiting: places, Wait: time.Minute}, queue.Config{URL: "nats://" + nats.address})
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
	// Who is refused found no room, and is told so while those who have it wait.
	h.eventually("the others are refused", func() bool { return r.beganAfter(gone, &r.refused) > rounds*(callers-places) })
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
	if waited < places {
		t.Errorf("%d requests waited for NATS, with room for %d", waited, places)
	}
	t.Logf("NATS was gone for %v; %d accepted in all; after it was back the first answer came after %v, the last of those who waited after %v",
		back.Sub(gone).Round(time.Millisecond), len(r.sent), first.Sub(back).Round(time.Millisecond), last.Sub(back).Round(time.Millisecond))
	if took := first.Sub(back); took > 10*time.Second {
		t.Errorf("accepted again only %v after NATS was back", took)
	}
	h.standsExactly(r.sent)
}

// eventually polls until ok.
func (h *house) eventually(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for poll := time.NewTicker(10 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// lossyLine leads to a server, and can be told to break when the next lookup of a key is sent, which is lost.
type lossyLine struct {
	server connector
	armed  atomic.Bool
}

func (l *lossyLine) InProcessConn() (net.Conn, error) {
	conn, err := l.server.InProcessConn()
	return &lossyConn{conn, l}, err
}

type lossyConn struct {
	net.Conn
	line *lossyLine
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("$JS.API.DIRECT.GET.")) && c.line.armed.CompareAndSwap(true, false) {
		return len(b), c.Close()
	}
	return c.Conn.Write(b)
}

// A repetition whose lookup goes down with the connection is answered once there is another one. Everybody waits behind
// it, and the time that an answer may take is far longer.
func TestLookupLost(t *testing.T) {
	t.Parallel()
	const answerTime = 3 * time.Second // of the queue, for one question
	line := &lossyLine{server: queuetest.Server(t, "")}
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{InProcess: line})
	h.accepted(h.post(with("Idempotency-Key", "order-1")), "queued")
	fastest := time.Minute
	for range 5 { // on a machine that is busy elsewhere
		line.armed.Store(true)
		began := time.Now()
		h.accepted(h.post(with("Idempotency-Key", "order-1")), "duplicate")
		if line.armed.Load() {
			t.Fatal("nothing was looked up")
		}
		if fastest = min(fastest, time.Since(began)); fastest < answerTime {
			break
		}
	}
	if fastest >= answerTime {
		t.Errorf("answered after %v: an answer was waited for that could not come", fastest)
	}
	h.only(acme)
}

// Of three servers two are killed. The door is connected to the one that is left, where nobody leads the stream of jobs: it
// is not ready, and who posts waits for a leader.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	routes := []string{stableAddress(t), stableAddress(t), stableAddress(t)}
	var servers []*natsServer
	for i, route := range routes {
		s := newNATS(t, fmt.Sprint("nats-", i), fmt.Sprintf("cluster { name: test, listen: %q, routes: [nats-route://%s] }",
			route, strings.Join(routes, ", nats-route://")))
		s.start()
		servers = append(servers, s)
	}
	left := "nats://" + servers[2].address
	awaitJetStream(t, left)
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{URL: left})
	ready := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // what Kubernetes gives a probe
		defer cancel()
		return h.q.Ready(ctx) == nil
	}
	h.eventually("ready", ready)

	servers[0].kill()
	servers[1].kill()
	answered := make(chan answer, 1)
	go func() { answered <- h.post() }()
	h.gauge("waiting_requests", 1)
	h.eventually("not ready", func() bool { return !ready() })
	if !h.q.Connected() {
		t.Error("the connection is lost, and not only the leader")
	}
	servers[0].start()
	began := time.Now()
	h.eventually("ready", ready)
	t.Log(time.Since(began))
	h.accepted(<-answered, "queued")
	t.Log(time.Since(began))
}

// awaitJetStream returns when the servers of a cluster have found together. The queue would find out too, but asks with
// more patience.
func awaitJetStream(t *testing.T, url string) {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(url, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { nc.Close(); <-closed }()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := js.AccountInfo(ctx)
		cancel()
		if err == nil {
			return
		}
	}
}

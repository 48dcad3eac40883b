package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/worker"
)

// stall leads to a server whose disk can stall for the records of jobs: what is published under their subjects is held
// back, and everything else goes on.
type stall struct {
	mu     sync.Mutex
	server nats.InProcessConnProvider // nil while it is away
	over   chan struct{}              // closed when nothing is held back any more
}

// lead makes it lead to another server, or to none.
func (s *stall) lead(server nats.InProcessConnProvider) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
}

func newStall(server nats.InProcessConnProvider) *stall {
	s := &stall{server: server, over: make(chan struct{})}
	close(s.over)
	return s
}

// fixture is one whose queue is reached over the stall.
func (s *stall) fixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.logs, f.log = observed()
	var err error
	if f.q, err = queue.Open(t.Context(), queue.Config{InProcess: s, Embedded: true, Log: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.q.Close)
	return f
}

// begin holds records back until the returned function is called.
func (s *stall) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := make(chan struct{})
	s.over = over
	return sync.OnceFunc(func() { close(over) })
}

func (s *stall) isOver() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

func (s *stall) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	if server == nil {
		return nil, errors.New("the server is away")
	}
	conn, err := server.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &stalling{Conn: conn, stall: s, late: make(chan []byte, 10_000), closed: make(chan struct{})}
	go c.deliver()
	return c, nil
}

type stalling struct {
	net.Conn
	stall  *stall
	late   chan []byte // publications of records
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex // one whole message at a time
	part []byte     // of a message
}

func (c *stalling) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *stalling) Write(b []byte) (int, error) {
	c.part = append(c.part, b...)
	for {
		message, rest := cut(c.part)
		if message == nil {
			return len(b), nil
		}
		if verb, _, _ := bytes.Cut(message, []byte(" brazier.records.")); bytes.Equal(verb, []byte("HPUB")) {
			c.late <- message
		} else if err := c.pass(message); err != nil {
			return 0, err
		}
		c.part = rest
	}
}

func (c *stalling) pass(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(message)
	return err
}

func (c *stalling) deliver() {
	for {
		select {
		case message := <-c.late:
			select {
			case <-c.stall.isOver():
			case <-c.closed:
				return
			}
			_ = c.pass(message)
		case <-c.closed:
			return
		}
	}
}

// cut takes one message of the NATS protocol from the front, nil if there is no whole one.
func cut(b []byte) (message, rest []byte) {
	line, _, found := bytes.Cut(b, []byte("\r\n"))
	if !found {
		return nil, b
	}
	size := len(line) + 2
	if fields := bytes.Fields(line); bytes.HasSuffix(fields[0], []byte("PUB")) {
		payload, err := strconv.Atoi(string(fields[len(fields)-1]))
		if err != nil {
			panic(fmt.Sprintf("not understood: %q", line))
		}
		size += payload + 2
	}
	if len(b) < size {
		return nil, b
	}
	return bytes.Clone(b[:size]), b[size:]
}

// A disk that stalls delays calls, and none of them are made up for together: at no time are there more in a second than the
// rate allows.
func TestRateOverStall(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{40, 300} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			// On a machine that has no time for a goroutine between its slot and its look at the clock, calls look as if they
			// came together. That does not happen three times.
			var most int
			for range 3 {
				most = stalledCalls(t, rate)
				t.Logf("%d calls in a second", most)
				if most <= rate {
					return
				}
			}
			t.Errorf("%d calls in a second, %d allowed", most, rate)
		})
	}
}

// stalledCalls returns the highest number of calls in a second, wherever it begins.
func stalledCalls(t *testing.T, rate int) (most int) {
	stall := newStall(queuetest.Server(t, ""))
	f := stall.fixture(t)
	jobs := 3 * rate
	f.publish(acme, queue.Bulk, jobs)
	var mu sync.Mutex
	var at []time.Time
	calls := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(at)
	}
	stop := f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: float64(rate)}}})
	defer stop()
	for _, after := range []int{rate / 2, rate * 3 / 2} {
		eventually(t, "calls are made", func() bool { return calls() >= after })
		end := stall.begin()
		wait(t, 1200*time.Millisecond)
		end()
	}
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == jobs })
	slices.SortFunc(at, time.Time.Compare)
	for from, to := 0, 0; to < len(at); to++ {
		for at[to].Sub(at[from]) >= time.Second {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// NATS goes away while calls are under way, and comes back after they have ended. Each message was sent once, and is settled
// by the worker that sent it.
func TestOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() *embedded.Server {
		srv, err := embedded.Start(queuetest.Unflushed(dir))
		if err != nil {
			t.Fatal(err)
		}
		return srv
	}
	srv := start()
	t.Cleanup(func() { _ = srv.Close() })
	nats := newStall(srv)
	f := nats.fixture(t)
	const calls = 20
	f.publish(acme, queue.Bulk, calls)
	var mu sync.Mutex
	copies := map[string]int{}
	answer := make(chan struct{})
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		copies[job.ID]++
		mu.Unlock()
		if job.InDoubt {
			t.Errorf("%s is in doubt: %s", job.ID, job.Doubt)
		}
		<-answer
		return delivered
	}, worker.Config{})
	eventually(t, "the calls are under way", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(copies) == calls
	})
	nats.lead(nil)
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is lost", func() bool { return !f.q.Connected() })
	close(answer)
	wait(t, 3*time.Second) // settlements are tried, and fail
	if n := len(f.events("delivered")); n > 0 {
		t.Errorf("%d messages are called delivered without NATS", n)
	}
	srv = start()
	nats.lead(srv)
	eventually(t, "all are settled", func() bool { return len(f.events("delivered")) == calls })
	f.publish(acme, queue.Bulk, 1)
	f.await("delivered", calls+1)
	eventually(t, "nothing is left", func() bool {
		b, err := f.q.Backlog(t.Context(), acme)
		return err == nil && b.Pending == 0
	})
	for id, n := range copies {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	if n := len(f.events("unsettled")); n > 0 {
		t.Errorf("%d unsettled lines", n)
	}
}

// A job whose begin cannot be stored when its worker is cut off goes to another at once, though the process of the first goes on.
func TestNotBegunGoesToOthers(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	stall := newStall(srv)
	f := stall.fixture(t)
	t.Cleanup(stall.begin())
	f.publish(acme, queue.Bulk, 1)
	stop := f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		t.Error("a job was sent whose begin is not stored")
		return delivered
	}, worker.Config{Drain: 100 * time.Millisecond})
	eventually(t, "the job is being begun", func() bool { return f.w.InFlight() == 1 })
	stop()
	other := &fixture{t: t, q: queuetest.On(t, srv)}
	other.logs, other.log = observed()
	other.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		if job.InDoubt {
			t.Errorf("%s is in doubt: %s", job.ID, job.Doubt)
		}
		return delivered
	}, worker.Config{})
	other.await("delivered", 1)
}

// wait passes a span of time that is the point of a test.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

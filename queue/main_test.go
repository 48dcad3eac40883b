package queue_test

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(kindOfChild); kind != "" {
		flag.Parse()
		if err := serveChild(kind, os.Getenv(dirOfChild)); err != nil {
			panic(err)
		}
		return
	}
	// Most tests here wait rather than compute, and may do so together on any machine.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, queuetest.Strays()...)
}

const (
	acme     = "1029384756"
	nordwind = "5647382910"
)

// testTimeout is far longer than any test waits on a healthy machine.
const testTimeout = time.Minute

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(testTimeout)
	for poll := time.NewTicker(10 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// job is a job that differs from every other.
func job(page string, lane queue.Lane) *queue.Job {
	now := time.Now().Truncate(time.Millisecond)
	return &queue.Job{
		ID: queue.NewID(), Page: page, Lane: lane,
		Accepted: now, Expire: now.Add(time.Hour),
		Body: []byte(`{"recipient":{"id":"2000000000000001"},"message":{"text":"hello"}}`),
	}
}

func publish(t testing.TB, q *queue.Queue, jobs ...*queue.Job) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	for _, j := range jobs {
		stored, err := q.Publish(ctx, j)
		if err != nil {
			t.Fatalf("publish %s: %v", j.ID, err)
		}
		if stored.Duplicate {
			t.Fatalf("publish %s: is called a duplicate", j.ID)
		}
	}
}

// source is a Source that is stopped when the test ends, and in time for a test that waits in vain.
func source(t testing.TB, q *queue.Queue, page string, lane queue.Lane, buffer int) *queue.Source {
	s := q.Source(page, lane, buffer)
	expire := time.AfterFunc(testTimeout, s.Stop)
	t.Cleanup(func() {
		expire.Stop()
		s.Stop()
	})
	return s
}

func next(t testing.TB, s *queue.Source) *queue.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	d, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("next job: %v", err)
	}
	return d
}

func done(t testing.TB, d *queue.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	if err := d.Done(ctx); err != nil {
		t.Fatalf("settle %s: %v", d.ID, err)
	}
}

// rest stops the source and returns what was left in its buffer.
func rest(t testing.TB, s *queue.Source) (left []*queue.Delivery) {
	t.Helper()
	s.Stop()
	for {
		d, err := s.Next(within(t, 2*testTimeout))
		if errors.Is(err, queue.ErrStopped) {
			return left
		}
		if err != nil {
			t.Fatalf("next job of a stopped source: %v", err)
		}
		left = append(left, d)
	}
}

// isEmpty waits until nothing is stored for a page, as the server counts: a job is removed shortly after it is settled.
func isEmpty(t testing.TB, q *queue.Queue, page string) {
	t.Helper()
	eventually(t, "the queue of page "+page+" is empty", func() bool {
		b, err := q.Backlog(within(t, 2*testTimeout), page)
		if err != nil {
			t.Fatal(err)
		}
		return b.Pending == 0 && b.Oldest.IsZero()
	})
}

// raw is a connection to the server beside the queue's own.
func raw(t testing.TB, server nats.InProcessConnProvider) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// deadLetters returns what is kept of a page's dead letters, by subject.
func deadLetters(t testing.TB, js jetstream.JetStream, page string) map[string]*jetstream.RawStreamMsg {
	t.Helper()
	stream, err := js.Stream(t.Context(), queue.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*jetstream.RawStreamMsg{}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found[msg.Subject+" "+msg.Header.Get("Brazier-Id")] = msg
	}
	return found
}

// machine is a server that can be stopped and started again on the same files. As a provider of connections it stands
// for the address of a server: it leads to the one that runs now.
type machine struct {
	t   testing.TB
	dir string

	mu  sync.Mutex
	srv *embedded.Server
}

// newMachine returns a machine that is switched off.
func newMachine(t testing.TB) *machine {
	m := &machine{t: t, dir: t.TempDir()}
	t.Cleanup(m.stop)
	return m
}

func (m *machine) start() {
	m.t.Helper()
	srv, err := embedded.Start(queuetest.Unflushed(m.dir))
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.srv = srv
}

func (m *machine) stop() {
	m.mu.Lock()
	srv := m.srv
	m.srv = nil
	m.mu.Unlock()
	if srv == nil {
		return
	}
	if err := srv.Close(); err != nil {
		m.t.Errorf("stop JetStream: %v", err)
	}
}

// restart returns when the queues have found the new server.
func (m *machine) restart(queues ...*queue.Queue) {
	m.t.Helper()
	m.stop()
	for _, q := range queues {
		eventually(m.t, "the connection is lost", func() bool { return !q.Connected() })
	}
	m.start()
	for _, q := range queues {
		eventually(m.t, "the connection is back", q.Connected)
	}
}

func (m *machine) InProcessConn() (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.srv == nil {
		return nil, errors.New("the machine is off")
	}
	return m.srv.InProcessConn()
}

// open returns a queue on the machine.
func (m *machine) open() *queue.Queue {
	m.t.Helper()
	return open(m.t, queue.Config{InProcess: m})
}

// open returns a queue that is closed when the test ends.
func open(t testing.TB, cfg queue.Config) *queue.Queue {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = zaptest.NewLogger(t)
	}
	q, err := queue.Open(within(t, 2*testTimeout), cfg)
	if err != nil {
		t.Fatalf("open queue: %v", err)
	}
	t.Cleanup(q.Close)
	return q
}

func equal(t testing.TB, what string, got, want any, options ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, options...); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// within is a context for one call.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// fresh returns a queue and its server.
func fresh(t testing.TB) (*queue.Queue, *embedded.Server) {
	t.Helper()
	srv := queuetest.Server(t, "")
	return queuetest.On(t, srv), srv
}

// wire leads to a server, and can be cut so that the server still hears the client but the client no longer the server.
type wire struct {
	server nats.InProcessConnProvider

	mu   sync.Mutex
	last *wireConn
}

type wireConn struct {
	net.Conn
	muted atomic.Bool
}

func (w *wire) InProcessConn() (net.Conn, error) {
	conn, err := w.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = &wireConn{Conn: conn}
	return w.last, nil
}

func (c *wireConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.muted.Load() {
			return n, err
		}
	}
}

// mute swallows from now on what the server says. The returned function cuts the connection; the next one is whole.
func (w *wire) mute() (cut func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn := w.last
	conn.muted.Store(true)
	return func() { conn.Close() }
}

package worker_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

func TestMain(m *testing.M) {
	// Most tests here wait rather than compute, and may do so together on any machine.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, queuetest.Strays()...)
}

const (
	acme     = "1029384756"
	nordwind = "5647382910"
)

// handler is a function that handles jobs.
type handler func(ctx context.Context, job *queue.Delivery) worker.Verdict

func (h handler) Handle(ctx context.Context, job *queue.Delivery) worker.Verdict { return h(ctx, job) }

func (h handler) InDoubt(_ *queue.Delivery, cause string) worker.Verdict {
	return worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassInDoubt, Text: cause}
}

var delivered = worker.Verdict{Outcome: worker.Delivered, MessageID: "m_1", Took: time.Millisecond}

// fixture is a queue and a worker on it.
type fixture struct {
	t    *testing.T
	q    *queue.Queue
	logs *observer.ObservedLogs
	log  *zap.Logger

	w   *worker.Worker   // the one that was started last
	all []*worker.Worker // that were started
	h   worker.Handler   // of w

	behind, still, old time.Duration // of the workers that are started; zero: short, and as they are
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, q: queuetest.New(t)}
	f.logs, f.log = observed()
	return f
}

// observed returns a log with debug lines: with them, none is left out.
func observed() (*observer.ObservedLogs, *zap.Logger) {
	core, logs := observer.New(zapcore.DebugLevel)
	return logs, zap.New(core)
}

// start runs a worker until the test ends or stop is called, which waits for it.
func (f *fixture) start(h handler, cfg worker.Config) (stop func()) {
	f.t.Helper()
	cfg.Queue, cfg.Log = f.q, f.log
	if cfg.Pages == nil {
		cfg.Pages = []worker.Page{{ID: acme, Name: "acme", Rate: 1000}}
	}
	f.h = h
	f.handle(cfg.Pages)
	w, err := worker.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.w, f.all = w, append(f.all, w)
	if f.behind > 0 {
		w.SetBehind(f.behind)
	}
	if f.still > 0 {
		w.SetStillEvery(f.still)
	}
	if f.old > 0 {
		w.SetBacklogOld(f.old)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("worker ended: %v", err)
		}
		if n := w.InFlight(); n != 0 {
			f.t.Errorf("%d jobs in flight after the end", n)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// handle makes the handler that of all pages.
func (f *fixture) handle(pages []worker.Page) []worker.Page {
	for i := range pages {
		pages[i].Handler = f.h
	}
	return pages
}

func (f *fixture) publish(page string, lane queue.Lane, n int) (ids []string) {
	f.t.Helper()
	for range n {
		j := &queue.Job{ID: queue.NewID(), Page: page, Lane: lane, Recipient: "…0001", Accepted: time.Now(), Expire: time.Now().Add(time.Hour),
			Tracking: queue.Tracking{Campaign: "c", Dispatch: "d", User: "u"}, Body: []byte(`{"message":{"text":"hello"}}`)}
		if _, err := f.q.Publish(f.t.Context(), j); err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	return ids
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(worker.Deadline)
	for poll := time.NewTicker(5 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (f *fixture) events(name string) (found []map[string]any) {
	for _, e := range f.logs.FilterField(zap.String("event", name)).All() {
		found = append(found, e.ContextMap())
	}
	return found
}

func (f *fixture) await(event string, n int) map[string]any {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("%d lines %s", n, event), func() bool { return len(f.events(event)) >= n })
	return f.events(event)[n-1]
}

// held waits until every worker knows that the page or app of a key is held. One that does not yet begins more messages.
func (f *fixture) held(key string) {
	f.t.Helper()
	eventually(f.t, "all workers know that "+key+" is held", func() bool {
		return !slices.ContainsFunc(f.all, func(w *worker.Worker) bool { return !w.Knows(key) })
	})
}

func (f *fixture) isEmpty(page string) {
	f.t.Helper()
	eventually(f.t, "page "+page+" has no backlog", func() bool { // a job is gone shortly after it is settled
		b, err := f.q.Backlog(f.t.Context(), page)
		return err == nil && b.Pending == 0 && b.Oldest.IsZero()
	})
}

// has checks that a log line has every key of the catalogue, and some values.
func has(t *testing.T, line map[string]any, keys string, values map[string]any) {
	t.Helper()
	for _, key := range strings.Fields(keys) {
		if _, ok := line[key]; !ok {
			t.Errorf("the line has no %s: %v", key, line)
		}
	}
	for key, want := range values {
		if fmt.Sprint(line[key]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
}

package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, queuetest.Strays()...) }

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

	w *worker.Worker // the one that was started last
	h worker.Handler // its
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, q: queuetest.New(t)}
	f.logs, f.log = observed()
	return f
}

func observed() (*observer.ObservedLogs, *zap.Logger) {
	core, logs := observer.New(zapcore.InfoLevel)
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
	f.w = w
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
	deadline := time.Now().Add(30 * time.Second)
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

func (f *fixture) isEmpty(page string) {
	f.t.Helper()
	eventually(f.t, "nothing waits for page "+page, func() bool { // a job is gone a moment after it is settled
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

func TestVerdicts(t *testing.T) {
	t.Parallel()
	soon := worker.Delays{First: 10 * time.Millisecond, Max: 20 * time.Millisecond}
	wrong := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassMessage, Code: 100, Subcode: 2018001, TraceID: "trace", Text: "why", Took: time.Millisecond}
	again := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Code: 2, Delays: soon, MaxAttempts: 3, Took: time.Millisecond}

	t.Run("delivered", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		ids := f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered }, worker.Config{})
		line := f.await("delivered", 1)
		has(t, line, "id page lane attempt mid send_ms age_ms campaign dispatch user recipient",
			map[string]any{"id": ids[0], "page": "acme", "lane": "bulk", "attempt": 1, "mid": "m_1", "campaign": "c", "recipient": "…0001"})
		if _, ok := line["stream_seq"]; ok {
			t.Errorf("the server's numbers stand in a line at info level: %v", line)
		}
		f.isEmpty(acme)
	})
	t.Run("delivered, at debug level", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		core, logs := observer.New(zapcore.DebugLevel)
		f.logs, f.log = logs, zap.New(core)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered }, worker.Config{})
		has(t, f.await("delivered", 1), "stream_seq", map[string]any{"consumer_seq": 1, "deliveries": 1})
	})
	t.Run("delivered, and the answer names no message", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			return worker.Verdict{Outcome: worker.Delivered, Class: sendapi.ClassDeliveredAnyway, Text: "why", Took: time.Millisecond}
		}, worker.Config{})
		has(t, f.await("delivered", 1), "", map[string]any{"class": "delivered_anyway", "code": 0, "reason": "why"})
		if level := f.logs.FilterField(zap.String("event", "delivered")).All()[0].Level; level != zapcore.WarnLevel {
			t.Errorf("it is logged at level %s", level)
		}
		f.isEmpty(acme)
	})
	t.Run("dead", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Urgent, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return wrong }, worker.Config{})
		has(t, f.await("dead", 1), "id page lane attempts class code subcode trace_id age_ms campaign dispatch user",
			map[string]any{"attempts": 1, "class": "message", "code": 100, "subcode": 2018001, "trace_id": "trace"})
		f.isEmpty(acme)
		if b, err := f.q.Backlog(t.Context(), acme); err != nil || b.Dead != 1 {
			t.Errorf("backlog %+v, error %v", b, err)
		}
	})
	t.Run("retried, then dead", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		var attempts atomic.Int64
		f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
			if n := attempts.Add(1); job.InDoubt || job.Attempts != int(n)-1 {
				t.Errorf("call %d has attempts %d, in doubt %v", n, job.Attempts, job.InDoubt)
			}
			return again
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"attempts": 3, "class": "transient"})
		has(t, f.await("retry", 2), "id page lane attempt class code subcode trace_id delay_ms", map[string]any{"attempt": 2})
		if attempts.Load() != 3 {
			t.Errorf("%d attempts", attempts.Load())
		}
		f.isEmpty(acme)
	})
	t.Run("each class has its own bound", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		thread := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassThread, Delays: soon, MaxAttempts: 3, Took: time.Millisecond}
		endless := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Delays: soon, Took: time.Millisecond}
		verdicts := []worker.Verdict{endless, endless, thread, endless, endless, thread, endless, thread}
		f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
			return verdicts[min(job.Attempts, len(verdicts)-1)]
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"attempts": len(verdicts), "class": "thread"})
		f.await("retry", len(verdicts)-1)
		f.isEmpty(acme)
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		j := &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Bulk, Accepted: time.Now().Add(-time.Hour), Expire: time.Now().Add(-time.Minute), Body: []byte(`{}`)}
		if _, err := f.q.Publish(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			t.Error("an expired job was handled")
			return delivered
		}, worker.Config{})
		has(t, f.await("dead", 1), "", map[string]any{"class": "expired", "attempts": 0})
		f.isEmpty(acme)
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		var calls atomic.Int64
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			if calls.Add(1) == 1 {
				panic("a message text")
			}
			return delivered
		}, worker.Config{})
		has(t, f.await("delivered", 1), "", map[string]any{"attempt": 2})
		line := f.await("panic", 1)
		if !strings.Contains(fmt.Sprint(line["stack"]), "worker_test.go") || strings.Contains(fmt.Sprint(line), "a message text") {
			t.Errorf("panic line: %v", line)
		}
	})
	t.Run("no verdict", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.publish(acme, queue.Bulk, 1)
		f.start(func(context.Context, *queue.Delivery) worker.Verdict { return worker.Verdict{} }, worker.Config{})
		f.await("no_verdict", 1)
		if b, err := f.q.Backlog(t.Context(), acme); err != nil || b.Pending != 1 {
			t.Errorf("backlog %+v, error %v", b, err)
		}
	})
}

// A held page stops, another goes on; the held one loses nothing and counts nothing.
func TestHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var healed atomic.Bool
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottle, Code: 613, Delays: worker.Delays{First: 300 * time.Millisecond, Max: time.Second}}
	f.publish(acme, queue.Bulk, 20)
	f.publish(nordwind, queue.Bulk, 20)
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		if job.Page == nordwind {
			return delivered
		}
		if job.Attempts != 0 || job.InDoubt {
			t.Errorf("a job comes with attempts %d, in doubt %v %s", job.Attempts, job.InDoubt, job.Doubt)
		}
		if !healed.Load() {
			return throttle
		}
		return delivered
	}, worker.Config{SlowStart: time.Second, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000}, {ID: nordwind, Name: "nordwind", Rate: 1000}}})

	has(t, f.await("held", 1), "page class code reason until", map[string]any{"page": "acme", "class": "throttle", "code": 613})
	eventually(t, "the other page is done", func() bool { return len(f.events("delivered")) == 20 })
	f.await("held", 2) // its probe failed
	healed.Store(true)
	f.await("resumed", 1)
	eventually(t, "the page is done too", func() bool { return len(f.events("delivered")) == 40 })
	f.isEmpty(acme)
}

// Urgent jobs go before the backlog of bulk ones, and media jobs do not wait for either.
func TestLanes(t *testing.T) {
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 60)
	var mu sync.Mutex
	var order []queue.Lane
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, job.Lane)
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 40, MediaRate: 1000}}})
	f.await("delivered", 5)
	mu.Lock()
	before := len(order)
	mu.Unlock()
	f.publish(acme, queue.Urgent, 3)
	f.publish(acme, queue.Media, 3)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 66 })
	place := map[queue.Lane]int{}
	for i, lane := range order {
		place[lane] = i
	}
	// The bulk jobs take a second and a half; what came later was through long before.
	if place[queue.Urgent] > before+30 || place[queue.Media] > before+30 {
		t.Errorf("after %d jobs came urgent and media; the last urgent one went as number %d, the last media one as %d", before, place[queue.Urgent], place[queue.Media])
	}
}

func TestRate(t *testing.T) {
	f := newFixture(t)
	const rate, jobs = 50, 80
	f.publish(acme, queue.Bulk, jobs)
	var mu sync.Mutex
	var at []time.Time
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: rate}}})
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == jobs })
	// The calls are spaced evenly: the whole takes its time, however busy the machine is.
	if took := at[jobs-1].Sub(at[0]); took < (jobs-2)*time.Second/rate {
		t.Errorf("%d jobs took %v at %d a second", jobs, took, rate)
	}
	// And no second of it has more than its share, give or take what a busy machine wakes late.
	slices.SortFunc(at, time.Time.Compare)
	for i, from := range at {
		n := 0
		for ; i+n < jobs && at[i+n].Sub(from) < time.Second; n++ {
		}
		if n > rate+rate/5 {
			t.Errorf("%d jobs in one second, %d allowed", n, rate)
		}
	}
}

// A page whose calls hang fills its own places and no other page's.
func TestHangingPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 10)
	release := make(chan struct{})
	var hanging atomic.Int64
	stop := f.start(func(ctx context.Context, job *queue.Delivery) worker.Verdict {
		if job.Page == nordwind {
			return delivered
		}
		hanging.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: 1000, MaxInFlight: 3}, {ID: nordwind, Rate: 1000, MaxInFlight: 3}}})
	eventually(t, "the places are full", func() bool { return hanging.Load() == 3 })
	f.publish(nordwind, queue.Bulk, 30)
	eventually(t, "the other page is done", func() bool { return len(f.events("delivered")) == 30 })
	if n := hanging.Load(); n != 3 {
		t.Errorf("%d jobs in flight, 3 places", n)
	}
	close(release)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 40 })
	stop()
}

// What is in flight when a worker is told to stop is finished, and the rest is another worker's at once.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 40)
	release := make(chan struct{})
	var begun atomic.Int64
	stop := f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		begun.Add(1)
		<-release
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: 1000, MaxInFlight: 4}}})
	eventually(t, "the places are full", func() bool { return begun.Load() == 4 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()

	var others atomic.Int64
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		others.Add(1)
		if job.InDoubt || job.Attempts != 0 {
			t.Errorf("a job comes with attempts %d, in doubt %v %s", job.Attempts, job.InDoubt, job.Doubt)
		}
		return delivered
	}, worker.Config{})
	eventually(t, "the other worker has the rest", func() bool { return others.Load() == 36 })
	close(release)
	<-stopped
	if begun.Load() != 4 {
		t.Errorf("%d jobs were begun by the worker that stopped", begun.Load())
	}
	f.isEmpty(acme)
}

// Calls that outlast the drain budget are cut.
func TestDrainBudget(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 1)
	begun := make(chan struct{})
	stop := f.start(func(ctx context.Context, _ *queue.Delivery) worker.Verdict {
		close(begun)
		<-ctx.Done()
		return worker.Verdict{Outcome: worker.Release}
	}, worker.Config{Drain: 50 * time.Millisecond})
	<-begun
	stop()
	if b, err := f.q.Backlog(t.Context(), acme); err != nil || b.Pending != 1 {
		t.Errorf("backlog %+v, error %v", b, err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	stop := f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered }, worker.Config{StatsEvery: 50 * time.Millisecond,
		Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000}, {ID: nordwind, Name: "nordwind"}}})
	f.publish(acme, queue.Bulk, 3)
	has(t, f.await("stats", 1), "page pending in_flight retrying dead delivered_per_s oldest_age_s rate held", map[string]any{"page": "acme", "held": false})
	stop()
	for _, line := range f.events("stats") {
		if line["page"] != "acme" {
			t.Errorf("a page without work has a line: %v", line)
		}
	}
}

func TestNew(t *testing.T) {
	q := queuetest.New(t)
	h := handler(func(context.Context, *queue.Delivery) worker.Verdict { return delivered })
	for want, cfg := range map[string]worker.Config{
		"Queue":       {},
		"Handler":     {Queue: q, Pages: []worker.Page{{ID: acme}}},
		"id":          {Queue: q, Pages: []worker.Page{{Handler: h}}},
		"Rate":        {Queue: q, Pages: []worker.Page{{ID: acme, Handler: h, Rate: -1}}},
		"at least":    {Queue: q, Pages: []worker.Page{{ID: acme, Handler: h, Rate: 0.01}}},
		"MaxInFlight": {Queue: q, Pages: []worker.Page{{ID: acme, Handler: h, MaxInFlight: -1}}},
	} {
		if _, err := worker.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

// A page may have as many calls under way as its rate needs with calls of 1.6 s.
func TestDefaultMaxInFlight(t *testing.T) {
	for rate, want := range map[float64]int{worker.MinRate: 64, worker.DefaultRate: 64, 41: 66, 300: 480, 1e5: 10_000} {
		if got := worker.DefaultMaxInFlight(rate); got != want {
			t.Errorf("at %v calls a second %d, want %d", rate, got, want)
		}
	}
}

func TestDelays(t *testing.T) {
	d := worker.Delays{First: time.Second, Max: 10 * time.Second}
	for _, n := range []int{1, 2, 3, 4, 5, 50, 1 << 30} {
		ceiling := 10 * time.Second
		if n < 5 {
			ceiling = time.Second << (n - 1)
		}
		if got := d.Steady(n); got != min(ceiling, 10*time.Second) {
			t.Errorf("steady delay %d is %v, want %v", n, got, ceiling)
		}
		low, high := time.Hour, time.Duration(0)
		for range 200 {
			got := d.Next(n)
			low, high = min(low, got), max(high, got)
		}
		if low < 0 || high > ceiling || high < ceiling/2 || low > ceiling/2 {
			t.Errorf("delay %d is between %v and %v, want all of 0 to %v", n, low, high, ceiling)
		}
	}
}

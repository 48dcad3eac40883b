package worker_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

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
	t.Parallel()
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
	last := map[queue.Lane]int{}
	for i, lane := range order {
		last[lane] = i
	}
	// The bulk jobs take a second and a half; what came later was through long before.
	if last[queue.Urgent] > before+30 || last[queue.Media] > before+30 {
		t.Errorf("after %d jobs came urgent and media; the last urgent one went as number %d, the last media one as %d", before, last[queue.Urgent], last[queue.Media])
	}
}

// This test measures time, and runs alone.
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

// A page whose calls hang takes its own permits and no other page's.
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
	eventually(t, "the permits are in use", func() bool { return hanging.Load() == 3 })
	f.publish(nordwind, queue.Bulk, 30)
	eventually(t, "the other page is done", func() bool { return len(f.events("delivered")) == 30 })
	if n := hanging.Load(); n != 3 {
		t.Errorf("%d jobs in flight, 3 permits", n)
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
	eventually(t, "the permits are in use", func() bool { return begun.Load() == 4 })
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

// Stats lines of a held page say why it is held and since when.
func TestStatsOfHeldPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 1)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 190, HoldFor: time.Hour, Took: time.Millisecond}
	}, worker.Config{StatsEvery: 50 * time.Millisecond})
	eventually(t, "a stats line has the hold", func() bool {
		lines := f.events("stats")
		return len(lines) > 0 && lines[len(lines)-1]["held"] == true
	})
	lines := f.events("stats")
	has(t, lines[len(lines)-1], "since", map[string]any{"class": "page"})
}

func TestNew(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	for rate, want := range map[float64]int{worker.MinRate: 64, worker.DefaultRate: 64, 41: 66, 300: 480, 1e5: 10_000} {
		if got := worker.DefaultMaxInFlight(rate); got != want {
			t.Errorf("at %v calls a second %d, want %d", rate, got, want)
		}
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
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

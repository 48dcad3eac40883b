package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Two workers try a held page with one message at a time between them, and one of them says that it is over.
func TestOneProbeOverAllWorkers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottle, Delays: worker.Delays{First: 20 * time.Millisecond, Max: 50 * time.Millisecond}}
	var mu sync.Mutex
	var healed bool
	var inFlight, most int
	h := func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		if inFlight++; !healed {
			most = max(most, inFlight)
		}
		mu.Unlock()
		<-time.After(20 * time.Millisecond) // the call
		mu.Lock()
		inFlight--
		if job.Attempts != 0 || job.InDoubt {
			t.Errorf("a job comes with attempts %d, in doubt %v %s", job.Attempts, job.InDoubt, job.Doubt)
		}
		if !healed {
			return throttle
		}
		return delivered
	}
	f.publish(acme, queue.Bulk, 1) // alone, so that one call meets the throttle
	f.start(h, worker.Config{SlowStart: time.Millisecond})
	f.start(h, worker.Config{SlowStart: time.Millisecond})
	f.await("held", 1)
	f.held(acme)
	const jobs = 30
	f.publish(acme, queue.Bulk, jobs-1)
	f.await("held", 5) // four probes failed
	mu.Lock()
	healed = true
	mu.Unlock()
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == jobs })
	if most != 1 {
		t.Errorf("%d messages at a time were tried", most)
	}
	if n := len(f.events("resumed")); n != 1 {
		t.Errorf("%d resumed lines", n)
	}
	if probes, held := len(f.events("probing")), len(f.events("held")); probes != held {
		t.Errorf("held %d times, and tried %d times", held, probes)
	}
	f.isEmpty(acme)
}

// Calls with a video that hang do not stand in the way of text.
func TestMediaPermits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	release := make(chan struct{})
	var hanging atomic.Int64
	f.start(func(ctx context.Context, job *queue.Delivery) worker.Verdict {
		if job.Lane == queue.Media {
			hanging.Add(1)
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return delivered
	}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: 1000, MediaRate: 1000, MaxInFlight: 2}}})
	f.publish(acme, queue.Media, 5)
	eventually(t, "the permits for media are in use", func() bool { return hanging.Load() == 2 })
	f.publish(acme, queue.Bulk, 20)
	eventually(t, "text is delivered", func() bool { return len(f.events("delivered")) == 20 })
	if n := hanging.Load(); n != 2 {
		t.Errorf("%d media calls in flight, 2 permits", n)
	}
	close(release)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 25 })
}

// Pages come and go while a worker runs.
func TestSetPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var mu sync.Mutex
	done := map[string]int{} // by page
	deliveredFor := func(page string) int {
		mu.Lock()
		defer mu.Unlock()
		return done[page]
	}
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		done[job.Page]++
		if job.Attempts != 0 || job.InDoubt {
			t.Errorf("a job comes with attempts %d, in doubt %v %s", job.Attempts, job.InDoubt, job.Doubt)
		}
		return delivered
	}, worker.Config{StatsEvery: 20 * time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000}}})
	set := func(pages ...worker.Page) {
		t.Helper()
		if err := f.w.SetPages(f.handle(pages)); err != nil {
			t.Fatal(err)
		}
	}
	missing := func(page string) bool {
		for _, line := range f.events("page_missing") {
			if line["page_id"] == page {
				return true
			}
		}
		return false
	}
	f.publish(nordwind, queue.Bulk, 3)
	eventually(t, "it is told that a page is missing", func() bool { return missing(nordwind) })

	set(worker.Page{ID: acme, Name: "acme", Rate: 1000}, worker.Page{ID: nordwind, Rate: 1000})
	eventually(t, "the new page's jobs are delivered", func() bool { return deliveredFor(nordwind) == 3 })

	set(worker.Page{ID: nordwind, Rate: 1000})
	f.publish(acme, queue.Bulk, 4)
	eventually(t, "it is told that a page is missing", func() bool { return missing(acme) })
	if n := deliveredFor(acme); n != 0 {
		t.Errorf("%d jobs of a page that is gone were delivered", n)
	}

	if err := f.w.SetPages(f.handle([]worker.Page{{ID: acme}, {}})); err == nil {
		t.Error("a page without an id was taken")
	}
	if n := deliveredFor(acme); n != 0 {
		t.Errorf("after an error %d jobs of a page that is gone were delivered", n)
	}

	set(worker.Page{ID: acme, Name: "acme", Rate: 40})
	eventually(t, "they are delivered once it is back", func() bool { return deliveredFor(acme) == 4 })
	set(worker.Page{ID: acme, Name: "acme", Rate: 500})
	f.publish(acme, queue.Bulk, 5)
	eventually(t, "they are delivered at another rate", func() bool {
		for _, line := range f.events("stats") {
			if line["page"] == "acme" && line["rate"] == 500.0 {
				return deliveredFor(acme) == 9
			}
		}
		return false
	})

	// A page with the same settings goes on, by its new handler.
	var others atomic.Int64
	f.h = handler(func(context.Context, *queue.Delivery) worker.Verdict { others.Add(1); return delivered })
	set(worker.Page{ID: acme, Name: "acme", Rate: 500})
	f.publish(acme, queue.Bulk, 2)
	eventually(t, "they are delivered by the new handler", func() bool { return others.Load() == 2 })
}

// Pages of a throttled app have one hold and one message that is tried, whichever page has one.
func TestAppHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottleApp, Code: 4, Delays: probes, Took: time.Millisecond}
	var healed atomic.Bool
	var mu sync.Mutex
	inFlight, most := 0, 0
	pages := []worker.Page{{ID: acme, Name: "acme", App: "shop", Rate: 1000}, {ID: nordwind, Name: "nordwind", App: "shop", Rate: 1000},
		{ID: "3000000003", Name: "other", App: "other", Rate: 1000}, {ID: "3000000004", Name: "idle", App: "shop", Rate: 1000}}
	h := func(_ context.Context, job *queue.Delivery) worker.Verdict {
		if healed.Load() || job.Page == "3000000003" {
			return delivered
		}
		mu.Lock()
		if inFlight++; len(f.events("held")) > 0 {
			most = max(most, inFlight)
		}
		mu.Unlock()
		<-time.After(10 * time.Millisecond) // the call
		mu.Lock()
		defer mu.Unlock()
		inFlight--
		return throttle
	}
	f.publish(acme, queue.Bulk, 1)
	f.start(h, worker.Config{SlowStart: time.Millisecond, Pages: pages})
	f.start(h, worker.Config{SlowStart: time.Millisecond, Pages: pages})
	has(t, f.await("held", 1), "", map[string]any{"class": "throttle_app", "app": "shop"})
	f.held(queue.AppKey("shop"))
	f.publish(acme, queue.Bulk, 10)
	f.publish(nordwind, queue.Bulk, 10)
	f.publish("3000000003", queue.Bulk, 5)
	eventually(t, "the other app's page is done", func() bool { return len(f.events("delivered")) == 5 })
	f.await("held", 5)
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 26 })
	if n := len(f.events("resumed")); n != 1 {
		t.Errorf("%d resumed lines", n)
	}
	if most != 1 {
		t.Errorf("%d messages at a time were tried", most)
	}
}

// A page without messages claims nothing, however long its hold is over.
func TestIdlePageClaimsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var s queue.PageState
	s.Hold(queue.PageState{Class: "throttle", Since: f.q.Now(), Until: f.q.Now()})
	s, err := f.q.SetPageState(t.Context(), acme, s)
	if err != nil {
		t.Fatal(err)
	}
	f.start(func(context.Context, *queue.Delivery) worker.Verdict { return delivered },
		worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme"}, {ID: nordwind, Name: "nordwind"}}})
	f.publish(nordwind, queue.Bulk, 3)
	f.await("delivered", 3)
	if got, err := f.q.PageState(t.Context(), acme); err != nil || got.Revision() != s.Revision() {
		t.Errorf("state %+v, error %v", got, err)
	}
	f.publish(acme, queue.Bulk, 1)
	f.await("resumed", 1)
}

// The bucket of the states is made anew under a worker: what is held then is written down and seen all the same.
func TestHoldInNewBucket(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	f := newFixture(t)
	f.q = queuetest.On(t, srv)
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottle, Code: 613, Delays: probes, Took: time.Millisecond}
	var healed atomic.Bool
	f.publish(acme, queue.Bulk, 5)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return throttle
	}, worker.Config{SlowStart: time.Millisecond})
	f.await("held", 3)
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "KV_"+queue.BucketPages); err != nil {
		t.Fatal(err)
	}
	n := len(f.events("held"))
	f.await("held", n+2)
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 5 })
	eventually(t, "the page is open", func() bool {
		s, err := f.q.PageState(t.Context(), acme)
		return err == nil && !s.Held
	})
}

package worker_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Within a lane jobs begin in the order in which they came.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, lane := range queue.Lanes() {
		t.Run(string(lane), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.publish(acme, lane, 30)
			got := make(chan string, len(want))
			f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
				got <- job.ID
				return delivered
			}, worker.Config{Pages: []worker.Page{{ID: acme, Rate: 400, MediaRate: 400, MaxInFlight: 1}}})
			eventually(t, "all have begun", func() bool { return len(got) == len(want) })
			var order []string
			for range want {
				order = append(order, <-got)
			}
			if !slices.Equal(order, want) {
				t.Errorf("order is\n%v, want\n%v", order, want)
			}
		})
	}
}

// A page that comes out of a hold goes one job at a time until one was sent, then as before.
func TestProbe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const jobs = 20
	f.publish(acme, queue.Bulk, 1) // alone, so that no other call is under way when the hold comes
	probe, flow := make(chan struct{}), make(chan struct{})
	f.start(func(ctx context.Context, _ *queue.Delivery) worker.Verdict {
		until := flow // what follows the probe goes together
		switch {
		case len(f.events("held")) == 0:
			return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassPage, HoldFor: 200 * time.Millisecond}
		case len(f.events("delivered")) == 0:
			until = probe
		}
		select {
		case <-until:
		case <-ctx.Done():
		}
		return delivered
	}, worker.Config{SlowStart: time.Second, Pages: []worker.Page{{ID: acme, Rate: 1000}}})
	f.await("held", 1)
	f.publish(acme, queue.Bulk, jobs-1)

	f.await("probing", 1)
	eventually(t, "a probe is under way", func() bool { return f.w.InFlight() == 1 })
	watch := time.NewTimer(300 * time.Millisecond)
	for waiting := true; waiting; {
		select {
		case <-watch.C:
			waiting = false
		case <-time.After(5 * time.Millisecond):
		}
		if n := f.w.InFlight(); n > 1 {
			t.Fatalf("%d jobs are under way during the probe", n)
		}
	}
	close(probe)
	eventually(t, "jobs go together again", func() bool { return f.w.InFlight() > 5 })
	close(flow)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == jobs })
	f.isEmpty(acme)
}

// The time to wait that Facebook names goes before our own schedule.
func TestHoldFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 1)
	var mu sync.Mutex
	var calls []time.Time
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		if calls = append(calls, time.Now()); len(calls) == 1 {
			return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottle, HoldFor: 700 * time.Millisecond,
				Delays: worker.Delays{First: time.Hour, Max: time.Hour}}
		}
		return delivered
	}, worker.Config{})
	f.await("delivered", 1)
	if waited := calls[1].Sub(calls[0]); waited < 700*time.Millisecond {
		t.Errorf("the page came back after %v", waited)
	}
}

// A worker whose queue is closed under it ends, and says so. What it could not settle is not called delivered.
func TestQueueClosed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ids := f.publish(acme, queue.Bulk, 1)
	begun, release := make(chan struct{}), make(chan struct{})
	h := handler(func(context.Context, *queue.Delivery) worker.Verdict {
		close(begun)
		<-release
		return delivered
	})
	w, err := worker.New(worker.Config{Queue: f.q, Log: f.log, Pages: []worker.Page{{ID: acme, Handler: h}, {ID: nordwind, Handler: h}}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	<-begun
	f.q.Close()
	close(release)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended without an error")
		}
	case <-time.After(worker.Deadline):
		t.Fatal("the worker goes on without a queue")
	}
	if lines := f.events("unsettled"); len(lines) != 1 || lines[0]["id"] != ids[0] {
		t.Errorf("unsettled lines: %v", lines)
	}
	if n := len(f.events("delivered")); n != 0 {
		t.Errorf("%d jobs are called delivered", n)
	}
}

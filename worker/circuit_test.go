package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// While one page tries to reach Facebook, the jobs of the others are not fetched and requeued over and over.
func TestCircuitLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var pages []worker.Page
	for i := range 8 {
		id := fmt.Sprintf("300000000%d", i)
		pages = append(pages, worker.Page{ID: id, Name: id, Rate: 1000, MaxInFlight: 1})
		f.publish(id, queue.Bulk, 5)
	}
	var mu sync.Mutex
	var most uint64 // deliveries of one job
	trying := 0
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		most = max(most, job.Deliveries)
		if len(f.events("graph_down")) == 0 {
			mu.Unlock()
			return away
		}
		trying++
		healed := trying > 12
		mu.Unlock()
		if healed {
			return delivered
		}
		<-time.After(300 * time.Millisecond) // the call hangs
		return away
	}, worker.Config{SlowStart: time.Millisecond, Pages: pages})
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 40 })
	mu.Lock()
	defer mu.Unlock()
	if t.Logf("a job was delivered %d times at most", most); most > 60 {
		t.Errorf("a job was delivered %d times", most)
	}
}

// A call that began before Facebook went away, and whose answer is lost, does not say that Facebook is back.
func TestLostAnswerDoesNotCloseCircuit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassInDoubt, Text: "the answer was lost", Took: time.Millisecond}
	begun, down := make(chan struct{}), make(chan struct{})
	var calls, healed atomic.Int64
	f.publish(acme, queue.Bulk, 1)
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		switch {
		case calls.Add(1) == 1:
			close(begun)
			<-down
			return lost
		case healed.Load() == 1:
			return delivered
		}
		return away
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 2}}})
	<-begun
	f.publish(acme, queue.Bulk, 10)
	f.await("graph_down", 1)
	close(down)
	f.await("dead", 1)
	tried := calls.Load()
	eventually(t, "it is tried again", func() bool { return calls.Load() > tried+3 })
	if up := len(f.events("graph_up")); up != 0 {
		t.Errorf("%d lines graph_up while Facebook is away", up)
	}
	healed.Store(1)
	f.await("graph_up", 1)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 10 })
	if down := len(f.events("graph_down")); down != 1 {
		t.Errorf("%d lines graph_down", down)
	}
}

// Facebook is away: one line says so, no message is counted as tried or dies, and all are delivered when it is back.
func TestCircuit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var healed atomic.Bool
	var calls atomic.Int64
	const each = 20
	f.publish(acme, queue.Bulk, each)
	f.publish(nordwind, queue.Bulk, each)
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		calls.Add(1)
		if healed.Load() {
			return delivered
		}
		return away
	}, worker.Config{Host: "graph.facebook.com", SlowStart: time.Millisecond,
		Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 2}, {ID: nordwind, Name: "nordwind", Rate: 1000, MaxInFlight: 2}}})
	has(t, f.await("graph_down", 1), "pages pending since", map[string]any{"host": "graph.facebook.com", "cause": "host not found"})
	tried := calls.Load()
	eventually(t, "it is tried again", func() bool { return calls.Load() > tried+5 })
	healed.Store(true)
	has(t, f.await("graph_up", 1), "since for_s", map[string]any{"host": "graph.facebook.com"})
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 2*each })
	if down, up, dead, held := len(f.events("graph_down")), len(f.events("graph_up")), len(f.events("dead")), len(f.events("held")); down != 1 || up != 1 || dead+held != 0 {
		t.Errorf("%d lines graph_down, %d graph_up, %d dead, %d held", down, up, dead, held)
	}
	if n := len(f.events("retry")); n >= 5 {
		t.Errorf("%d retry lines", n)
	}
	f.isEmpty(acme)
	f.isEmpty(nordwind)
}

// With Facebook away, a message of which nobody knows whether it was sent, and that is to be parked then, is parked.
func TestCircuitParks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassInDoubt, Unreachable: true, Text: "bad gateway", Took: time.Millisecond}
	f.publish(acme, queue.Bulk, 6)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict { return lost },
		worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	eventually(t, "all are parked", func() bool { return len(f.events("dead")) == 6 })
	if n := len(f.events("graph_down")); n != 1 {
		t.Errorf("%d lines graph_down", n)
	}
}

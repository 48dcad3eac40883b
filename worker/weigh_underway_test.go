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

// resumeByHand ends a page's hold as "brazier pages resume" does.
func (f *fixture) resumeByHand() {
	f.t.Helper()
	s, err := f.q.PageState(f.t.Context(), acme)
	if err != nil {
		f.t.Fatal(err)
	}
	s.Resume(f.q.Now())
	s.Manual = true
	if _, err := f.q.SetPageState(f.t.Context(), acme, s); err != nil {
		f.t.Fatal(err)
	}
}

// longHold is a verdict whose hold no test outlasts.
func longHold(v worker.Verdict) worker.Verdict {
	long := worker.Delays{First: time.Hour, Max: time.Hour}
	v.HoldDelays = long
	if v.Outcome == worker.Hold {
		v.Delays = long
	}
	return v
}

// known is a refusal that can only be the page's.
var known = worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 2500, Text: "no token", Took: time.Millisecond}

// Messages that are under way when others of a row hold their page do not die, and all go as soon as a person resumes the page.
// Where that was too soon, they do not die either.
func TestRowUnderWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		verdict worker.Verdict
		dead    int // at most, each time
	}{
		{"only the page's", longHold(known), 0},
		{"the page's or the message's", longHold(mayBePage), 0},
		{"not known whose", longHold(badMessage), 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			const jobs, underWay = 80, 40
			f.publish(acme, queue.Bulk, jobs)
			var healed atomic.Bool
			var calls atomic.Int64
			all := make(chan struct{})
			f.start(func(ctx context.Context, _ *queue.Delivery) worker.Verdict {
				if healed.Load() {
					return delivered
				}
				if calls.Add(1) == underWay {
					close(all)
				}
				select {
				case <-all:
				case <-ctx.Done():
				}
				return c.verdict
			}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: underWay}}})
			has(t, f.await("held", 1), "", map[string]any{"class": "page", "code": c.verdict.Code})
			f.resumeByHand()
			f.await("held", 2)
			if n := len(f.events("dead")); n > 2*c.dead {
				t.Errorf("%d messages are dead, want at most %d twice", n, c.dead)
			}
			healed.Store(true)
			f.resumeByHand()
			eventually(t, "all others are delivered", func() bool { return len(f.events("delivered"))+len(f.events("dead")) == jobs })
			if n := len(f.events("dead")); n > 2*c.dead {
				t.Errorf("%d messages are dead, want at most %d twice", n, c.dead)
			}
			f.isEmpty(acme)
		})
	}
}

// The message that is tried after a hold is another than the one that led to it, also where that one is back in the queue.
func TestProbeIsAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.behind = 3 * time.Second
	v := known
	v.Delays = worker.Delays{First: 2 * time.Second, Max: 2 * time.Second} // the message is back by then
	var mu sync.Mutex
	var tried []string
	bad := f.publish(acme, queue.Bulk, 1)[0]
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		tried = append(tried, job.ID)
		if job.ID == bad {
			return v
		}
		return delivered
	}, worker.Config{SlowStart: time.Millisecond})
	f.await("held", 1)
	good := f.publish(acme, queue.Bulk, 1)[0]
	has(t, f.await("dead", 1), "", map[string]any{"id": bad, "class": "message"})
	mu.Lock()
	defer mu.Unlock()
	if len(tried) != 3 || tried[1] != good || len(f.events("held")) != 1 {
		t.Errorf("tried %v, of which %s is bad; held %d times", tried, bad, len(f.events("held")))
	}
}

// A gateway that fails after it has forwarded sends a copy with each attempt. So while Facebook is away, attempts that end in
// doubt count, and each is made with another message.
func TestCircuitInDoubt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.behind = 3 * time.Second
	const jobs = 60
	f.publish(acme, queue.Bulk, jobs)
	var healed atomic.Bool
	var mu sync.Mutex
	calls, tried := 0, map[string]int{}
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		mu.Lock()
		defer mu.Unlock()
		if n := job.Counts[string(sendapi.ClassInDoubt)]; n != tried[job.ID] {
			t.Errorf("%d attempts in doubt counted, of %d", n, tried[job.ID])
		}
		calls++
		tried[job.ID]++
		return worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassInDoubt, Unreachable: true, Text: "bad gateway", Took: time.Millisecond,
			HoldAfter: 10, Delays: worker.Delays{First: time.Second, Max: time.Second}}
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 2}}})
	f.await("graph_down", 1)
	eventually(t, "it was tried for longer than messages stay away", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return calls >= 20
	})
	healed.Store(true)
	f.await("graph_up", 1)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == jobs })
	mu.Lock()
	defer mu.Unlock()
	for id, n := range tried {
		if n > 1 {
			t.Errorf("%s was tried %d times", id, n)
		}
	}
	if held, dead := len(f.events("held")), len(f.events("dead")); held+dead > 0 {
		t.Errorf("held %d times, %d dead", held, dead)
	}
}

// While Facebook is away, the pages of a process try to reach it with one call at a time between them.
func TestCircuitTriesOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var pages []worker.Page
	for i := range 8 {
		id := fmt.Sprintf("300000000%d", i)
		pages = append(pages, worker.Page{ID: id, Name: id, Rate: 1000, MaxInFlight: 2})
		f.publish(id, queue.Bulk, 10)
	}
	var mu sync.Mutex
	inFlight, most, calls, counting := 0, 0, 0, false
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		mu.Lock()
		inFlight++
		if counting {
			calls++
			most = max(most, inFlight)
		}
		mu.Unlock()
		<-time.After(20 * time.Millisecond) // the call
		mu.Lock()
		defer mu.Unlock()
		inFlight--
		return away
	}, worker.Config{SlowStart: time.Millisecond, Pages: pages})
	f.await("graph_down", 1)
	eventually(t, "nothing is in flight from before", func() bool {
		mu.Lock()
		defer mu.Unlock()
		counting = counting || inFlight == 0
		return counting
	})
	eventually(t, "it was tried", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return calls >= 15
	})
	mu.Lock()
	defer mu.Unlock()
	if most != 1 {
		t.Errorf("%d calls at a time", most)
	}
}

// A row of refusals holds the page; a message that was sent meanwhile is taken, and so others can be.
func TestRowDisproved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bad := map[string]bool{}
	const rowOf, good = 3, 30
	for _, id := range f.publish(acme, queue.Bulk, rowOf) {
		bad[id] = true
	}
	f.publish(acme, queue.Bulk, good)
	var refused, begun atomic.Int64
	all, isHeld := make(chan struct{}), make(chan struct{})
	f.start(func(ctx context.Context, job *queue.Delivery) worker.Verdict {
		wait := isHeld
		if bad[job.ID] {
			if wait = nil; refused.Add(1) == rowOf { // the last one lets others begin first
				wait = all
			}
		} else if begun.Add(1) == 10 {
			close(all)
		}
		if wait != nil {
			select {
			case <-wait:
			case <-ctx.Done():
			}
		}
		if bad[job.ID] {
			return longHold(mayBePage)
		}
		return delivered
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 20}}})
	f.await("held", 1)
	close(isHeld)
	f.await("resumed", 1)
	eventually(t, "the others are delivered", func() bool { return len(f.events("delivered")) == good })
	eventually(t, "the bad ones are dead", func() bool { return len(f.events("dead")) == rowOf })
	if n := len(f.events("held")); n != 1 {
		t.Errorf("held %d times", n)
	}
	f.isEmpty(acme)
}

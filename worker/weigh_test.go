package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

var (
	probes = worker.Delays{First: 100 * time.Millisecond, Max: 200 * time.Millisecond}
	// mayBePage is a refusal that is the page's or the message's.
	mayBePage = worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 10, HoldAfter: 3, Delays: probes, Text: "may not", Took: time.Millisecond}
	// badMessage is one that condemns the message, unless many meet it in a row.
	badMessage = worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassMessage, Code: 100, HoldAfter: 10, HoldDelays: probes, Text: "wrong", Took: time.Millisecond}
	away       = worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, Unreachable: true, Text: "host not found", Took: time.Millisecond,
		MaxAttempts: 3, Delays: worker.Delays{First: time.Millisecond, Max: time.Millisecond}}
)

// A message that is refused as if its page might not send does not stop its page: it is tried again behind others, and is dead
// when these were taken.
func TestRefusalOfOneMessage(t *testing.T) {
	t.Parallel()
	for _, v := range []worker.Verdict{mayBePage, {Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 2022, Delays: probes, Took: time.Millisecond}} {
		t.Run(fmt.Sprint(v.Code), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			bad := map[string]bool{}
			for range 2 {
				bad[f.publish(acme, queue.Bulk, 1)[0]] = true
				f.publish(acme, queue.Bulk, 10)
			}
			f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
				if bad[job.ID] {
					return v
				}
				return delivered
			}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
			eventually(t, "the others are delivered", func() bool { return len(f.events("delivered")) == 20 })
			eventually(t, "the bad ones are dead", func() bool { return len(f.events("dead")) == len(bad) })
			for _, line := range f.events("dead") {
				has(t, line, "", map[string]any{"class": "message", "code": v.Code})
				if !bad[line["id"].(string)] {
					t.Errorf("a good message is dead: %v", line)
				}
			}
			if n := len(f.events("held")); v.HoldAfter > 1 && n > 0 {
				t.Errorf("the page was held %d times", n)
			}
			f.isEmpty(acme)
		})
	}
}

// Where the page is at fault, three messages show it, none dies of it, and all are delivered when it is over.
func TestRefusalOfAllMessages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var healed atomic.Bool
	f.publish(acme, queue.Bulk, 20)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return mayBePage
	}, worker.Config{SlowStart: time.Millisecond})
	has(t, f.await("held", 3), "", map[string]any{"class": "page", "code": 10})
	state, err := f.q.PageState(t.Context(), acme)
	if err != nil || state.FirstRefused.IsZero() || state.FirstRefused.After(state.Since) {
		t.Errorf("state %+v, error %v", state, err)
	}
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 20 })
	if n := len(f.events("dead")); n != 0 {
		t.Errorf("%d messages are dead", n)
	}
	f.isEmpty(acme)
}

// Messages that die one after another of the same code hold the page. Those after them do not die.
func TestRowOfDeaths(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var healed atomic.Bool
	f.publish(acme, queue.Bulk, 30)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return badMessage
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	f.await("held", 3) // two probes failed
	if n := len(f.events("dead")); n != 9 {
		t.Errorf("%d messages are dead, want 9", n)
	}
	healed.Store(true)
	eventually(t, "the others are delivered", func() bool { return len(f.events("delivered")) == 21 })
	f.isEmpty(acme)
}

// A campaign of bad messages before good ones: the page is held, one that is taken shows that the bad ones are at fault, and
// these die without another hold.
func TestRowOfBadMessages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bad := map[string]bool{}
	for _, id := range f.publish(acme, queue.Bulk, 40) {
		bad[id] = true
	}
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		if bad[job.ID] {
			return badMessage
		}
		return delivered
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	f.await("held", 2)
	f.publish(acme, queue.Urgent, 1)
	f.await("resumed", 1)
	heldBefore := len(f.events("held"))
	eventually(t, "the bad ones are dead", func() bool { return len(f.events("dead")) == 40 })
	if n := len(f.events("held")) - heldBefore; n != 0 {
		t.Errorf("the page was held %d times more", n)
	}
	f.isEmpty(acme)
}

// A proxy that says no to every message holds the page. The probes that it refuses are no attempts of the messages.
func TestRowOfRetries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	soon := worker.Delays{First: time.Millisecond, Max: time.Millisecond}
	proxy := worker.Verdict{Outcome: worker.Retry, Class: sendapi.ClassTransient, HoldAfter: 3, HoldDelays: probes, Delays: soon, MaxAttempts: 5,
		Text: "HTTP 403", Took: time.Millisecond}
	var healed atomic.Bool
	var calls atomic.Int64
	f.publish(acme, queue.Bulk, 3)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		calls.Add(1)
		return proxy
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	has(t, f.await("held", 1), "", map[string]any{"class": "page"})
	eventually(t, "the page is tried many times, or a message is dead", func() bool { return calls.Load() > 16 || len(f.events("dead")) > 0 })
	healed.Store(true)
	eventually(t, "all are settled", func() bool { return len(f.events("delivered"))+len(f.events("dead")) == 3 })
	if n := len(f.events("dead")); n > 0 {
		t.Errorf("%d messages are dead", n)
	}
}

// A code that stopped a page and was cleared stops it again when very many die of it: the setting may be wrong once more.
func TestRowAfterClearing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var healed atomic.Bool
	v := badMessage
	v.HoldAfter = 3
	f.publish(acme, queue.Bulk, 3)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return v
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	f.await("held", 1)
	healed.Store(true)
	f.await("resumed", 1)
	healed.Store(false)
	before := len(f.events("held"))
	f.publish(acme, queue.Bulk, 40)
	f.await("held", before+1)
	if n := len(f.events("dead")); n != 2+29 {
		t.Errorf("%d messages are dead, want 2 and then 29", n)
	}
}

// Those that were lost with a worker, and are parked without a call, say nothing of the page.
func TestRowLostWithAWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassInDoubt, HoldAfter: 5, HoldDelays: worker.Delays{First: time.Hour, Max: time.Hour}}
	f.publish(acme, queue.Bulk, 30)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict { return lost },
		worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	f.await("dead", 30)
	if held := f.events("held"); len(held) > 0 {
		t.Errorf("the page is held: %v", held)
	}
}

// Many in doubt in a row stop the page, and each is settled as it would be without that.
func TestRowInDoubt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	lost := worker.Verdict{Outcome: worker.Dead, Class: sendapi.ClassInDoubt, HoldAfter: 5, HoldDelays: worker.Delays{First: time.Hour, Max: time.Hour}, Took: time.Millisecond}
	f.publish(acme, queue.Bulk, 30)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict { return lost },
		worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	has(t, f.await("held", 1), "", map[string]any{"class": "page"})
	f.await("dead", 5)
	eventually(t, "five are gone", func() bool { // shortly after they are settled
		b, err := f.q.Backlog(t.Context(), acme)
		return err == nil && b.Pending == 25
	})
}

package worker_test

import (
	"context"
	"fmt"
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
	if err != nil || state.Began.IsZero() || state.Began.After(state.Since) {
		t.Errorf("state %+v, error %v", state, err)
	}
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 20 })
	if n := len(f.events("dead")); n != 0 {
		t.Errorf("%d messages are dead", n)
	}
	f.isEmpty(acme)
}

// Messages that die one after another of the same code hold the page. Those after them live.
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
	f.publish(acme, queue.Bulk, 3)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return proxy
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	has(t, f.await("held", 1), "", map[string]any{"class": "page"})
	eventually(t, "the page is tried many times, or a message is dead", func() bool { return len(f.events("held")) > 16 || len(f.events("dead")) > 0 })
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
	eventually(t, "five are gone", func() bool { // a moment after they are settled
		b, err := f.q.Backlog(t.Context(), acme)
		return err == nil && b.Pending == 25
	})
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

// Token A is refused and B is taken; later A is in the file again, and is valid.
func TestTokenComesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var token atomic.Value
	token.Store("A")
	valid := sync.Map{}
	valid.Store("B", true)
	f.publish(acme, queue.Bulk, 3)
	h := func(context.Context, *queue.Delivery) worker.Verdict {
		name := token.Load().(string)
		if _, ok := valid.Load(name); !ok {
			return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassAuth, Code: 190, Credentials: name, Delays: probes, Took: time.Millisecond}
		}
		return delivered
	}
	cfg := worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1,
		Credentials: func() (string, error) { return token.Load().(string), nil }}}}
	stop := f.start(h, cfg)
	has(t, f.await("held", 1), "", map[string]any{"class": "auth"})
	token.Store("B")
	eventually(t, "all are delivered with the new token", func() bool { return len(f.events("delivered")) == 3 })
	stop()
	token.Store("A")
	valid.Store("A", true)
	f.publish(acme, queue.Bulk, 2)
	f.start(h, cfg)
	eventually(t, "and with the old one, which is valid again", func() bool { return len(f.events("delivered")) == 5 })
	eventually(t, "which is not called dead any more", func() bool {
		s, err := f.q.PageState(t.Context(), acme)
		return err == nil && s.DeadToken == "" && !s.Held
	})
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

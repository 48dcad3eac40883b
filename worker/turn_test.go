package worker

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// The first lane has nine turns of ten while another has something, and every turn while it has not.
func TestShares(t *testing.T) {
	t.Parallel()
	var s shares
	var got []int
	for range 22 {
		got = append(got, s.choose(2, func(int) bool { return true }))
	}
	for i, lane := range got {
		want := 0
		if i%10 == 9 {
			want = 1
		}
		if lane != want {
			t.Fatalf("turns went to %v", got)
		}
	}
	for _, c := range []struct {
		first, other bool
		want         int
	}{{true, false, 0}, {false, true, 1}, {false, false, -1}} {
		for range 20 {
			if got := s.choose(2, func(lane int) bool { return lane == 0 && c.first || lane == 1 && c.other }); got != c.want {
				t.Errorf("with something in the first lane %v, in the other %v the turn is %d's, want %d's", c.first, c.other, got, c.want)
			}
		}
	}
}

// Urgent messages at the page's full rate leave one slot in ten to bulk ones, also where permits are short.
func TestUrgentLeavesOneInTen(t *testing.T) {
	t.Parallel()
	for name, permits := range map[string]int{"slots are short": 100, "permits are short": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := queuetest.New(t)
			const urgent, bulk = 150, 8
			for lane, n := range map[queue.Lane]int{queue.Urgent: urgent, queue.Bulk: bulk} {
				publishExpiring(t, q, expiringPage, lane, n, time.Hour)
			}
			var mu sync.Mutex
			var order []queue.Lane
			all := make(chan struct{})
			runWorker(t, Config{Queue: q, Pages: []Page{{ID: expiringPage, Rate: 100, MaxInFlight: permits, Handler: handlerFunc(func(_ context.Context, job *queue.Delivery) Verdict {
				mu.Lock()
				defer mu.Unlock()
				if order = append(order, job.Lane); len(order) == urgent+bulk {
					close(all)
				}
				return Verdict{Outcome: Delivered}
			})}}})
			select {
			case <-all:
			case <-time.After(Deadline):
				t.Fatal("not all are sent")
			}
			last, seen := 0, 0
			for i, lane := range order {
				if lane == queue.Bulk {
					last, seen = i, seen+1
					if i < 10*(seen-1)-35 { // a bulk one goes early where no urgent one was fetched yet; were the lanes equal, the eighth would be number 16
						t.Errorf("bulk message %d went as number %d: urgent ones are to go first", seen, i)
					}
				}
			}
			if last > 10*bulk+30 {
				t.Errorf("the last bulk message went as number %d of %d", last, len(order))
			}
		})
	}
}

// Where no slots are to be had for a reason that stays, they are asked for less and less often.
func TestNoSlots(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	core, logs := observer.New(zapcore.InfoLevel)
	w, err := New(Config{Queue: q, Log: zap.New(core), Pages: []Page{{ID: expiringPage, Handler: handlerFunc(func(context.Context, *queue.Delivery) Verdict {
		t.Error("a message was sent without a slot")
		return Verdict{Outcome: Release}
	})}}})
	if err != nil {
		t.Fatal(err)
	}
	w.pages[expiringPage].Rate = 1e-4 // which is refused, but by now only where slots are reserved
	publishExpiring(t, q, expiringPage, queue.Bulk, 3, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	errors := func() int { return logs.FilterField(zap.String("event", "pace_error")).Len() }
	deadline := time.Now().Add(Deadline)
	for poll := time.NewTicker(10 * time.Millisecond); errors() < 2; <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d errors are logged", errors())
		}
	}
	<-time.After(time.Second) // the next one comes two seconds after the second
	if n := errors(); n > 3 {
		t.Errorf("%d errors were logged within seconds", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

const expiringPage = "1029384756"

// publishExpiring stores n jobs that expire after a while, or before they are stored.
func publishExpiring(t *testing.T, q *queue.Queue, page string, lane queue.Lane, n int, after time.Duration) {
	t.Helper()
	for range n {
		now := time.Now()
		if _, err := q.Publish(t.Context(), &queue.Job{ID: queue.NewID(), Page: page, Lane: lane, Accepted: now.Add(-time.Hour), Expire: now.Add(after), Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
}

// runWorker runs a worker until the test ends. Its log has debug lines, so that none is left out.
func runWorker(t *testing.T, cfg Config) *observer.ObservedLogs {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	cfg.Log = zap.New(core)
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.overdueEvery = time.Second
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return logs
}

// A dispatcher whose page is stopped ends, also where its last slots are over right after it asked whether they are.
func TestSlotsOverWhileFinishing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newDispatcher(nil, gateOpen, nil, 10, make(permits, 1), 1)
	d.lanes[0].fetched = []*queue.Delivery{nil}
	d.setTimers(ctx)
	select {
	case <-d.turn.C:
	case <-time.After(Deadline):
		t.Error("nothing has it look again")
	}
}

// endsLater is a context that ends at the n-th question whether it has.
type endsLater struct {
	context.Context
	end context.CancelFunc
	n   int
}

func (c *endsLater) Err() error {
	if c.n--; c.n == 0 {
		c.end()
	}
	return c.Context.Err()
}

// A dispatcher ends with its context, whenever that is.
func TestDispatcherEnds(t *testing.T) {
	t.Parallel()
	pace := queuetest.New(t).Pace("1029384756", "text")
	for n := range 12 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if n == 0 {
			cancel()
		}
		defer time.AfterFunc(50*time.Millisecond, cancel).Stop() // where it asks less often
		d := newDispatcher(nil, gateOpen, pace, 10, make(permits, 1), 1)
		ended := make(chan struct{})
		go func() {
			d.run(&endsLater{ctx, cancel, n})
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(Deadline):
			t.Fatalf("it does not end when its context does at the %d. question", n)
		}
	}
}

// A page that is stopped between the look for a job to begin and its begin begins none, and the permit is there for others.
func TestStoppedBeforeBegin(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	d := newDispatcher(nil, gateOpen, nil, 10, make(permits, 1), 2)
	d.lanes[0].fetched = []*queue.Delivery{nil}
	wanted := d.wanted(ctx)
	cancel()
	wanted <- struct{}{}
	d.start(ctx)
	if n := d.count(); n.fetched != 1 || n.starting != 0 || len(d.free) != 0 {
		t.Errorf("%d jobs fetched, %d being begun, %d permits in use; want 1, 0 and 0", n.fetched, n.starting, len(d.free))
	}
}

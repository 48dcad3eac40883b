package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

type handlerFunc func(ctx context.Context, job *queue.Delivery) Verdict

func (h handlerFunc) Handle(ctx context.Context, job *queue.Delivery) Verdict { return h(ctx, job) }

func (h handlerFunc) InDoubt(*queue.Delivery, string) Verdict { return Verdict{} }

// What a worker has fetched and cannot begin goes to another after a while, but for the one job whose turn is next, and
// without doubt. This test is inside the package for the sake of a while that is too long to wait for.
func TestStuckJobsGoToOthers(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	const jobs = 150
	for range jobs {
		if _, err := q.Publish(t.Context(), &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(h handlerFunc, page Page) (stop func()) {
		t.Helper()
		page.Handler = h
		w, err := New(Config{Queue: q, Pages: []Page{page}})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range w.pages {
			p.stuckTimeout = 500 * time.Millisecond
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	release, begun := make(chan struct{}), make(chan struct{}, jobs)
	stopFirst := run(func(context.Context, *queue.Delivery) Verdict {
		begun <- struct{}{}
		<-release
		return Verdict{Outcome: Delivered}
	}, Page{ID: "1029384756", Rate: 4000, MaxInFlight: 1}) // and all the others in its buffer
	await := func(what string) {
		t.Helper()
		select {
		case <-begun:
		case <-time.After(Deadline):
			t.Error("the first worker has not begun " + what)
		}
	}
	await("a job")

	var others atomic.Int64
	all := make(chan struct{})
	stopSecond := run(func(_ context.Context, job *queue.Delivery) Verdict {
		if job.InDoubt || job.Attempts != 0 {
			t.Errorf("%s comes with attempts %d, in doubt %v %s", job.ID, job.Attempts, job.InDoubt, job.Doubt)
		}
		if others.Add(1) == jobs-2 {
			close(all)
		}
		return Verdict{Outcome: Delivered}
	}, Page{ID: "1029384756", Rate: 1000})
	select {
	case <-all:
	case <-time.After(Deadline): // one by one the buffer would take 75, and the lease run out under it
		t.Errorf("the other worker has got %d jobs, want %d", others.Load(), jobs-2)
	}
	close(release)
	await("the job whose turn was next")
	stopFirst()
	stopSecond()
	if b, err := q.Backlog(t.Context(), "1029384756"); err != nil || b.Pending != 0 {
		t.Errorf("backlog %+v, error %v", b, err)
	}
}

// With one permit for eight jobs, slots are reserved for all eight while nobody else takes any, and for one after that.
// Without a permit more jobs are fetched as long as nobody else wants them.
func TestAsk(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := queuetest.On(t, srv)
	h := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{} })
	const id = "1029384756"
	w, err := New(Config{Queue: q, Pages: []Page{{ID: id, Handler: h, Rate: 300, MaxInFlight: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	pace, other := q.Pace(id, "text"), queuetest.On(t, srv).Pace(id, "text")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// ready has eight jobs, one of which has begun and waits for its slot.
	ready := func() *dispatcher {
		d := newDispatcher(w.pages[id], gateOpen, pace, 300, make(permits, 3), 1)
		d.lanes[0].fetched = make([]*queue.Delivery, 7)
		d.lanes[0].waiting = []*turn{{}}
		return d
	}
	takes := func() bool {
		d := ready()
		d.lanes[0].waiting = nil
		for range cap(d.free) {
			d.free <- struct{}{}
		}
		return d.next(ctx, 0) != nil
	}
	ask := func() int {
		d := ready()
		for range 3 { // one is that of the job that waits
			d.free <- struct{}{}
		}
		var asking sync.WaitGroup
		d.ask(ctx, &asking)
		asking.Wait()
		return (<-d.leases).N
	}
	for n := 0; n != 8; { // fewer are left where the answer came late
		if n = ask(); n > 8 || ctx.Err() != nil {
			t.Fatalf("alone it has got %d slots, want 8: %v", n, ctx.Err())
		}
	}
	if !takes() {
		t.Error("alone and without a permit it fetches no job")
	}
	// Slots that are close to each other are not added to while there are ten, and for half of the jobs.
	for _, c := range []struct {
		jobs, held int
		want       bool
	}{{24, 12, false}, {24, 11, true}, {12, 10, false}, {12, 9, true}} {
		for asked, late := false, true; late; {
			d := ready()
			d.lanes[0].fetched = make([]*queue.Delivery, c.jobs-1)
			start := time.Now()
			d.slots = []queue.Slots{{First: start, Every: 50 * time.Microsecond, N: c.held}}
			var asking sync.WaitGroup
			d.ask(ctx, &asking)
			asked, late = d.asked, time.Since(start) > slotTolerance/2 // or some were over
			asking.Wait()
			if !late && asked != c.want {
				t.Errorf("with %d slots for %d jobs it asks for more: %v, want %v", c.held, c.jobs, asked, c.want)
			}
		}
	}
	for seen := false; !seen; {
		if _, err := other.Reserve(ctx, 300, 1); err != nil {
			t.Fatal(err)
		}
		before := pace.Shared()
		n, more := ask(), takes()
		seen = before && pace.Shared()
		if seen && (n != 1 || more) {
			t.Errorf("beside another it has got %d slots, want 1, and fetches jobs without a permit: %v", n, more)
		}
	}
}

package worker

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// dispatch begins the jobs of lanes that share a pace, the first lane before the others, until ctx ends. What it has
// fetched and not begun by then it puts back before it returns. Jobs it began are counted in handling.
func (p *page) dispatch(ctx context.Context, ph phases, mode gate, handling *sync.WaitGroup, pace *queue.Pace, free places, lanes ...queue.Lane) {
	full := p.Rate
	if lanes[0] == queue.Media {
		full = p.MediaRate
	}
	d := &dispatcher{page: p, mode: mode, pace: pace, full: full, free: free, handling: handling, ph: ph,
		feeds: make([]chan *queue.Delivery, len(lanes)), hand: make([][]*queue.Delivery, len(lanes)),
		leases: make(chan queue.Slots, 1), turn: stopped(), patience: stopped()}
	var fetching sync.WaitGroup
	var cancels []func()
	for i, lane := range lanes {
		d.feeds[i] = make(chan *queue.Delivery)
		cancels = append(cancels, p.lanes[lane].whenAwake(func() {
			fetching.Go(func() { p.feed(ctx, ph, lane, d.buffer(), d.feeds[i]) })
		}))
	}
	d.run(ctx)
	for _, cancel := range cancels {
		cancel()
	}
	for _, lane := range d.hand {
		for _, job := range lane {
			p.putBack(ph, job)
		}
	}
	fetching.Wait()
}

// dispatcher brings together jobs, places in flight and slots: a job begins when there is one of each. It belongs to one
// goroutine.
type dispatcher struct {
	page     *page
	mode     gate
	pace     *queue.Pace
	full     float64 // calls a second when nothing slows the page
	free     places
	handling *sync.WaitGroup
	ph       phases

	feeds   []chan *queue.Delivery // by lane
	hand    [][]*queue.Delivery    // by lane: fetched, and waiting for their turn
	place   bool                   // one is taken for the next job
	slots   []queue.Slots          // ours, the next ones first
	asked   bool                   // for more slots
	askedAt time.Time              // when that was last
	leases  chan queue.Slots       // what came of it

	turn     *time.Timer // runs when there is a job, a place and a slot
	turnAt   time.Time   // when it ends; zero: it does not run
	patience *time.Timer // runs while jobs wait for a place
	waiting  bool        // patience runs
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (d *dispatcher) run(ctx context.Context) {
	defer func() { d.turn.Stop() }()
	defer d.patience.Stop()
	reserving, stop := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for ctx.Err() == nil || d.finishing() {
		d.ask(reserving, &asking)
		d.setTimers()
		select {
		case job := <-d.next(ctx, 0):
			d.hand[0] = append(d.hand[0], job)
		case job := <-d.next(ctx, 1):
			d.hand[1] = append(d.hand[1], job)
		case d.wanted() <- struct{}{}:
			d.place = true
		case slots := <-d.leases:
			d.asked = false
			if slots.N > 0 {
				d.slots = append(d.slots, slots)
			}
		case <-d.turn.C:
			d.turnAt = time.Time{}
			d.begin()
		case <-d.patience.C:
			d.waiting = false
			d.giveUp()
		case <-done(ctx):
		}
	}
	if d.place {
		<-d.free
	}
}

// done is nil, and so never ready, once ctx has ended: what is left to do then is not to be hurried.
func done(ctx context.Context) <-chan struct{} {
	if ctx.Err() != nil {
		return nil
	}
	return ctx.Done()
}

// finishing reports whether there are jobs for the slots that are held, when the worker stops and the page does not:
// slots that nobody uses are lost to all.
func (d *dispatcher) finishing() bool {
	d.drop()
	return d.held() > 0 && d.inHand() > 0 && time.Until(d.slots[0].First) < time.Second && d.page.may(d.mode)
}

// next is the feed of a lane, or nil when that has enough in hand. Without a place one is enough where the page has other
// workers: they may have one.
func (d *dispatcher) next(ctx context.Context, lane int) chan *queue.Delivery {
	if lane >= len(d.feeds) || ctx.Err() != nil {
		return nil
	}
	limit := d.handful()
	if !d.place && d.pace.Shared() {
		limit = 1
	}
	if len(d.hand[lane]) >= limit {
		return nil
	}
	return d.feeds[lane]
}

// wanted is where to get a place, or nil when none is wanted.
func (d *dispatcher) wanted() chan<- struct{} {
	if d.place || d.inHand() == 0 {
		return nil
	}
	return d.free
}

func (d *dispatcher) inHand() (n int) {
	for _, lane := range d.hand {
		n += len(lane)
	}
	return n
}

func (d *dispatcher) held() (n int) {
	for _, s := range d.slots {
		n += s.N
	}
	return n
}

// handful is how many jobs of a lane wait in hand for slots, an eighth of a second's worth: as many as one reservation
// may be for.
func (d *dispatcher) handful() int {
	if d.mode == due {
		return 1
	}
	return int(min(max(d.full/8, 1), 64))
}

// buffer is how many jobs of a lane are fetched at a time, a twentieth of a second's worth.
func (d *dispatcher) buffer() int {
	if d.mode == due {
		return 1
	}
	return int(min(max(d.full/20, 1), 256))
}

// end is when the last slot begins. There must be one.
func (d *dispatcher) end() time.Time {
	last := d.slots[len(d.slots)-1]
	return last.First.Add(time.Duration(last.N-1) * last.Every)
}

// drop lets go of the slots that are over.
func (d *dispatcher) drop() {
	for len(d.slots) > 0 {
		s := &d.slots[0]
		if late := time.Since(s.First) - tolerance; late > 0 {
			over := min(int(late/s.Every)+1, s.N)
			s.First, s.N = s.First.Add(time.Duration(over)*s.Every), s.N-over
		}
		if s.N > 0 {
			return
		}
		d.slots = d.slots[1:]
	}
}

const (
	// steady is how soon one request for slots follows another where jobs come one by one, but all the time.
	steady = 250 * time.Millisecond
	// soon is how long before the last slot more are asked for.
	soon = 25 * time.Millisecond
	// enough slots last longer than soon at any rate that Facebook allows.
	enough = 10
)

// ask reserves slots when those there are do not last. Where the page has other workers too, for jobs in hand alone, and not
// for more of them than there are places. Else for all: where places are short they come free one by one, and a reservation
// for each would be a tenth of what a message costs. And where jobs come all the time, for those to come in the next
// moment: nobody else wants the slots that are then left over.
func (d *dispatcher) ask(ctx context.Context, asking *sync.WaitGroup) {
	d.drop()
	held := d.held()
	want := d.inHand()
	if d.pace.Shared() {
		want = min(want, cap(d.free)-len(d.free)+1)
	}
	want -= held
	if d.asked || !d.place || want <= 0 || ctx.Err() != nil {
		return
	}
	// At thousands of calls a second the end is always near. Half of what is wanted will do then, until they are over.
	if held > 0 && (time.Until(d.end()) > soon || held >= max(want, enough)) {
		return
	}
	if !d.pace.Shared() && d.mode == open && time.Since(d.askedAt) < steady {
		want = math.MaxInt
	}
	d.asked, d.askedAt = true, time.Now()
	rate, _ := d.page.inForce(d.full)
	asking.Go(func() {
		slots, err := d.pace.Reserve(ctx, rate*target, want)
		if err != nil && ctx.Err() == nil {
			d.page.log.Error("no slots to be had", zap.String("event", "pace_error"), zap.Error(err))
		}
		d.leases <- slots // has room for the one answer that is asked for
	})
}

func (d *dispatcher) setTimers() {
	var at time.Time
	switch {
	case d.inHand() == 0 || len(d.slots) == 0:
	case d.place:
		at = d.slots[0].First
	default: // until the slots are over
		at = d.end().Add(tolerance + time.Millisecond)
	}
	if !at.Equal(d.turnAt) {
		// A new one each time. At the end of one that was reset the runtime goes through all timers there are (Go 1.26,
		// runtime/time.go), which are thousands under load, and turns come for every message.
		d.turn.Stop()
		if d.turnAt = at; !at.IsZero() {
			d.turn = time.NewTimer(time.Until(at))
		}
	}
	if waits := !d.place && d.inHand() > 1; waits != d.waiting {
		if d.waiting = waits; waits {
			d.patience.Reset(d.page.patience)
		} else {
			d.patience.Stop()
		}
	}
}

// begin hands out the next job, at the next slot if it is still good.
func (d *dispatcher) begin() {
	d.drop()
	if !d.place || len(d.slots) == 0 || time.Until(d.slots[0].First) > 0 {
		return
	}
	s := &d.slots[0]
	s.First, s.N = s.First.Add(s.Every), s.N-1
	for i, lane := range d.hand {
		if len(lane) == 0 {
			continue
		}
		job := lane[0]
		d.hand[i], d.place = lane[1:], false
		a := attempt{probe: d.mode == due, begun: d.page.w.cfg.Queue.Now(), credentials: d.page.credentialsName()}
		d.handling.Add(1)
		d.page.w.hands.do(func() {
			defer d.handling.Done()
			defer func() { <-d.free }()
			if a.probe {
				if !d.page.claim(d.ph.settle) {
					d.page.release()
					d.page.putBack(d.ph, job)
					return
				}
				defer d.page.keepClaim(d.ph.settle)()
			}
			d.page.handle(d.ph, job, a)
		})
		return
	}
}

// giveUp puts back what waits in hand, but for the next one, where another worker can have it.
func (d *dispatcher) giveUp() {
	keep := true
	for i, lane := range d.hand {
		for len(lane) > 0 && !(keep && len(lane) == 1) {
			last := lane[len(lane)-1]
			lane = lane[:len(lane)-1]
			d.page.putBack(d.ph, last)
		}
		keep = keep && len(lane) == 0
		d.hand[i] = lane
	}
}

// stuck is how long a fetched job may wait to be taken. After it, it and what is buffered behind it go back to where
// another worker can have them, before their lease runs out under us.
const stuck = queue.Lease / 3

// feed fetches the jobs of one lane into out until ctx ends.
func (p *page) feed(ctx context.Context, ph phases, lane queue.Lane, buffer int, out chan<- *queue.Delivery) {
	for ctx.Err() == nil {
		source := p.w.cfg.Queue.Source(p.ID, lane, buffer)
		stopWith := context.AfterFunc(ctx, source.Stop)
		p.pour(ctx, ph, source, lane, out)
		stopWith()
	}
}

// pour moves jobs from source to out until ctx ends, a job is stuck, or the source has stopped. It leaves the source
// stopped and empty. What is left over goes back only then: before, it would come straight back to this source.
func (p *page) pour(ctx context.Context, ph phases, source *queue.Source, lane queue.Lane, out chan<- *queue.Delivery) {
	var left []*queue.Delivery
	patience := time.NewTimer(p.patience)
	defer patience.Stop()
	for {
		job, err := source.Next(ph.settle)
		if err != nil {
			if !errors.Is(err, queue.ErrStopped) {
				p.log.Error("fetching ended", zap.String("event", "fetch_error"), zap.String("lane", string(lane)), zap.Error(err))
			}
			break
		}
		if len(left) > 0 { // the source is stopped: what was behind the first goes the same way
			left = append(left, job)
			continue
		}
		if lane != queue.Urgent {
			p.w.cfg.Queue.Yield(ctx)
		}
		patience.Reset(p.patience)
		select {
		case out <- job:
			continue
		case <-ctx.Done():
		case <-patience.C:
			source.Stop()
		}
		left = append(left, job)
	}
	for _, job := range left {
		p.putBack(ph, job)
	}
}

package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// dispatch sends the jobs of lanes that share a pace, the first lane before the others, until ctx ends. What it has
// fetched and not begun by then it requeues before it returns. Jobs it began are counted in handling.
func (p *page) dispatch(ctx context.Context, ph phases, mode gate, handling *sync.WaitGroup, pace *queue.Pace, free permits, lanes ...queue.Lane) {
	full := p.Rate
	if lanes[0] == queue.Media {
		full = p.MediaRate
	}
	d := newDispatcher(p, mode, pace, full, free, len(lanes))
	d.handling, d.ph = handling, ph
	var fetching sync.WaitGroup
	var cancels []func()
	for i, lane := range lanes {
		feed := func(awake context.Context) {
			fetching.Go(func() { p.feed(awake, ph, lane, d.buffer(), d.lanes[i].feed) })
		}
		if lane == queue.Media { // its dispatcher runs while it is awake
			feed(ctx)
			continue
		}
		cancels = append(cancels, p.lanes[lane].whileAwake(ctx, feed))
	}
	d.run(ctx)
	for _, cancel := range cancels {
		cancel()
	}
	for _, lane := range d.lanes {
		for _, job := range lane.fetched {
			p.requeue(ph, job)
		}
	}
	fetching.Wait()
}

// dispatcher takes the jobs of its lanes from step to step:
//
//	fetched ── a permit ──▶ starting ── its begin is stored ──▶ waiting ── a slot ──▶ sent
//
// A slot is granted only to a job whose begin is stored, so a disk that stalls delays calls and does not gather them. A job
// that was granted its slot too late asks for another (see [turn]). The dispatcher belongs to one goroutine; each job that
// has begun has one of its own, and speaks to the dispatcher through its turn.
type dispatcher struct {
	page     *page
	mode     gate
	pace     *queue.Pace
	full     float64 // calls a second when nothing slows the page
	free     permits
	handling *sync.WaitGroup
	ph       phases

	lanes    []dispatched
	arrivals chan arrival  // from the goroutines of jobs
	over     chan struct{} // closed when no slots are granted any more
	lead     time.Duration // what storing a begin takes, a moving estimate on the high side

	starts, grants shares // of the lanes, in permits and in slots

	slots    []queue.Slots    // ours, the next ones first
	asked    bool             // for more slots
	askedAt  time.Time        // when that was last
	leases   chan reservation // what came of it
	failures int              // requests for slots that failed in a row
	retry    *time.Timer      // runs after a failure until slots may be asked for again

	turn       *time.Timer // runs when there is a job that waits, and a slot
	turnAt     time.Time   // when it ends; zero: it does not run
	stuckTimer *time.Timer // runs while jobs wait for a permit
	short      bool        // stuckTimer runs
}

// dispatched is what a dispatcher has of one lane.
type dispatched struct {
	feed     chan *queue.Delivery
	fetched  []*queue.Delivery // not begun
	starting int               // their begin is being stored
	waiting  []*turn           // begun, and waiting for a slot
}

func newDispatcher(p *page, mode gate, pace *queue.Pace, full float64, free permits, lanes int) *dispatcher {
	d := &dispatcher{page: p, mode: mode, pace: pace, full: full, free: free,
		lanes: make([]dispatched, lanes), arrivals: make(chan arrival), over: make(chan struct{}),
		leases: make(chan reservation, 1), retry: stopped(), turn: stopped(), stuckTimer: stopped()}
	for i := range d.lanes {
		d.lanes[i].feed = make(chan *queue.Delivery)
	}
	return d
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (d *dispatcher) run(ctx context.Context) {
	defer func() { d.turn.Stop() }()
	defer d.stuckTimer.Stop()
	defer d.retry.Stop()
	reserving, stop := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop()
	for {
		ended := ctx.Done()
		if ctx.Err() != nil { // what is left to do then is not to be hurried
			if !d.finishing() {
				break
			}
			ended = nil
		}
		d.begin(ctx)
		d.ask(reserving, &asking)
		d.setTimers(ctx)
		select {
		case job := <-d.next(ctx, 0):
			d.lanes[0].fetched = append(d.lanes[0].fetched, job)
		case job := <-d.next(ctx, 1):
			d.lanes[1].fetched = append(d.lanes[1].fetched, job)
		case d.wanted(ctx) <- struct{}{}:
			d.start(ctx)
		case a := <-d.arrivals:
			d.arrive(a)
		case got := <-d.leases:
			d.got(ctx, got)
		case <-d.retry.C:
			d.asked = false
		case <-d.turn.C:
			d.turnAt = time.Time{}
			d.grant()
		case <-d.stuckTimer.C:
			d.short = false
			d.abandonFetched()
		case <-ended: // also where that was after the question above
		}
	}
	close(d.over)
	for _, lane := range d.lanes {
		for _, t := range lane.waiting {
			close(t.granted)
		}
	}
}

// finishing reports whether there are jobs for the slots that are held, when the worker stops and the page does not:
// slots that nobody uses are lost to all.
func (d *dispatcher) finishing() bool {
	d.drop()
	n := d.count()
	return d.held() > 0 && n.fetched+n.starting+n.waiting > 0 && time.Until(d.slots[0].First) < time.Second && d.page.may(d.mode)
}

// next is the feed of a lane, or nil when that has enough fetched. While all permits are in use for calls, one is enough
// where the page has other workers: they may have a permit.
func (d *dispatcher) next(ctx context.Context, lane int) chan *queue.Delivery {
	if lane >= len(d.lanes) || ctx.Err() != nil {
		return nil
	}
	limit := d.handful()
	if n := d.count(); len(d.free) == cap(d.free) && n.starting+n.waiting == 0 && d.pace.Shared() {
		limit = 1
	}
	if len(d.lanes[lane].fetched) >= limit {
		return nil
	}
	return d.lanes[lane].feed
}

// begin starts jobs as long as there are permits for them.
func (d *dispatcher) begin(ctx context.Context) {
	for {
		select {
		case d.wanted(ctx) <- struct{}{}:
			d.start(ctx)
		default:
			return
		}
	}
}

// wanted is where to get a permit, or nil when none is wanted.
func (d *dispatcher) wanted(ctx context.Context) chan<- struct{} {
	for i := range d.lanes {
		if d.startable(ctx, i) {
			return d.free
		}
	}
	return nil
}

// startable reports whether the next job of a lane is to be begun now. Jobs are begun no sooner than needed for their slots:
// one that is begun and not sent when its worker is killed is in doubt for nothing. Each lane has its own, so that an urgent
// one goes before bulk ones that have begun.
func (d *dispatcher) startable(ctx context.Context, lane int) bool {
	l := &d.lanes[lane]
	if ctx.Err() != nil { // only for the slots that are there
		if n := d.count(); n.starting+n.waiting >= d.held() {
			return false
		}
	}
	return len(l.fetched) > 0 && l.starting+len(l.waiting) < d.ahead()
}

// ahead is how many jobs of a lane may be begun and not sent: two, and as many as have their turn in twice the time that
// storing a begin takes. With fewer a busy machine leaves slots unused that others could have had.
func (d *dispatcher) ahead() int {
	n := 2 + math.Ceil(2*d.full*d.lead.Seconds())
	return int(min(n, float64(d.handful())))
}

// start begins the next job. A permit is taken for it, and is given back where ctx has ended since: then there may be none.
func (d *dispatcher) start(ctx context.Context) {
	i := d.starts.choose(len(d.lanes), func(lane int) bool { return d.startable(ctx, lane) })
	if i < 0 {
		<-d.free
		return
	}
	l := &d.lanes[i]
	job := l.fetched[0]
	l.fetched = l.fetched[1:]
	l.starting++
	t := &turn{d: d, lane: i, started: time.Now(), granted: make(chan time.Time, 1)}
	d.handling.Add(1)
	d.page.w.pool.do(func() {
		defer d.handling.Done()
		defer func() { <-d.free }()
		defer t.leave()
		d.page.handle(d.ph, job, t)
	})
}

// arrive takes in that a job is begun, or will not be sent.
func (d *dispatcher) arrive(a arrival) {
	l := &d.lanes[a.turn.lane]
	switch {
	case a.again: // it was here before, and goes first
		l.waiting = append([]*turn{a.turn}, l.waiting...)
		return
	case !a.left:
		d.lead = max(a.took, (7*d.lead+a.took)/8)
		l.waiting = append(l.waiting, a.turn)
	}
	l.starting--
}

// count adds up what there is of all lanes.
func (d *dispatcher) count() (n struct{ fetched, starting, waiting int }) {
	for i := range d.lanes {
		n.fetched += len(d.lanes[i].fetched)
		n.starting += d.lanes[i].starting
		n.waiting += len(d.lanes[i].waiting)
	}
	return n
}

// handful is how many jobs of a lane are fetched and wait for their turn, an eighth of a second's worth: as many as one
// reservation may be for.
func (d *dispatcher) handful() int {
	if d.mode == gateDue {
		return 1
	}
	return int(min(max(d.full/8, 1), 64))
}

// buffer is how many jobs of a lane are fetched at a time, a twentieth of a second's worth.
func (d *dispatcher) buffer() int {
	if d.mode == gateDue {
		return 1
	}
	return int(min(max(d.full/20, 1), 256))
}

func (d *dispatcher) setTimers(ctx context.Context) {
	var at time.Time
	n := d.count()
	switch {
	case len(d.slots) == 0 && ctx.Err() != nil: // they are over since finishing was asked, and nothing else would have it asked again
		at = time.Now()
	case len(d.slots) == 0:
	case n.waiting > 0:
		at = d.slots[0].First
	case ctx.Err() != nil: // until the slots are over
		at = d.end().Add(slotTolerance + time.Millisecond)
	}
	if !at.Equal(d.turnAt) {
		// A new one each time. At the end of one that was reset the runtime goes through all timers there are (Go 1.26,
		// runtime/time.go), which are thousands under load, and turns come for every message.
		d.turn.Stop()
		if d.turnAt = at; !at.IsZero() {
			d.turn = time.NewTimer(time.Until(at))
		}
	}
	if waits := n.fetched > 1 && d.wanted(ctx) != nil; waits != d.short {
		if d.short = waits; waits {
			d.stuckTimer.Reset(d.page.stuckTimeout)
		} else {
			d.stuckTimer.Stop()
		}
	}
}

// abandonFetched requeues what is fetched, but for the next one, so that another worker can have it.
func (d *dispatcher) abandonFetched() {
	keep := true
	for i := range d.lanes {
		l := &d.lanes[i]
		for len(l.fetched) > 0 && !(keep && len(l.fetched) == 1) {
			last := l.fetched[len(l.fetched)-1]
			l.fetched = l.fetched[:len(l.fetched)-1]
			d.page.requeue(d.ph, last)
		}
		keep = keep && len(l.fetched) == 0
	}
}

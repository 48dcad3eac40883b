package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// reservation is the answer to a request for slots.
type reservation struct {
	queue.Slots
	err error
}

// got takes in the answer to a request for slots.
func (d *dispatcher) got(ctx context.Context, got reservation) {
	if got.err == nil {
		d.asked, d.failures = false, 0
		if got.N > 0 {
			d.slots = append(d.slots, got.Slots)
		}
		return
	}
	if ctx.Err() != nil {
		d.asked = false
		return
	}
	d.failures++
	d.page.log.Error("no slots to be had", zap.String("event", "pace_error"), zap.Error(got.err))
	d.retry.Reset(paceRetry.Steady(d.failures))
}

func (d *dispatcher) held() (n int) {
	for _, s := range d.slots {
		n += s.N
	}
	return n
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
		if late := time.Since(s.First) - slotTolerance; late > 0 {
			over := min(int(late/s.Every)+1, s.N)
			if n := d.count(); n.fetched+n.starting+n.waiting > 0 {
				d.page.w.metrics.slots.WithLabelValues(d.page.Name, "unused").Add(float64(over))
			}
			s.First, s.N = s.First.Add(time.Duration(over)*s.Every), s.N-over
		}
		if s.N > 0 {
			return
		}
		d.slots = d.slots[1:]
	}
}

// ask reserves slots for jobs that have begun, when those there are do not last. Where the page has other workers too, for
// jobs that are here alone, and not for more of them than there are permits. Else for all: where permits are short they come
// free one by one, and a reservation for each would be a tenth of what a message costs. And where jobs come all the time, for
// those to come next: nobody else wants the slots that are then left over.
func (d *dispatcher) ask(ctx context.Context, asking *sync.WaitGroup) {
	d.drop()
	held, n := d.held(), d.count()
	begun := n.starting + n.waiting
	want := n.fetched + begun
	if d.pace.Shared() {
		want = min(want, cap(d.free)-len(d.free)+begun)
	}
	want -= held
	if d.asked || n.waiting == 0 || want <= 0 || ctx.Err() != nil {
		return
	}
	// At thousands of calls a second the end is always near. Half of what is wanted will do then, until they are over.
	if held > 0 && (time.Until(d.end()) > askAhead || held >= max(want, enoughSlots)) {
		return
	}
	if !d.pace.Shared() && d.mode == gateOpen && time.Since(d.askedAt) < steadyGap {
		want = math.MaxInt
	}
	d.asked, d.askedAt = true, time.Now()
	rate, _ := d.page.inForce(d.full)
	if d.mode == gateDue && d.page.own.now().Held { // as it is to go once a message is taken
		rate = min(rate, d.full*minRateShare)
	}
	asking.Go(func() {
		slots, err := d.pace.Reserve(ctx, rate*rateTarget, want)
		d.leases <- reservation{slots, err} // its buffer takes the one answer that is asked for
	})
}

// grant gives the next slot, if it is due and still good, to the job whose turn it is.
func (d *dispatcher) grant() {
	d.drop()
	if len(d.slots) == 0 || time.Until(d.slots[0].First) > 0 {
		return
	}
	i := d.grants.choose(len(d.lanes), func(lane int) bool { return len(d.lanes[lane].waiting) > 0 })
	if i < 0 {
		return
	}
	d.page.w.metrics.slots.WithLabelValues(d.page.Name, "used").Inc()
	s, l := &d.slots[0], &d.lanes[i]
	l.waiting[0].granted <- s.First // its buffer takes it
	l.waiting = l.waiting[1:]
	s.First, s.N = s.First.Add(s.Every), s.N-1
}

package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/brazier-relay/brazier/queue"
)

// dispatch begins the jobs of lanes that share a pace, the first lane before the others, until ctx ends. What it has
// fetched and not begun by then it puts back before it returns. Jobs it began are counted in handling.
func (p *page) dispatch(ctx context.Context, ph phases, handling *sync.WaitGroup, pace *rate.Limiter, lanes ...queue.Lane) {
	g := &group{page: p, pace: pace, lanes: lanes, feeds: make([]chan *queue.Delivery, len(lanes))}
	var fetching sync.WaitGroup
	for i, lane := range lanes {
		g.feeds[i] = make(chan *queue.Delivery)
		fetching.Go(func() { p.feed(ctx, ph, lane, g.feeds[i]) })
	}
	for {
		job := g.pick(ctx)
		if job == nil {
			break
		}
		begin := func() {
			defer func() { <-p.places }()
			p.handle(ph, job)
		}
		if p.probing() {
			begin()
		} else {
			handling.Go(begin)
		}
	}
	if g.next != nil {
		p.putBack(ph, g.next)
	}
	fetching.Wait()
}

// group is lanes that share a pace. It belongs to the goroutine that dispatches them.
type group struct {
	page  *page
	pace  *rate.Limiter
	lanes []queue.Lane // the first goes before the others
	feeds []chan *queue.Delivery
	next  *queue.Delivery // fetched, and waiting for its turn
}

// pick returns the next job once it has a place in flight and its turn, or nil when ctx has ended. A job of the first
// lane that comes while one of another lane waits for its turn takes that turn.
func (g *group) pick(ctx context.Context) *queue.Delivery {
	if g.next == nil {
		if g.next = g.first(ctx); g.next == nil {
			return nil
		}
	}
	select {
	case g.page.places <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	if g.pace.Wait(ctx) != nil || ctx.Err() != nil {
		<-g.page.places
		return nil
	}
	if g.next.Lane != g.lanes[0] {
		select {
		case urgent := <-g.feeds[0]:
			return urgent
		default:
		}
	}
	job := g.next
	g.next = nil
	return job
}

// first waits for a job of any lane, and takes it from the first lane if that has one.
func (g *group) first(ctx context.Context) *queue.Delivery {
	select {
	case job := <-g.feeds[0]:
		return job
	default:
	}
	var second chan *queue.Delivery // nil, and so never ready, where there is one lane
	if len(g.feeds) > 1 {
		second = g.feeds[1]
	}
	select {
	case job := <-g.feeds[0]:
		return job
	case job := <-second:
		return job
	case <-ctx.Done():
		return nil
	}
}

// stuck is how long a fetched job may wait to be taken. After it, it and what is buffered behind it go back to where
// another worker can have them, before their lease runs out under us.
const stuck = queue.Lease / 3

// feed fetches the jobs of one lane into out until ctx ends.
func (p *page) feed(ctx context.Context, ph phases, lane queue.Lane, out chan<- *queue.Delivery) {
	for ctx.Err() == nil {
		source := p.w.cfg.Queue.Source(p.ID, lane, p.buffer())
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

// buffer is how many jobs of a lane may wait in this process: a twentieth of a second's worth. They are out of other
// workers' reach, and in doubt if this process is killed.
func (p *page) buffer() int {
	return int(min(max(p.Rate/20, 1), 256))
}

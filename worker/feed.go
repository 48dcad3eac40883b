package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Feed fetches the jobs of one lane, of one page or of [queue.AllPages], into out until ctx ends, over every restart of the server.
// When nobody has taken a job for a third of a lease, it and those fetched with it go back for other workers, and more are fetched
// once it is taken again. It returns when all that were not taken have been given back, for which settle may go on longer than ctx.
func Feed(ctx, settle context.Context, q *queue.Queue, page string, lane queue.Lane, buffer int, log *zap.Logger, out chan<- *queue.Delivery) {
	floods := NewFloods(log)
	defer floods.Flush()
	f := feeder{q: q, page: page, lane: lane, log: log, stuckTimeout: stuckTimeout,
		fetched: func() {},
		ended:   func(*queue.Delivery) bool { return false },
		requeue: func(job *queue.Delivery) {
			if err := job.Release(settle); err != nil && floods.Allow(LineKind{Event: "unsettled"}) {
				log.Error("job not settled, it will be delivered again", zap.String("event", "unsettled"), zap.String("id", job.ID),
					zap.String("lane", string(lane)), zap.Error(err))
			}
		}}
	f.run(ctx, settle, buffer, out)
}

// feed fetches the jobs of one of the page's lanes into out until ctx ends. Expired ones are settled here: they take no slot and
// no permit from those that are to be sent.
func (p *page) feed(ctx context.Context, ph phases, lane queue.Lane, buffer int, out chan<- *queue.Delivery) {
	expired := newBurials(p)
	defer expired.wait()
	f := feeder{q: p.w.cfg.Queue, page: p.ID, lane: lane, log: p.log, stuckTimeout: p.stuckTimeout,
		fetched: func() { p.wake(lane) }, // also where the lane has just been put to sleep: what goes back from here is to be fetched again
		ended: func(job *queue.Delivery) bool {
			if lane != queue.Urgent {
				p.w.cfg.Queue.Yield(ctx)
			}
			if p.expired(job) {
				expired.bury(ph.settle, job)
				return true
			}
			return false
		},
		requeue: func(job *queue.Delivery) { p.requeue(ph, job) }}
	f.run(ctx, ph.settle, buffer, out)
}

// feeder fetches the jobs of one lane.
type feeder struct {
	q            *queue.Queue
	page         string
	lane         queue.Lane
	log          *zap.Logger
	stuckTimeout time.Duration

	fetched func()                         // is called for each job that is fetched
	ended   func(job *queue.Delivery) bool // reports whether a job is settled already
	requeue func(job *queue.Delivery)      // gives a job back
}

func (f *feeder) run(ctx, settle context.Context, buffer int, out chan<- *queue.Delivery) {
	for ctx.Err() == nil {
		sources, grown := f.q.Sources(f.page, f.lane, buffer)
		fetching, end := context.WithCancel(ctx)
		var pouring sync.WaitGroup
		for _, source := range sources {
			pouring.Go(func() {
				defer end() // all begin anew
				defer context.AfterFunc(fetching, source.Stop)()
				f.pour(fetching, settle, source, out)
			})
		}
		select {
		case <-grown:
		case <-fetching.Done():
		}
		end()
		pouring.Wait()
	}
}

// pour moves jobs from source to out until ctx ends, a job is not taken for too long, or the source has stopped. It leaves the
// source stopped and empty. What is left over goes back only then: before, it would come straight back to this source.
func (f *feeder) pour(ctx, settle context.Context, source *queue.Source, out chan<- *queue.Delivery) {
	var left []*queue.Delivery
	stuckTimer := time.NewTimer(f.stuckTimeout)
	defer stuckTimer.Stop()
	for {
		job, err := source.Next(settle)
		if err != nil {
			if !errors.Is(err, queue.ErrStopped) {
				f.log.Error("fetching ended", zap.String("event", "fetch_error"), zap.String("lane", string(f.lane)), zap.Error(err))
			}
			break
		}
		f.fetched()
		if len(left) > 0 { // the source is stopped: what was behind the first goes the same way
			left = append(left, job)
			continue
		}
		if f.ended(job) {
			continue
		}
		stuckTimer.Reset(f.stuckTimeout)
		select {
		case out <- job:
			continue
		case <-ctx.Done():
		case <-stuckTimer.C:
			source.Stop()
		}
		left = append(left, job)
	}
	for _, job := range left {
		f.requeue(job)
	}
}

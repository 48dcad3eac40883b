package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// maxBurials is how many expired jobs of one source are settled at a time: enough that their writes share flushes.
const maxBurials = 32

// burials makes dead letters of expired jobs. It belongs to one goroutine, and each burial has one of its own.
type burials struct {
	page    *page
	limit   chan struct{}
	running sync.WaitGroup
}

func newBurials(p *page) *burials { return &burials{page: p, limit: make(chan struct{}, maxBurials)} }

func (b *burials) bury(ctx context.Context, job *queue.Delivery) {
	b.limit <- struct{}{}
	b.running.Go(func() {
		defer func() { <-b.limit }()
		v, _ := b.page.expire(job)
		b.page.settle(ctx, job, attempt{}, v)
	})
}

func (b *burials) wait() { b.running.Wait() }

// overdueEvery is how often one worker of all looks for expired jobs where nobody fetches them. Their senders learn of it so
// much later at most, and what they take of the queue is free again.
const overdueEvery = 30 * time.Second

// findOverdue makes dead letters of the expired jobs of pages that are held or that no worker has, until ctx ends.
func (w *Worker) findOverdue(ctx, settle context.Context) {
	every := time.NewTicker(w.overdueEvery)
	defer every.Stop()
	overdue := w.cfg.Queue.NewOverdue()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if err := w.buryOverdue(ctx, settle, overdue); err != nil && ctx.Err() == nil && w.cfg.Queue.Awaited() == nil { // else the queue tells of it
			w.cfg.Log.Warn("expired messages not looked for", zap.String("event", "overdue_error"), zap.Error(err))
		}
	}
}

// buryOverdue looks once, if this worker is the one to do it.
func (w *Worker) buryOverdue(ctx, settle context.Context, overdue *queue.Overdue) error {
	if ours, err := overdue.Claim(ctx, w.overdueEvery); !ours {
		return err
	}
	lanes, err := overdue.Lanes(ctx)
	if err != nil {
		return err
	}
	for _, lane := range lanes {
		w.mu.Lock()
		p := w.pages[lane.Page]
		stranger := p == nil
		if stranger { // something to log by
			p = newPage(w, Page{ID: lane.Page, Name: lane.Page})
		}
		w.mu.Unlock()
		switch {
		case stranger:
			defer p.end()
		case !p.isHeld(): // it is fetched from, and was between two requests
			continue
		}
		expired := newBurials(p)
		err := overdue.Each(ctx, lane, func(job *queue.Delivery) {
			if lane.Lane != queue.Urgent {
				w.cfg.Queue.Yield(ctx)
			}
			expired.bury(settle, job)
		})
		expired.wait()
		if err != nil {
			return err
		}
	}
	return nil
}

package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

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
		b.page.settle(ctx, job, call{}, v)
	})
}

func (b *burials) wait() { b.running.Wait() }

// findOverdue makes dead letters of the expired jobs of pages that are held or that no worker has, until ctx ends.
func (w *Worker) findOverdue(ctx, settle context.Context) {
	every := time.NewTicker(w.overdueEvery)
	defer every.Stop()
	overdue := w.cfg.Queue.NewSweeper()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if err := w.buryOverdue(ctx, settle, overdue); err != nil && ctx.Err() == nil && w.cfg.Queue.WaitingFor() == nil { // else the queue tells of it
			w.cfg.Log.Warn("expired messages not looked for", zap.String("event", "overdue_error"), zap.Error(err))
		}
	}
}

// buryOverdue looks once, if this worker is the one to do it.
func (w *Worker) buryOverdue(ctx, settle context.Context, overdue *queue.Sweeper) error {
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
		unserved := p == nil
		if unserved { // something to log by; its name is not known
			p = newPage(w, Page{ID: lane.Page, Name: lane.Page})
			p.log = w.cfg.Log.With(zap.String("page_id", lane.Page))
			p.floods = NewFloods(p.log)
		}
		w.mu.Unlock()
		switch {
		case unserved:
			defer func() {
				p.end()
				p.floods.Flush()
				w.mu.Lock()
				defer w.mu.Unlock()
				w.forget()
			}()
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

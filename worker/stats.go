package worker

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// report writes a stats line for each page that has work, now and then, and when the pages have changed, until ctx ends.
func (w *Worker) report(ctx context.Context) {
	every := time.NewTicker(w.cfg.StatsEvery)
	defer every.Stop()
	missing, last := map[string]bool{}, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-w.changed:
		}
		// One question for all pages: most of them may be idle.
		waiting, err := w.cfg.Queue.Waiting(ctx)
		if err != nil {
			if ctx.Err() == nil && w.cfg.Queue.Awaited() == nil { // else the queue tells of it
				w.cfg.Log.Warn("backlog not known", zap.String("event", "stats_error"), zap.Error(err))
			}
			continue
		}
		w.mu.Lock()
		w.waiting = waiting
		w.mu.Unlock()
		pending := map[string]uint64{}
		for lane, n := range waiting {
			pending[lane.Page] += n
		}
		since := time.Since(last)
		last = last.Add(since)
		for _, p := range w.all() {
			p.stats(ctx, since, pending[p.ID] > 0)
			delete(pending, p.ID)
		}
		w.tellMissing(pending, missing)
	}
}

// tellMissing says once of each page that messages wait for it and that this worker does not have it.
func (w *Worker) tellMissing(pending map[string]uint64, said map[string]bool) {
	for id := range said {
		if pending[id] == 0 {
			delete(said, id)
		}
	}
	for id, n := range pending {
		if n > 0 && !said[id] {
			said[id] = true
			w.cfg.Log.Warn("messages wait for a page that this worker does not have", zap.String("event", "page_missing"),
				zap.String("page", id), zap.Uint64("pending", n))
		}
	}
}

func (p *page) stats(ctx context.Context, since time.Duration, pending bool) {
	delivered, dead := p.delivered.Swap(0), p.dead.Swap(0)
	if !pending && delivered+dead == 0 {
		return
	}
	backlog, err := p.w.cfg.Queue.Backlog(ctx, p.ID)
	if err != nil {
		if ctx.Err() == nil && p.w.cfg.Queue.Awaited() == nil {
			p.log.Warn("backlog not known", zap.String("event", "stats_error"), zap.Error(err))
		}
		return
	}
	var oldest time.Duration
	if !backlog.Oldest.IsZero() {
		oldest = p.w.cfg.Queue.Now().Sub(backlog.Oldest)
	}
	rate, why := p.inForce(p.Rate)
	fields := []zap.Field{
		zap.String("event", "stats"),
		zap.Uint64("pending", backlog.Pending),
		zap.Int64("in_flight", p.inFlight.Load()),
		zap.Uint64("retrying", backlog.Retrying),
		zap.Uint64("dead", backlog.Dead),
		zap.Float64("delivered_per_s", float64(delivered)/since.Seconds()),
		zap.Int64("oldest_age_s", int64(oldest.Seconds())),
		zap.Float64("rate", rate),
		zap.Bool("held", p.isHeld()),
	}
	if why != "" {
		fields = append(fields, zap.String("rate_why", why))
	}
	p.log.Info("page statistics", fields...)
}

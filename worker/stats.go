package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
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
		waiting, err := w.cfg.Queue.Pending(ctx)
		if err != nil {
			if ctx.Err() == nil && w.cfg.Queue.WaitingFor() == nil { // else the queue tells of it
				w.cfg.Log.Warn("backlog not known", zap.String("event", "stats_error"), zap.Error(err))
			}
			continue
		}
		pending := w.look(waiting)
		since := time.Since(last)
		last = last.Add(since)
		for _, p := range w.all() {
			p.stats(ctx, since, pending[p.ID] > 0)
			delete(pending, p.ID)
		}
		w.tellMissing(pending, missing)
	}
}

// look takes in what is stored and not settled, and returns it by page.
func (w *Worker) look(waiting map[queue.PageLane]uint64) (pending map[string]uint64) {
	w.mu.Lock()
	w.waiting = waiting
	idle := w.laneIdle
	w.mu.Unlock()
	pending = map[string]uint64{}
	for lane, n := range waiting {
		pending[lane.Page] += n
	}
	var able []*page
	for _, p := range w.all() {
		p.lookAtLanes(waiting, idle)
		if pending[p.ID] > 0 && !p.isStopped() {
			able = append(able, p)
		}
	}
	w.circuit.look(able)
	return pending
}

// tellMissing says once of each page that messages wait for it and that this worker does not have it.
func (w *Worker) tellMissing(pending map[string]uint64, logged map[string]bool) {
	for id := range logged {
		if pending[id] == 0 {
			delete(logged, id)
		}
	}
	for id, n := range pending {
		if n > 0 && !logged[id] {
			logged[id] = true
			w.cfg.Log.Warn("messages wait for a page that this worker does not have", zap.String("event", "page_missing"),
				zap.String("page_id", id), zap.Uint64("pending", n))
		}
	}
}

func (p *page) stats(ctx context.Context, since time.Duration, pending bool) {
	delivered, dead := p.delivered.Swap(0), p.dead.Swap(0)
	if !pending {
		p.oldest.Store(0)
	}
	p.warnOfDead(delivered, dead, time.Now())
	if !pending && delivered+dead == 0 {
		return
	}
	backlog, err := p.w.cfg.Queue.Backlog(ctx, p.ID)
	if err != nil {
		if ctx.Err() == nil && p.w.cfg.Queue.WaitingFor() == nil {
			p.log.Warn("backlog not known", zap.String("event", "stats_error"), zap.Error(err))
		}
		return
	}
	var oldest time.Duration
	p.oldest.Store(0)
	if !backlog.Oldest.IsZero() {
		p.oldest.Store(backlog.Oldest.UnixMilli())
		oldest = p.w.cfg.Queue.Now().Sub(backlog.Oldest)
	}
	rate, why := p.inForce(p.Rate)
	class, held := p.stoppedBy()
	fields := []zap.Field{
		zap.String("event", "stats"),
		zap.Uint64("pending", backlog.Pending),
		zap.Int64("in_flight", p.inFlight.Load()),
		zap.Uint64("retrying", backlog.Retrying),
		zap.Uint64("dead", backlog.Dead),
		zap.Float64("delivered_per_s", float64(delivered)/since.Seconds()),
		zap.Int64("oldest_age_s", int64(oldest.Seconds())),
		zap.Float64("rate", rate),
		zap.Bool("held", class != ""),
	}
	if why != "" {
		fields = append(fields, zap.String("rate_why", why))
	}
	if class != "" {
		fields = append(fields, zap.String("class", class), zap.Time("since", held))
	}
	p.log.Info("page statistics", fields...)
	p.warnOfBacklog(ctx, oldest, backlog.Pending)
}

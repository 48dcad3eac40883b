package worker

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// report writes a stats line while there is work, until ctx ends.
func (p *page) report(ctx context.Context) {
	every := time.NewTicker(p.w.cfg.StatsEvery)
	defer every.Stop()
	var delivered, dead int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		moved := p.delivered.Load() - delivered
		died := p.dead.Load() - dead
		delivered, dead = delivered+moved, dead+died
		p.stats(ctx, moved, moved+died > 0)
	}
}

func (p *page) stats(ctx context.Context, moved int64, worked bool) {
	backlog, err := p.w.cfg.Queue.Backlog(ctx, p.ID)
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("backlog not known", zap.String("event", "stats_error"), zap.Error(err))
		}
		return
	}
	if backlog.Pending == 0 && !worked {
		return
	}
	var oldest time.Duration
	if !backlog.Oldest.IsZero() {
		oldest = time.Since(backlog.Oldest)
	}
	p.log.Info("page statistics", zap.String("event", "stats"),
		zap.Uint64("pending", backlog.Pending),
		zap.Int64("in_flight", p.inFlight.Load()),
		zap.Uint64("retrying", backlog.Retrying),
		zap.Uint64("dead", backlog.Dead),
		zap.Float64("delivered_per_s", float64(moved)/p.w.cfg.StatsEvery.Seconds()),
		zap.Int64("oldest_age_s", int64(oldest.Seconds())),
		zap.Float64("rate", p.Rate),
		zap.Bool("held", p.isHeld()))
}

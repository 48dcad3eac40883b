package worker

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// Two warnings sum up what else only lines at level info show, so that --log-level warn keeps what alerts need.
const (
	// backlogOld is the age of a page's oldest message from which on it is warned of: a quarter of the time after which messages
	// expire unless their page says otherwise. It is told again every stillEvery.
	backlogOld = 6 * time.Hour
	// deadWindow is how long the ends of messages are counted together. It is warned of when manyDead of them are dead, and one in
	// deadShare. Few dead letters are normal: people block a page.
	deadWindow          = 10 * time.Minute
	manyDead, deadShare = 20, 20
)

// warnOfBacklog logs that messages have waited for long, by one worker of all.
func (p *page) warnOfBacklog(ctx context.Context, oldest time.Duration, pending uint64) {
	if oldest < p.w.backlogOld || !p.own.claimLine(ctx, "old-") {
		return
	}
	class, _ := p.stoppedBy()
	p.log.Warn("messages have waited for long", zap.String("event", "backlog_old"), zap.Int64("oldest_age_s", int64(oldest.Seconds())),
		zap.Uint64("pending", pending), zap.String("class", class))
}

// ends counts how messages of a page ended in this process. It belongs to one goroutine.
type ends struct {
	began           time.Time
	delivered, dead int64
	told            bool // in this window
}

// add takes in what has ended, and reports whether so much of it is dead that it is to be told.
func (e *ends) add(delivered, dead int64, now time.Time) (tell bool) {
	if now.Sub(e.began) >= deadWindow {
		*e = ends{began: now}
	}
	e.delivered += delivered
	e.dead += dead
	if e.told || e.dead < manyDead || e.dead*deadShare < e.dead+e.delivered {
		return false
	}
	e.told = true
	return true
}

// warnOfDead logs, once for each window, that many messages end as dead letters.
func (p *page) warnOfDead(delivered, dead int64, now time.Time) {
	if p.ends.add(delivered, dead, now) {
		p.log.Warn("many messages are dead", zap.String("event", "many_dead"), zap.Int64("dead", p.ends.dead),
			zap.Int64("delivered", p.ends.delivered), zap.Int64("for_s", int64(now.Sub(p.ends.began).Seconds())))
	}
}

package worker

import (
	"sync"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// usage is what Facebook's headers last reported of a page's limits.
type usage struct {
	mu      sync.Mutex
	percent int
	at      time.Time
}

func (u *usage) note(reported sendapi.Usage) {
	percent := max(reported.Page, reported.App)
	if percent == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.percent, u.at = percent, time.Now()
}

// factor is the part of the page's rate that this leaves it.
func (u *usage) factor() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.percent <= usageFrom || time.Since(u.at) > usageFor {
		return 1
	}
	over := float64(u.percent-usageFrom) / (100 - usageFrom)
	return max(1-over*(1-minRateShare), minRateShare)
}

// Reasons why a page goes slower than its rate, for the stats line.
const (
	whyUsage     = "usage"
	whySlowStart = "slow_start"
)

// inForce returns how many calls a second of full the page makes now, and what keeps it from more.
func (p *page) inForce(full float64) (float64, string) {
	factor, why := p.usage.factor(), ""
	if factor < 1 {
		why = whyUsage
	}
	resumed := p.own.now().Resumed
	if app := p.app.now().Resumed; app.After(resumed) {
		resumed = app
	}
	if since := p.w.cfg.Queue.Now().Sub(resumed); !resumed.IsZero() && since < p.w.cfg.SlowStart {
		if slow := max(since.Seconds()/p.w.cfg.SlowStart.Seconds(), minRateShare); slow < factor {
			factor, why = slow, whySlowStart
		}
	}
	return full * factor, why
}

// Slowed returns the pages whose calls come at less than their rate, by Facebook id, with what keeps them from more. Of what
// Facebook reports, a worker knows its own answers alone.
func (w *Worker) Slowed() map[string]queue.RateInForce {
	slowed := map[string]queue.RateInForce{}
	for _, p := range w.all() {
		if rate, why := p.inForce(p.Rate); why != "" {
			slowed[p.ID] = queue.RateInForce{Rate: rate, Why: why}
		}
	}
	return slowed
}

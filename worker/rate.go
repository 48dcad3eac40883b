package worker

import (
	"sync"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
)

const (
	// target is the part of a rate that is aimed at. What is left keeps a second from holding more calls than it may when
	// some are a little late: at 40 a second 20 ms, at 300 a second 35 ms.
	target = 0.98
	// tolerance is how late a slot may be granted, and latest how late its call may then begin. Later, the slot is let go.
	// latest is what target leaves room for, at any rate: 1 s · (1 - target).
	tolerance = 10 * time.Millisecond
	latest    = 20 * time.Millisecond

	// slowest is the part of its rate that a page keeps, however little Facebook leaves it.
	slowest = 0.1

	// usageFrom is the percentage of Facebook's limits from which a page goes slower, down to slowest at 100.
	usageFrom = 75
	// usageFor is how long a word on usage counts. Facebook leaves the headers away while there is little to tell.
	usageFor = time.Minute
)

// usage is what Facebook's headers last said of a page's limits.
type usage struct {
	mu      sync.Mutex
	percent int
	at      time.Time
}

func (u *usage) note(said sendapi.Usage) {
	percent := max(said.Page, said.App)
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
	return max(1-over*(1-slowest), slowest)
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
		if slow := max(since.Seconds()/p.w.cfg.SlowStart.Seconds(), slowest); slow < factor {
			factor, why = slow, whySlowStart
		}
	}
	return full * factor, why
}

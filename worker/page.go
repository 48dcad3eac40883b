package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/brazier-relay/brazier/queue"
)

// page is one page's share of a worker: its sources, its pace, its places in flight, and its hold.
type page struct {
	Page
	w   *Worker
	log *zap.Logger

	text, media *rate.Limiter
	places      chan struct{} // one element per job in flight
	patience    time.Duration // stuck, less in tests

	inFlight, delivered, dead atomic.Int64

	mu       sync.Mutex
	until    time.Time          // held until then; zero when not
	heldFor  string             // class of the hold
	failures int                // holds in a row, since the last message that was sent
	stop     context.CancelFunc // ends the fetching, while there is any
}

func newPage(w *Worker, cfg Page) *page {
	return &page{
		Page: cfg,
		w:    w,
		log:  w.cfg.Log.With(zap.String("page", cfg.Name)),
		// A burst of one spaces the calls evenly: no second, wherever it begins, holds more than the rate.
		text:   rate.NewLimiter(rate.Limit(cfg.Rate), 1),
		media:  rate.NewLimiter(rate.Limit(cfg.MediaRate), 1),
		places: make(chan struct{}, cfg.MaxInFlight),

		patience: stuck,
	}
}

// run fetches and delivers, hold after hold, until ctx ends, and returns when nothing of the page is in flight.
func (p *page) run(ctx context.Context, ph phases) {
	var handling sync.WaitGroup
	defer handling.Wait()
	for {
		fetching, stop := p.open(ctx)
		if fetching == nil {
			return
		}
		var lanes sync.WaitGroup
		lanes.Go(func() { p.dispatch(fetching, ph, &handling, p.text, queue.Urgent, queue.Bulk) })
		lanes.Go(func() { p.dispatch(fetching, ph, &handling, p.media, queue.Media) })
		lanes.Wait()
		stop()
	}
}

// open waits until the page is not held, and returns a context that ends with ctx or with the next hold. It returns nil
// when ctx has ended.
func (p *page) open(ctx context.Context) (context.Context, context.CancelFunc) {
	for ctx.Err() == nil {
		if fetching, stop := p.tryOpen(ctx); fetching != nil {
			return fetching, stop
		}
		p.mu.Lock()
		wait := time.NewTimer(time.Until(p.until))
		p.mu.Unlock()
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
	return nil, nil
}

func (p *page) tryOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return nil, nil
	}
	if !p.until.IsZero() {
		p.until = time.Time{}
		p.log.Info("page resumed, one message at a time until one is sent", zap.String("event", "resumed"), zap.String("class", p.heldFor))
	}
	fetching, stop := context.WithCancel(ctx)
	p.stop = stop
	return fetching, stop
}

// hold stops the page. Of several verdicts that arrive together, the first decides and is logged; a later one may only
// lengthen the hold, when Facebook named a time. It returns how long the hold lasts from now.
func (p *page) hold(v Verdict) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.until.IsZero() {
		if end := now.Add(v.HoldFor); end.After(p.until) {
			p.until = end
		}
		return p.until.Sub(now)
	}
	p.failures++
	length := v.HoldFor
	if length == 0 {
		length = v.Delays.Steady(p.failures)
	}
	p.until, p.heldFor = now.Add(length), string(v.Class)
	if p.stop != nil {
		p.stop()
	}
	p.log.Error("page held", zap.String("event", "held"), zap.String("class", string(v.Class)), zap.Int("code", v.Code),
		zap.Int("subcode", v.Subcode), zap.String("reason", v.Text), zap.Time("until", p.until))
	return length
}

// wasSent tells the page that Facebook took a message: whatever held it is over. Word of a message that was under way
// when the hold began says nothing of it.
func (p *page) wasSent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.IsZero() {
		p.failures = 0
	}
}

// probing reports whether the page comes out of a hold and nothing was sent since. It then goes one message at a time.
func (p *page) probing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failures > 0
}

func (p *page) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.until.IsZero()
}

package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// The life of a hold
//
//	open ── a verdict Hold ──▶ held ── its time is over ──▶ due ── a worker claims it ──▶ probing
//	 ▲                          ▲                                                           │
//	 │                          └───────────────── the probe is refused ────────────────────┤
//	 └──────────────────────────────────────────── the probe is taken ──────────────────────┘
//
// Every arrow is one compare-and-set on the page's state, so that of many workers that see the same thing one does it, and
// logs it. A claim is renewed while its worker probes, and runs out if that worker is killed.

const (
	classAuth = string(sendapi.ClassAuth)
	// probeLease is how long a worker's claim lasts without being renewed.
	probeLease = 15 * time.Second
	// untilToken and untilResumed are the ends of holds that no time ends.
	untilToken   = "another token"
	untilResumed = "resumed by hand"
	// backIn is the delay of a job that is put back by a hold: longer than other workers take to hear of it.
	backIn = time.Second
)

// attempt is what was known of the page when a job was begun.
type attempt struct {
	probe bool      // the job is the one that is tried
	begun time.Time // by the server's clock
}

// hold stops the page for every worker, or every page of its app.
func (p *page) hold(ctx context.Context, a attempt, v Verdict) {
	if v.Class == sendapi.ClassAuth && v.Credentials == "" { // they could not be read: this process's own trouble
		p.mu.Lock()
		p.recheck()
		p.mu.Unlock()
		return
	}
	pages := []*page{p}
	if v.Class == sendapi.ClassThrottleApp {
		pages = p.w.ofApp(p)
	}
	var writing sync.WaitGroup
	for _, other := range pages {
		other.halt(1) // first of all
		writing.Go(func() {
			defer other.halt(-1)
			other.writeHold(ctx, attempt{probe: a.probe && other == p, begun: a.begun}, v)
		})
	}
	writing.Wait()
}

// halt stops the page in this process until what stops it is written down.
func (p *page) halt(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted += n
	p.recheck()
}

func (p *page) writeHold(ctx context.Context, a attempt, v Verdict) {
	first := true
	s, err := p.change(ctx, func(s queue.PageState, now time.Time) (queue.PageState, bool) {
		next, again, ok := p.held(s, now, a, v)
		first = !again
		return next, ok
	})
	switch {
	case errors.Is(err, errUnchanged):
	case err != nil:
		p.log.Error("hold not written down, other workers do not know of it", zap.String("event", "hold_error"), zap.Error(err))
	case first:
		p.log.Error("page held", zap.String("event", "held"), zap.String("class", s.Class), zap.Int("code", s.Code),
			zap.Int("subcode", s.Subcode), zap.String("reason", s.Reason), until(s))
	}
}

func until(s queue.PageState) zap.Field {
	switch {
	case !s.Until.IsZero():
		return zap.Time("until", s.Until)
	case s.Class == classAuth:
		return zap.String("until", untilToken)
	}
	return zap.String("until", untilResumed)
}

// held returns the state of the page after a verdict, and whether that is another. again says that the page was held
// before, and only the end has moved.
func (p *page) held(s queue.PageState, now time.Time, a attempt, v Verdict) (next queue.PageState, again, ok bool) {
	refused := s.Held && s.Prober == p.w.name && a.probe
	switch {
	case s.Held && !refused: // of several verdicts that arrive together, the first decides
		end := now.Add(v.HoldFor)
		if v.HoldFor == 0 || s.Until.IsZero() || !end.After(s.Until) {
			return s, true, false
		}
		s.Until = end
		return s, true, true
	case !s.Held && a.begun.Before(s.Resumed): // word of the time before
		return s, false, false
	}
	holds := s.Holds
	if !s.Held && now.Sub(s.Resumed) > p.w.cfg.SlowStart {
		holds = 0 // it went well for a while
	}
	next = s
	next.Hold(queue.PageState{Class: string(v.Class), Reason: v.Text, Code: v.Code, Subcode: v.Subcode, Since: now, Holds: holds + 1, DeadToken: s.DeadToken})
	if v.Class == sendapi.ClassAuth {
		next.DeadToken = v.Credentials
	}
	switch {
	case v.HoldFor > 0:
		next.Until = now.Add(v.HoldFor)
	case v.Delays.Max > 0:
		next.Until = now.Add(v.Delays.Steady(next.Holds))
	}
	return next, false, true
}

// claimProbe makes this worker the one that tries a message, if no other is. It reports whether the state of the page may
// be another by now.
func (p *page) claimProbe(ctx context.Context) bool {
	_, err := p.change(ctx, func(s queue.PageState, now time.Time) (queue.PageState, bool) {
		if g, _, _ := p.gateOf(s); g != due {
			return s, false
		}
		s.Prober, s.ProbeUntil = p.w.name, now.Add(probeLease)
		return s, true
	})
	if err == nil {
		p.log.Info("page is tried with one message at a time", zap.String("event", "probing"))
	}
	return err == nil || errors.Is(err, errUnchanged)
}

// keepProbing renews the claim until ctx ends.
func (p *page) keepProbing(ctx context.Context) {
	every := time.NewTicker(probeLease / 3)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		_, _ = p.change(ctx, func(s queue.PageState, now time.Time) (queue.PageState, bool) {
			ours := s.Held && s.Prober == p.w.name
			s.ProbeUntil = now.Add(probeLease)
			return s, ours
		})
		p.mu.Lock()
		p.recheck() // the claim may have run out
		p.mu.Unlock()
	}
}

// wasSent tells the page that Facebook took a message. If it was the one that was tried, whatever held the page is over.
func (p *page) wasSent(ctx context.Context, a attempt) {
	if !a.probe {
		return
	}
	s, err := p.change(ctx, func(s queue.PageState, now time.Time) (queue.PageState, bool) {
		ours := s.Held && s.Prober == p.w.name
		dead := s.DeadToken
		s.Resume(now)
		s.DeadToken = dead // other workers may still have it
		return s, ours
	})
	switch {
	case errors.Is(err, errUnchanged):
	case err != nil:
		p.log.Error("end of a hold not written down, the page is tried again", zap.String("event", "hold_error"), zap.Error(err))
	default:
		p.log.Info("page resumed", zap.String("event", "resumed"), zap.String("class", s.Class))
	}
}

var errUnchanged = errors.New("nothing to change")

// change replaces the page's state by what f makes of it, and asks f again if another worker was faster. It returns the
// new state, or [errUnchanged] if f does not want another.
func (p *page) change(ctx context.Context, f func(queue.PageState, time.Time) (queue.PageState, bool)) (queue.PageState, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	for {
		p.mu.Lock()
		s := p.state
		p.mu.Unlock()
		next, ok := f(s, p.w.cfg.Queue.Now())
		if !ok {
			return s, errUnchanged
		}
		stored, err := p.w.cfg.Queue.SetPageState(ctx, p.ID, next)
		if errors.Is(err, queue.ErrChanged) {
			stored, err = p.w.cfg.Queue.PageState(ctx, p.ID)
			if err == nil {
				p.see(stored)
				continue
			}
		}
		if err != nil {
			return s, err
		}
		p.see(stored)
		return stored, nil
	}
}

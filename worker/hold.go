package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// What leads to a hold stands in the package comment. Holds of pages and apps are shared by all workers, in [queue.PageState].
// The lifecycle of one, as next has it:
//
//	open ── refused ──▶ held ── its time is over ──▶ due ── a worker that has a message claims it ──▶ tried
//	 ▲                   ▲                            ▲                                              │ │ │
//	 │                   │                            └───────── claim not renewed in probeLease ────┘ │ │
//	 │                   └─────────────── the message is refused, or several of them are (round.go) ─────┘ │
//	 └──────────────────────────────────────────────────────────── the message is taken ─────────────────┘
//
// A hold that a row led to is over too when a message is taken that was sent after the row had begun (see disproved).
//
// Every arrow is one compare-and-set, so that of many workers that see the same thing one does it, and logs it. A page is
// fetched for while neither it, nor its app, nor the circuit stops it; where one is due, one message at a time.

const (
	classAuth = string(sendapi.ClassAuth)
	// untilToken and untilResumed are the ends of holds that no time ends.
	untilToken   = "another token"
	untilResumed = "resumed by hand"
)

// call is what was known when a job was begun.
type call struct {
	probe       bool      // the job is the one that is tried
	begun       time.Time // by the server's clock
	credentials string    // those of the page
}

// kind is what happened to a page or an app.
type kind int

const (
	eventRefused kind = iota // Facebook refused a message
	eventTaken               // Facebook took the message that was tried
	eventClaimed             // a worker has a message to try
	eventRenewed             // it is still at it
)

// event is what a worker tells of a page or an app.
type event struct {
	kind   kind
	worker string
	call
	verdict Verdict   // refused
	first   time.Time // refused: when the row of refusals began that led to it; zero: it began with this one
	jitter  float64   // of an end, from 0 to 1
}

// effect is what an event made of a state.
type effect int

const (
	effectNone  effect = iota
	effectNoted        // nobody is to be told
	effectHeld         // anew, or for longer after a probe was refused
	effectTried        // by this worker
	effectResumed
)

// next returns the state after an event, and what has changed. It is the whole lifecycle of a hold.
func next(s queue.PageState, e event, now time.Time, slowStart time.Duration) (queue.PageState, effect) {
	ours := e.probe && s.Prober == e.worker
	switch e.kind {
	case eventClaimed:
		if g, _ := gateOf(s, e.worker, e.credentials, now); g != gateDue {
			return s, effectNone
		}
		s.Prober, s.ProbeUntil = e.worker, now.Add(probeLease)
		return s, effectTried
	case eventRenewed:
		if s.Prober != e.worker {
			return s, effectNone
		}
		s.ProbeUntil = now.Add(probeLease)
		return s, effectNoted
	case eventTaken:
		if !ours && !disproved(s, e.call) {
			return s, effectNone
		}
		was, dead, until := s.Held, s.DeadToken, s.DeadUntil
		s.Prober, s.ProbeUntil = "", time.Time{}
		if was {
			s.Resume(now)
		}
		if s.DeadToken, s.DeadUntil = dead, until; dead == e.credentials { // else other workers may still have it
			s.DeadToken, s.DeadUntil = "", time.Time{}
		}
		if was {
			return s, effectResumed
		}
		return s, effectNoted
	}
	v := e.verdict
	auth := v.Class == sendapi.ClassAuth
	switch {
	case auth && !s.Held && s.DeadToken != "" && s.DeadToken == v.Credentials: // others have a new one already
		s.DeadUntil, s.Prober, s.ProbeUntil = now.Add(v.Delays.Steady(1)), "", time.Time{}
		return s, effectNoted
	case s.Held && !ours: // of several refusals that arrive together, the first decides
		end := now.Add(v.HoldFor)
		if v.HoldFor == 0 || s.Until.IsZero() || end.Sub(s.Until) <= time.Second {
			return s, effectNone
		}
		s.Until = end
		return s, effectNoted
	case !s.Held && e.begun.Before(s.Resumed): // of a call from before the page resumed
		return s, effectNone
	}
	holds := s.Holds
	if !s.Held && now.Sub(s.Resumed) > slowStart {
		holds = 0 // it went well for a while
	}
	to := s
	to.Hold(queue.PageState{Class: string(v.Class), Reason: v.Text, Code: v.Code, Subcode: v.Subcode, Since: now, FirstRefused: e.first,
		Holds: holds + 1, DeadToken: s.DeadToken, DeadUntil: s.DeadUntil})
	length := v.HoldFor
	if v.Delays.Max > 0 && (length == 0 || holds > 0) { // what Facebook says again and again was not enough
		length = max(length, v.Delays.Steady(holds+1))
	}
	if length > 0 {
		to.Until = now.Add(length + time.Duration(e.jitter*float64(length)/20))
	}
	if auth {
		to.DeadToken, to.DeadUntil = v.Credentials, to.Until
	}
	return to, effectHeld
}

// disproved reports whether a message that Facebook took shows that a page may send all the same: a row of refusals led to its
// hold, of messages that may be at fault themselves, and this one was sent after the first of them was refused.
func disproved(s queue.PageState, made call) bool {
	return rowHeld(s) && made.begun.After(s.FirstRefused)
}

// hold stops the page for every worker, or every page of its app.
func (p *page) hold(ctx context.Context, made call, v Verdict, first time.Time) {
	if v.Class == sendapi.ClassAuth && v.Credentials == "" { // they could not be read: it is this process alone that cannot send
		p.lookAgain()
		return
	}
	whose, pages := p.own, []*page{p}
	if v.Class == sendapi.ClassThrottleApp {
		whose, pages = p.app, p.w.ofApp(p)
	}
	for _, other := range pages {
		other.halt(1) // first of all
		defer other.halt(-1)
	}
	s, what, err := whose.apply(ctx, event{kind: eventRefused, call: made, verdict: v, first: first})
	if v.Class == sendapi.ClassAuth {
		p.mu.Lock()
		p.deadToken, p.deadUntil = v.Credentials, p.w.cfg.Queue.Now().Add(v.Delays.Steady(1))
		p.mu.Unlock()
	}
	switch {
	case err != nil:
		p.log.Error("hold not written down, other workers do not know of it", zap.String("event", "hold_error"), zap.Error(err))
	case what == effectHeld:
		fields := append([]zap.Field{zap.String("event", "held")}, holdFields(s)...)
		if whose == p.app {
			fields = append(fields, p.appField())
		}
		p.log.Error("page held", fields...)
	}
}

func until(s queue.PageState) zap.Field {
	switch {
	case s.Class == classAuth:
		return zap.String("until", untilToken)
	case !s.Until.IsZero():
		return zap.Time("until", s.Until)
	}
	return zap.String("until", untilResumed)
}

// claim makes this worker the one that tries a message for the page, if it is due and no other is. It comes before the slot, so
// that of many workers one takes a slot. Whatever it returns, release follows.
func (p *page) claim(ctx context.Context) bool { return p.claimOf(ctx, p.own) }

// claimShared makes the page the one that tries a message for its app, and to reach Facebook, if these are due and no other is.
// It comes after the slot: a slow page waits long for that, and would keep all others from trying. A call that comes later after
// its slot than others by what the claim takes breaks no limit: it is one at a time, and what follows it goes slowly.
func (p *page) claimShared(ctx context.Context) bool {
	return p.w.circuit.claim(p, p.w.cfg.Queue.Now()) && p.claimOf(ctx, p.app)
}

func (p *page) claimOf(ctx context.Context, h *shared) bool {
	g, _ := gateOf(h.now(), p.w.name, p.credentialsName(), p.w.cfg.Queue.Now())
	if g != gateOpen && !h.reserve(p) {
		return false
	}
	switch g {
	case gateClosed:
		return false
	case gateDue:
		_, what, err := h.apply(ctx, event{kind: eventClaimed, call: call{credentials: p.credentialsName()}})
		if err != nil || what != effectTried {
			p.lookAgain()
			return false
		}
		fields := []zap.Field{zap.String("event", "probing"), zap.String("class", h.now().Class)}
		if h == p.app {
			fields = append(fields, p.appField())
		}
		p.log.Info("page is tried with one message at a time", fields...)
	}
	return true
}

// keepClaim renews what this worker has claimed until the returned function is called.
func (p *page) keepClaim(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		every := time.NewTicker(probeLease / 3)
		defer every.Stop()
		for {
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
			for _, h := range p.holds() {
				if h.now().Prober == p.w.name {
					_, _, _ = h.apply(ctx, event{kind: eventRenewed})
				}
			}
		}
	})
	return func() {
		stop()
		renewing.Wait()
		p.release()
	}
}

// release lets other pages of this process try a message.
func (p *page) release() {
	p.w.circuit.release(p)
	for _, h := range p.holds() {
		h.release(p)
	}
}

// wasSent tells that Facebook took a message. If it was the one that was tried, whatever stopped the page is over.
func (p *page) wasSent(ctx context.Context, made call) {
	if !made.probe && !disproved(p.own.now(), made) {
		return
	}
	for _, h := range p.holds() {
		s, what, err := h.apply(ctx, event{kind: eventTaken, call: made})
		switch {
		case err != nil:
			p.log.Error("end of a hold not written down, the page is tried again", zap.String("event", "hold_error"), zap.Error(err))
		case what == effectResumed:
			fields := []zap.Field{zap.String("event", "resumed"), zap.String("class", s.Class)}
			if h == p.app {
				fields = append(fields, p.appField())
			}
			p.log.Info("page resumed", fields...)
		}
	}
}

// holds are the states that the page depends on.
func (p *page) holds() []*shared { return []*shared{p.own, p.app} }

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
// The life of one, as next has it:
//
//	open ── refused ──▶ held ── its time is over ──▶ due ── a worker that has a message claims it ──▶ tried
//	 ▲                   ▲                            ▲                                              │ │ │
//	 │                   │                            └───────── claim not renewed in probeLease ────┘ │ │
//	 │                   └──────────────────────────────────────── the message is refused ─────────────┘ │
//	 └──────────────────────────────────────────────────────────── the message is taken ─────────────────┘
//
// A hold that a row led to is over too when a message is taken that was sent after the row had begun (see disproved).
//
// Every arrow is one compare-and-set, so that of many workers that see the same thing one does it, and logs it. A page is
// fetched for while neither it, nor its app, nor the circuit stops it; where one is due, one message at a time.

const (
	classAuth = string(sendapi.ClassAuth)
	// probeLease is how long a worker's claim lasts without being renewed.
	probeLease = 15 * time.Second
	// untilToken and untilResumed are the ends of holds that no time ends.
	untilToken   = "another token"
	untilResumed = "resumed by hand"
	// backIn is the delay of a job that is put back by a hold: longer than other workers take to hear of it.
	backIn = time.Second
	// fewProbes is after how many refusals a message is left alone for longer: for farProbes times its page's hold.
	fewProbes, farProbes = 3, 7
	// cleared is for how long a code that stopped a page takes a row of clearedTimes the length to stop it again, once another
	// message was taken: it is most likely the messages' own.
	cleared, clearedTimes = time.Hour, 10
)

// behind is for how long after the end of a hold, messages that were refused before are left alone, so that another is tried
// before them.
var behind = 10 * time.Second

// asideDelays are between attempts of a message that was refused as if its page might not send, while the page goes on.
var asideDelays = Delays{First: 10 * time.Second, Max: 15 * time.Minute}

// attempt is what was known when a job was begun.
type attempt struct {
	probe       bool      // the job is the one that is tried
	begun       time.Time // by the server's clock
	credentials string    // those of the page
}

// kind is what happened to a page or an app.
type kind int

const (
	refused kind = iota // Facebook refused a message
	taken               // Facebook took the message that was tried
	claimed             // a worker has a message to try
	renewed             // it is still at it
)

// event is what a worker tells of a page or an app.
type event struct {
	kind   kind
	worker string
	attempt
	verdict Verdict   // refused
	first   time.Time // refused: when the row of refusals began that led to it; zero: it began with this one
	jitter  float64   // of an end, from 0 to 1
}

// change is what an event made of a state.
type change int

const (
	nothing change = iota
	noted          // nobody is to be told
	held           // anew, or for longer after a probe was refused
	tried          // by this worker
	resumed
)

// next returns the state after an event, and what has changed. It is all there is to the life of a hold.
func next(s queue.PageState, e event, now time.Time, slowStart time.Duration) (queue.PageState, change) {
	ours := e.probe && s.Prober == e.worker
	switch e.kind {
	case claimed:
		if g, _ := gateOf(s, e.worker, e.credentials, now); g != due {
			return s, nothing
		}
		s.Prober, s.ProbeUntil = e.worker, now.Add(probeLease)
		return s, tried
	case renewed:
		if s.Prober != e.worker {
			return s, nothing
		}
		s.ProbeUntil = now.Add(probeLease)
		return s, noted
	case taken:
		if !ours && !disproved(s, e.attempt) {
			return s, nothing
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
			return s, resumed
		}
		return s, noted
	}
	v := e.verdict
	auth := v.Class == sendapi.ClassAuth
	switch {
	case auth && !s.Held && s.DeadToken != "" && s.DeadToken == v.Credentials: // others have a new one already
		s.DeadUntil, s.Prober, s.ProbeUntil = now.Add(v.Delays.Steady(1)), "", time.Time{}
		return s, noted
	case s.Held && !ours: // of several refusals that arrive together, the first decides
		end := now.Add(v.HoldFor)
		if v.HoldFor == 0 || s.Until.IsZero() || end.Sub(s.Until) <= time.Second {
			return s, nothing
		}
		s.Until = end
		return s, noted
	case !s.Held && e.begun.Before(s.Resumed): // word of the time before
		return s, nothing
	}
	holds := s.Holds
	if !s.Held && now.Sub(s.Resumed) > slowStart {
		holds = 0 // it went well for a while
	}
	to := s
	to.Hold(queue.PageState{Class: string(v.Class), Reason: v.Text, Code: v.Code, Subcode: v.Subcode, Since: now, Began: e.first,
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
	return to, held
}

// disproved reports whether a message that Facebook took shows that a page may send all the same: a row of refusals led to its
// hold, of messages that may be at fault themselves, and this one was sent after the first of them was refused.
func disproved(s queue.PageState, a attempt) bool {
	return s.Held && s.Class == string(sendapi.ClassPage) && !s.Began.IsZero() && a.begun.After(s.Began)
}

// gate says whether a page may be fetched for.
type gate string

const (
	closed gate = "closed"
	due    gate = "due"   // one message is to be tried, by whoever claims it
	trying gate = "tried" // this worker has claimed it
	open   gate = "open"
)

// gateOf returns what a state says to a worker with these credentials, and when to look again: 0 if only a change opens it.
func gateOf(s queue.PageState, worker, credentials string, now time.Time) (g gate, wake time.Duration) {
	var until time.Time
	switch {
	case s.Held && s.Class == classAuth && s.DeadToken != "" && s.DeadToken != credentials: // another token is tried at once
	case s.Held && s.Until.IsZero():
		if s.Class == classAuth {
			return closed, recheck
		}
		return closed, 0
	case s.Held:
		until = s.Until
	case s.DeadToken != "" && s.DeadToken == credentials: // the page goes on with another
		until = s.DeadUntil
	default:
		return open, 0
	}
	if wake := until.Sub(now); wake > 0 {
		if s.DeadToken != "" {
			wake = min(wake, recheck)
		}
		return closed, wake
	}
	if wake := s.ProbeUntil.Sub(now); wake > 0 {
		if s.Prober == worker {
			return trying, 0
		}
		return closed, wake
	}
	return due, 0
}

// hold stops the page for every worker, or every page of its app.
func (p *page) hold(ctx context.Context, a attempt, v Verdict, first time.Time) {
	if v.Class == sendapi.ClassAuth && v.Credentials == "" { // they could not be read: this process's own trouble
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
	s, what, err := whose.apply(ctx, event{kind: refused, attempt: a, verdict: v, first: first})
	if v.Class == sendapi.ClassAuth {
		p.mu.Lock()
		p.deadToken, p.deadUntil = v.Credentials, p.w.cfg.Queue.Now().Add(v.Delays.Steady(1))
		p.mu.Unlock()
	}
	switch {
	case err != nil:
		p.log.Error("hold not written down, other workers do not know of it", zap.String("event", "hold_error"), zap.Error(err))
	case what == held:
		fields := []zap.Field{zap.String("event", "held"), zap.String("class", s.Class), zap.Int("code", s.Code),
			zap.Int("subcode", s.Subcode), zap.String("reason", s.Reason), until(s)}
		if whose == p.app {
			fields = append(fields, zap.String("app", p.App))
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

// claim makes this worker the one that tries a message for what is due, if no other is. Whatever it returns, release follows.
func (p *page) claim(ctx context.Context) bool {
	now := p.w.cfg.Queue.Now()
	if !p.w.circuit.claim(p, now) {
		return false
	}
	told := false
	for _, h := range p.holds() {
		g, _ := gateOf(h.now(), p.w.name, p.credentialsName(), now)
		if g != open && !h.reserve(p) {
			return false
		}
		switch g {
		case closed:
			return false
		case due:
			_, what, err := h.apply(ctx, event{kind: claimed, attempt: attempt{credentials: p.credentialsName()}})
			if err != nil || what != tried {
				p.lookAgain()
				return false
			}
			if !told {
				p.log.Info("page is tried with one message at a time", zap.String("event", "probing"))
			}
			told = true
		}
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
					_, _, _ = h.apply(ctx, event{kind: renewed})
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
func (p *page) wasSent(ctx context.Context, a attempt) {
	if !a.probe && !disproved(p.own.now(), a) {
		return
	}
	for _, h := range p.holds() {
		s, what, err := h.apply(ctx, event{kind: taken, attempt: a})
		switch {
		case err != nil:
			p.log.Error("end of a hold not written down, the page is tried again", zap.String("event", "hold_error"), zap.Error(err))
		case what == resumed:
			fields := []zap.Field{zap.String("event", "resumed"), zap.String("class", s.Class)}
			if h == p.app {
				fields = append(fields, zap.String("app", p.App))
			}
			p.log.Info("page resumed", fields...)
		}
	}
}

// holds are the states that the page depends on.
func (p *page) holds() []*shared { return []*shared{p.own, p.app} }

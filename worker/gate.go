package worker

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// gate says whether a page may be fetched for.
type gate string

const (
	gateClosed gate = "closed"
	gateDue    gate = "due"   // one message is to be tried, by whoever claims it
	gateTrying gate = "tried" // this worker has claimed it
	gateOpen   gate = "open"
)

// gateOf returns the gate of a state for a worker with these credentials, and when to look again (0: only a change opens it):
//
//	the page is                                   until its time is over     then, claimed by another   by nobody   by this one
//	held for credentials, and has others          -                          closed                     due         trying
//	held, with an end                             closed                     closed                     due         trying
//	held, without an end                          closed                     -                          -           -
//	not held, and has credentials found dead      closed                     closed                     due         trying
//	else                                          open                       -                          -           -
//
// Credentials may be replaced at any time, so where they matter it is looked again soon.
func gateOf(s queue.PageState, worker, credentials string, now time.Time) (g gate, wake time.Duration) {
	var until time.Time
	switch {
	case s.Held && s.Class == classAuth && s.DeadToken != "" && s.DeadToken != credentials: // another token is tried at once
	case s.Held && s.Until.IsZero():
		if s.Class == classAuth {
			return gateClosed, lookEvery
		}
		return gateClosed, 0
	case s.Held:
		until = s.Until
	case s.DeadToken != "" && s.DeadToken == credentials: // the page goes on with another
		until = s.DeadUntil
	default:
		return gateOpen, 0
	}
	if wake := until.Sub(now); wake > 0 {
		if s.DeadToken != "" {
			wake = min(wake, lookEvery)
		}
		return gateClosed, wake
	}
	if wake := s.ProbeUntil.Sub(now); wake > 0 {
		if s.Prober == worker {
			return gateTrying, 0
		}
		return gateClosed, wake
	}
	return gateDue, 0
}

// credentialsName names what the page would be sent with now; empty if that cannot be read.
func (p *page) credentialsName() string {
	name, _ := (*p.credentials.Load())()
	return name
}

// gate returns the page's gate, why this process alone keeps it closed, and when to look again: 0 if only a change can open
// it. Where this worker tries a message already, it is due. p.mu is held.
func (p *page) gate() (g gate, why string, wake time.Duration) {
	if p.halted > 0 {
		return gateClosed, p.lastLogged, 0 // what else stops it is not looked at
	}
	name, err := (*p.credentials.Load())()
	if err != nil {
		return gateClosed, err.Error(), lookEvery
	}
	now := p.w.cfg.Queue.Now()
	g, wake = p.w.circuit.gate(p, now)
	for _, h := range p.holds() {
		s := h.now()
		of, after := gateOf(s, p.w.name, name, now)
		if of != gateOpen && (!h.free(p) || h == p.own && p.triedToken(s, name, now)) {
			of, after = gateClosed, lookEvery
		} else if of == gateClosed && !s.Held {
			why = "Facebook refused the token that this process has; others have a new one"
		}
		switch {
		case of == gateClosed && g == gateClosed:
			wake = max(wake, after)
			if after == 0 {
				wake = 0
			}
		case of == gateClosed:
			g, wake = gateClosed, after
		case of != gateOpen && g == gateOpen:
			g = of
		}
	}
	if g == gateTrying {
		g = gateDue
	}
	return g, why, wake
}

// triedToken reports whether credentials that are not those that the page is held for were refused during this hold all the
// same. Two workers whose tokens are both dead would else try them in turns, each being another than the last. p.mu is held.
func (p *page) triedToken(s queue.PageState, name string, now time.Time) bool {
	return s.Held && s.Class == classAuth && s.DeadToken != name && p.deadToken == name && p.deadUntil.After(now)
}

// awaitGate waits until the page may be fetched for, and returns a context that ends with ctx or when that changes. It
// returns nil when ctx has ended.
func (p *page) awaitGate(ctx context.Context) (context.Context, gate) {
	for ctx.Err() == nil {
		p.mu.Lock()
		g, why, wake := p.gate()
		p.logOwnHold(why)
		if g != gateClosed {
			fetching, stop := context.WithCancel(ctx)
			p.mode, p.stop = g, stop
			p.mu.Unlock()
			return fetching, g
		}
		changed := p.awaiting
		p.mu.Unlock()
		if wake == 0 {
			wake = time.Hour
		}
		timer := time.NewTimer(wake)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil, gateClosed
}

// logOwnHold logs what stops the page in this process alone, once. p.mu is held.
func (p *page) logOwnHold(why string) {
	switch {
	case why == p.lastLogged:
		return
	case why != "":
		p.loggedAt, p.stillAt = time.Now(), time.Now()
		p.log.Error("page held in this process", zap.String("event", "held"), zap.String("class", classAuth), zap.Int("code", 0),
			zap.Int("subcode", 0), zap.String("reason", why), zap.String("until", untilToken))
	default:
		p.log.Info("page goes on in this process", zap.String("event", "resumed"), zap.String("class", classAuth))
	}
	p.lastLogged = why
}

// close ends the fetching, if there is any.
func (p *page) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop, p.mode = nil, gateClosed
	}
}

// halt stops the page in this process until what stops it is written down.
func (p *page) halt(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted += n
	p.updateGate()
}

// lookAgain takes in that what stops the page may be another.
func (p *page) lookAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.updateGate()
}

// updateGate stops fetching that is not allowed any more, and wakes who awaits the gate. p.mu is held.
func (p *page) updateGate() {
	if !p.own.now().Held {
		p.deadToken = ""
	}
	if p.stop != nil {
		if g, _, _ := p.gate(); g != p.mode {
			p.stop()
		}
	}
	close(p.awaiting)
	p.awaiting = make(chan struct{})
}

// may reports whether the page may be fetched for as at first.
func (p *page) may(mode gate) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, _, _ := p.gate()
	return g == mode
}

// isStopped reports whether the page, or its app, is held and not yet to be tried, whether or not Facebook can be reached.
func (p *page) isStopped() bool {
	now, name := p.w.cfg.Queue.Now(), p.credentialsName()
	return slices.ContainsFunc(p.holds(), func(h *shared) bool {
		g, _ := gateOf(h.now(), p.w.name, name, now)
		return g == gateClosed
	})
}

func (p *page) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, _, _ := p.gate()
	return g != gateOpen
}

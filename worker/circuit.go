package worker

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/sendapi"
)

// circuit says whether Facebook can be reached from this process. While it cannot, nothing is fetched, so that workers that
// reach it have the messages, and one message at a time is tried, of whichever page has one.
type circuit struct {
	w *Worker

	mu     sync.Mutex
	failed int       // calls in a row
	since  time.Time // the first of them
	open   bool
	tries  int
	next   time.Time // when a message may be tried, by the server's clock as all times here
	trying *page     // who tries one

	turns  []*page // those with a backlog at the last look, the next to try first; empty: none is known
	passed int     // how many have had their turn
}

// gate says whether the page may be fetched for as far as Facebook can be reached, and when to look again.
func (c *circuit) gate(p *page, now time.Time) (gate, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.open:
		return gateOpen, 0
	case c.trying == p:
		return gateTrying, 0
	case c.trying != nil:
		return gateClosed, lookEvery
	case c.next.After(now):
		return gateClosed, c.next.Sub(now)
	case !c.hasTurn(p, now):
		return gateClosed, circuitWiden
	}
	return gateDue, 0
}

// hasTurn reports whether p is among the pages that are to try. When the try has been due for a while and nobody has made it,
// those whose turn it was have nothing to send, and in the end all pages have it. c.mu is held.
func (c *circuit) hasTurn(p *page, now time.Time) bool {
	n, waited := circuitPages, now.Sub(c.next)
	for left := waited; left >= circuitWiden && n < len(c.turns); left -= circuitWiden {
		n *= 2
	}
	i := slices.Index(c.turns, p)
	if i < 0 {
		return len(c.turns) == 0 || n >= len(c.turns) && waited >= circuitWiden
	}
	return i < n
}

// look takes in which pages have a backlog, in a fixed order.
func (c *circuit) look(pages []*page) {
	c.mu.Lock()
	c.passed += circuitPages
	c.turns = rotate(pages, c.passed)
	open := c.open
	c.mu.Unlock()
	if open {
		c.w.lookAgain(nil)
	}
}

func rotate(pages []*page, by int) []*page {
	if len(pages) == 0 {
		return nil
	}
	by %= len(pages)
	return slices.Concat(pages[by:], pages[:by])
}

// after returns when a message may be tried, if the circuit is open.
func (c *circuit) after() (next time.Time, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next, c.open
}

// openSince returns since when Facebook has not been reached, if the circuit is open.
func (c *circuit) openSince() (since time.Time, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.open
}

// claim makes p the page whose message is tried, if no other is.
func (c *circuit) claim(p *page, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open || c.trying == p {
		return true
	}
	if c.trying != nil || c.next.After(now) {
		return false
	}
	c.trying = p
	return true
}

// release ends the attempt of p, if it is the one that tries.
func (c *circuit) release(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trying == p {
		c.trying = nil
	}
}

// again has Facebook tried later. c.mu is held.
func (c *circuit) again(now time.Time) {
	c.tries++
	c.trying = nil
	c.next = now.Add(circuitDelays.Steady(c.tries))
	c.passed += circuitPages
	c.turns = rotate(c.turns, circuitPages)
}

// note takes in what became of made call, and reports whether Facebook is away: the message is then to be requeued as if it had
// not been tried.
func (c *circuit) note(p *page, made call, v Verdict, now time.Time) (away bool) {
	c.mu.Lock()
	changed := false
	defer func() {
		c.mu.Unlock()
		if changed {
			c.w.lookAgain(nil)
		}
	}()
	switch {
	case !v.Unreachable && v.Took == 0: // there was no call
		return false
	case !v.Unreachable && v.Class == sendapi.ClassInDoubt: // no answer of Facebook's: nobody knows whether it can be reached
		if c.open && made.probe && c.trying == p {
			c.again(now)
			changed = true
		}
		return false
	case !v.Unreachable:
		changed = c.open
		if c.open {
			c.w.cfg.Log.Info("Facebook can be reached again", zap.String("event", "graph_up"), zap.String("host", c.w.cfg.Host),
				zap.Time("since", c.since), zap.Float64("for_s", now.Sub(c.since).Round(100*time.Millisecond).Seconds()))
		}
		c.failed, c.open, c.tries, c.trying = 0, false, 0, nil
		return false
	}
	if c.failed++; c.failed == 1 {
		c.since = now
	}
	switch {
	case c.open && made.probe && c.trying == p:
		c.again(now)
		changed = true
	case !c.open && c.failed >= circuitAfter:
		c.open, c.tries, c.next, changed = true, 1, now.Add(circuitDelays.Steady(1)), true
		pages, pending := c.w.backlog()
		c.w.cfg.Log.Error("Facebook cannot be reached, messages wait", zap.String("event", "graph_down"), zap.String("host", c.w.cfg.Host),
			zap.String("cause", v.Text), zap.Time("since", c.since), zap.Int("pages", pages), zap.Uint64("pending", pending))
	}
	return c.open
}

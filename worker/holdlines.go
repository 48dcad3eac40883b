package worker

import (
	"cmp"
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// What the log tells of holds, so that the log of any one worker, of any hour, shows which pages stand still and since when:
//
//	line            of                                   by
//	held, resumed   a refusal, a message that was taken  the worker that met it, once (hold.go)
//	                what a person did                    each worker that has the page (tellByHand)
//	held_still      each hold                            each worker at its start, and one of all every 5 minutes (tellStill)
//	                a hold of this process alone         this process (gate.go says when)

// tellByHand logs what a person did to a page: nobody else's log has it. was is the state before.
func (h *shared) tellByHand(was, is queue.PageState) {
	held := is.Held && is.Manual && !(was.Held && was.Manual && was.Since.Equal(is.Since))
	ended := !is.Held && is.Manual && was.Held
	if !held && !ended {
		return
	}
	fields, _, ours := h.whose()
	switch {
	case !ours: // the workers that have the page log it
	case held:
		h.w.cfg.Log.Warn("page held by hand", append(append(fields, zap.String("event", "held")), holdFields(is)...)...)
	default:
		h.w.cfg.Log.Info("page resumed by hand", append(fields, zap.String("event", "resumed"), zap.String("class", was.Class), zap.String("by", is.By))...)
	}
}

// whose names the page or the app of a state, and the pages that depend on it; ours is false if none of this worker's does.
func (h *shared) whose() (fields []zap.Field, ids []string, ours bool) {
	for _, p := range h.w.all() {
		switch h {
		case p.own:
			return []zap.Field{zap.String("page", p.Name)}, []string{p.ID}, true
		case p.app:
			fields, ids = []zap.Field{p.appField()}, append(ids, p.ID)
		}
	}
	return fields, ids, len(ids) > 0
}

// appField names the page's app.
func (p *page) appField() zap.Field { return zap.String("app", cmp.Or(p.App, noApp)) }

// noApp names what the pages without an app in the page file have in common.
const noApp = "(none)"

// holdFields tell why a page is held and until when.
func holdFields(s queue.PageState) []zap.Field {
	fields := []zap.Field{zap.String("class", s.Class), zap.Int("code", s.Code), zap.Int("subcode", s.Subcode),
		zap.String("reason", s.Reason), until(s)}
	if s.By != "" {
		fields = append(fields, zap.String("by", s.By))
	}
	return fields
}

// remindOfHolds logs at the start and then now and again, until ctx ends, which pages are held.
func (w *Worker) remindOfHolds(ctx context.Context) {
	every := time.NewTicker(w.stillEvery / stillLooks)
	defer every.Stop()
	w.tellStill(ctx, true)
	for {
		select {
		case <-every.C:
			w.tellStill(ctx, false)
		case <-ctx.Done():
			return
		}
	}
}

// tellStill logs the holds that are due to be told again; first: all that there are.
func (w *Worker) tellStill(ctx context.Context, first bool) {
	var due []*shared
	w.mu.Lock()
	for _, h := range w.states {
		if s := h.now(); s.Held && (first || w.cfg.Queue.Now().Sub(s.Since) >= w.stillEvery) {
			due = append(due, h)
		}
	}
	w.mu.Unlock()
	own := w.ownHolds(first)
	if len(due)+len(own) == 0 {
		return
	}
	pending, err := w.cfg.Queue.Pending(ctx)
	if err != nil { // the next look is soon, and report says what is wrong
		return
	}
	for _, h := range due {
		fields, ids, ours := h.whose()
		if s := h.now(); ours && s.Held && (first || h.claimLine(ctx, "held-")) {
			logStill(w.cfg.Log, append(append(fields, holdFields(s)...), zap.Time("since", s.RefusedSince())), count(pending, ids))
		}
	}
	for _, p := range own {
		p.mu.Lock()
		why, since := p.lastLogged, p.loggedAt
		p.stillAt = time.Now()
		p.mu.Unlock()
		s := queue.PageState{Class: classAuth, Reason: why}
		logStill(p.log, append(holdFields(s), zap.Time("since", since)), count(pending, []string{p.ID}))
	}
}

// ownHolds returns the pages that are held in this process alone and of which that is to be told again.
func (w *Worker) ownHolds(first bool) (due []*page) {
	for _, p := range w.all() {
		p.mu.Lock()
		if p.lastLogged != "" && !first && time.Since(p.stillAt) >= w.stillEvery {
			due = append(due, p)
		}
		p.mu.Unlock()
	}
	return due
}

// claimLine reports whether this worker is the one that writes a kind of line about the page now: no worker has for stillEvery. A line that two
// workers may write costs less than one that a worker that is gone keeps from being written, so the claim just expires.
func (h *shared) claimLine(ctx context.Context, kind string) bool {
	claim := h.w.cfg.Queue.NewClaim(kind + strings.ReplaceAll(h.key, ".", "-"))
	until, err := claim.Hold(ctx, h.w.stillEvery-h.w.stillEvery/(2*stillLooks)) // over when the next line is due
	return err == nil && !until.IsZero()
}

func count(pending map[queue.PageLane]uint64, pages []string) (n uint64) {
	for _, page := range pages {
		for _, lane := range queue.Lanes() {
			n += pending[queue.PageLane{Page: page, Lane: lane}]
		}
	}
	return n
}

func logStill(log *zap.Logger, fields []zap.Field, pending uint64) {
	log.Warn("page is still held", append(fields, zap.String("event", "held_still"), zap.Uint64("pending", pending))...)
}

// stoppedBy returns the class of what keeps the page from being sent for, and since when it does; empty if nothing does.
func (p *page) stoppedBy() (class string, since time.Time) {
	p.mu.Lock()
	why, at := p.lastLogged, p.loggedAt
	p.mu.Unlock()
	if why != "" {
		return classAuth, at
	}
	for _, h := range p.holds() {
		if s := h.now(); s.Held {
			return s.Class, s.RefusedSince()
		}
	}
	if since, open := p.w.circuit.openSince(); open {
		return classUnreachable, since
	}
	return "", time.Time{}
}

// classUnreachable is what stats lines of a page have for a class while this process does not reach Facebook.
const classUnreachable = "unreachable"

package worker

import (
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// A row of refusals does not say whether the page may not send or those messages are at fault. So when the time of its hold is
// over, one refusal more is not enough to hold the page for longer: the worker that has the claim tries several messages, one
// after the other, and leaves out those of campaigns that it has seen refused. This is a round:
//
//	claimed ──▶ tried ── taken ──▶ the page resumes
//	             ▲  │
//	             │  └── refused: the roundTries-th of the round, or the last one there is ──▶ held for longer
//	             │           │
//	             └── others ─┘
//
// Where one refusal is enough to hold a page, or each try may send a copy, one is enough here too.

// round is what this worker has tried for a page since the end of a hold.
type round struct {
	end       time.Time       // of the hold; with another a new round begins
	tried     map[string]bool // ids of messages that were refused
	campaigns map[string]bool // theirs
	skipped   map[string]bool // ids of messages that were requeued unsent
	last      time.Time       // when a message was last refused or skipped
	length    time.Duration   // of the next hold, if there is one
}

// goesOn takes in that a message was refused, and reports whether others are to be tried before the page is held for longer.
func (p *page) goesOn(job *queue.Delivery, made call, v Verdict) bool {
	s := p.own.now()
	if !made.probe || v.Class != sendapi.ClassPage || v.HoldAfter <= 1 || !rowHeld(s) || s.Code != v.Code || s.Subcode != v.Subcode || s.Prober != p.w.name {
		return false
	}
	most := min(roundTries, p.w.pending(p.ID))
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.round
	if r == nil || !r.end.Equal(s.Until) {
		r = &round{end: s.Until, tried: map[string]bool{}, campaigns: map[string]bool{}, skipped: map[string]bool{}}
		p.round = r
	}
	if r.tried[job.ID] { // nothing else came for a while
		return false
	}
	r.tried[job.ID] = true
	if campaign := job.Tracking.Campaign; campaign != "" {
		r.campaigns[campaign] = true
	}
	r.last, r.length = p.w.cfg.Queue.Now(), v.Delays.Steady(s.Holds+1)
	return len(r.tried) < most
}

// skip returns for how long a job is left alone in the round there is, so that others are tried: it was refused in it, or others
// of its campaign were. Those of its campaign that were not tried stay away until after the next hold, so that the next round
// does not begin with them.
func (p *page) skip(job *queue.Delivery, s queue.PageState, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.round
	switch {
	case r == nil || !r.end.Equal(s.Until):
		return 0
	case r.tried[job.ID]:
		if now.Sub(r.last) < roundIdle {
			return p.w.behind
		}
	case r.campaigns[job.Tracking.Campaign] && !r.skipped[job.ID] && len(r.skipped) < roundSkips:
		r.skipped[job.ID] = true
		r.last = now
		return r.length + p.w.behind
	}
	return 0
}

// inRound reports whether a job was refused in the round there is.
func (p *page) inRound(job *queue.Delivery, s queue.PageState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.round != nil && p.round.end.Equal(s.Until) && p.round.tried[job.ID]
}

// rowHeld reports whether a page is held since several of its messages were refused, and may be at fault themselves.
func rowHeld(s queue.PageState) bool {
	return s.Held && s.Class == string(sendapi.ClassPage) && !s.FirstRefused.IsZero()
}

// pending returns how many messages a page had at the last look, far more than it can have if there was none.
func (w *Worker) pending(page string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		return 1 << 30
	}
	for _, name := range queue.Lanes() {
		n += int(w.waiting[queue.PageLane{Page: page, Lane: name}])
	}
	return n
}

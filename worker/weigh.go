package worker

import (
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// row counts the messages that were refused in one way, with none taken between.
type row struct {
	jobs  map[string]bool
	first time.Time
}

// sign is a way to be refused.
type sign struct {
	class         sendapi.Class
	code, subcode int
}

func signOf(v Verdict) sign {
	if v.Class == sendapi.ClassPage || v.Class == sendapi.ClassInDoubt {
		return sign{class: v.Class}
	}
	return sign{v.Class, v.Code, v.Subcode}
}

// weigh changes a verdict by what happened around it, and notes it for those to come. first is when the row of refusals began
// that now stops the page; zero if it does not, or this one is enough.
func (p *page) weigh(job *queue.Delivery, made call, v Verdict) (weighed Verdict, first time.Time) {
	if v.Outcome == Release {
		return v, first
	}
	now := p.w.cfg.Queue.Now()
	if p.w.circuit.note(p, made, v, now) && v.Outcome != Dead {
		v.Delays = Delays{First: requeueDelay, Max: requeueDelay}
		if v.Class != sendapi.ClassInDoubt { // else each attempt may be a copy, and counts
			v.Outcome = aside
		}
		return v, first
	}
	s := p.own.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.Outcome == Delivered {
		clear(p.rows)
		if made.begun.After(p.tookAt) {
			p.tookAt = made.begun
		}
		return v, first
	}
	if v.Outcome == Hold && v.Class == sendapi.ClassPage && !job.Refused.IsZero() && (p.tookAt.After(job.Refused) || passed(s) && s.Resumed.After(job.Refused)) {
		v.Outcome, v.Class = Dead, sendapi.ClassMessage
		v.Text = "others of the page were taken since this message was first refused: " + v.Text
		return v, first
	}
	// A message in doubt that was not sent this time is about the worker that was lost with it: many are when one is killed.
	if v.HoldAfter <= 1 || v.Class == sendapi.ClassInDoubt && v.Took == 0 {
		return v, first
	}
	same := s.Class == string(sendapi.ClassPage) && s.Code == v.Code && s.Subcode == v.Subcode
	enough := same && (s.Held || made.begun.Before(s.Resumed)) // it has not passed, or was under way while the page was held
	if !enough {
		least := v.HoldAfter
		if same && passed(s) && v.Outcome == Dead && now.Sub(s.Resumed) < clearedFor {
			least *= clearedTimes
		}
		first, enough = p.inRow(job, v, s, now, least)
	}
	switch {
	case v.Outcome == Hold && !enough:
		v.Outcome, v.Delays = aside, asideDelays
	case v.Outcome != Hold && enough && v.Class != sendapi.ClassInDoubt: // it dies, or is counted, once the page takes another
		v.Outcome, v.Class, v.Delays = Hold, sendapi.ClassPage, v.HoldDelays
		v.Text = "one message after another is refused: " + v.Text
	case v.Outcome != Hold && enough:
		v.holds = true
	}
	return v, first
}

// passed reports whether a hold ended since Facebook took a message. Where a person ended it, nobody knows yet whether the page
// may send.
func passed(s queue.PageState) bool { return !s.Held && !s.Manual }

// inRow adds a message to the row of its sign, and reports whether the row has the least length to stop the page, and when it
// began. Those under way when it was long enough are of the row too. p.mu is held.
func (p *page) inRow(job *queue.Delivery, v Verdict, s queue.PageState, now time.Time, least int) (first time.Time, enough bool) {
	r := p.rows[signOf(v)]
	if r == nil || r.first.Before(s.Resumed) {
		r = &row{jobs: map[string]bool{}, first: now}
		p.rows[signOf(v)] = r
	}
	r.jobs[job.ID] = true
	if len(r.jobs) < least {
		return time.Time{}, false
	}
	return r.first, true
}

// asideFor returns the delay of a message that is requeued since its page may not send, or it may not.
func (p *page) asideFor(job *queue.Delivery, v Verdict) time.Duration {
	now := p.w.cfg.Queue.Now()
	switch {
	case v.Class != sendapi.ClassPage && v.HoldAfter <= 1, v.Unreachable: // any other message would have fared the same
		return requeueDelay
	case job.Refused.IsZero():
		job.Refused = now.Truncate(time.Millisecond).Add(time.Millisecond) // it is kept by the millisecond; earlier, a call from before the refusal would seem later
	}
	job.Refusals++
	if v.Outcome == aside {
		return v.Delays.Steady(job.Refusals)
	}
	return requeueDelay
}

// othersFirst returns for how long a job is left alone, so that othersFirst are tried before it: it was refused as if its page might not
// send, or may have been sent though Facebook is away. It does not wait for the end of the hold in the queue, since that may
// come sooner, by hand.
func (p *page) othersFirst(job *queue.Delivery) time.Duration {
	now := p.w.cfg.Queue.Now()
	next, away := p.w.circuit.after()
	s := p.own.now()
	switch {
	case job.InDoubt: // that is its handler's to say, and would be forgotten
		return 0
	case away && job.Counts[string(sendapi.ClassInDoubt)] > 0:
		return min(next.Add(p.w.behind).Sub(now), p.w.behind) // Facebook may be back sooner
	case !s.Held || s.Class != string(sendapi.ClassPage):
		return 0
	}
	if wait := p.skip(job, s, now); wait > 0 || job.Refused.IsZero() || p.inRound(job, s) {
		return wait
	}
	end := s.Until.Add(p.w.behind)
	if job.Refusals >= fewProbes {
		end = end.Add(farProbes * s.Until.Sub(s.Since))
	}
	return end.Sub(now)
}

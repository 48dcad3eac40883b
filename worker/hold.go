package worker

import (
	"context"
	"errors"
	"math/rand/v2"
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
func (p *page) weigh(job *queue.Delivery, a attempt, v Verdict) (weighed Verdict, first time.Time) {
	if v.Outcome == Release {
		return v, first
	}
	now := p.w.cfg.Queue.Now()
	if p.w.circuit.note(p, a, v, now) && v.Outcome != Dead {
		v.Delays = Delays{First: backIn, Max: backIn}
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
		if a.begun.After(p.tookAt) {
			p.tookAt = a.begun
		}
		return v, first
	}
	if v.Outcome == Hold && v.Class == sendapi.ClassPage && !job.Refused.IsZero() && (p.tookAt.After(job.Refused) || passed(s) && s.Resumed.After(job.Refused)) {
		v.Outcome, v.Class = Dead, sendapi.ClassMessage
		v.Text = "others of the page were taken since this message was first refused: " + v.Text
		return v, first
	}
	if v.HoldAfter <= 1 {
		return v, first
	}
	same := s.Class == string(sendapi.ClassPage) && s.Code == v.Code && s.Subcode == v.Subcode
	enough := same && (s.Held || a.begun.Before(s.Resumed)) // it has not passed, or was under way while the page was held
	if !enough {
		least := v.HoldAfter
		if same && passed(s) && v.Outcome == Dead && now.Sub(s.Resumed) < cleared {
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

// aside returns the delay of a message that is put back since its page may not send, or it may not.
func (p *page) aside(job *queue.Delivery, v Verdict) time.Duration {
	now := p.w.cfg.Queue.Now()
	switch {
	case v.Class != sendapi.ClassPage && v.HoldAfter <= 1, v.Unreachable: // any other message would have fared the same
		return backIn
	case job.Refused.IsZero():
		job.Refused = now
	}
	job.Refusals++
	if v.Outcome == aside {
		return v.Delays.Steady(job.Refusals)
	}
	return backIn
}

// others returns for how long a job is left alone, so that others are tried before it: it was refused as if its page might not
// send, or may have been sent though Facebook is away. It does not wait for the end of the hold in the queue, since that may
// come sooner, by hand.
func (p *page) others(job *queue.Delivery) time.Duration {
	now := p.w.cfg.Queue.Now()
	next, away := p.w.circuit.after()
	s := p.own.now()
	switch {
	case job.InDoubt: // that is its handler's to say, and would be forgotten
		return 0
	case away && job.Counts[string(sendapi.ClassInDoubt)] > 0:
		return min(next.Add(behind).Sub(now), behind) // Facebook may be back sooner
	case !s.Held || s.Class != string(sendapi.ClassPage) || job.Refused.IsZero():
		return 0
	}
	end := s.Until.Add(behind)
	if job.Refusals >= fewProbes {
		end = end.Add(farProbes * s.Until.Sub(s.Since))
	}
	return end.Sub(now)
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

// shared is the state of a page or an app, which all workers share, as this process knows it.
type shared struct {
	w       *Worker
	key     string
	writing sync.Mutex // one change at a time

	mu     sync.Mutex
	state  queue.PageState
	trying *page // of this process
}

// reserve makes p the one page of this process that tries a message, if no other is.
func (h *shared) reserve(p *page) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.trying != nil && h.trying != p {
		return false
	}
	h.trying = p
	return true
}

func (h *shared) release(p *page) {
	h.mu.Lock()
	ours := h.trying == p
	if ours {
		h.trying = nil
	}
	h.mu.Unlock()
	if ours {
		h.w.lookAgain(h)
	}
}

// free reports whether no other page of this process tries a message.
func (h *shared) free(p *page) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trying == nil || h.trying == p
}

func (h *shared) now() queue.PageState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// see takes in what is known by now.
func (h *shared) see(s queue.PageState) {
	h.mu.Lock()
	newer := s.After(h.state)
	if newer {
		h.state = s
	}
	h.mu.Unlock()
	if newer {
		h.w.lookAgain(h)
	}
}

// apply replaces the state by what next makes of it, and asks anew if another worker was faster.
func (h *shared) apply(ctx context.Context, e event) (queue.PageState, change, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	e.worker, e.jitter = h.w.name, rand.Float64()
	for s := h.now(); ; {
		to, what := next(s, e, h.w.cfg.Queue.Now(), h.w.cfg.SlowStart)
		if what == nothing {
			return s, nothing, nil
		}
		stored, err := h.w.cfg.Queue.SetPageState(ctx, h.key, to)
		if errors.Is(err, queue.ErrChanged) {
			// One that cannot be read is replaced.
			if s, err = h.w.cfg.Queue.PageState(ctx, h.key); err == nil || s.Revision() != 0 {
				h.see(s)
				continue
			}
		}
		if err != nil {
			return s, nothing, err
		}
		h.see(stored)
		return stored, what, nil
	}
}

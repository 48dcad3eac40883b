package sandbox

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"
)

// graphHandler is the simulated Graph API.
//
//	read head -> ResetEarly? -> read body -> judge: token, page, limits, request, fault, person -> wait -> answer
//
// A call is judged and recorded at one moment, under one lock, before anything is answered. So the record never lags behind
// what a caller has seen, and a caller that gives up waiting does not undo the delivery.
type graphHandler struct{ *Sandbox }

// outcome is what becomes of a call and how the caller is told.
type outcome struct {
	seq     int64
	rnd     *rand.Rand
	version string // as in the path
	send    send
	err     *graphError // nil: no Graph error
	fault   Fault       // Action Pass if there is none
	cleared <-chan struct{}
	usage   usage
	wait    time.Duration // before the answer
	call    Call          // set if the fault has an OnHit
}

func (h graphHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := readHead(r)
	o := h.judgeEarly(&req)
	if o == nil {
		if err == nil {
			err = req.readBody(r)
		}
		o = h.judge(&req, err)
	}
	if o.fault.OnHit != nil {
		o.fault.OnHit(o.call)
	}
	h.pause(r.Context(), o)
	h.answer(w, o)
}

// judgeEarly strikes a ResetEarly fault, or returns nil.
func (s *Sandbox) judgeEarly(req *request) *outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := entry{at: s.clock(), auth: req.auth}
	id := req.node
	if t := s.tokens[req.token]; t != nil {
		e.page, id = t.page, t.page.ID
	}
	a := s.strike(true, id, &send{})
	if a == nil {
		return nil
	}
	o := &outcome{fault: a.Fault, wait: a.Fault.Delay, seq: s.keep(e)}
	o.call = s.call(&e, o.seq)
	return o
}

// judge decides and records what becomes of a call. err is what is wrong with it already.
func (s *Sandbox) judge(req *request, err *graphError) *outcome {
	o := &outcome{fault: Fault{Action: Pass}, version: req.version}
	var wrong *graphError
	if err == nil {
		o.send, wrong = req.params.check()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.rnd = s.rand(s.seq + 1)
	o.wait = s.pace(o.rnd)
	e := entry{at: s.clock(), auth: req.auth, recipient: o.send.recipient, body: o.send.body, action: o.send.action}
	if err == nil {
		e.page, err = s.authorise(req, e.at, o.rnd)
	}
	if err == nil {
		o.usage, err = limit(e.page, &o.send, e.at, o.rnd)
	}
	if err == nil {
		err = wrong
	}
	if o.err = err; err == nil {
		s.deviate(o, &e)
	}
	o.settle(&e)
	o.seq = s.keep(e)
	if o.fault.OnHit != nil {
		o.call = s.call(&e, o.seq)
	}
	return o
}

// pace draws the latency of a call. Needs mu.
func (s *Sandbox) pace(rnd *rand.Rand) time.Duration {
	d := s.latency
	if s.jitter > 0 {
		d += time.Duration(rnd.Int64N(int64(2*s.jitter))) - s.jitter
	}
	return max(d, 0)
}

// deviate applies the first scripted fault that strikes, else what the person is known for. Needs mu.
func (s *Sandbox) deviate(o *outcome, e *entry) {
	if a := s.strike(false, e.pageID(), &o.send); a != nil {
		o.fault, o.cleared, o.err = a.Fault, a.cleared, a.Fault.graphError()
		o.wait += a.Fault.Delay
		return
	}
	if !o.send.person {
		return
	}
	p := personOf(e.recipient)
	if p == nil || (p.once && !s.firstAttempt(e.key())) {
		return
	}
	if p.slow {
		o.wait += s.cfg.Slow
	}
	o.fault, o.err = p.fault, p.graphError(o.rnd)
}

// firstAttempt says so of every other attempt at a message. Needs mu.
func (s *Sandbox) firstAttempt(k key) bool {
	if s.attempted[k] {
		delete(s.attempted, k)
		return false
	}
	s.attempted[k] = true
	return true
}

// settle writes into the record what the caller will see, and whether the person gets the message.
func (o *outcome) settle(e *entry) {
	told := false
	switch {
	case !o.fault.Action.answers():
	case o.err != nil:
		e.status, e.code, e.subcode = uint16(o.err.status), int32(o.err.code), int32(o.err.subcode)
	case o.fault.Action == Pass:
		e.status, told = http.StatusOK, true
	default:
		e.status = uint16(o.fault.Status)
	}
	if told || o.fault.Accept {
		e.flags |= flagAccepted
	}
	if e.accepted() && !told {
		e.flags |= flagLost
	}
}

// keep records a call, wakes who waits for one, and returns the call's number. Needs mu.
func (s *Sandbox) keep(e entry) int64 {
	s.seq++
	s.record.add(e)
	if e.page != nil {
		e.page.calls.add(e.at)
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.seq
}

// pause lets a call's time pass, and ends early when its caller is gone, the sandbox closes or a fault that hangs is cleared.
func (s *Sandbox) pause(ctx context.Context, o *outcome) {
	var passed <-chan time.Time
	var cleared <-chan struct{}
	hangs := o.fault.Action == Hang
	if hangs {
		cleared = o.cleared
	} else if o.wait == 0 {
		return
	}
	if !hangs || o.fault.Delay > 0 {
		t := time.NewTimer(o.wait)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-passed:
	case <-cleared:
	case <-ctx.Done():
	case <-s.done:
	}
}

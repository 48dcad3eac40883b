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
// A call is judged and recorded under one lock before anything is answered. So the record never lags behind what a caller has
// seen, and a caller that ends its call early does not undo the delivery.
type graphHandler struct{ *Sandbox }

// outcome is the result of a call and the form of its answer.
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
	if req.edge == subscribedApps && err == nil {
		h.subscribedApps(w, r, &req)
		return
	}
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
	o := &outcome{fault: a.fault, wait: a.fault.Delay, seq: s.keep(e)}
	o.call = s.call(&e, o.seq)
	return o
}

// judge decides and records the outcome of a call. err is what reading the call has found wrong.
func (s *Sandbox) judge(req *request, err *graphError) *outcome {
	o := &outcome{fault: Fault{Action: Pass}, version: req.version}
	var wrong *graphError
	if err == nil {
		o.send, wrong = req.params.check()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.rnd = s.rand(s.seq + 1)
	o.wait = s.drawLatency(o.rnd)
	e := entry{at: s.clock(), auth: req.auth, recipient: o.send.recipient, body: o.send.body, action: o.send.action}
	if err == nil {
		e.page, err = s.authorise(req, e.at, o.rnd)
	}
	if err == nil {
		o.usage, err = applyLimits(e.page, &o.send, e.at, o.rnd)
	}
	if err == nil {
		err = wrong
	}
	if o.err = err; err == nil {
		s.deviate(o, &e)
	}
	o.recordIn(&e)
	o.seq = s.keep(e)
	if e.accepted() && s.hooks.Receipts {
		s.receipts(e.page, &o.send, o.seq)
	}
	if o.fault.OnHit != nil {
		o.call = s.call(&e, o.seq)
	}
	return o
}

// drawLatency draws the latency of a call. The caller holds mu.
func (s *Sandbox) drawLatency(rnd *rand.Rand) time.Duration {
	d := s.latency
	if s.jitter > 0 {
		d += time.Duration(rnd.Int64N(int64(2*s.jitter))) - s.jitter
	}
	return max(d, 0)
}

// deviate applies the first scripted fault that strikes, or else the special behaviour of the person. The caller holds mu.
func (s *Sandbox) deviate(o *outcome, e *entry) {
	if a := s.strike(false, e.pageID(), &o.send); a != nil {
		o.fault, o.cleared, o.err = a.fault, a.cleared, a.fault.graphError()
		o.wait += a.fault.Delay
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

// firstAttempt reports true for every other attempt at a message, beginning with the first. The caller holds mu.
func (s *Sandbox) firstAttempt(k messageKey) bool {
	if s.attempted[k] {
		delete(s.attempted, k)
		return false
	}
	s.attempted[k] = true
	return true
}

// recordIn writes into the record what the caller will see, and whether the person gets the message.
func (o *outcome) recordIn(e *entry) {
	acknowledged := false
	switch {
	case !o.fault.Action.hasResponse():
	case o.err != nil:
		e.status, e.code, e.subcode = uint16(o.err.status), int32(o.err.code), int32(o.err.subcode)
	case o.fault.Action == Pass:
		e.status, acknowledged = http.StatusOK, true
	default:
		e.status = uint16(o.fault.Status)
	}
	if acknowledged || o.fault.Accept {
		e.flags |= flagAccepted
	}
	if e.accepted() && !acknowledged {
		e.flags |= flagLost
	}
}

// keep records a call, wakes the callers of wait, and returns the call's number. The caller holds mu.
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

// pause waits for the latency and the delay of a call. It ends early when the caller is gone, when the sandbox closes and when a
// fault that hangs is cleared.
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

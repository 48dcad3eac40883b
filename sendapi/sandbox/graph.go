package sandbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// graphHandler is the simulated Graph API.
//
//	read head -> ResetEarly? -> read body -> judge (token, page, limits, request, fault, person) -> record -> wait -> answer
//
// A call is judged and recorded at one moment, under one lock, before anything is answered: so the record never lags behind
// what a caller has seen, and a caller that gives up waiting does not undo the delivery.
type graphHandler struct{ *Sandbox }

// outcome is what became of a call and how it will be told.
type outcome struct {
	seq   int64
	rnd   *rand.Rand
	send  send
	err   *graphError     // nil: success
	fault Fault           // Action Pass if there is none
	hold  <-chan struct{} // closed when a fault that hangs is cleared
	usage usage
	wait  time.Duration
	call  Call // for OnHit
}

func (h graphHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := readHead(r)
	if f, hit := h.early(&req); hit {
		h.hit(r.Context(), f, Call{Page: req.node})
		h.cut(w, "", true)
		return
	}
	if err == nil {
		if e := req.readBody(r); e != nil {
			err = errBadBody(e)
		}
	}
	o := h.judge(&req, err)
	h.answer(w, r, &req, o)
}

// early strikes a ResetEarly fault and records its call.
func (h graphHandler) early(req *request) (Fault, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := req.node
	t := h.tokens[req.token]
	if t != nil {
		id = t.page.ID
	}
	a := h.strike(true, id, "")
	if a == nil {
		return Fault{}, false
	}
	e := entry{at: time.Since(h.start), auth: req.auth}
	if t != nil {
		e.page = t.page
		t.page.limits.all.add(e.at)
	}
	h.keep(e)
	return a.Fault, true
}

// keep records a call and gives it its number. Needs mu.
func (s *Sandbox) keep(e entry) int64 {
	s.seq++
	s.record.add(e)
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.seq
}

// judge decides and records what becomes of a call.
func (s *Sandbox) judge(req *request, err *graphError) *outcome {
	o := &outcome{fault: Fault{Action: Pass}}
	var wrong *graphError
	if err == nil {
		o.send, wrong = req.params.check()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.rnd = s.rand(s.seq + 1)
	e := entry{at: time.Since(s.start), auth: req.auth, recipient: o.send.recipient, body: o.send.body, action: o.send.action}
	o.wait = s.pause(o.rnd)
	if err == nil {
		e.page, err = s.authorise(req, o.rnd)
	}
	if err == nil {
		o.usage, err = limit(e.page, &o.send, e.at, o.rnd)
	}
	if err == nil {
		err = wrong
	}
	if err == nil && e.page.StrictKeys && o.send.unknown != "" {
		err = errUnknownKey(o.send.unknown)
	}
	if err == nil {
		s.deviate(o, &e)
		err = o.err
	}
	o.err = err
	s.settle(o, &e)
	o.seq = s.keep(e)
	if o.fault.OnHit != nil {
		o.call = s.call(&e, o.seq)
	}
	return o
}

func (s *Sandbox) pause(rnd *rand.Rand) time.Duration {
	d := s.latency
	if s.jitter > 0 {
		d += time.Duration(rnd.Int64N(int64(2*s.jitter))) - s.jitter
	}
	return max(d, 0)
}

// authorise finds the page and asks whether the call may send for it. Needs mu.
func (s *Sandbox) authorise(req *request, rnd *rand.Rand) (*page, *graphError) {
	if req.token == "" {
		return nil, errNoToken
	}
	if looksReal(req.token) {
		return nil, errReal
	}
	t := s.pageOf(req.token, req.node)
	switch {
	case t == nil:
		return nil, errBadToken(rnd)
	case t.dead != 0:
		return t.page, errDeadToken(t.dead)
	case req.node != "me" && req.node != t.page.ID:
		return t.page, errNoObject
	case t.page.AppSecret != "" && !proven(t.page.AppSecret, req.token, req.params, time.Now()):
		return t.page, errBadProof
	}
	return t.page, nil
}

// proofLife is how long a timed appsecret_proof is good for.
const proofLife = 5 * time.Minute

// proven checks an appsecret_proof: hex(HMAC-SHA256(secret, token)), or of token|time beside an appsecret_time in Unix seconds
// (Meta's login security page).
func proven(secret, tok string, p params, now time.Time) bool {
	signed := tok
	if at, timed := p["appsecret_time"]; timed {
		sec, err := strconv.ParseInt(at, 10, 64)
		if err != nil || now.Sub(time.Unix(sec, 0)).Abs() > proofLife {
			return false
		}
		signed += "|" + at
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return hmac.Equal([]byte(p["appsecret_proof"]), []byte(hex.EncodeToString(mac.Sum(nil))))
}

// deviate applies the first scripted fault that strikes, else what the person is known for. Needs mu.
func (s *Sandbox) deviate(o *outcome, e *entry) {
	if a := s.strike(false, e.pageID(), e.recipient); a != nil {
		o.fault, o.hold = a.Fault, a.cleared
		o.err = a.Fault.graphError()
		return
	}
	p := (*Person)(nil)
	if o.send.person {
		p = personOf(e.recipient)
	}
	if p == nil {
		return
	}
	if p.slow {
		o.wait += s.cfg.Slow
	}
	if p.once {
		k := messageKey(e.pageID(), e.recipient, e.body)
		if s.failed[k] {
			delete(s.failed, k)
			return
		}
		s.failed[k] = true
	}
	o.fault, o.err = p.fault, p.fault.graphError()
	if o.err != nil {
		o.err.exact, o.err.local, o.err.title = false, p.local, p.title
	}
}

// graphError returns the error that a fault answers with, or nil.
func (f *Fault) graphError() *graphError {
	if f.Code == 0 || f.Body != "" {
		return nil
	}
	return &graphError{status: f.Status, code: f.Code, subcode: f.Subcode, kind: f.Type, transient: f.Transient, exact: true,
		message: orString(f.Message, fmt.Sprintf("(#%d) Scripted by the sandbox", f.Code))}
}

// settle writes into the record what the caller will see and whether the person got the message.
func (s *Sandbox) settle(o *outcome, e *entry) {
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
	if e.flags&flagAccepted != 0 && !told {
		e.flags |= flagLost
	}
}

// hit reports a fault that struck and lets its delay pass.
func (s *Sandbox) hit(ctx context.Context, f Fault, c Call) {
	if f.OnHit != nil {
		f.OnHit(c)
	}
	s.sleep(ctx, f.Delay, nil)
}

// sleep returns after d, or when the caller is gone, the fault cleared or the sandbox closed; the first two matter to nobody
// but the goroutine. A negative d has no end of its own.
func (s *Sandbox) sleep(ctx context.Context, d time.Duration, cleared <-chan struct{}) {
	if d == 0 {
		return
	}
	var passed <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
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

// answer tells the caller.
func (h graphHandler) answer(w http.ResponseWriter, r *http.Request, req *request, o *outcome) {
	h.sleep(r.Context(), o.wait, nil)
	f := &o.fault
	if f.Action == Hang {
		if f.OnHit != nil {
			f.OnHit(o.call)
		}
		d := f.Delay
		if d == 0 {
			d = -1
		}
		h.sleep(r.Context(), d, o.hold)
		h.cut(w, "", true)
		return
	}
	h.hit(r.Context(), *f, o.call)
	switch f.Action {
	case Reset:
		h.cut(w, "", true)
		return
	case Raw:
		h.cut(w, f.Body, false)
		return
	}
	status, body := h.compose(w.Header(), req, o)
	switch f.Action {
	case CutHeader, CutBody:
		h.cut(w, half(f.Action, status, w.Header(), body), false)
		return
	}
	w.WriteHeader(status)
	// A caller that is gone misses its answer; the record already says what happened.
	_, _ = w.Write(body)
}

// compose fills in the header and returns status and body.
func (h graphHandler) compose(header http.Header, req *request, o *outcome) (int, []byte) {
	trace := traceID(o.rnd)
	header["X-Sandbox"] = []string{"brazier"}
	header["Facebook-Api-Version"] = []string{servedVersion(req.version)}
	header["X-Fb-Trace-Id"] = []string{trace}
	header["Content-Type"] = []string{"application/json; charset=UTF-8"}
	o.usage.set(header)
	for k, v := range o.fault.Header {
		header[http.CanonicalHeaderKey(k)] = v
	}
	switch f := &o.fault; {
	case o.err != nil:
		e := o.err.varied(o.rnd)
		header["Www-Authenticate"] = []string{fmt.Sprintf(`OAuth "Facebook Platform" "%s" "%s"`, e.authError(), headerText(e.message))}
		return e.status, e.body(o.rnd, trace)
	case f.Action == HTML:
		header["Content-Type"] = []string{"text/html; charset=utf-8"}
		return f.Status, []byte(orString(f.Body, htmlPage))
	case f.Action == Empty || f.Action == Answer:
		return f.Status, []byte(f.Body)
	}
	return http.StatusOK, h.success(o.rnd, &o.send, o.seq)
}

func (e *graphError) authError() string {
	if e.code == 190 {
		return "invalid_token"
	}
	return "invalid_request"
}

// headerText makes a message fit for a quoted header value.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// half renders an answer and keeps its first part.
func half(a Action, status int, header http.Header, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	if a == CutHeader {
		return b.String() + "Content-Type: applica"
	}
	_ = header.Write(&b) // a Builder takes everything
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body[:len(body)/2])
	return b.String()
}

// cut writes bytes, if any, and ends the connection: with a reset, or in good order.
func (h graphHandler) cut(w http.ResponseWriter, bytes string, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the connection is gone already, or was never HTTP/1
	}
	defer h.graph.conns.Done()
	defer conn.Close()
	if _, err := conn.Write([]byte(bytes)); err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // if it fails the caller sees an orderly end in place of a reset
	}
}

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxOverlapping bounds Summary.Overlapping.
const maxOverlapping = 10

// flight is a call that is being answered.
//
//	read head -> ResetEarly? -> read body -> judge: key, limits, shape, fault -> write -> wait -> finish -> answer
//
// A call is judged, written and recorded at once, under one lock, before anything is answered. So the record never lags behind
// what a caller has seen, and a caller that stops waiting does not undo what was written. It is finished before the first byte of the
// answer leaves, so that a call that the caller makes next overlaps with none.
type flight struct {
	ctx      context.Context
	users    map[string]bool
	overlaps []string      // users of it whom calls held that came later
	late     []object      // what is written when it is finished (Reorder)
	call     Call          // as recorded
	status   int           // of the answer
	body     []byte        // of the answer
	wait     time.Duration // before the answer
	fault    Fault         // Action Pass if there is none
	cleared  <-chan struct{}
}

// apiHandler is the simulated API.
func (s *Sandbox) apiHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Sandbox"] = []string{"brazier"}
		switch {
		case r.URL.Path != "/users/track":
			respond(w, http.StatusNotFound, s.vary(`{"message":"Not Found"}`, ""))
		case r.Method != http.MethodPost:
			respond(w, http.StatusMethodNotAllowed, nil)
		default:
			s.track(w, r)
		}
	})
}

// vary picks one of the bodies.
func (s *Sandbox) vary(bodies ...string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(bodies[s.rnd.IntN(len(bodies))])
}

func respond(w http.ResponseWriter, status int, body []byte) {
	if header := w.Header(); header.Get("Content-Type") == "" && json.Valid(body) {
		header.Set("Content-Type", "application/json; charset=utf-8")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that is gone misses its answer; the record already says what happened
}

// track is POST /users/track.
func (s *Sandbox) track(w http.ResponseWriter, r *http.Request) {
	f := s.strikeEarly(r)
	if f == nil {
		wrong := s.checkHead(r)
		body, err := s.readBody(r)
		if err != nil {
			panic(http.ErrAbortHandler) // the caller is gone
		}
		f = s.judge(r, w.Header(), body, wrong)
	}
	if f.fault.OnHit != nil {
		f.fault.OnHit(f.call)
	}
	s.pause(f)
	s.finish(f)
	s.answer(w, f)
}

// strikeEarly strikes a ResetEarly fault, or returns nil.
func (s *Sandbox) strikeEarly(r *http.Request) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.strike(true, nil)
	if a == nil {
		return nil
	}
	f := &flight{ctx: r.Context(), fault: a.Fault, wait: a.Fault.Delay, call: Call{Fault: a.ID, UserAgent: r.UserAgent()}}
	s.keep(f)
	return f
}

// judge decides, writes and records what becomes of a call. wrong is what is wrong with it already.
func (s *Sandbox) judge(r *http.Request, header http.Header, body []byte, wrong *refusal) *flight {
	now := s.cfg.Now()
	var req *request
	tooLarge := len(body) > s.cfg.MaxBytes
	if wrong == nil && !tooLarge {
		req, wrong = s.parse(body, now)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &flight{ctx: r.Context(), fault: Fault{Action: Pass}, wait: s.pace(), call: Call{Bytes: len(body), UserAgent: r.UserAgent()}}
	if wrong == nil || wrong.status != http.StatusUnauthorized {
		if s.limits.take(now, header) {
			wrong, req, tooLarge = &refusal{http.StatusTooManyRequests, s.pick("", "Too many requests")}, nil, false
		}
	}
	if tooLarge && wrong == nil {
		wrong = &refusal{http.StatusRequestEntityTooLarge, ""}
		if s.rnd.IntN(2) == 0 {
			wrong = &refusal{http.StatusBadRequest, "Max Input Length Exceeded"}
		}
	}
	if req != nil {
		f.call.Attributes, f.call.Events, f.call.Purchases = req.given["attributes"], req.given["events"], req.given["purchases"]
		f.call.Invalid = len(req.errors)
	}
	switch {
	case wrong != nil:
		f.status, f.body = wrong.status, wrong.body()
	case len(req.objects) == 0:
		f.status, f.body = http.StatusBadRequest, answerBody(noData, nil, req.errors)
	default:
		s.take(f, req)
	}
	s.keep(f)
	return f
}

func (r *refusal) body() []byte {
	if r.message == "" {
		return nil
	}
	return answerBody(r.message, nil, nil)
}

// pick is vary. Needs mu.
func (s *Sandbox) pick(texts ...string) string { return texts[s.rnd.IntN(len(texts))] }

// pace draws the latency of a call. Needs mu.
func (s *Sandbox) pace() time.Duration {
	d := s.latency
	if s.jitter > 0 {
		d += time.Duration(s.rnd.Int64N(int64(2*s.jitter))) - s.jitter
	}
	return max(d, 0)
}

// take is what becomes of a call with valid objects. Needs mu.
func (s *Sandbox) take(f *flight, req *request) {
	counts := map[string]int{}
	for _, o := range req.objects {
		counts[o.array]++
	}
	for array := range req.given {
		counts[array] += 0 // the counters of arrays that were sent are there, 0 included
	}
	f.status, f.body = http.StatusCreated, answerBody("success", counts, req.errors)
	if a := s.strike(false, req.objects); a != nil {
		f.fault, f.cleared, f.call.Fault = a.Fault, a.cleared, a.ID
		f.wait += a.Fault.Delay
	}
	s.begin(f, req.objects)
	if f.call.Written = f.fault.Action == Pass || f.fault.Accept; !f.call.Written {
		return
	}
	f.call.Lost = f.fault.Action != Pass
	if s.reorder && !s.overlapped(f) {
		f.late = req.objects
		return
	}
	f.call.Ignored = s.writeAll(req.objects, s.record.seq+1)
}

// writeAll carries objects out, and returns how many named users who do not exist. Needs mu.
func (s *Sandbox) writeAll(objects []object, call int64) (ignored int) {
	for _, o := range objects {
		switch {
		case !s.write(o, call):
			ignored++
		case o.array == "attributes":
			s.record.total.Attributes++
		case o.array == "events":
			s.record.total.Events++
		}
	}
	return ignored
}

// begin adds a call to those in flight, and tells the others which of their users it holds too. Needs mu.
func (s *Sandbox) begin(f *flight, objects []object) {
	f.users = map[string]bool{}
	for _, o := range objects {
		name := o.user.String()
		if p := s.profiles.find(o.user); p != nil {
			name = "braze_id:" + p.BrazeID // so that a user is the same by each id
		}
		f.users[name] = true
	}
	for _, other := range s.flights {
		for name := range f.users {
			if other.users[name] {
				other.overlaps = append(other.overlaps, name)
			}
		}
	}
	s.flights = append(s.flights, f)
}

// overlapped reports whether a call holds a user of another one in flight. Needs mu.
func (s *Sandbox) overlapped(f *flight) bool {
	return slices.ContainsFunc(s.flights, func(other *flight) bool {
		if other == f {
			return false
		}
		for name := range f.users {
			if other.users[name] {
				return true
			}
		}
		return false
	})
}

// keep records a call and wakes who waits for one. Needs mu.
func (s *Sandbox) keep(f *flight) {
	s.record.seq++
	f.call.Seq, f.call.At = s.record.seq, s.cfg.Now()
	switch f.fault.Action {
	case Pass:
		f.call.Status = f.status
	case Answer, HTML, Empty:
		f.call.Status = f.fault.Status
	}
	s.record.add(f.call)
	s.wake()
}

// pause lets a call's time pass, and ends early when its caller is gone, the sandbox closes or a fault that hangs is cleared.
func (s *Sandbox) pause(f *flight) {
	var passed <-chan time.Time
	var cleared <-chan struct{}
	hangs := f.fault.Action == Hang
	if hangs {
		cleared = f.cleared
	} else if f.wait == 0 {
		return
	}
	if !hangs || f.fault.Delay > 0 {
		t := time.NewTimer(f.wait)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-passed:
	case <-cleared:
	case <-f.ctx.Done():
	case <-s.done:
	}
}

// finish takes a call out of those in flight. Those that came while it was are overlaps only if its caller still waits for an answer, and
// gets one: a caller that abandoned its call may send the same users again.
func (s *Sandbox) finish(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flights = slices.DeleteFunc(s.flights, func(other *flight) bool { return other == f })
	s.record.total.Ignored += s.writeAll(f.late, f.call.Seq)
	answered := f.fault.Action != Hang && f.fault.Action != Reset && f.fault.Action != ResetEarly
	if answered && f.ctx.Err() == nil {
		t := &s.record.total
		t.Overlaps += len(f.overlaps)
		t.Overlapping = append(t.Overlapping, f.overlaps[:min(len(f.overlaps), maxOverlapping-len(t.Overlapping))]...)
	}
	s.wake()
}

// answer tells the caller, in the way of the fault that struck.
func (s *Sandbox) answer(w http.ResponseWriter, f *flight) {
	switch f.fault.Action {
	case Hang, Reset, ResetEarly:
		hijack(w, func(conn net.Conn) {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // if it fails the caller sees an orderly end instead of a reset
			}
		})
		return
	case CutBody:
		header := w.Header()
		hijack(w, func(conn net.Conn) {
			var half bytes.Buffer
			fmt.Fprintf(&half, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", f.status, http.StatusText(f.status), len(f.body))
			_ = header.Write(&half) // a Buffer takes everything
			half.WriteString("\r\n")
			half.Write(f.body[:len(f.body)/2])
			_, _ = conn.Write(half.Bytes()) // a caller that is gone misses it
		})
		return
	case Answer, HTML, Empty:
		f.status, f.body = f.fault.Status, f.fault.body()
	}
	header := w.Header()
	if f.fault.Action == HTML {
		header.Set("Content-Type", "text/html; charset=utf-8")
	}
	for k, v := range f.fault.Header {
		maps.DeleteFunc(header, func(have string, _ []string) bool { return strings.EqualFold(have, k) })
		header[http.CanonicalHeaderKey(k)] = v
	}
	respond(w, f.status, f.body)
}

// hijack takes a call's connection from the HTTP server and closes it.
func hijack(w http.ResponseWriter, first func(net.Conn)) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the connection is gone already, or is shared: the server cuts the call
	}
	defer conn.Close()
	first(conn)
}

// answerBody is Braze's answer: a message, counters, and errors.
func answerBody(message string, counts map[string]int, errs []objectError) []byte {
	fields := map[string]any{"message": message}
	for array, n := range counts {
		fields[array+"_processed"] = n
	}
	if len(errs) > 0 {
		fields["errors"] = errs
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		panic("sandbox: answer: " + err.Error()) // all of it is text and numbers
	}
	return raw
}

package queue

import "time"

// retrier is a loop that repeats a request until it succeeds. It belongs to one goroutine, and is one of the waiters of what
// its request needs once it has failed for a while.
type retrier struct {
	waits *waits
	what  dependency
	since time.Time // when the first failed attempt began; zero: none has failed
	wait  *wait     // of which it is a waiter; nil: of none yet
}

// begin makes a retrier of a caller whose first attempt, which began at since, has failed.
func (s *waits) begin(what dependency, since time.Time, err error) *retrier {
	r := &retrier{waits: s, what: what, since: since}
	r.failed(err)
	return r
}

// failed notes that an attempt failed. What the retrier waits for may be another than before: the connection is back,
// and now the stream has no leader.
func (r *retrier) failed(err error) {
	now := time.Now()
	if r.since.IsZero() {
		r.since = now
	}
	s := r.waits
	if r.wait == nil && now.Sub(r.since) < s.logAfter/waitGrace || r.what.kind == onNothing {
		return
	}
	why := s.explain(r.what, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.wait != nil && !r.wait.endedAt.IsZero() {
		r.since, r.wait = r.wait.endedAt, nil
	}
	since := r.since
	if r.wait != nil && r.wait.what != why.what {
		r.wait.waiters--
		r.wait.failedAt, r.wait = now, nil
		if why.what.kind == onConnection {
			since = now
		}
	}
	if r.wait == nil {
		r.wait = s.enter(why.what, since)
		r.wait.waiters++
		r.wait.waited = true
	}
	r.wait.fail(why, now)
}

// end notes that the retrier has what it waited for, or that its caller abandoned it. The retrier may be used again.
func (r *retrier) end(ok bool) {
	r.leave(ok)
	if ok {
		r.waits.succeeded(r.what)
	}
}

// leave is end for a retrier whose success tells nothing about other waiters.
func (r *retrier) leave(ok bool) {
	s, w := r.waits, r.wait
	r.since, r.wait = time.Time{}, nil
	if w == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.endedAt.IsZero() {
		return
	}
	w.waiters--
	w.failedAt = time.Now()
	if ok && w.waiters == 0 {
		w.waited = false
		if !w.polled {
			s.finish(w, false)
		}
	}
}

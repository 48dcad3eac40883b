package queue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Waits
//
// Every loop that repeats a request to the server notes here what it waits for, and why. The log tells of a wait after
// [waitLogAfter] and then every [waitLogEvery]: one line for each dependency, however many wait for it, and one at the end.
// Ready goes by the same waits.
//
//	insist, retry, publish, Pace, Source, await   wait: begin ─▶ failed ─▶ … failed ─▶ end
//	Lanes, repair, Ready, a full queue            poll now and then, and do not wait: note
//	the handlers of the connection                observe
//
// A wait is over when any caller's write succeeds, or when all waiters have what they wanted; callers that still fail then
// begin a new wait. A successful read proves nothing, since replicas answer reads without a leader. A wait that all callers
// abandoned is kept for [waitKept], since callers that are refused come again.
//
// While nothing fails this costs a successful request one atomic load.

// waits has all waits of this process. One goroutine logs them while there are any.
type waits struct {
	logAfter, logEvery time.Duration                     // waitLogAfter and waitLogEvery, less in tests
	explain            func(dependency, error) diagnosis // [Queue.explain]
	log                *zap.Logger

	count     atomic.Int32 // of all
	connected atomic.Bool

	mu      sync.Mutex
	all     map[dependency]*wait // by key
	ended   []wait               // that were logged, and whose end is to be logged
	running bool                 // the goroutine
	closed  bool
	stop    chan struct{}
	done    sync.WaitGroup
}

// wait is about one dependency that is not there.
type wait struct {
	what      dependency
	since     time.Time
	waiters   int
	waited    bool      // there is or was a waiter
	polled    bool      // a poll found that the dependency is not there
	failedAt  time.Time // when an attempt last failed, or a waiter abandoned it
	why       diagnosis
	loggedAt  time.Time // zero: not yet
	endedAt   time.Time // zero: it goes on
	abandoned bool      // by all waiters
	others    int       // waits that are logged in the same line
}

func newWaits(q *Queue) *waits {
	return &waits{logAfter: q.cfg.waitLogAfter, logEvery: q.cfg.waitLogEvery, explain: q.explain, log: q.log,
		all: map[dependency]*wait{}, stop: make(chan struct{})}
}

// succeeded notes that a request succeeded, which ends the waits of others if it was a write.
func (s *waits) succeeded(what dependency) {
	if s.count.Load() == 0 || !what.proves {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(s.all[what.key()], false)
	s.finish(s.all[theJetStream], false)
	s.finish(s.all[spaceIn(what.stream)], false)
}

// observe notes the result of a poll that began at since: the dependency is not there, or is if err is nil.
func (s *waits) observe(what dependency, since time.Time, err error) {
	if err == nil && s.count.Load() == 0 {
		return
	}
	var why diagnosis
	if err != nil {
		why = s.explain(what, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		w := s.enter(why.what, since)
		w.polled = true
		w.fail(why, time.Now())
		return
	}
	s.finish(s.all[theJetStream], false)
	if w := s.all[what.key()]; w != nil {
		w.polled, w.why.vague = false, true // from now on the errors of waiters tell more than the poll
		if !w.waited || what.kind == onConnection {
			s.finish(w, false)
		}
	}
}

// enter returns the wait for a dependency, by its key. s.mu is held, as in the functions below.
func (s *waits) enter(key dependency, since time.Time) *wait {
	w := s.all[key]
	switch {
	case w == nil:
		w = &wait{what: key, since: since}
		s.all[key] = w
		s.count.Add(1)
	case since.Before(w.since) && key.kind != onConnection: // the loss of a connection is known at once
		w.since = since
	}
	if !s.running && !s.closed {
		s.running = true
		s.done.Go(s.run)
	}
	return w
}

// fail notes why an attempt failed. A vague reason does not replace a better one.
func (w *wait) fail(why diagnosis, now time.Time) {
	w.failedAt = now
	if !why.vague || w.why.vague || w.why.reason == "" {
		w.why = why
	}
}

// finish ends a wait; nil is none.
func (s *waits) finish(w *wait, abandoned bool) {
	if w == nil {
		return
	}
	delete(s.all, w.what)
	s.count.Add(-1)
	w.endedAt, w.abandoned = time.Now(), abandoned
	if !w.loggedAt.IsZero() {
		s.ended = append(s.ended, *w)
	}
}

// longest returns, as an error, the longest of the waits that matter and that have lasted at least so long; nil if there is
// none.
func (s *waits) longest(least time.Duration, matters func(dependency) bool) error {
	if s.count.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var first *wait
	for _, w := range s.all {
		if matters(w.what) && now.Sub(w.since) >= least && (first == nil || w.since.Before(first.since)) {
			first = w
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("waiting for %s for %v: %s; %s", first.what, now.Sub(first.since).Round(time.Second), first.why.reason, first.why.remedy)
}

func (s *waits) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.done.Wait()
}

// WaitingFor returns, as an error, what this process has been waiting for longest, however short, and why. It is nil
// while the process waits for nothing.
func (q *Queue) WaitingFor() error {
	if err := q.waits.longest(0, func(dependency) bool { return true }); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

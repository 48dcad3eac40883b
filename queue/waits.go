package queue

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// What is waited for
//
// Every loop that asks a server again says here what it waits for and why. The log tells of it after [waitTold] and then every
// [waitAgain]: one line for each thing, however many wait for it, and one when it is over. Ready goes by the same.
//
//	insist, retry, publish, Pace, Source, await   failed ─▶ … failed ─▶ end
//	Lanes, repair, Ready, full refusals           note: these look now and then, and do not wait
//	the connection's handlers                     note
//
// A wait is over when a write succeeds for anybody, or when all who waited have what they want. Who waits on begins a new wait
// then. A read proves nothing: replicas answer reads without a leader. A wait that everybody has given up is kept for a
// moment, since callers that are turned away come again.
//
// While nothing fails this costs who succeeds one atomic load.

const (
	// waitTold is after how long a wait is logged and makes a process unready. A new stream leader takes up to 9 s, but mostly less;
	// less than this would log each restart of a server, more would leave an operator alone with a process that does nothing.
	waitTold = 5 * time.Second
	// waitAgain is how often a wait is logged that goes on.
	waitAgain = time.Minute

	// waitLooks and waitSkips are parts of waitTold: how often waits are looked at, and how long a loop tries without being counted.
	waitLooks, waitSkips = 5, 10
	// waitKept is how long a wait is kept that nobody waits for any more. The repairer asks for the streams anew after at most 11 s
	// while something is waited for; with less than that, what it alone misses would be told as over again and again.
	waitKept = 15 * time.Second
)

// waits has everything that this process waits for. One goroutine tells of it while there is anything.
type waits struct {
	after, again time.Duration                  // waitTold and waitAgain, less in tests
	explain      func(awaited, error) diagnosis // [Queue.explain]
	log          *zap.Logger

	count atomic.Int32 // of all
	up    atomic.Bool  // there is a connection

	mu      sync.Mutex
	all     map[awaited]*wait // by key
	ended   []wait            // that were told, and whose end is to be told
	telling bool
	closed  bool
	stop    chan struct{}
	done    sync.WaitGroup
}

// wait is one thing that is waited for.
type wait struct {
	what    awaited
	since   time.Time
	waiters int
	waited  bool      // somebody waits for it, or has given up
	polled  bool      // who looks now and then found that it is not there
	heard   time.Time // when an attempt last failed, or somebody gave up
	why     diagnosis
	told    time.Time // zero: not yet
	over    time.Time // zero: it goes on
	givenUp bool
	others  int // that are told in the same line
}

func newWaits(q *Queue) *waits {
	return &waits{after: q.cfg.waitTold, again: q.cfg.waitAgain, explain: q.explain, log: q.log,
		all: map[awaited]*wait{}, stop: make(chan struct{})}
}

// retrier is one who asks again and again. It belongs to one goroutine.
type retrier struct {
	waits *waits
	what  awaited
	since time.Time // when the first attempt began that failed; zero: none has
	at    *wait     // nil: not counted
}

// begin makes a retrier of somebody whose first attempt, which began at since, has failed.
func (s *waits) begin(what awaited, since time.Time, err error) *retrier {
	w := &retrier{waits: s, what: what, since: since}
	w.failed(err)
	return w
}

// failed takes in that an attempt failed. What was waited for may be another by now: the connection is back, and the stream has
// no leader.
func (w *retrier) failed(err error) {
	now := time.Now()
	if w.since.IsZero() {
		w.since = now
	}
	s := w.waits
	if w.at == nil && now.Sub(w.since) < s.after/waitSkips || w.what.kind == onNothing {
		return
	}
	why := s.explain(w.what, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.at != nil && !w.at.over.IsZero() {
		w.since, w.at = w.at.over, nil
	}
	since := w.since
	if w.at != nil && w.at.what != why.what {
		w.at.waiters--
		w.at.heard, w.at = now, nil
		if why.what.kind == onConnection {
			since = now
		}
	}
	if w.at == nil {
		w.at = s.enter(why.what, since)
		w.at.waiters++
		w.at.waited = true
	}
	w.at.hear(why, now)
}

// end takes in that the retrier has what it waited for, or has given up. It may wait for the same again.
func (w *retrier) end(ok bool) {
	w.leave(ok)
	if ok {
		w.waits.there(w.what)
	}
}

// leave is end for one who has what it waited for, and by that shows nothing for others.
func (w *retrier) leave(ok bool) {
	s, at := w.waits, w.at
	w.since, w.at = time.Time{}, nil
	if at == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !at.over.IsZero() {
		return
	}
	at.waiters--
	at.heard = time.Now()
	if ok && at.waiters == 0 {
		at.waited = false
		if !at.polled {
			s.finish(at, false)
		}
	}
}

// there takes in that somebody succeeded.
func (s *waits) there(what awaited) {
	if s.count.Load() == 0 || !what.proves {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(s.all[what.key()], false)
	s.finish(s.all[theJetStream], false)
	if what.stream == StreamJobs {
		s.finish(s.all[roomForJobs], false)
	}
}

// note is for those who look now and then: what they began to ask at since was not there, or was if err is nil.
func (s *waits) note(what awaited, since time.Time, err error) {
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
		at := s.enter(why.what, since)
		at.polled = true
		at.hear(why, time.Now())
		return
	}
	s.finish(s.all[theJetStream], false)
	if at := s.all[what.key()]; at != nil {
		at.polled, at.why.vague = false, true // those who wait know better from now on
		if !at.waited || what.kind == onConnection {
			s.finish(at, false)
		}
	}
}

// enter returns what is waited for under the key. s.mu is held, as in what follows.
func (s *waits) enter(key awaited, since time.Time) *wait {
	at := s.all[key]
	switch {
	case at == nil:
		at = &wait{what: key, since: since}
		s.all[key] = at
		s.count.Add(1)
	case since.Before(at.since) && key.kind != onConnection: // its loss is heard of at once
		at.since = since
	}
	if !s.telling && !s.closed {
		s.telling = true
		s.done.Go(s.tell)
	}
	return at
}

// hear takes in why an attempt failed. That nobody answers tells less than what was heard before.
func (at *wait) hear(why diagnosis, now time.Time) {
	at.heard = now
	if !why.vague || at.why.vague || at.why.reason == "" {
		at.why = why
	}
}

// finish ends a wait; nil is none.
func (s *waits) finish(at *wait, givenUp bool) {
	if at == nil {
		return
	}
	delete(s.all, at.what)
	s.count.Add(-1)
	at.over, at.givenUp = time.Now(), givenUp
	if !at.told.IsZero() {
		s.ended = append(s.ended, *at)
	}
}

// tell logs until nothing is waited for, or the queue is closed.
func (s *waits) tell() {
	every := time.NewTicker(s.after / waitLooks)
	defer every.Stop()
	for goesOn := true; goesOn; {
		select {
		case <-every.C:
		case <-s.stop:
			return
		}
		var due, ended []wait
		due, ended, goesOn = s.look(time.Now())
		for _, at := range due {
			s.log.Warn("waiting for NATS", at.fields(at.told, zap.String("event", "waiting"), zap.Int("waiters", max(at.waiters, 1)),
				zap.String("reason", at.why.reason), zap.String("remedy", at.why.remedy))...)
		}
		for _, at := range ended {
			s.log.Info("waiting is over", at.fields(at.over, zap.String("event", "waited"), zap.Bool("given_up", at.givenUp))...)
		}
	}
}

// look returns what is to be logged, and whether anything is waited for still.
func (s *waits) look(now time.Time) (due, ended []wait, goesOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.all {
		idle := at.waiters == 0 && now.Sub(at.heard) > waitKept
		if at.what.kind == onConnection {
			idle = at.waiters == 0 && s.up.Load()
		}
		switch {
		case idle:
			s.finish(at, at.what.kind != onConnection)
		case now.Sub(at.since) >= s.after && (at.told.IsZero() || now.Sub(at.told) >= s.again):
			at.told = now
			due = append(due, *at)
		}
	}
	ended, s.ended = s.ended, nil
	s.telling = len(s.all) > 0
	return gather(due), gather(ended), s.telling
}

// gather makes one of the consumers that are waited for, for one reason: there may be hundreds.
func gather(all []wait) (gathered []wait) {
	slices.SortFunc(all, func(a, b wait) int { return a.since.Compare(b.since) })
	for _, at := range all {
		same := func(other wait) bool {
			return at.what.kind == onConsumer && other.what.kind == onConsumer && other.why.reason == at.why.reason && other.givenUp == at.givenUp
		}
		if i := slices.IndexFunc(gathered, same); i >= 0 {
			gathered[i].others++
			gathered[i].waiters += at.waiters
			continue
		}
		gathered = append(gathered, at)
	}
	return gathered
}

func (at *wait) fields(now time.Time, event zap.Field, more ...zap.Field) []zap.Field {
	fields := []zap.Field{event, zap.String("what", at.what.String()), zap.Time("since", at.since), zap.Float64("for_s", at.lasted(now))}
	if at.others > 0 {
		fields = append(fields, zap.Int("others", at.others))
	}
	return append(fields, more...)
}

// lasted is in seconds, to a tenth.
func (at *wait) lasted(now time.Time) float64 {
	return now.Sub(at.since).Round(100 * time.Millisecond).Seconds()
}

// longest returns what has been waited for longest of what matters, at least for so long, as an error; nil if nothing has.
func (s *waits) longest(least time.Duration, matters func(awaited) bool) error {
	if s.count.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var first *wait
	for _, at := range s.all {
		if matters(at.what) && now.Sub(at.since) >= least && (first == nil || at.since.Before(first.since)) {
			first = at
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

// Awaited says what this process has been waiting for longest, for however short a time, and why. It is nil while nothing is
// waited for.
func (q *Queue) Awaited() error {
	if err := q.waits.longest(0, func(awaited) bool { return true }); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

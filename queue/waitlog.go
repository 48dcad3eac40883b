package queue

import (
	"slices"
	"time"

	"go.uber.org/zap"
)

// run logs waits until there are none, or the queue is closed.
func (s *waits) run() {
	every := time.NewTicker(s.logAfter / waitPolls)
	defer every.Stop()
	for running := true; running; {
		select {
		case <-every.C:
		case <-s.stop:
			return
		}
		var due, ended []wait
		due, ended, running = s.takeDue(time.Now())
		for _, w := range due {
			s.log.Warn("waiting for NATS", w.fields(w.loggedAt, zap.String("event", "waiting"), zap.Int("waiters", max(w.waiters, 1)),
				zap.String("reason", w.why.reason), zap.String("remedy", w.why.remedy))...)
		}
		for _, w := range ended {
			s.log.Info("waiting is over", w.fields(w.endedAt, zap.String("event", "waited"), zap.Bool("given_up", w.abandoned))...)
		}
	}
}

// takeDue ends the waits that nobody waits for any more, and returns the waits and the ends that are to be logged now, and
// whether there are waits left.
func (s *waits) takeDue(now time.Time) (due, ended []wait, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.all {
		idle := w.waiters == 0 && now.Sub(w.failedAt) > waitKept
		if w.what.kind == onConnection {
			idle = w.waiters == 0 && s.connected.Load()
		}
		switch {
		case idle:
			s.finish(w, w.what.kind != onConnection)
		case now.Sub(w.since) >= s.logAfter && (w.loggedAt.IsZero() || now.Sub(w.loggedAt) >= s.logEvery):
			w.loggedAt = now
			due = append(due, *w)
		}
	}
	ended, s.ended = s.ended, nil
	s.running = len(s.all) > 0
	return gather(due), gather(ended), s.running
}

// gather makes one wait of those for consumers for the same reason: there may be hundreds.
func gather(all []wait) (gathered []wait) {
	slices.SortFunc(all, func(a, b wait) int { return a.since.Compare(b.since) })
	for _, w := range all {
		same := func(other wait) bool {
			return w.what.kind == onConsumer && other.what.kind == onConsumer && other.why.reason == w.why.reason && other.abandoned == w.abandoned
		}
		if i := slices.IndexFunc(gathered, same); i >= 0 {
			gathered[i].others++
			gathered[i].waiters += w.waiters
			continue
		}
		gathered = append(gathered, w)
	}
	return gathered
}

func (w *wait) fields(now time.Time, event zap.Field, more ...zap.Field) []zap.Field {
	fields := []zap.Field{event, zap.String("what", w.what.String()), zap.Time("since", w.since), zap.Float64("for_s", w.seconds(now))}
	if w.others > 0 {
		fields = append(fields, zap.Int("others", w.others))
	}
	return append(fields, more...)
}

// seconds is how long the wait has lasted, to a tenth.
func (w *wait) seconds(now time.Time) float64 {
	return now.Sub(w.since).Round(100 * time.Millisecond).Seconds()
}

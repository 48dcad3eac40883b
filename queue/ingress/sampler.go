package ingress

import (
	"sync"
	"time"
)

// Of one kind of line, maxLines are logged in each samplePeriod; the others are counted.
const (
	maxLines     = 10
	samplePeriod = time.Second
)

// sampler bounds how often a kind of line is logged, since unauthenticated callers can cause lines without end. It counts
// the lines that it leaves out, and reports the count when the period ends. It is safe for concurrent use.
type sampler struct {
	report func(leftOut int)

	mu      sync.Mutex
	began   time.Time // of the period
	logged  int       // lines in this period
	leftOut int       // lines in this period
}

// allow reports whether a line may be logged now, and counts it.
func (s *sampler) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.leftOut == 0 && now.Sub(s.began) >= samplePeriod {
		s.began, s.logged = now, 0
	}
	if s.logged < maxLines {
		s.logged++
		return true
	}
	if s.leftOut == 0 {
		time.AfterFunc(s.began.Add(samplePeriod).Sub(now), s.flush)
	}
	s.leftOut++
	return false
}

// flush reports the lines that were left out, if any, and begins a new period.
func (s *sampler) flush() {
	s.mu.Lock()
	leftOut := s.leftOut
	if leftOut > 0 {
		s.began, s.logged, s.leftOut = time.Now(), 0, 0
	}
	s.mu.Unlock()
	if leftOut > 0 {
		s.report(leftOut)
	}
}

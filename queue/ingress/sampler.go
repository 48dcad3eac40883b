package ingress

import (
	"sync"
	"time"
)

// Of one kind of line, maxLines are logged in each samplePeriod. What comes beyond is counted.
const (
	maxLines     = 10
	samplePeriod = time.Second
)

// sampler bounds how often the same thing is logged, since strangers decide how often it happens. What it leaves out it
// counts, and tells at the end of the period, also when nothing more comes.
type sampler struct {
	tell func(left int)

	mu          sync.Mutex
	began       time.Time // of the period
	lines, left int
}

// allow reports whether a line may be logged now. If not, it is counted.
func (s *sampler) allow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.left == 0 && now.Sub(s.began) >= samplePeriod {
		s.began, s.lines = now, 0
	}
	if s.lines < maxLines {
		s.lines++
		return true
	}
	if s.left == 0 {
		time.AfterFunc(s.began.Add(samplePeriod).Sub(now), s.flush)
	}
	s.left++
	return false
}

// flush tells what was left out, and begins a new period.
func (s *sampler) flush() {
	s.mu.Lock()
	left := s.left
	if left > 0 {
		s.began, s.lines, s.left = time.Now(), 0, 0
	}
	s.mu.Unlock()
	if left > 0 {
		s.tell(left)
	}
}

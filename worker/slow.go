package worker

import (
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
)

// slowness notes how long calls to Facebook take, of all pages together, and logs once when they have become slow, and once when they
// are not any more. Calls with media are left out: how long they take is up to the server that Facebook fetches a file from.
type slowness struct {
	log   *zap.Logger
	host  string
	limit time.Duration

	mu     sync.Mutex
	began  time.Time // of the present window
	calls  int       // in it
	counts [slowBuckets]int
	over   map[string]int // calls over the limit, by page
	slow   bool           // as last logged
	since  time.Time      // when the first slow window began
}

// A window lasts a minute, and longer where there are fewer calls than slowCalls in it: a 95th percentile is made by one of them.
const (
	slowWindow = time.Minute
	slowCalls  = 20
)

// Durations are counted in buckets, each a tenth longer than the one before, from a millisecond to beyond the longest call. So the
// percentile is up to a tenth too high, and the memory is the same at any rate.
const (
	slowBuckets = 130
	slowGrowth  = 1.1
)

func bucketOf(d time.Duration) int {
	n := math.Ceil(math.Log(float64(d)/float64(time.Millisecond)) / math.Log(slowGrowth))
	return int(min(max(n, 0), slowBuckets-1))
}

// note takes in that a call of a page took so long.
func (s *slowness) note(page string, took time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		s.began, s.over = now, map[string]int{}
	}
	if now.Sub(s.began) >= slowWindow && s.calls >= slowCalls {
		s.judge(now)
	}
	s.calls++
	s.counts[bucketOf(took)]++
	if took > s.limit {
		s.over[page]++
	}
}

// judge logs what has changed with the window that is over, and begins another. s.mu is held.
func (s *slowness) judge(now time.Time) {
	p95 := s.percentile()
	fields := []zap.Field{zap.String("host", s.host), zap.Int64("p95_ms", p95.Milliseconds()), zap.Int64("limit_ms", s.limit.Milliseconds()), zap.Int("calls", s.calls)}
	switch slow := p95 > s.limit; {
	case slow && !s.slow:
		s.since = s.began
		s.log.Warn("calls to Facebook are slow", append(fields, zap.String("event", "graph_slow"), zap.Time("since", s.since),
			zap.Int("pages", len(s.over)), zap.String("slowest_page", most(s.over)))...)
		s.slow = true
	case !slow && s.slow:
		s.log.Info("calls to Facebook are fast again", append(fields, zap.String("event", "graph_fast"), zap.Time("since", s.since),
			zap.Int64("for_s", int64(s.began.Sub(s.since).Seconds())))...)
		s.slow = false
	}
	s.began, s.calls, s.counts, s.over = now, 0, [slowBuckets]int{}, map[string]int{}
}

// percentile returns the time that 95 of 100 calls of the window took at most. s.mu is held.
func (s *slowness) percentile() time.Duration {
	left := s.calls - int(math.Ceil(0.95*float64(s.calls)))
	for i := slowBuckets - 1; i > 0; i-- {
		if left -= s.counts[i]; left < 0 {
			return time.Duration(math.Pow(slowGrowth, float64(i)) * float64(time.Millisecond))
		}
	}
	return time.Millisecond
}

// most returns the name with the highest count.
func most(counts map[string]int) (name string) {
	for other, n := range counts {
		if n > counts[name] || n == counts[name] && other < name {
			name = other
		}
	}
	return name
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// How the queue is shared among pages
//
// A page that is held while a campaign goes on would fill its stream, and then every page there would be refused. So a page
// may take no more than a part of the space that other pages leave, by default a half. One held page stops at half of
// the queue, a second at a quarter, and so on; the queue is never full for a page that takes little. While most of the
// queue is free nothing is counted.
//
// The server knows how many jobs a page has and how many bytes the stream has, not how many bytes a page has. Those are
// the number of its jobs times the average size of the jobs that this process stored. They are measured now and then,
// and what this process publishes in between is added.

// ErrPageFull says that the job's page has filled its share of the queue, while other pages have space. It wraps [ErrFull].
var ErrPageFull = fmt.Errorf("%w for this page", ErrFull)

const (
	// DefaultShare is the part, between 0 and 1, that one page may fill of the space that other pages leave.
	DefaultShare = 0.5
	// sharesEvery is how often the queue is measured, and sharesCost the part of the time that this may take.
	sharesEvery = time.Second
	sharesCost  = 0.05
	// sharedFrom is how full the queue is when pages are counted. Below it no page can have reached a share of a tenth
	// or more.
	sharedFrom = 0.1
	// fillingFrom is how full the queue is when that is logged, and fillingUntil when its end is.
	fillingFrom, fillingUntil = 0.8, 0.75
)

// shares is what is known of how full the stream of a partition is.
type shares struct {
	q     *Queue
	p     *partition
	begin sync.Once
	ctx   context.Context
	stop  context.CancelFunc
	done  chan struct{}

	mu       sync.Mutex
	free     int64            // bytes at the last measurement, less what was published here since
	pages    map[string]int64 // bytes likewise; nil while they do not matter
	jobBytes float64          // of one job, a moving average
	filling  bool             // was logged, and its end was not
	full     bool             // Ready reported so last
}

func newShares(q *Queue, p *partition) *shares {
	s := &shares{q: q, p: p, done: make(chan struct{}), jobBytes: 1024}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// SetShares sets by Facebook page id the part, above 0 and up to 1, that a page may fill of the space that other pages
// leave. Other pages have [DefaultShare].
func (q *Queue) SetShares(parts map[string]float64) {
	q.parts.Store(&parts)
}

// take counts a message of a page, or returns ErrPageFull.
func (s *shares) take(page string, bytes int) error {
	s.begin.Do(func() { go s.run() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobBytes += (float64(bytes) - s.jobBytes) / 100
	if s.pages == nil {
		return nil
	}
	part := DefaultShare
	if parts := s.q.parts.Load(); parts != nil && (*parts)[page] > 0 {
		part = (*parts)[page]
	}
	has := s.pages[page] + int64(bytes)
	if float64(has) > part*float64(has+max(s.free, 0)) {
		return ErrPageFull
	}
	s.pages[page] = has
	s.free -= int64(bytes)
	return nil
}

func (s *shares) run() {
	defer close(s.done)
	for {
		began := time.Now()
		err := s.measure(s.ctx)
		if err != nil && s.ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) && s.q.Connected() {
			s.q.log.Debug("queue was not measured", zap.Error(redact(err))) // the last measurement stays
		}
		wait := max(sharesEvery, time.Duration(float64(time.Since(began))/sharesCost))
		if pause(s.ctx, wait) != nil {
			return
		}
	}
}

// measure asks the server.
func (s *shares) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := s.p.jobs.Info(ctx)
	if err != nil {
		return err
	}
	most := info.Config.MaxBytes
	if most <= 0 {
		return nil // an operator has removed the limit
	}
	used := int64(info.State.Bytes)
	s.mu.Lock()
	s.report(used, most)
	counted := float64(used) >= sharedFrom*float64(most)
	if !counted {
		s.pages = nil
	}
	s.mu.Unlock()
	if !counted {
		return nil
	}
	pending, err := s.q.pendingIn(ctx, s.p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free, s.pages = most-used, map[string]int64{}
	for lane, has := range pending {
		s.pages[lane.Page] += int64(float64(has.jobs) * s.jobBytes)
	}
	return nil
}

// report logs once that the queue is filling, and once that it is not any more. s.mu is held.
func (s *shares) report(used, most int64) {
	full := float64(used) / float64(most)
	fields := []zap.Field{zap.String("event", "queue_filling"), zap.String("stream", s.p.jobsName), zap.Int64("bytes", used), zap.Int64("max_bytes", most), zap.Int("percent", int(100*full))}
	switch {
	case !s.filling && full >= fillingFrom:
		s.filling = true
		s.q.log.Warn("queue is filling up: once it is full, new messages are refused", fields...)
	case s.filling && full < fillingUntil:
		s.filling = false
		s.q.log.Info("queue is not filling up any more", fields...)
	}
}

func (s *shares) close() {
	s.stop()
	s.begin.Do(func() { close(s.done) })
	<-s.done
}

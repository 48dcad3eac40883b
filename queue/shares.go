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
// A page that is held while a campaign goes on would fill the queue, and then every page be turned away. So a page may
// take up no more than a part of what the others leave: by default a half of it. One held page stops at half of the
// queue, a second at a quarter, and so on; the queue is never full for a page that takes up little. While most of the
// queue is free nothing is counted.
//
// The server knows how many jobs a page has and how many bytes the stream has, not how many bytes a page has: that is the
// number of its jobs times the size of a job in this process's experience. It is measured now and then, and what was
// published here since is added.

// ErrPageFull says that the job's page has its share of the queue, while there is room for others. It is an [ErrFull].
var ErrPageFull = fmt.Errorf("%w for this page", ErrFull)

const (
	// DefaultShare is the part of the queue that one page may fill of what the others leave.
	DefaultShare = 0.5
	// sharesEvery is how often the queue is measured, and sharesCost the part of the time that this may take.
	sharesEvery = time.Second
	sharesCost  = 0.05
	// sharedFrom is how full the queue is when pages are counted: below that no share is reached that is a tenth or more.
	sharedFrom = 0.1
	// fillingFrom is how full the queue is when the log says so, and fillingUntil when that is over.
	fillingFrom, fillingUntil = 0.8, 0.75
)

// shares is what is known of how full the queue is.
type shares struct {
	q     *Queue
	begin sync.Once
	ctx   context.Context
	stop  context.CancelFunc
	done  chan struct{}

	mu       sync.Mutex
	parts    map[string]float64 // by page, where it is not the default
	free     int64              // bytes at the last measurement, less what was published here since
	pages    map[string]int64   // bytes likewise; nil while they do not matter
	jobBytes float64            // of one job, a moving average
	filling  bool               // the log said so
	full     bool               // Ready said so
}

func newShares(q *Queue) *shares {
	s := &shares{q: q, done: make(chan struct{}), jobBytes: 1024}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// SetShares sets the part of the queue that a page may fill of what the others leave, above 0 and up to 1, by Facebook
// page id. Pages that are not named get [DefaultShare].
func (q *Queue) SetShares(parts map[string]float64) {
	q.shares.mu.Lock()
	defer q.shares.mu.Unlock()
	q.shares.parts = parts
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
	part, ok := s.parts[page]
	if !ok {
		part = DefaultShare
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
			s.q.log.Debug("queue not measured", zap.Error(redact(err))) // the last figures stay
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
	info, err := s.q.jobs.Info(ctx)
	if err != nil {
		return err
	}
	most := info.Config.MaxBytes
	if most <= 0 {
		return nil // an operator has lifted the limit
	}
	used := int64(info.State.Bytes)
	s.report(used, most)
	if float64(used) < sharedFrom*float64(most) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pages = nil
		return nil
	}
	waiting, err := s.q.Waiting(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free, s.pages = most-used, map[string]int64{}
	for lane, n := range waiting {
		s.pages[lane.Page] += int64(float64(n) * s.jobBytes)
	}
	return nil
}

// report logs once that the queue fills, and once that this is over.
func (s *shares) report(used, most int64) {
	full := float64(used) / float64(most)
	fields := []zap.Field{zap.String("event", "queue_filling"), zap.Int64("bytes", used), zap.Int64("max_bytes", most), zap.Int("percent", int(100*full))}
	switch {
	case !s.filling && full >= fillingFrom:
		s.filling = true
		s.q.log.Warn("queue is nearly full, new messages are refused when it is", fields...)
	case s.filling && full < fillingUntil:
		s.filling = false
		s.q.log.Info("queue has room again", fields...)
	}
}

func (s *shares) close() {
	s.stop()
	s.begin.Do(func() { close(s.done) })
	<-s.done
}

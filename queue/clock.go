package queue

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// clock knows the server's time, by which all workers agree on when a call may begin.
//
// The server writes its time into each answer about a stream, without storing anything. Half the round trip before the
// answer came it was that time, give or take the other half; of some attempts the fastest counts. In between, this process
// goes by its monotonic clock, so that a step of the machine's wall clock changes nothing.
//
// A process that paces calls asks about BRAZIER_PACE, every other process about the stream of jobs. On a cluster the
// leader of the stream answers, and all processes that pace have to hear the same one. When another server becomes
// leader whose clock differs by d, each worker follows within a few seconds, and until then workers disagree by d.
// Since no slot is reserved further ahead than [horizon], a leader that is ahead costs at most the calls of that span
// in excess, and one that is behind a pause of d. Servers that keep NTP's time differ by milliseconds.
type clock struct {
	q    *Queue
	base time.Time // with the monotonic reading that all others are taken against
	wall time.Time // the time of this machine's wall clock at base, or of the clock of a test

	begin    sync.Once
	ctx      context.Context // of run
	cancel   context.CancelFunc
	done     chan struct{}
	nudged   chan struct{}                    // has one element while a measurement is asked for
	measured chan struct{}                    // closed after the first measurement
	paced    atomic.Bool                      // this process paces calls
	bucket   atomic.Pointer[jetstream.Stream] // BRAZIER_PACE, once it has answered

	mu         sync.Mutex
	offset     time.Duration // by how much the server's clock is ahead of this one
	asOf       time.Time     // when the latest measurement began
	lastLogged time.Duration // the offset that was last logged, 0 if it was under maxOffset
}

const (
	clockTries = 5
	// maxOffset is how far this machine's wall clock may be from the server's before that is logged. Nothing here depends on
	// the offset, but people compare the log lines of several machines.
	maxOffset = time.Second
)

func newClock(q *Queue) *clock {
	c := &clock{q: q, base: time.Now(), wall: q.cfg.Clock().Round(0),
		done: make(chan struct{}), nudged: make(chan struct{}, 1), measured: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Now returns the server's time as this process knows it: its own clock, corrected by a measured offset. Before the
// first measurement, which the first call asks for, it is its own clock. It has no monotonic reading: compare it with
// times that other processes stored.
func (q *Queue) Now() time.Time {
	q.clock.start()
	return q.clock.toServer(time.Now())
}

// ServerTime returns what [Queue.Now] does, once the offset is measured. It waits for that until ctx ends. It is for
// processes that store one time and end.
func (q *Queue) ServerTime(ctx context.Context) (time.Time, error) {
	if err := q.clock.ready(ctx); err != nil {
		return time.Time{}, fmt.Errorf("queue: the server's time: %w", err)
	}
	return q.Now(), nil
}

// start begins to measure, at the first call.
func (c *clock) start() { c.begin.Do(func() { go c.run() }) }

// pace makes this clock agree with those of all processes that pace calls.
func (c *clock) pace() {
	if c.paced.CompareAndSwap(false, true) {
		c.nudge()
	}
	c.start()
}

func (c *clock) close() {
	c.cancel()
	c.begin.Do(func() { close(c.done) })
	<-c.done
}

// toServer returns the server's time at a time of this process's clock.
func (c *clock) toServer(t time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall.Add(t.Sub(c.base) + c.offset)
}

// toLocal returns the time of this process's clock, with a monotonic reading, at which it is t on the server.
func (c *clock) toLocal(t time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.Add(t.Sub(c.wall) - c.offset)
}

// measuredSince reports whether there is a measurement that began after t.
func (c *clock) measuredSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asOf.After(t)
}

// ready returns once the server's time is known.
func (c *clock) ready(ctx context.Context) error {
	c.start()
	select {
	case <-c.measured:
		return nil
	case <-c.done:
		return nats.ErrConnectionClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nudge asks for another measurement now.
func (c *clock) nudge() {
	select {
	case c.nudged <- struct{}{}:
	default:
	}
}

func (c *clock) run() {
	defer close(c.done)
	for c.ctx.Err() == nil {
		wait := time.Duration(float64(clockEvery) * (1 + clockSpread*(2*rand.Float64()-1)))
		if err := c.q.retry(c.ctx, readsOf(StreamJobs), c.measure); err != nil {
			return // the connection is closed
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-c.nudged:
		case <-c.ctx.Done():
		}
		next.Stop()
	}
}

// measure measures the offset. In a process that paces calls it makes the bucket of paces if that is missing.
func (c *clock) measure(ctx context.Context) error {
	stream := c.q.first.jobs
	paced := c.paced.Load()
	if paced {
		bucket, err := c.q.ensurePace(ctx)
		if err != nil {
			return located{readsOf(streamOf(BucketPace)), err}
		}
		stream = bucket
	}
	began, best := time.Now(), time.Duration(math.MaxInt64)
	var offset time.Duration
	for range clockTries {
		sent := time.Now()
		info, err := stream.Info(ctx)
		if err != nil && paced {
			return located{readsOf(streamOf(BucketPace)), err}
		}
		if err != nil {
			return err
		}
		if trip := time.Since(sent); trip < best {
			best = trip
			offset = info.TimeStamp.Sub(c.wall.Add(sent.Sub(c.base) + trip/2))
		}
	}
	if paced {
		c.bucket.Store(&stream)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asOf.IsZero() {
		close(c.measured)
	}
	c.offset, c.asOf = offset, began
	c.report()
	return nil
}

// ahead returns by how much the server's clock is ahead of this machine's, 0 before the first measurement.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asOf.IsZero() {
		return 0
	}
	return c.aheadNow()
}

// aheadNow is ahead after a measurement, also if the wall clock was set since. c.mu is held.
func (c *clock) aheadNow() time.Duration {
	return c.wall.Add(time.Since(c.base) + c.offset).Sub(c.q.cfg.Clock())
}

// report logs an offset of maxOffset or more, again when it has changed by as much, and when it is over. c.mu is held.
func (c *clock) report() {
	ahead := c.aheadNow()
	switch large := ahead.Abs() >= maxOffset; {
	case large && (ahead-c.lastLogged).Abs() >= maxOffset:
		c.q.log.Warn("clock differs from the NATS server's: set it by NTP", zap.String("event", "clock_offset"), zap.Float64("server_ahead_s", ahead.Seconds()))
		c.lastLogged = ahead
	case !large && c.lastLogged != 0:
		c.q.log.Info("clock agrees with the NATS server's again", zap.String("event", "clock_offset"), zap.Float64("server_ahead_s", ahead.Seconds()))
		c.lastLogged = 0
	}
}

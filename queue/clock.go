package queue

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// clock tells the server's time, by which all workers agree on when a call may begin.
//
// The server puts its time into what it says about a stream, without writing anything. Half the round trip before the
// answer came it was that time, give or take the other half; of some tries the fastest counts. In between, this process
// goes by its monotonic clock, so that a step of the machine's wall clock changes nothing.
//
// On a cluster it is the leader of BRAZIER_PACE that answers. When another becomes leader whose clock differs by d, each
// worker follows within a few seconds, and until then they disagree by d. Since no slot is handed out further ahead than
// [horizon], a leader that is ahead costs at most the calls of that span in excess, and one that is behind a pause of d.
// Servers that keep NTP's time differ by milliseconds.
type clock struct {
	q    *Queue
	base time.Time // with the monotonic reading that all others are taken against
	wall time.Time // what this machine's wall clock said at base, or what a test says it did

	begin  sync.Once
	ctx    context.Context // of run
	cancel context.CancelFunc
	done   chan struct{}
	again  chan struct{}    // has one element while a measurement is asked for
	first  chan struct{}    // closed after the first measurement
	bucket jetstream.Stream // BRAZIER_PACE; set before first is closed

	mu     sync.Mutex
	offset time.Duration // what the server's clock is ahead of this one
	asOf   time.Time     // when the latest measurement began
}

const (
	// clockEvery is how often the offset is measured, give or take clockSpread of it. Quartz drifts by less than 0.1 ms/s.
	clockEvery  = 10 * time.Second
	clockSpread = 0.2
	clockTries  = 5
)

func newClock(q *Queue) *clock {
	c := &clock{q: q, base: time.Now(), wall: q.cfg.Clock().Round(0),
		done: make(chan struct{}), again: make(chan struct{}, 1), first: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Now returns the server's time as this process knows it: its own clock, corrected by a measured offset. Before the
// first measurement, which the first call asks for, it is its own clock. It has no monotonic reading: compare it with
// times that other processes wrote down.
func (q *Queue) Now() time.Time {
	q.clock.start()
	return q.clock.server(time.Now())
}

// start begins to measure, once. Processes that never ask for the time, such as doors, measure nothing.
func (c *clock) start() { c.begin.Do(func() { go c.run() }) }

func (c *clock) close() {
	c.cancel()
	c.begin.Do(func() { close(c.done) })
	<-c.done
}

// server returns the server's time at a moment of this process.
func (c *clock) server(t time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall.Add(t.Sub(c.base) + c.offset)
}

// local returns the moment of this process at which it is t on the server, with a monotonic reading.
func (c *clock) local(t time.Time) time.Time {
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
	case <-c.first:
		return nil
	case <-c.done:
		return nats.ErrConnectionClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nudge asks for a measurement now.
func (c *clock) nudge() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

func (c *clock) run() {
	defer close(c.done)
	for c.ctx.Err() == nil {
		wait := time.Duration(float64(clockEvery) * (1 + clockSpread*(2*rand.Float64()-1)))
		if err := retry(c.ctx, c.measure); err != nil {
			return // the connection is closed
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-c.again:
		case <-c.ctx.Done():
		}
		next.Stop()
	}
}

// measure takes the offset anew. It makes the bucket if it is not there.
func (c *clock) measure(ctx context.Context) error {
	bucket, err := c.q.ensureStream(ctx, c.q.cfg.pace())
	if err != nil {
		return err
	}
	began, best := time.Now(), time.Duration(math.MaxInt64)
	var offset time.Duration
	for range clockTries {
		sent := time.Now()
		info, err := bucket.Info(ctx)
		if err != nil {
			return err
		}
		if trip := time.Since(sent); trip < best {
			best = trip
			offset = info.TimeStamp.Sub(c.wall.Add(sent.Sub(c.base) + trip/2))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asOf.IsZero() {
		c.bucket = bucket
		close(c.first)
	}
	c.offset, c.asOf = offset, began
	return nil
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
)

// How calls are paced
//
// For each pace the bucket BRAZIER_PACE holds one time, by the server's clock: when the next free slot begins (GCRA,
// the generic cell rate algorithm). To reserve slots is to move that time on by as many slots, on the condition that no
// other worker has moved it since it was read. So each slot has one owner, however many workers there are, and no
// process counts or divides anything. A worker that dies loses the slots that it has reserved, a fraction of a second's
// worth, and nothing else.
//
// A worker remembers what it wrote last. While it is the only one, each reservation is one write. While others write too, it
// reads again and takes fewer slots at a time, so that all workers get some and none waits long for its next one.
//
// The bucket is kept in memory, and a server that was restarted has forgotten it; the first worker that needs it makes
// it. Slots that were reserved before may still be in use then. So a pace that is missing begins where they must have
// ended: no slot is ever reserved that begins later than [horizon] from then, or that ends later than that and one
// reservation.
//
// Where NATS has no memory for streams the bucket is on file ([Queue.ensurePace]) and outlives a restart: the pace goes
// on where it was, with its revisions, and nothing has to be waited for. A revision can stand for another entry, as
// after a restart of a bucket in memory, only if the last writes were not flushed before a power cut. The server is
// another run of it then, so that no remembered revision is used. But the entry that is read may be an older one, and
// slots that were reserved after it can be reserved again, unless the server was away for longer than [horizon] and one
// reservation: a machine takes longer to start, except where a page has less than one call in some seconds.

// Pace reserves the times at which calls may begin, over all processes together: no two get the same. It is safe for
// concurrent use; one call waits for the other.
type Pace struct {
	q       *Queue
	subject string
	turn    chan struct{} // full while a goroutine uses the fields below

	entry     paceEntry
	revision  uint64        // of entry; 0: there is none
	server    string        // the run of the server that stored entry; empty: entry may be outdated
	readAt    time.Time     // when entry was read or stored
	roundTrip time.Duration // what a write takes, a moving estimate on the high side
	askedAt   time.Time     // when the last request began
	waiting   retrier

	contended atomic.Pointer[time.Time] // when another worker was last seen to reserve slots; for all goroutines to read
}

// Slots are the times First, First+Every, … of N calls, by this process's clock with its monotonic reading, so that
// time.Until works.
type Slots struct {
	First time.Time
	Every time.Duration
	N     int
}

// Pace returns the pace of that name of a page: "text", "media". The page is its Facebook id.
func (q *Queue) Pace(page, name string) *Pace {
	q.clock.pace()
	return &Pace{q: q, subject: "$KV." + BucketPace + "." + page + "." + name, turn: make(chan struct{}, 1),
		waiting: retrier{waits: q.waits, what: writesTo(streamOf(BucketPace))}}
}

// Prepare makes sure that the pace is there, so that the first reservation finds free slots at once. It repeats its requests
// until ctx ends.
func (p *Pace) Prepare(ctx context.Context) error {
	if err := p.lock(ctx); err != nil {
		return fmt.Errorf("queue: prepare pace: %w", err)
	}
	defer p.unlock()
	err := p.insist(ctx, p.load)
	if err != nil {
		return fmt.Errorf("queue: prepare pace: %w", redact(err))
	}
	return nil
}

// Reserve takes up to n of the next slots at rate calls a second: at least one, and no more than the calls of an eighth of a
// second. They belong to the caller alone, and the first has only just begun or is yet to come. While slots are reserved for
// the next quarter of a second Reserve waits, and while the server is away it repeats its requests, until ctx ends: without
// a server there are no slots. Slots that are reserved stay good.
func (p *Pace) Reserve(ctx context.Context, rate float64, n int) (Slots, error) {
	switch {
	case !(rate >= 1e-3 && rate <= 1e6):
		return Slots{}, fmt.Errorf("queue: reserve: rate must be between 0.001 and 1000000 calls a second (got %v)", rate)
	case n < 1:
		return Slots{}, fmt.Errorf("queue: reserve: slots must be at least 1 (got %d)", n)
	}
	if err := p.lock(ctx); err != nil {
		return Slots{}, fmt.Errorf("queue: reserve: %w", err)
	}
	defer p.unlock()
	// Rounded up: never a call more in a second than rate.
	slots := Slots{Every: time.Duration(math.Ceil(float64(time.Second) / rate))}
	err := p.insist(ctx, func(ctx context.Context) error { return p.take(ctx, &slots, n) })
	if err != nil {
		return Slots{}, fmt.Errorf("queue: reserve: %w", redact(err))
	}
	return slots, nil
}

func (p *Pace) lock(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pace) unlock() { <-p.turn }

// Reasons to try again.
var (
	errReserved    = errors.New("another reservation came first")
	errLate        = errors.New("the slots were over before the server confirmed them")
	errMoved       = errors.New("another server has the bucket")
	errTooFarAhead = errors.New("the next slot is too far ahead, and the server's time is being measured")
)

// insist repeats call until it succeeds, ctx ends or the connection is closed for good. It waits for the server's time
// first.
func (p *Pace) insist(ctx context.Context, call func(context.Context) error) error {
	if err := p.q.clock.ready(ctx); err != nil {
		return err
	}
	wait := backoff.WithContext(Backoff(paceRetryFirst, paceRetryLongest), ctx)
	err := backoff.Retry(func() error {
		err := call(ctx)
		if errors.Is(err, nats.ErrConnectionClosed) {
			return backoff.Permanent(err)
		}
		if err != nil && ctx.Err() == nil {
			if p.waiting.since.IsZero() {
				p.waiting.since = p.askedAt
			}
			p.waiting.failed(err)
		}
		return err
	}, wait)
	p.waiting.end(err == nil)
	return err
}

// take fills in First and N of slots.
func (p *Pace) take(ctx context.Context, slots *Slots, n int) error {
	next, err := p.next(ctx, slots.Every)
	if err != nil {
		return err
	}
	// A slot must not be over before the answer is here.
	if early := p.q.clock.toServer(time.Now()).Add(min(p.roundTrip, horizon)); next.Before(early) {
		next = early
	}
	span := soloSpan
	if p.Shared() {
		span = contendedSpan
	}
	n = min(n, max(1, int(span/slots.Every)))
	if err := p.store(ctx, paceEntry{Next: next.Add(time.Duration(n) * slots.Every).UnixNano()}); err != nil {
		return err
	}
	slots.First, slots.N = p.q.clock.toLocal(next), n
	if late := time.Since(slots.First) - maxLate; late > 0 {
		lost := int(late/slots.Every) + 1
		slots.First, slots.N = slots.First.Add(time.Duration(lost)*slots.Every), n-lost
	}
	if slots.N < 1 {
		return errLate
	}
	return nil
}

// next returns when the next free slot begins, once that is within the horizon.
func (p *Pace) next(ctx context.Context, every time.Duration) (next time.Time, err error) {
	for {
		if err := p.load(ctx); err != nil {
			return next, err
		}
		next = time.Unix(0, p.entry.Next)
		if p.entry.Born != 0 {
			next = time.Unix(0, p.entry.Born).Add(horizon + max(soloSpan, every) + maxLate)
		}
		now := p.q.clock.toServer(time.Now())
		ahead := next.Sub(now) - horizon
		switch {
		case ahead <= 0:
			return next, nil
		case ahead > maxAhead+every && !p.q.clock.measuredSince(p.readAt):
			p.q.clock.nudge()
			return next, errTooFarAhead
		case ahead > maxAhead+every:
			// The server's clock was set back, or it was wrong once and is right now.
			if err := p.store(ctx, paceEntry{Born: now.UnixNano()}); err != nil {
				return next, err
			}
		default:
			p.waiting.leave(true) // the page's own rate is no outage
			if err := pause(ctx, min(ahead, horizon)); err != nil {
				return next, err
			}
			if p.Shared() {
				p.forget() // another worker has very likely reserved slots since
			}
		}
	}
}

// Shared reports whether other workers reserved slots in the last seconds. A slot that is reserved and not used is lost to
// them.
func (p *Pace) Shared() bool {
	last := p.contended.Load()
	return last != nil && time.Since(*last) < contendedFor
}

// noteContention notes that another worker reserves slots of this pace.
func (p *Pace) noteContention() {
	now := time.Now()
	p.contended.Store(&now)
}

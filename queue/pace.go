package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How calls are paced
//
// For each pace the bucket BRAZIER_PACE holds one time, by the server's clock: when the next free slot begins (GCRA, the generic cell
// rate algorithm). To reserve is to move it on by as many slots as one wants, on the condition that nobody else has moved
// it since it was read. So each slot has one owner, whatever their number, and no process counts or divides anything. A
// worker that dies loses the slots it had in hand, a fraction of a second's worth, and nothing else.
//
// A worker remembers what it wrote last. As long as it is alone, each reservation is one write. When others write too,
// it reads again and takes fewer slots at a time, so that all get some and nobody's next slot is far.
//
// The bucket is kept in memory, and a server that was restarted has forgotten it; who misses it makes it. Slots handed out
// before may still be in use then, so a pace that is not there begins where they must have ended: no slot is ever handed
// out that begins later than [horizon] from then, or ends later than that and one lease.
//
// Where NATS has no memory for streams the bucket is on file ([Queue.ensurePace]), and outlives a restart: the pace goes on
// from where it was, its revisions too, so that nothing has to be waited for. A revision that is used again for another
// record, as after a restart of a memory bucket, comes up only where the last writes were not flushed before a power cut.
// The run of the server has changed then, so that no remembered revision is used. But the record that is read may be an
// older one, and slots that were handed out after it are handed out again, unless the server was away for longer than
// [horizon] and one lease: only at less than a call in some seconds is the lease longer than a machine takes to start.

const (
	// aloneSpan is the time for which one reservation takes slots, crowdedSpan the same while others take slots too, and
	// crowdedFor how long after their last.
	aloneSpan   = time.Second / 8
	crowdedSpan = time.Second / 40
	crowdedFor  = 3 * time.Second
	// horizon is how far ahead slots are handed out. Where more is asked for, the rest waits, and who comes with something
	// urgent waits no longer than this for the slot it gets.
	horizon = 250 * time.Millisecond
	// maxLate is how late the first slot of a reservation may be known. Later ones are dropped.
	maxLate = 20 * time.Millisecond
	// paceMemory is how long the last write is remembered. It is less than a cluster takes to elect a leader (4 s), so
	// that no revision can be mistaken for the same number of a later life of the bucket.
	paceMemory = 2 * time.Second
	// strayed is how far ahead of any possible lease the next slot must be to be taken for one by a clock that was wrong.
	strayed = time.Minute
)

// paceRecord is what BRAZIER_PACE holds under <page>.<name>. Times are in nanoseconds of Unix time.
type paceRecord struct {
	Next int64 `json:"next,omitempty"` // when the next free slot begins
	// Born is set until the first reservation: when it was found that the pace is not there.
	Born int64 `json:"born,omitempty"`
}

// Pace hands out the moments at which calls may begin, over all processes together: no two get the same. It is safe for
// concurrent use; one call waits for the other.
type Pace struct {
	q       *Queue
	subject string
	turn    chan struct{} // full while somebody uses the fields below

	record   paceRecord
	revision uint64        // of record; 0: there is none
	server   string        // the run of the server that stored it; empty: nothing is known
	known    time.Time     // when that was
	trip     time.Duration // what a write takes, a moving estimate on the high side
	asked    time.Time     // when the last request began
	waiting  retrier

	crowded atomic.Pointer[time.Time] // when others were last seen to take slots; for all to read
}

// Slots are the moments First, First+Every, … of N calls. They are of this process's clock with its monotonic reading,
// so that time.Until works.
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

// Prepare makes sure that the pace is there, so that the first reservation finds free slots at once. It asks again until
// ctx ends.
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

// Reserve takes up to n of the next slots at rate calls a second, at least one and not more than for a moment. They belong to the caller alone, and the
// first is hardly over or not yet due. While the pace is handed out a quarter of a second ahead it waits, and while the
// server is away it asks again, until ctx ends: without a server there are no slots. Slots in hand stay good.
func (p *Pace) Reserve(ctx context.Context, rate float64, n int) (Slots, error) {
	switch {
	case !(rate >= 1e-3 && rate <= 1e6):
		return Slots{}, fmt.Errorf("queue: reserve: a rate of %v calls a second is not between 0.001 and 1000000", rate)
	case n < 1:
		return Slots{}, fmt.Errorf("queue: reserve: %d slots", n)
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
	errReserved = errors.New("another reservation came first")
	errLate     = errors.New("the slots were over before they were known")
	errMoved    = errors.New("the server is another")
	errStrayed  = errors.New("the next slot is too far ahead, and the time is being measured")
)

// insist calls until there is no error, ctx ends or the connection is closed for good. It waits for the clock first.
func (p *Pace) insist(ctx context.Context, call func(context.Context) error) error {
	if err := p.q.clock.ready(ctx); err != nil {
		return err
	}
	wait := backoff.WithContext(Backoff(2*time.Millisecond, 250*time.Millisecond), ctx)
	err := backoff.Retry(func() error {
		err := call(ctx)
		if errors.Is(err, nats.ErrConnectionClosed) {
			return backoff.Permanent(err)
		}
		if err != nil && ctx.Err() == nil {
			if p.waiting.since.IsZero() {
				p.waiting.since = p.asked
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
	next, err := p.near(ctx, slots.Every)
	if err != nil {
		return err
	}
	// A slot must not be over before the answer is here.
	if early := p.q.clock.server(time.Now()).Add(min(p.trip, horizon)); next.Before(early) {
		next = early
	}
	span := aloneSpan
	if p.Shared() {
		span = crowdedSpan
	}
	n = min(n, max(1, int(span/slots.Every)))
	if err := p.store(ctx, paceRecord{Next: next.Add(time.Duration(n) * slots.Every).UnixNano()}); err != nil {
		return err
	}
	slots.First, slots.N = p.q.clock.local(next), n
	if late := time.Since(slots.First) - maxLate; late > 0 {
		lost := int(late/slots.Every) + 1
		slots.First, slots.N = slots.First.Add(time.Duration(lost)*slots.Every), n-lost
	}
	if slots.N < 1 {
		return errLate
	}
	return nil
}

// near returns when the next free slot begins, once that is within the horizon.
func (p *Pace) near(ctx context.Context, every time.Duration) (next time.Time, err error) {
	for {
		if err := p.load(ctx); err != nil {
			return next, err
		}
		next = time.Unix(0, p.record.Next)
		if p.record.Born != 0 {
			next = time.Unix(0, p.record.Born).Add(horizon + max(aloneSpan, every) + maxLate)
		}
		now := p.q.clock.server(time.Now())
		ahead := next.Sub(now) - horizon
		switch {
		case ahead <= 0:
			return next, nil
		case ahead > strayed+every && !p.q.clock.measuredSince(p.known):
			p.q.clock.nudge()
			return next, errStrayed
		case ahead > strayed+every:
			// The server's clock was set back, or it was wrong once and is right now.
			if err := p.store(ctx, paceRecord{Born: now.UnixNano()}); err != nil {
				return next, err
			}
		default:
			p.waiting.leave(true) // what comes now is the page's own rate
			if err := pause(ctx, min(ahead, horizon)); err != nil {
				return next, err
			}
			if p.Shared() {
				p.forget() // somebody else has very likely come first
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shared reports whether others took slots in the last seconds, to whom a slot that is not used is lost.
func (p *Pace) Shared() bool {
	last := p.crowded.Load()
	return last != nil && time.Since(*last) < crowdedFor
}

func (p *Pace) meet() {
	now := time.Now()
	p.crowded.Store(&now)
}

// forget makes the next load read. The revision is kept, to see whether somebody else wrote.
func (p *Pace) forget() { p.server = "" }

// load makes sure that record is what the server has, as far as this process knows, and that there is one.
func (p *Pace) load(ctx context.Context) error {
	server, asked := p.q.nc.ConnectedServerId(), time.Now()
	p.asked = asked
	if p.server != "" && p.server == server && time.Since(p.known) < paceMemory {
		return nil
	}
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	bucket := p.q.clock.bucket.Load()
	if bucket == nil { // the clock is about to ask for it
		p.q.clock.nudge()
		return errMoved
	}
	msg, err := (*bucket).GetLastMsgForSubject(try, p.subject)
	var found paceRecord
	var revision uint64
	switch {
	case err == nil:
		revision = msg.Sequence
		_ = json.Unmarshal(msg.Data, &found) // what somebody else put or removed there counts as not there
	case errors.Is(err, jetstream.ErrStreamNotFound):
		p.forget()
		if _, err := p.q.ensurePace(try); err != nil {
			return err
		}
		return errMoved
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		p.forget()
		return err
	}
	if p.revision != 0 && p.revision != revision {
		p.meet()
	}
	p.record, p.revision, p.server, p.known = found, revision, server, asked
	if found == (paceRecord{}) {
		return p.store(ctx, paceRecord{Born: p.q.clock.server(time.Now()).UnixNano()})
	}
	return nil
}

// store replaces the record that was loaded, if it is still the same.
func (p *Pace) store(ctx context.Context, r paceRecord) error {
	server, sent := p.server, time.Now()
	p.asked = sent
	p.forget()
	if server != p.q.nc.ConnectedServerId() {
		return errMoved
	}
	data, _ := json.Marshal(r) // cannot fail: numbers
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := p.q.js.PublishMsg(try, &nats.Msg{Subject: p.subject, Data: data},
		jetstream.WithExpectLastSequencePerSubject(p.revision), jetstream.WithRetryAttempts(0))
	if isTaken(err) {
		p.meet()
		return errReserved
	}
	if err != nil {
		return err
	}
	if server != p.q.nc.ConnectedServerId() {
		return errMoved // perhaps it was the next run that took it for the same number of its own
	}
	took := time.Since(sent)
	p.trip = max(took, (3*p.trip+took)/4)
	p.record, p.revision, p.server, p.known = r, ack.Sequence, server, sent
	return nil
}

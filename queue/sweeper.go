package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Expired jobs that no worker fetches
//
// While a page is held, or no worker serves it, its jobs expire in the queue and nothing settles them. One worker of
// the cluster at a time looks for such jobs: the one that writes the claim, a message that the server removes after a
// while. It reads the jobs where they are stored, so that nothing is delivered, counted or reordered, and settles those
// that have expired. Two workers that do the same do no harm: the dead letter is stored once, and the job's record is
// written on a condition.

// sweepClaim is the subject of the claim.
var sweepClaim = pagelessSubject("overdue", "claim")

const (
	// sweepBatch and sweepBytes bound the jobs and the bytes that one request reads.
	sweepBatch, sweepBytes = 256, 4 << 20
	// sweepShare is the part of its time, 1/20, that a process may spend on reading one lane from its beginning again.
	sweepShare = 20
)

// Sweeper finds jobs that have expired in lanes from which no worker fetches. It belongs to one goroutine.
type Sweeper struct {
	q     *Queue
	lanes map[PageLane]map[*partition]*sweptLane
}

// sweptLane is what is known of a lane from earlier calls of Each.
type sweptLane struct {
	next      uint64    // jobs before this sequence were read
	soonest   time.Time // when the first of those expires; zero: none does
	restUntil time.Time // before this the lane is not read from its beginning again
}

// NewSweeper returns a Sweeper that knows of no lane yet.
func (q *Queue) NewSweeper() *Sweeper {
	return &Sweeper{q: q, lanes: map[PageLane]map[*partition]*sweptLane{}}
}

// Claim makes this process the one that looks for expired jobs for a while, at least a second. It returns false if another
// process is.
func (s *Sweeper) Claim(ctx context.Context, while time.Duration) (bool, error) {
	ctx, cancel := s.q.requestContext(ctx)
	defer cancel()
	claim := &nats.Msg{Subject: sweepClaim, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{max(while.Round(time.Second), time.Second).String()}}}
	_, err := s.q.js.PublishMsg(ctx, claim, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithRetryAttempts(0))
	if isConditionFailed(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("queue: claim the sweep: %w", redact(s.q.reportMissing(noAnswer(ctx, err))))
	}
	return true, nil
}

// Lanes returns the lanes that have jobs and from which no worker fetches now.
func (s *Sweeper) Lanes(ctx context.Context) (lanes []PageLane, err error) {
	pending, err := s.q.pendingJobs(ctx)
	if err != nil {
		return nil, err
	}
	for lane := range s.lanes {
		if pending[lane].jobs == 0 {
			delete(s.lanes, lane)
		}
	}
	for lane, p := range pending {
		if !p.fetched {
			lanes = append(lanes, lane)
		}
	}
	return lanes, nil
}

// Each calls visit with each job of a lane that has expired. visit settles the job, and may do so after it returned.
// Jobs that are in flight are left out. Jobs that were read before are read again only once one of them has expired.
func (s *Sweeper) Each(ctx context.Context, lane PageLane, visit func(*Delivery)) error {
	for _, at := range s.q.storesOf(lane.Page, lane.Lane) {
		if err := s.each(ctx, at, lane, visit); err != nil {
			return fmt.Errorf("queue: sweep: %w", redact(err))
		}
	}
	return nil
}

// each is Each for the jobs in one partition.
func (s *Sweeper) each(ctx context.Context, at store, lane PageLane, visit func(*Delivery)) error {
	if s.lanes[lane] == nil {
		s.lanes[lane] = map[*partition]*sweptLane{}
	}
	known := s.lanes[lane][at.partition]
	if known == nil {
		known = &sweptLane{next: 1}
		s.lanes[lane][at.partition] = known
	}
	now := time.Now()
	if again := !known.soonest.IsZero() && s.q.Now().After(known.soonest); again && now.After(known.restUntil) {
		*known = sweptLane{next: 1}
	}
	whole := known.next == 1
	for {
		n, err := s.read(ctx, at, lane, known, visit)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if whole {
		known.restUntil = time.Now().Add(sweepShare * time.Since(now))
	}
	return nil
}

// read reads the next jobs of a lane and returns how many there were.
func (s *Sweeper) read(ctx context.Context, at store, lane PageLane, known *sweptLane, visit func(*Delivery)) (n int, err error) {
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(try, s.q.js, at.stream, sweepBatch, jetstreamext.GetBatchSeq(known.next),
		jetstreamext.GetBatchSubject(at.jobSubject(lane.Page, lane.Lane, "*")), jetstreamext.GetBatchMaxBytes(sweepBytes))
	if err != nil {
		return 0, s.q.reportMissing(err)
	}
	var expired []*Delivery
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return n, s.q.reportMissing(noAnswer(try, err))
		}
		n++
		known.next = msg.Sequence + 1
		d := s.q.readDelivery(at, lane, msg)
		switch {
		case d.Expire.IsZero():
		case s.q.Now().After(d.Expire):
			expired = append(expired, d)
		case known.soonest.IsZero() || d.Expire.Before(known.soonest):
			known.soonest = d.Expire
		}
	}
	if err := try.Err(); err != nil && n == 0 { // the iterator ends without an error when the answers come too late
		return n, noAnswer(try, err)
	}
	for _, d := range expired {
		free, err := s.q.judgeExpired(ctx, d)
		if err != nil {
			return n, err
		}
		if free {
			visit(d)
		} else if known.soonest.IsZero() || d.Expire.Before(known.soonest) {
			known.soonest = d.Expire // the job is read again
		}
	}
	return n, nil
}

// readDelivery makes a Delivery of a job that was read and not delivered.
func (q *Queue) readDelivery(at store, lane PageLane, msg *jetstream.RawStreamMsg) *Delivery {
	id := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	d := &Delivery{q: q, at: at, StreamSeq: msg.Sequence, renewedAt: time.Now()}
	d.Job = readJob(id, lane.Page, lane.Lane, msg.Header, msg.Data, msg.Time)
	d.readHeaders(msg.Header)
	return d
}

// judgeExpired returns whether an expired job is to be settled now: it is in flight nowhere. A job whose record says
// that it is settled is removed.
func (q *Queue) judgeExpired(ctx context.Context, d *Delivery) (free bool, err error) {
	if q.inFlight.has(d) {
		return false, nil
	}
	found, _, err := d.findRecord(ctx)
	switch {
	case err != nil:
		return false, err
	case found == foundSettled:
		d.ack()
		return false, nil
	case found == foundLeased:
		return false, nil
	}
	return true, nil
}

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

// Jobs that nobody fetches
//
// Where a page is held, or no worker has it, its jobs expire in the queue and nobody comes by to say so. Any worker of the
// cluster then looks for them, one at a time: who writes the claim first, a message that the server removes after a while.
// It reads the jobs where they are stored, so nothing is handed out, counted or put out of order, and removes those that
// have expired. Two who do the same do no harm: the letter is stored once, and the job's record is written on a condition.

// overdueClaim is the subject of the claim. Among the records it has its time to live; no page is called 0.
var overdueClaim = recordSubject("0", "overdue", "claim")

const (
	// overdueBatch and overdueBytes bound what is read in one request.
	overdueBatch, overdueBytes = 256, 4 << 20
	// overdueShare is the part of its time that a process may spend on reading one lane from its beginning again.
	overdueShare = 20
)

// Overdue finds jobs that have expired in lanes from which nobody fetches. It belongs to one goroutine.
type Overdue struct {
	q     *Queue
	lanes map[PageLane]*overdueLane
}

// overdueLane is what is known of a lane from earlier looks.
type overdueLane struct {
	next    uint64    // what is stored before this sequence was looked at
	soonest time.Time // when the first of that expires; zero: nothing does
	rest    time.Time // before this the lane is not read from its beginning again
}

// NewOverdue returns a finder that has not looked yet.
func (q *Queue) NewOverdue() *Overdue { return &Overdue{q: q, lanes: map[PageLane]*overdueLane{}} }

// Claim makes this process the one that looks for the next while, at least a second. It reports false where another is.
func (o *Overdue) Claim(ctx context.Context, while time.Duration) (bool, error) {
	ctx, cancel := o.q.answerable(ctx)
	defer cancel()
	claim := &nats.Msg{Subject: overdueClaim, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{max(while.Round(time.Second), time.Second).String()}}}
	_, err := o.q.js.PublishMsg(ctx, claim, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithRetryAttempts(0))
	if isTaken(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("queue: claim overdue jobs: %w", redact(o.q.missing(unanswered(ctx, err))))
	}
	return true, nil
}

// Lanes returns the lanes in which jobs wait and from which no worker fetches at this moment.
func (o *Overdue) Lanes(ctx context.Context) (lanes []PageLane, err error) {
	waiting, err := o.q.waitingJobs(ctx)
	if err != nil {
		return nil, err
	}
	for lane := range o.lanes {
		if waiting[lane].jobs == 0 {
			delete(o.lanes, lane)
		}
	}
	for lane, w := range waiting {
		if !w.fetched {
			lanes = append(lanes, lane)
		}
	}
	return lanes, nil
}

// Each hands the jobs of a lane that have expired to visit, which buries them and may go on after it returned. Jobs in a
// worker's hands are left out. What was looked at before is looked at again only once something of it has expired.
func (o *Overdue) Each(ctx context.Context, lane PageLane, visit func(*Delivery)) error {
	known := o.lanes[lane]
	if known == nil {
		known = &overdueLane{next: 1}
		o.lanes[lane] = known
	}
	now := time.Now()
	if again := !known.soonest.IsZero() && o.q.Now().After(known.soonest); again && now.After(known.rest) {
		*known = overdueLane{next: 1}
	}
	whole := known.next == 1
	for {
		n, err := o.read(ctx, lane, known, visit)
		if err != nil {
			return fmt.Errorf("queue: overdue jobs: %w", redact(err))
		}
		if n == 0 {
			break
		}
	}
	if whole {
		known.rest = time.Now().Add(overdueShare * time.Since(now))
	}
	return nil
}

// read looks at the next jobs of a lane and returns how many there were.
func (o *Overdue) read(ctx context.Context, lane PageLane, known *overdueLane, visit func(*Delivery)) (n int, err error) {
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msgs, err := jetstreamext.GetBatch(try, o.q.js, StreamJobs, overdueBatch, jetstreamext.GetBatchSeq(known.next),
		jetstreamext.GetBatchSubject(jobSubject(lane.Page, lane.Lane, "*")), jetstreamext.GetBatchMaxBytes(overdueBytes))
	if err != nil {
		return 0, o.q.missing(err)
	}
	var expired []*Delivery
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return n, o.q.missing(unanswered(try, err))
		}
		n++
		known.next = msg.Sequence + 1
		d := o.q.stored(lane, msg)
		switch {
		case d.Expire.IsZero():
		case o.q.Now().After(d.Expire):
			expired = append(expired, d)
		case known.soonest.IsZero() || d.Expire.Before(known.soonest):
			known.soonest = d.Expire
		}
	}
	if err := try.Err(); err != nil && n == 0 { // the answers end without a word when they do not come in time
		return n, unanswered(try, err)
	}
	for _, d := range expired {
		free, err := o.q.unattended(ctx, d)
		if err != nil {
			return n, err
		}
		if free {
			visit(d)
		} else if known.soonest.IsZero() || d.Expire.Before(known.soonest) {
			known.soonest = d.Expire // it is looked at again
		}
	}
	return n, nil
}

// stored makes a Delivery of a job that was read and not handed out.
func (q *Queue) stored(lane PageLane, msg *jetstream.RawStreamMsg) *Delivery {
	id := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	d := &Delivery{q: q, StreamSeq: msg.Sequence, renewed: time.Now()}
	d.Job = readJob(id, lane.Page, lane.Lane, msg.Header, msg.Data, msg.Time)
	d.readHeaders(msg.Header)
	return d
}

// unattended reports whether a stored job is in no worker's hands, and removes it where its record says that it is settled.
func (q *Queue) unattended(ctx context.Context, d *Delivery) (bool, error) {
	if q.inHand.has(d.StreamSeq) {
		return false, nil
	}
	found, _, err := d.findRecord(ctx)
	switch {
	case err != nil:
		return false, err
	case found == ended:
		d.ack()
		return false, nil
	case found == foreign:
		return false, nil
	}
	return true, nil
}

// removeTimeout is how long the removal of a job that was read is waited for.
const removeTimeout = 2 * time.Second

// remove removes a job that was read and not handed out.
func (d *Delivery) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	_ = d.q.jobs.DeleteMsg(ctx, d.StreamSeq) // after an error whoever finds it next finds its record too
}

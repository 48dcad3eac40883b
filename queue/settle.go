package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// markSettled ends the lease of the job in this process, whether its settlement was stored or not.
func (d *Delivery) markSettled() {
	d.settled = true
	d.q.inFlight.remove(d)
}

// Done settles the job as delivered. It returns when that is stored, and repeats the write until ctx ends; after an
// error the job may be delivered again, and is then in doubt. The server removes the job itself shortly after.
func (d *Delivery) Done(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.markSettled()
	err := d.finish(ctx, "")
	if err == nil {
		d.q.countDelivered(&d.Job)
	}
	return err
}

// finish writes the record that keeps the job's id for its window, and removes the job. d.mu is held.
func (d *Delivery) finish(ctx context.Context, reason string) error {
	keep := max(d.window-d.q.Now().Sub(d.Accepted), minDoneAge)
	if err := d.writeRecord(ctx, record{State: stateDone, Attempts: d.Attempts, Lost: d.Lost, Reason: reason}, keep); err != nil {
		return fmt.Errorf("queue: settle: %w", redact(err))
	}
	d.ack()
	return nil
}

// ack removes a job that is settled by its record. A lost acknowledgement does no harm: the server delivers the job again,
// and whoever gets it finds the record and acknowledges that delivery.
func (d *Delivery) ack() {
	switch {
	case d.streamGone:
	case d.msg == nil: // read by a [Sweeper]
		d.remove()
	default:
		_ = d.msg.Ack()
	}
}

// remove removes a job that was read and not delivered.
func (d *Delivery) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	stream, _, err := d.q.jobsAt(d.at)
	if err != nil {
		return
	}
	_ = stream.DeleteMsg(ctx, d.StreamSeq) // after an error the next reader of the job finds its record
}

// Retry requeues the job for after delay, with attempts counted so far. If those are more than before, one is counted for
// the reason as well (see Delivery.Counts). All of that outlasts restarts of the worker and of the server.
func (d *Delivery) Retry(ctx context.Context, attempts int, reason string, delay time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.markSettled()
	counts := d.Counts
	if attempts > d.Attempts {
		counts = maps.Clone(counts)
		if counts == nil {
			counts = map[string]int{}
		}
		counts[reason]++
	}
	return d.requeue(ctx, record{State: stateWaiting, Attempts: attempts, Counts: counts, Lost: d.Lost, Reason: reason}, delay)
}

// Release requeues the job without counting an attempt, for any worker to get at once. A job in doubt stays in doubt.
func (d *Delivery) Release(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.markSettled()
	if !d.begun || d.taken { // the record need not change
		return d.nak(ctx, releaseDelay)
	}
	return d.requeue(ctx, record{State: stateWaiting, Attempts: d.Attempts, Counts: d.Counts, Lost: d.Lost, Doubt: d.Doubt, Reason: released}, 0)
}

// releaseDelay is the delay of a job that is released. The server keeps a delay, however short, over its restart;
// without one it would know after a restart only that the job was delivered, and wait for a whole lease.
const releaseDelay = time.Millisecond

// requeue stores a record that says that the job waits, and has the server deliver the job after delay. d.mu is held.
func (d *Delivery) requeue(ctx context.Context, r record, delay time.Duration) error {
	if delay > releaseDelay {
		r.NotBefore = d.q.Now().Add(delay).UnixMilli()
	}
	err := d.writeRecord(ctx, r, recordAge)
	if errors.Is(err, ErrTaken) {
		return nil // another worker settles the job
	}
	if err == nil {
		if r.Reason == reasonInDoubt {
			d.q.counters.add(&d.Job, d.Page, countDoubt)
		}
		err = d.nak(ctx, max(delay, releaseDelay))
	}
	if err != nil {
		return fmt.Errorf("queue: requeue: %w", redact(err))
	}
	return nil
}

// nak has the server deliver the job again after delay. If that is lost, the lease ends and the server delivers the job, and
// its record tells whether it is time.
func (d *Delivery) nak(ctx context.Context, delay time.Duration) error {
	if d.streamGone || d.msg == nil {
		return nil
	}
	return d.q.insist(ctx, readsOf(d.at.stream), func() error { return d.msg.NakWithDelay(delay) })
}

// tooLargeDelay is how long a job waits whose dead letter is too large for the server, until an operator raises the limit.
const tooLargeDelay = 10 * time.Minute

// DeadLetter settles the job as a dead letter. The dead letter is stored before the job is settled; after an error the
// job may be delivered again, and the dead letter is still stored once. The text of the reason is cut where the dead
// letter would be over the server's limit for one message. If it is over the limit without that text, as a job can be
// that was published by hand, the job waits in the queue until an operator raises the limit.
func (d *Delivery) DeadLetter(ctx context.Context, why Reason) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.markSettled()
	msg := d.deadLetterMessage(why)
	d.q.fit(msg)
	err := d.q.retry(ctx, writesTo(StreamDead), func(ctx context.Context) error {
		_, err := d.q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(d.deadLetterID()), jetstream.WithRetryAttempts(0))
		return d.q.reportMissing(err)
	})
	if errors.Is(err, nats.ErrMaxPayload) {
		failed := d.requeue(ctx, record{State: stateWaiting, Attempts: why.Attempts, Counts: d.Counts, Lost: d.Lost, Reason: why.Class}, tooLargeDelay)
		err = errors.Join(err, failed)
	}
	if err != nil {
		return fmt.Errorf("queue: store dead letter: %w", redact(err))
	}
	if err = d.finish(ctx, why.Class); err == nil {
		d.q.countDead(&d.Job, why.Class)
	}
	return err
}

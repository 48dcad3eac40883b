package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Delivery is one job in this worker's hands, to be settled by exactly one of Done, Retry, Release and Bury. An
// unsettled one is delivered again, here or elsewhere, when its process ends. It belongs to one goroutine at a time.
type Delivery struct {
	Job
	// Attempts is how many attempts were counted before this delivery.
	Attempts int
	// Counts has those of the attempts that ended with [Delivery.Retry], by its reason. It is not to be changed.
	Counts map[string]int
	// InDoubt reports that an earlier attempt ended without a word: its worker was killed, or cut off for longer than a
	// lease, and may have sent the message. Doubt says how that is known.
	InDoubt bool
	Doubt   string
	// Lost is how many attempts ended so, over the job's life. They are among the attempts.
	Lost int
	// Refused is when the job was first refused as if its page might not send, by the server's clock, and Refusals is how often it
	// was. The caller sets them, and they are kept with the job from the next call on.
	Refused  time.Time
	Refusals int
	// StreamSeq, ConsumerSeq and Deliveries are the server's numbers of the job, of this delivery, and of how often the job
	// was handed out, as far as it remembers.
	StreamSeq, ConsumerSeq, Deliveries uint64

	q           *Queue
	fingerprint string        // the job's
	window      time.Duration // for which its id is kept, from when it was accepted

	mu      sync.Mutex
	msg     jetstream.Msg // the latest delivery of the job to this process; nil: it was read and not handed out
	record  *record       // the latest that is known, nil if there is none
	begun   bool          // the record says that this worker is at it
	taken   bool          // another delivery has the job, or had it to its end
	gone    bool          // the stream of the job is gone
	settled bool
	renewed time.Time // when the lease began anew

	sure atomic.Pointer[time.Time] // a moment before the record that says begun was last stored
}

// delivery makes a Delivery of a message. It returns nil if the job is not to be worked on now, and has then seen to it.
func (q *Queue) delivery(ctx context.Context, page string, lane Lane, msg jetstream.Msg) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	d := &Delivery{q: q, msg: msg, renewed: time.Now(), StreamSeq: meta.Sequence.Stream,
		ConsumerSeq: meta.Sequence.Consumer, Deliveries: meta.NumDelivered}
	id := msg.Subject()[strings.LastIndexByte(msg.Subject(), '.')+1:]
	d.Job = readJob(id, page, lane, msg.Headers(), msg.Data(), meta.Timestamp)
	d.readHeaders(msg.Headers())
	if q.inHand.replace(d) {
		return nil, nil
	}
	// A server without replicas forgets, when it ends, what it handed out: its count tells nothing of jobs that are older
	// than the connection.
	if meta.NumDelivered == 1 && !meta.Timestamp.Before(q.back()) {
		q.inHand.add(d)
		return d, nil
	}
	return q.redelivery(ctx, d)
}

// readHeaders reads what a stored job says of its id.
func (d *Delivery) readHeaders(h nats.Header) {
	d.fingerprint = h.Get(headerFingerprint)
	if seconds, err := strconv.ParseInt(h.Get(headerWindow), 10, 64); err == nil { // else it was published by hand
		d.window = time.Duration(seconds) * time.Second
	}
}

// redelivery judges a delivery by the job's record.
func (q *Queue) redelivery(ctx context.Context, d *Delivery) (*Delivery, error) {
	found, wait, err := d.findRecord(ctx)
	switch {
	case err != nil:
		return nil, err // the lease runs out, and somebody looks again
	case found == ended:
		d.ack()
		return nil, nil
	case found == tooEarly, found == foreign:
		return nil, d.nak(ctx, wait)
	}
	q.inHand.add(d)
	return d, nil
}

// findRecord takes in what the job's record says, and returns how it is judged.
func (d *Delivery) findRecord(ctx context.Context) (found finding, wait time.Duration, err error) {
	q := d.q
	if err := q.clock.ready(ctx); err != nil {
		return found, 0, err
	}
	if d.record, err = q.findRecord(ctx, d.recordSubject()); err != nil {
		return found, 0, err
	}
	if d.record.ofAnother(d.fingerprint) {
		d.record = &record{State: waiting, seq: d.record.seq}
	}
	found, wait = d.record.judge(q.Now(), q.back(), q.cfg.lease, q.isGone)
	if found == lost {
		d.doubt()
	}
	if r := d.record; r != nil {
		d.Attempts, d.Lost, d.Counts, d.Refusals = d.Attempts+r.Attempts, d.Lost+r.Lost, r.counts(), r.Refusals
		if r.Refused != 0 {
			d.Refused = time.UnixMilli(r.Refused)
		}
	}
	return found, wait, nil
}

// doubt marks a job whose last attempt was lost, which counts as an attempt.
func (d *Delivery) doubt() {
	d.InDoubt, d.Doubt = true, d.record.Doubt
	if d.record.State == begun {
		d.Doubt = fmt.Sprintf("a worker began it at %s, and nothing was heard of it since", d.record.at.UTC().Format(time.RFC3339))
		d.Attempts, d.Lost = 1, 1
	}
}

func (d *Delivery) recordSubject() string { return recordSubject(d.Page, d.Lane, d.ID) }

// ErrTaken says that another delivery of the job has begun, or has brought the job to its end. This one is to be released.
var ErrTaken = errors.New("another delivery of the job has begun")

// Begin says that work on the job begins: if nothing is heard of it from now on, it is in doubt. It returns when that is
// as durable as the job, and asks again until ctx ends. After an error the job must not be worked on, and is to be released.
func (d *Delivery) Begin(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.write(ctx, record{State: begun, Attempts: d.Attempts, Counts: d.Counts, Lost: d.Lost, Worker: d.q.worker}, recordAge); err != nil {
		return fmt.Errorf("queue: begin: %w", redact(err))
	}
	d.begun, d.renewed = true, time.Now()
	return nil
}

// Ours reports whether a job that was begun can be no other worker's yet: its record was renewed within the last half of a
// lease. It asks nobody and waits for nothing. Where it is false, [Delivery.Begin] tells.
func (d *Delivery) Ours() bool {
	sure := d.sure.Load()
	return sure != nil && time.Since(*sure) < d.q.cfg.lease/2
}

// write replaces the job's record, and asks until the server answers or ctx ends. d.mu is held.
func (d *Delivery) write(ctx context.Context, r record, keep time.Duration) error {
	r.Fingerprint, r.Write, r.Refusals = d.fingerprint, NewID()[:12], d.Refusals
	if !d.Refused.IsZero() {
		r.Refused = d.Refused.UnixMilli()
	}
	var known uint64 // the record that is to be replaced
	if d.record != nil {
		known = d.record.seq
	}
	subject := d.recordSubject()
	message := r.message(subject, known, keep)
	return d.q.insist(ctx, writesTo(StreamRecords), func() (err error) {
		asked := time.Now()
		r.seq, err = d.q.recording.write(ctx, message)
		if isTaken(err) {
			found, failed := d.q.findRecord(ctx, subject)
			switch {
			case failed != nil:
				return failed
			case found == nil: // ours has gone by its time to live or with its stream, or a write is under way, or the replica lags
				message = r.message(subject, 0, keep)
				return errTaken
			case found.Write == r.Write: // an earlier try was stored, and its answer lost
				r.seq, err = found.seq, nil
				asked = asked.Add(-d.q.cfg.lease) // nobody knows when
			case found.seq <= known, d.begun && found.State == begun && found.Worker == d.q.worker:
				// It is the one that is to be replaced, or one before it on a replica that lags, or a renewal whose answer was lost.
				message = r.message(subject, max(found.seq, known), keep)
				return errTaken
			default:
				d.taken = true
				return backoff.Permanent(ErrTaken)
			}
		}
		if err == nil {
			d.record = &r
			d.sure.Store(&asked)
		}
		return err
	})
}

// renew begins the lease anew: on the server, so that it does not hand the job out, and in the record, for whoever gets the
// job all the same.
func (d *Delivery) renew(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled || d.taken || d.gone {
		return
	}
	if err := d.msg.InProgress(); err != nil {
		return // there is no connection; the next round comes soon
	}
	d.renewed = time.Now()
	if !d.begun {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout) // who settles the job waits for this
	defer cancel()
	if err := d.write(ctx, *d.record, recordAge); errors.Is(err, ErrTaken) {
		d.q.log.Warn("job was taken by another worker while this one was cut off", zap.String("event", "lease_lost"),
			zap.String("id", d.ID), zap.Uint64("stream_seq", d.StreamSeq))
	}
}

// settle ends the job for this process, after whatever was to be said of it.
func (d *Delivery) settle() {
	d.settled = true
	d.q.inHand.remove(d)
}

// Done says that the job has come to its end. It returns when that is stored, and asks again until ctx ends; after an
// error the job may be delivered again, and is then in doubt. The job itself is gone a moment later.
func (d *Delivery) Done(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.settle()
	return d.end(ctx, "")
}

// end writes the record that keeps the job's id for its window, and removes the job. d.mu is held.
func (d *Delivery) end(ctx context.Context, reason string) error {
	keep := max(d.window-d.q.Now().Sub(d.Accepted), minDoneAge)
	if err := d.write(ctx, record{State: done, Attempts: d.Attempts, Lost: d.Lost, Reason: reason}, keep); err != nil {
		return fmt.Errorf("queue: settle: %w", redact(err))
	}
	d.ack()
	return nil
}

// ack removes a job that is settled by its record. It is of no matter if that is lost: the server hands the job out again,
// and whoever gets it finds the record and acknowledges that delivery.
func (d *Delivery) ack() {
	switch {
	case d.gone:
	case d.msg == nil: // see [Overdue]
		d.remove()
	default:
		_ = d.msg.Ack()
	}
}

// Retry puts the job back for after delay, with attempts counted so far. If those are more than before, one is counted for
// the reason as well (see Delivery.Counts). All of it outlasts restarts of the worker and of the server.
func (d *Delivery) Retry(ctx context.Context, attempts int, reason string, delay time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.settle()
	counts := d.Counts
	if attempts > d.Attempts {
		counts = maps.Clone(counts)
		if counts == nil {
			counts = map[string]int{}
		}
		counts[reason]++
	}
	return d.requeue(ctx, record{State: waiting, Attempts: attempts, Counts: counts, Lost: d.Lost, Reason: reason}, delay)
}

// Release puts the job back untouched and uncounted, for another worker to take at once. If it is in doubt it stays so.
func (d *Delivery) Release(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.settle()
	if !d.begun || d.taken { // what the record says is still so
		return d.nak(ctx, releaseDelay)
	}
	return d.requeue(ctx, record{State: waiting, Attempts: d.Attempts, Counts: d.Counts, Lost: d.Lost, Doubt: d.Doubt, Reason: released}, 0)
}

// releaseDelay is the delay of a job that is put back for others. A delay, however short, is kept over a restart of the
// server; without one it would remember only that the job was handed out, and give it a whole lease.
const releaseDelay = time.Millisecond

// requeue writes down that the job waits, and has the server hand it out after delay. d.mu is held.
func (d *Delivery) requeue(ctx context.Context, r record, delay time.Duration) error {
	if delay > releaseDelay {
		r.NotBefore = d.q.Now().Add(delay).UnixMilli()
	}
	err := d.write(ctx, r, recordAge)
	if errors.Is(err, ErrTaken) {
		return nil // the job is another's to settle
	}
	if err == nil {
		err = d.nak(ctx, max(delay, releaseDelay))
	}
	if err != nil {
		return fmt.Errorf("queue: requeue: %w", redact(err))
	}
	return nil
}

// nak has the server hand the job out again after delay. Should that be lost, the lease runs out, and the record tells
// whether it is time.
func (d *Delivery) nak(ctx context.Context, delay time.Duration) error {
	if d.gone || d.msg == nil {
		return nil
	}
	return d.q.insist(ctx, readsOf(StreamJobs), func() error { return d.msg.NakWithDelay(delay) })
}

// tooLargeDelay is how long a job waits whose dead letter the server does not take.
const tooLargeDelay = 10 * time.Minute

// Bury ends the job as a dead letter. The letter is stored before the job is settled; after an error the job may
// be delivered again, and the letter is still stored once. A letter over the server's limit for one message loses the end
// of the reason's text. One that is over it all the same, of a job that was published by hand, waits in the queue for
// somebody to raise the limit.
func (d *Delivery) Bury(ctx context.Context, why Reason) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.settle()
	msg := d.letter(why)
	d.q.fit(msg)
	err := d.q.retry(ctx, writesTo(StreamDead), func(ctx context.Context) error {
		_, err := d.q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(d.letterID()), jetstream.WithRetryAttempts(0))
		return d.q.missing(err)
	})
	if errors.Is(err, nats.ErrMaxPayload) {
		failed := d.requeue(ctx, record{State: waiting, Attempts: why.Attempts, Counts: d.Counts, Lost: d.Lost, Reason: why.Class}, tooLargeDelay)
		err = errors.Join(err, failed)
	}
	if err != nil {
		return fmt.Errorf("queue: store dead letter: %w", redact(err))
	}
	return d.end(ctx, why.Class)
}

// retry calls the server until it answers, an error comes that asking again cannot mend, or ctx ends. Each call gets
// apiTimeout. Meanwhile what is awaited is said to be waited for.
func (q *Queue) retry(ctx context.Context, what awaited, call func(context.Context) error) error {
	return q.insist(ctx, what, func() error {
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		return call(try)
	})
}

// insist is retry for attempts that bound their calls themselves.
func (q *Queue) insist(ctx context.Context, what awaited, attempt func() error) error {
	final := func(err error) error { // nearly always; what repeats it is made only where it is needed
		var permanent *backoff.PermanentError
		if errors.As(err, &permanent) {
			return permanent.Unwrap()
		}
		return err
	}
	began := time.Now()
	err := attempt()
	if err == nil {
		q.waits.there(what)
		return nil
	}
	if isFinal(err) {
		return final(err)
	}
	waiting := q.waits.begin(what, began, err)
	wait := backoff.WithContext(Backoff(50*time.Millisecond, 2*time.Second), ctx)
	err = backoff.Retry(func() error {
		err := attempt()
		if isFinal(err) {
			return backoff.Permanent(final(err))
		}
		if err != nil && ctx.Err() == nil {
			waiting.failed(err)
		}
		return err
	}, wait)
	waiting.end(err == nil || ctx.Err() == nil && !errors.Is(err, nats.ErrConnectionClosed))
	return err
}

func isFinal(err error) bool {
	for _, final := range []error{nats.ErrConnectionClosed, nats.ErrMaxPayload, jetstream.ErrMsgAlreadyAckd, jetstream.ErrKeyNotFound, ErrTaken} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

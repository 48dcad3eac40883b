package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of [Queue.Publish]. In every case the caller must treat the job as not stored; after ErrUnavailable, and rarely
// after ErrFull, it may be stored all the same, and publishing it again under the same id does no harm.
var (
	// ErrFull says that there is no space in the queue, or on its disk. See also ErrPageFull.
	ErrFull = errors.New("queue is full")
	// ErrUnavailable says that no server acknowledged the job before the context ended.
	ErrUnavailable = errors.New("queue is unavailable")
	// ErrTooLarge says that the job is over the server's limit for one message.
	ErrTooLarge = errors.New("job is too large for the queue")
	// ErrKeyReused says that the job's idempotency key was used for another recipient.
	ErrKeyReused = errors.New("idempotency key was used for another recipient")
)

var errNoSpace = fmt.Errorf("%w: free disk is below the reserve kept for queued messages", ErrFull)

// Stored is the result of [Queue.Publish].
type Stored struct {
	// Duplicate says that a job with this id was accepted before, within the window, and nothing was stored now.
	Duplicate bool
	// BodyDiffers says that the body of that job was another.
	BodyDiffers bool
}

// unkeyedWindow is for how long the id of a job without a key is kept: long enough for its own call of Publish to
// repeat the write, and for a caller that derived the id from something else to be started anew and do so again.
const unkeyedWindow = minDoneAge

// Publish stores a job and returns once JetStream has acknowledged it: flushed to disk on an embedded server with
// --sync always, stored by a quorum on a cluster. A job whose id belongs to a job of another recipient is refused with
// [ErrKeyReused]. Publish repeats its requests until ctx ends; a job is never stored twice by that. It keeps no
// reference to job after it has returned without error.
func (q *Queue) Publish(ctx context.Context, job *Job) (Stored, error) {
	window := q.cfg.Window
	if job.Key == "" {
		window = unkeyedWindow
	}
	mine := job.newFingerprint()
	prior, err := q.publish(ctx, job, mine, window)
	if err != nil {
		return Stored{}, err
	}
	if prior == nil {
		q.countPublished(job, false)
		return Stored{}, nil
	}
	if prior.Recipient != mine.Recipient {
		return Stored{}, fmt.Errorf("queue: publish: %w", ErrKeyReused)
	}
	q.countPublished(job, true)
	return Stored{Duplicate: true, BodyDiffers: prior.Body != mine.Body}, nil
}

// publish stores a job, or returns the fingerprint of the job that has its id. The id is kept for window, and longer
// while the job is not settled.
func (q *Queue) publish(ctx context.Context, job *Job, mine fingerprint, window time.Duration) (prior *fingerprint, err error) {
	if err := job.check(); err != nil {
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	stores := q.storesOf(job.Page, job.Lane)
	at := stores[0]
	if _, _, err := q.jobsAt(at); err != nil {
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	message := newWrite(job.message(at, mine, window), at.jobsWithID(job.Page, job.ID), 0)
	// Only an id that comes from a key, a replay or what a webhook or the end of a message tells can have been used before.
	if job.Key != "" || len(job.Deaths) > 0 || !job.Lane.isMessage() {
		message.absent = []lookup{at.recordOf(job)}
		for _, other := range stores[1:] {
			// The job first: it may be settled meanwhile, and is removed only once it has a record.
			message.absent = append(message.absent, lookup{other.jobs, other.stream, other.jobsWithID(job.Page, job.ID)}, other.recordOf(job))
		}
	}
	if most := q.nc.MaxPayload(); most > 0 && int64(message.size()) > most {
		return nil, fmt.Errorf("queue: publish: %w: must be at most %d bytes (got %d)", ErrTooLarge, most, message.size())
	}
	if job.Lane.isMessage() {
		if err := at.shares.take(job.Page, message.msg.Size()); err != nil {
			return nil, fmt.Errorf("queue: publish: %w", err)
		}
	}
	began := time.Now()
	stream := at.stream
	prior, err = q.publishOnce(ctx, at, job, mine, message)
	if err == nil { // nearly always: the rest is allocated only where it is needed
		q.waits.succeeded(writesTo(stream))
		return prior, nil
	}
	switch {
	case isLasting(err):
	case ctx.Err() != nil:
		err = ctx.Err()
	default:
		prior, err = q.publishAgain(ctx, writesTo(stream), began, err, func() (*fingerprint, error) { return q.publishOnce(ctx, at, job, mine, message) })
	}
	switch {
	case err == nil:
		return prior, nil
	case isFull(err):
		q.waits.observe(spaceIn(stream), began, err)
		if !errors.Is(err, ErrFull) {
			err = fmt.Errorf("%w: %v", ErrFull, err)
		}
		return nil, fmt.Errorf("queue: publish: %w", err)
	case errors.Is(err, ErrTooLarge):
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	return nil, fmt.Errorf("queue: publish: %w: %s", ErrUnavailable, q.reasonFor(writesTo(stream), err))
}

// publishAgain repeats a first attempt, which began at a time and failed, until one succeeds or has a lasting error, or
// ctx ends. Its error is that of the last attempt before.
func (q *Queue) publishAgain(ctx context.Context, what dependency, began time.Time, last error, attempt func() (*fingerprint, error)) (prior *fingerprint, err error) {
	wait := backoff.WithContext(Backoff(publishRetryFirst, publishRetryLongest), ctx)
	waiting := q.waits.begin(what, began, last)
	if err = pause(ctx, wait.NextBackOff()); err == nil {
		err = backoff.Retry(func() (err error) {
			prior, err = attempt()
			switch {
			case isLasting(err):
				return backoff.Permanent(err)
			case err != nil && ctx.Err() == nil:
				last = err
				waiting.failed(err)
			}
			return err
		}, wait)
	}
	waiting.end(err == nil)
	if err != nil && ctx.Err() != nil {
		err = last
	}
	return prior, err
}

// isLasting reports whether the caller of Publish has to deal with an error, since repeating does not repair it.
func isLasting(err error) bool {
	return isFull(err) || errors.Is(err, ErrTooLarge) || errors.Is(err, nats.ErrConnectionClosed)
}

// publishOnce tries once to store a job. A known id has a job or, once that is settled, a record. A job that is settled
// between the look-up of the record and the condition about the job goes unnoticed: a second job under its id is then
// stored, and the worker that gets it finds that it is settled.
func (q *Queue) publishOnce(ctx context.Context, at store, job *Job, mine fingerprint, message *write) (prior *fingerprint, err error) {
	if q.cfg.HasSpace != nil && !q.cfg.HasSpace() {
		return nil, errNoSpace
	}
	if job.Lane.isMessage() {
		if err := at.lanes.announce(ctx, PageLane{job.Page, job.Lane}); err != nil {
			return nil, err
		}
	}
	stream, writer, err := q.jobsAt(at)
	if err != nil {
		return nil, err
	}
	if _, err = writer.write(ctx, message); isConditionFailed(err) {
		prior, err = q.findPrior(ctx, append(slices.Clone(message.absent), lookup{stream, at.stream, message.subject}))
	}
	if prior != nil && prior.Nonce == mine.Nonce { // an earlier attempt of this call, whose answer was lost
		prior = nil
	}
	return prior, err
}

// findPrior returns the fingerprint of the job that has the id of another, the first that is found.
func (q *Queue) findPrior(ctx context.Context, lookups []lookup) (prior *fingerprint, err error) {
	for _, p := range lookups {
		if prior == nil && err == nil {
			prior, err = q.findFingerprint(ctx, p)
		}
	}
	if prior == nil && err == nil { // that job is about to be stored, or was settled just now
		err = errConditionFailed
	}
	return prior, err
}

// findFingerprint returns the fingerprint of the last job or record under a subject, nil if there is none.
func (q *Queue) findFingerprint(ctx context.Context, p lookup) (*fingerprint, error) {
	ctx, cancel := q.requestContext(ctx)
	defer cancel()
	msg, err := p.stream.GetLastMsgForSubject(ctx, p.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, located{readsOf(p.name), q.reportMissing(fmt.Errorf("look up the id: %w", noAnswer(ctx, err)))}
	}
	found := parseFingerprint(msg.Header.Get(headerFingerprint))
	if strings.HasPrefix(msg.Subject, strings.TrimSuffix(recordSubjects, ".")) { // of any partition
		found = parseFingerprint(readRecord(msg).Fingerprint)
	}
	return &found, nil
}

func isFull(err error) bool {
	return errors.Is(err, ErrFull) || hasCode(err, errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded)
}

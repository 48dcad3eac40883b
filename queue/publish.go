package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of [Queue.Publish]. In every case the caller must treat the job as not stored; after ErrUnavailable, and rarely
// after ErrFull, it may be stored all the same, and publishing it again under the same id does no harm.
var (
	// ErrFull says that the queue, or the disk under it, has no room. See also ErrPageFull.
	ErrFull = errors.New("queue is full")
	// ErrUnavailable says that no server acknowledged the job before the context ended.
	ErrUnavailable = errors.New("queue is unavailable")
	// ErrTooLarge says that the job is over the server's limit for one message.
	ErrTooLarge = errors.New("job is too large for the queue")
	// ErrKeyReused says that the job's idempotency key was used for another recipient.
	ErrKeyReused = errors.New("idempotency key was used for another recipient")
)

// Server error codes for a stream or a disk without room (server/errors.json of nats-server).
const (
	errCodeStoreFailed           jetstream.ErrorCode = 10077 // a limit of the stream; the text says which
	errCodeInsufficientResources jetstream.ErrorCode = 10023
	errCodeStorageExceeded       jetstream.ErrorCode = 10047
)

var errNoRoom = fmt.Errorf("%w: free disk is below the reserve kept for queued messages", ErrFull)

// Stored says what [Queue.Publish] found.
type Stored struct {
	// Duplicate says that a job with this id was accepted before, within the window, and nothing was stored now.
	Duplicate bool
	// BodyDiffers says that the duplicate's body was another.
	BodyDiffers bool
}

// unkeyedWindow is how long the id of a job without a key is kept: long enough for its own Publish call to ask again.
const unkeyedWindow = minDoneAge

// Publish stores a job and returns once JetStream has acknowledged it: flushed to disk on an embedded server with
// --sync always, held by a quorum on a cluster. A job whose id is taken by another recipient's is refused with
// [ErrKeyReused]. Publish asks again until ctx ends, and returns then; a job is never stored twice by that. It keeps no
// reference to job after it has returned without error.
func (q *Queue) Publish(ctx context.Context, job *Job) (Stored, error) {
	window := q.cfg.Window
	if job.Key == "" {
		window = unkeyedWindow
	}
	mine := job.newFingerprint()
	prior, err := q.publish(ctx, job, mine, window)
	if err != nil || prior == nil {
		return Stored{}, err
	}
	if prior.Recipient != mine.Recipient {
		return Stored{}, fmt.Errorf("queue: publish: %w", ErrKeyReused)
	}
	return Stored{Duplicate: true, BodyDiffers: prior.Body != mine.Body}, nil
}

// publish stores a job, or returns the fingerprint of the job that has its id. The id is kept for window, and longer while
// the job is not settled.
func (q *Queue) publish(ctx context.Context, job *Job, mine fingerprint, window time.Duration) (prior *fingerprint, err error) {
	if err := job.check(); err != nil {
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	message := newWrite(job.message(mine, window), jobsWithID(job.Page, job.ID), 0)
	if job.Key != "" || len(job.Deaths) > 0 { // only what names a job from outside, a key or a replay, can have been there before
		message.record = recordsWithID(job.Page, job.ID)
	}
	if most := q.nc.MaxPayload(); most > 0 && int64(message.size()) > most {
		return nil, fmt.Errorf("queue: publish: %w: %d bytes, the server takes %d", ErrTooLarge, message.size(), most)
	}
	if err := q.shares.take(job.Page, message.msg.Size()); err != nil {
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	began := time.Now()
	prior, err = q.publishOnce(ctx, job, mine, message)
	if err == nil { // nearly always; what repeats it is made only where it is needed
		q.waits.there(writesTo(StreamJobs))
		return prior, nil
	}
	switch {
	case isLasting(err):
	case ctx.Err() != nil:
		err = ctx.Err()
	default:
		prior, err = q.publishAgain(ctx, began, err, func() (*fingerprint, error) { return q.publishOnce(ctx, job, mine, message) })
	}
	switch {
	case err == nil:
		return prior, nil
	case isFull(err):
		q.waits.note(roomForJobs, began, err)
		if !errors.Is(err, ErrFull) {
			err = fmt.Errorf("%w: %v", ErrFull, err)
		}
		return nil, fmt.Errorf("queue: publish: %w", err)
	case errors.Is(err, ErrTooLarge):
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	return nil, fmt.Errorf("queue: publish: %w: %s", ErrUnavailable, q.plain(writesTo(StreamJobs), err))
}

// publishAgain goes on after a first attempt that began at a time and failed, until one ends well or with a lasting error, or ctx
// ends. Its error is what stood in the way.
func (q *Queue) publishAgain(ctx context.Context, began time.Time, last error, attempt func() (*fingerprint, error)) (prior *fingerprint, err error) {
	// Shorter than elsewhere, so that, reconnecting included, none waits for long once the server is back.
	wait := backoff.WithContext(Backoff(20*time.Millisecond, 250*time.Millisecond), ctx)
	waiting := q.waits.begin(writesTo(StreamJobs), began, last)
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

// isLasting reports whether an error of a publish is for its caller to deal with.
func isLasting(err error) bool {
	return isFull(err) || errors.Is(err, ErrTooLarge) || errors.Is(err, nats.ErrConnectionClosed)
}

// publishOnce tries once to store a job. An id may be known by a job or, once that is settled, by its record. What comes
// between the look at the one and the condition about the other is a job that is settled in that moment: a second one under
// its id is then stored, and found to be done by whoever is handed it.
func (q *Queue) publishOnce(ctx context.Context, job *Job, mine fingerprint, message *write) (prior *fingerprint, err error) {
	if q.cfg.HasRoom != nil && !q.cfg.HasRoom() {
		return nil, errNoRoom
	}
	if err := q.lanes.announce(ctx, PageLane{job.Page, job.Lane}); err != nil {
		return nil, err
	}
	if _, err = q.accepting.write(ctx, message); isTaken(err) {
		prior, err = q.findPrior(ctx, message)
	}
	if prior != nil && prior.Nonce == mine.Nonce { // our own earlier try, whose answer was lost
		prior = nil
	}
	return prior, err
}

// findPrior returns the fingerprint of the job that stood in the way of another.
func (q *Queue) findPrior(ctx context.Context, message *write) (prior *fingerprint, err error) {
	if message.record != "" {
		prior, err = q.findFingerprint(ctx, q.records, message.record)
	}
	if prior == nil && err == nil {
		prior, err = q.findFingerprint(ctx, q.jobs, message.subject)
	}
	if prior == nil && err == nil { // it is about to be stored, or was settled in this moment
		err = errTaken
	}
	return prior, err
}

// findFingerprint returns that of the last job or record under a subject, nil if there is none.
func (q *Queue) findFingerprint(ctx context.Context, stream jetstream.Stream, subject string) (*fingerprint, error) {
	ctx, cancel := q.answerable(ctx)
	defer cancel()
	msg, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, about{readsOf(stream.CachedInfo().Config.Name), q.missing(fmt.Errorf("look up an id: %w", unanswered(ctx, err)))}
	}
	found := parseFingerprint(msg.Header.Get(headerFingerprint))
	if strings.HasPrefix(msg.Subject, recordSubjects) {
		found = parseFingerprint(readRecord(msg).Fingerprint)
	}
	return &found, nil
}

func isFull(err error) bool {
	return errors.Is(err, ErrFull) || hasCode(err, errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded)
}

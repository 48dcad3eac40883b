package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of [Queue.Publish]. In every case the caller must treat the job as not stored; after ErrUnavailable, and rarely
// after ErrFull, it may be stored all the same, and publishing it again under the same id does no harm.
var (
	// ErrFull says that the queue, or the disk under it, has no room.
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

// maxHeaders is room for the headers of a job: those of Brazier, at most 256 bytes each, and the batch's.
const maxHeaders = 4 << 10

// Stored says what [Queue.Publish] found.
type Stored struct {
	// Duplicate says that a job with this id was accepted before, within the window, and nothing was stored now.
	Duplicate bool
	// BodyDiffers says that the duplicate's body was another.
	BodyDiffers bool
}

// Publish stores a job and returns once JetStream has acknowledged it: flushed to disk on an embedded server with
// --sync always, held by a quorum on a cluster. A job whose id is taken by another recipient's is refused with
// [ErrKeyReused]. Publish asks again until ctx ends; a job is never stored twice by that. It keeps no reference to job
// after it has returned without error.
func (q *Queue) Publish(ctx context.Context, job *Job) (Stored, error) {
	window := q.cfg.Window
	if job.Key == "" {
		window = unkeyedWindow
	}
	prior, err := q.publish(ctx, job, window)
	if err != nil || prior == nil {
		return Stored{}, err
	}
	mine := recordOf(job)
	if prior.Recipient != mine.Recipient {
		return Stored{}, fmt.Errorf("queue: publish: %w", ErrKeyReused)
	}
	return Stored{Duplicate: true, BodyDiffers: prior.Body != mine.Body}, nil
}

// publishOnce stores a job unless its id is known, and keeps the id for a time of its own.
func (q *Queue) publishOnce(ctx context.Context, job *Job, remember time.Duration) (stored bool, err error) {
	prior, err := q.publish(ctx, job, remember)
	return err == nil && prior == nil, err
}

// publish stores a job, or returns what is kept under its id.
func (q *Queue) publish(ctx context.Context, job *Job, window time.Duration) (prior *keyRecord, err error) {
	if err := job.check(); err != nil {
		return nil, fmt.Errorf("queue: publish: %w", err)
	}
	if size := int64(len(job.Body)) + maxHeaders; q.nc.MaxPayload() > 0 && size > q.nc.MaxPayload() {
		return nil, fmt.Errorf("queue: publish: %w: %d bytes, the server takes %d", ErrTooLarge, size, q.nc.MaxPayload())
	}
	r := &request{job: job, record: recordOf(job), window: window}
	wait := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMaxInterval(250*time.Millisecond), // so that, reconnecting included, none waits for long once the server is back
		backoff.WithMaxElapsedTime(0),
	), ctx)
	var last error // what stood in the way when ctx ended
	err = backoff.Retry(func() (err error) {
		prior, err = q.acceptor.accept(ctx, r)
		switch {
		case errors.Is(err, ErrFull):
			return backoff.Permanent(err)
		case isFull(err):
			return backoff.Permanent(fmt.Errorf("%w: %v", ErrFull, err))
		case errors.Is(err, nats.ErrConnectionClosed):
			return backoff.Permanent(err)
		case err != nil && ctx.Err() == nil:
			last = err
		}
		return err
	}, wait)
	switch {
	case err == nil:
		return prior, nil
	case errors.Is(err, ErrFull):
		return nil, fmt.Errorf("queue: publish: %w", err)
	case ctx.Err() != nil && last != nil:
		err = last
	}
	return nil, fmt.Errorf("queue: publish: %w: %v", ErrUnavailable, redact(err))
}

func isFull(err error) bool {
	return hasCode(err, errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded)
}

// hasCode reports whether err is an answer of the server with one of the codes.
func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var js jetstream.JetStreamError
	return errors.As(err, &js) && js.APIError() != nil && slices.Contains(codes, js.APIError().ErrorCode)
}

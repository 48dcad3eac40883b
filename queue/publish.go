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

// Errors of [Queue.Publish]. In every case the caller must treat the job as not stored; after ErrUnavailable it may be
// stored all the same, and publishing it again under the same id does no harm.
var (
	// ErrFull says that the queue, or the disk under it, has no room.
	ErrFull = errors.New("queue is full")
	// ErrUnavailable says that no server acknowledged the job before the context ended.
	ErrUnavailable = errors.New("queue is unavailable")
	// ErrTooLarge says that the job is over the server's limit for one message.
	ErrTooLarge = errors.New("job is too large for the queue")
)

// Server error codes for a stream or a disk without room (server/errors.json of nats-server).
const (
	errCodeStoreFailed           jetstream.ErrorCode = 10077 // a limit of the stream; the text says which
	errCodeInsufficientResources jetstream.ErrorCode = 10023
	errCodeStorageExceeded       jetstream.ErrorCode = 10047
)

// Publish stores a job and returns once JetStream has acknowledged it: flushed to disk on an embedded server with
// --sync always, held by a quorum on a cluster. duplicate says that a job with this id was stored before, within the
// window. It asks again, under the same id, until ctx ends; a job is never stored twice by that. It keeps no reference
// to job after it has returned.
func (q *Queue) Publish(ctx context.Context, job *Job) (duplicate bool, err error) {
	if err := job.check(); err != nil {
		return false, fmt.Errorf("queue: publish: %w", err)
	}
	msg := job.message()
	wait := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMaxInterval(time.Second),
		backoff.WithMaxElapsedTime(0),
	), ctx)
	asked := false
	var last error // what stood in the way when ctx ended
	ack, err := backoff.RetryWithData(func() (*jetstream.PubAck, error) {
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		ack, err := q.js.PublishMsg(try, msg, jetstream.WithMsgID(job.ID), jetstream.WithRetryAttempts(0))
		switch {
		case err == nil:
			// Our own earlier try may have been stored although its acknowledgement was lost. That is no duplicate.
			ack.Duplicate = ack.Duplicate && !asked
			return ack, nil
		case isFull(err):
			return nil, backoff.Permanent(fmt.Errorf("%w: %v", ErrFull, err))
		case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
			return nil, backoff.Permanent(fmt.Errorf("%w: %v", ErrTooLarge, err))
		case errors.Is(err, nats.ErrConnectionClosed):
			return nil, backoff.Permanent(err)
		case !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrReconnectBufExceeded):
			asked = true // the request went out, its fate is not known
		}
		if ctx.Err() == nil {
			last = err
		}
		return nil, err
	}, wait)
	switch {
	case err == nil:
		return ack.Duplicate, nil
	case errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		return false, fmt.Errorf("queue: publish: %w", err)
	default:
		if ctx.Err() != nil && last != nil {
			err = last
		}
		return false, fmt.Errorf("queue: publish: %w: %v", ErrUnavailable, redact(err))
	}
}

func isFull(err error) bool {
	return hasCode(err, errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded)
}

// hasCode reports whether err is an answer of the server with one of the codes.
func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var js jetstream.JetStreamError
	return errors.As(err, &js) && js.APIError() != nil && slices.Contains(codes, js.APIError().ErrorCode)
}

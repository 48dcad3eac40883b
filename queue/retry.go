package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// await repeats ready until it succeeds, which it can once there is a connection, or until an error comes that waiting
// does not repair, or ctx ends.
func (q *Queue) await(ctx context.Context, ready func(context.Context) error) error {
	wait := backoff.WithContext(Backoff(retryFirst, retryLongest), ctx)
	waiting := retrier{waits: q.waits, since: time.Now()}
	var last error // of the last attempt before ctx ended
	err := backoff.RetryNotify(func() error { return q.tryReady(ctx, ready) }, wait, func(err error, _ time.Duration) {
		if ctx.Err() == nil {
			last = err
			waiting.failed(err)
		}
	})
	waiting.end(err == nil)
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("waiting for NATS: %w, after %w", ctx.Err(), redact(last))
	}
	return err
}

// tryReady calls ready if there is a connection, and makes errors permanent that waiting does not repair.
func (q *Queue) tryReady(ctx context.Context, ready func(context.Context) error) error {
	if q.nc.IsClosed() {
		return backoff.Permanent(fmt.Errorf("NATS refused the connection: %w", redact(q.nc.LastError())))
	}
	if !q.nc.IsConnected() {
		return errNoServer
	}
	if q.cfg.Replicas == 0 && !q.cfg.Existing {
		q.cfg.Replicas = 1
		if q.nc.ConnectedClusterName() != "" {
			q.cfg.Replicas = 3
		}
	}
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	err := ready(try)
	if errors.As(err, new(*StreamError)) || hasCode(err, errCodeStorageExceeded) {
		return backoff.Permanent(err)
	}
	if q.cfg.Existing && (errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)) {
		return backoff.Permanent(fmt.Errorf("%w: %w", ErrNoQueue, err))
	}
	return err
}

// retry repeats a call to the server until it succeeds, an error comes that repeating does not repair, or ctx ends.
// Each call gets apiTimeout. Meanwhile a wait is noted for the dependency.
func (q *Queue) retry(ctx context.Context, what dependency, call func(context.Context) error) error {
	return q.insist(ctx, what, func() error {
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		return call(try)
	})
}

// insist is retry for attempts with bounds of their own.
func (q *Queue) insist(ctx context.Context, what dependency, attempt func() error) error {
	final := func(err error) error {
		var permanent *backoff.PermanentError
		if errors.As(err, &permanent) {
			return permanent.Unwrap()
		}
		return err
	}
	began := time.Now()
	err := attempt()
	if err == nil { // nearly always: the rest is allocated only where it is needed
		q.waits.succeeded(what)
		return nil
	}
	if isFinal(err) {
		return final(err)
	}
	waiting := q.waits.begin(what, began, err)
	wait := backoff.WithContext(Backoff(retryFirst, retryLongest), ctx)
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

// Backoff returns an endless series of delays between attempts: they grow from first to longest, each one half as long
// again as the one before, and vary by half at random. The context of the attempts ends them.
func Backoff(first, longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(first), backoff.WithMaxInterval(longest), backoff.WithMaxElapsedTime(0))
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

package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// requestContext returns a context for one request. It also ends with the connection, over which alone the answer can come.
func (q *Queue) requestContext(ctx context.Context) (context.Context, context.CancelFunc) {
	try, cancel := context.WithTimeoutCause(ctx, writeTimeout, errNoAnswer)
	connection := q.connection.Load().ctx
	stop := context.AfterFunc(connection, cancel)
	return try, func() { stop(); cancel() }
}

var errNoAnswer = errors.New("the server did not answer")

// noAnswer returns the reason why there is no answer.
func noAnswer(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", errNoAnswer, err) // no stream, or no leader of it
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return errNoAnswer
	case errors.Is(context.Cause(ctx), context.Canceled): // by the loss of the connection, or by the caller
		return nats.ErrDisconnected
	}
	return err
}

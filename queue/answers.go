package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server error codes of a condition that does not hold (server/errors.json of nats-server).
const (
	errCodeWrongLastSequence         jetstream.ErrorCode = 10071
	errCodeWrongLastSequenceConstant jetstream.ErrorCode = 10164 // where another write is under way that would break it
	errCodeMessageTooLarge           jetstream.ErrorCode = 10054
)

// errTaken says that the condition of a write does not hold.
var errTaken = errors.New("another message stands in its way")

// answerable is a context for one request: it ends with the connection too, since the answer comes over that alone.
func (q *Queue) answerable(ctx context.Context) (context.Context, context.CancelFunc) {
	try, cancel := context.WithTimeoutCause(ctx, writeTimeout, errNoAnswer)
	connection := q.connection.Load().ctx
	stop := context.AfterFunc(connection, cancel)
	return try, func() { stop(); cancel() }
}

var errNoAnswer = errors.New("the server did not answer")

// unanswered tells why there is no answer.
func unanswered(ctx context.Context, err error) error {
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

// refused makes errTaken of what the server says when a condition does not hold, and [ErrTooLarge] likewise.
func refused(err *jetstream.APIError) error {
	switch err.ErrorCode {
	case errCodeWrongLastSequence, errCodeWrongLastSequenceConstant:
		return fmt.Errorf("%w: %w", errTaken, err)
	case errCodeMessageTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

func isTaken(err error) bool {
	return errors.Is(err, errTaken) || hasCode(err, errCodeWrongLastSequence, errCodeWrongLastSequenceConstant)
}

// hasCode reports whether err is an answer of the server with one of the codes.
func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var js jetstream.JetStreamError
	return errors.As(err, &js) && js.APIError() != nil && slices.Contains(codes, js.APIError().ErrorCode)
}

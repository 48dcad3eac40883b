package queue

import (
	"context"
	"errors"
	"fmt"
)

// Ready reports whether the queue takes jobs now, as far as can be told without storing one: the server is there, and the
// stream of jobs has a leader that answers. The error says what is missing.
func (q *Queue) Ready(ctx context.Context) error {
	if !q.Connected() {
		return errors.New("queue: no connection to NATS")
	}
	// On a stream without a leader nobody answers this, or the server says that nobody can.
	if _, err := q.js.Stream(ctx, StreamJobs); err != nil {
		return fmt.Errorf("queue: the stream of jobs has no leader that answers: %w", redact(err))
	}
	return nil
}

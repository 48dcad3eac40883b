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
	stream, err := q.js.Stream(ctx, StreamJobs) // asks for its state
	if err != nil {
		return fmt.Errorf("queue: the stream of jobs does not answer: %w", redact(err))
	}
	// Until it is known that there is no leader nobody answers; from then on every member does, and names none
	// (jsStreamInfoRequest in nats-server 2.15.2).
	if cluster := stream.CachedInfo().Cluster; cluster != nil && cluster.Leader == "" {
		return errors.New("queue: the stream of jobs has no leader")
	}
	return nil
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ready reports whether the queue takes jobs now, as far as can be told without storing one: the server is there, and the
// stream of jobs has a leader that answers, and no stream is gone that cannot be made again. The error says what is missing.
func (q *Queue) Ready(ctx context.Context) error {
	if !q.Connected() {
		return errors.New("queue: no connection to NATS")
	}
	if err := q.broken(); err != nil {
		return fmt.Errorf("queue: %w", redact(err))
	}
	stream, err := q.js.Stream(ctx, StreamJobs) // asks for its state
	if q.missing(err) != nil {
		return fmt.Errorf("queue: the stream of jobs does not answer: %w", redact(err))
	}
	return led(stream.CachedInfo().Cluster)
}

// silent is how long a replica may say nothing: its leader hears from it every second.
const silent = 10 * time.Second

// led returns an error unless the stream has a leader that can store something. Until it is known that there is no leader
// nobody answers; from then on every member does, and names none (jsStreamInfoRequest in nats-server 2.15.2). A leader that
// has lost the others goes on saying that it leads for up to 20 s (measured there, two servers of three shut down).
func led(cluster *jetstream.ClusterInfo) error {
	switch {
	case cluster == nil: // a single server
		return nil
	case cluster.Leader == "":
		return errors.New("queue: the stream of jobs has no leader")
	}
	there := 1
	for _, r := range cluster.Replicas {
		if !r.Offline && r.Active < silent {
			there++
		}
	}
	if all := 1 + len(cluster.Replicas); there <= all/2 {
		return fmt.Errorf("queue: %d of %d replicas of the stream of jobs are there", there, all)
	}
	return nil
}

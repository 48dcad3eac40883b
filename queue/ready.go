package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ready reports whether the queue takes jobs now, as far as can be told without storing one: there is a connection, no stream is
// gone that cannot be made again, there is room, and nothing that jobs need has been waited for longer than 5 s: the leaders of
// their streams, or acknowledgements. A single request that is slow or fails changes nothing. The error says what is
// missing and what helps, in the words of the log.
func (q *Queue) Ready(ctx context.Context) error {
	return q.ready(ctx, func(what awaited) bool {
		return what.kind == onConnection || what.kind == onJetStream || (what.stream == StreamJobs || what.stream == StreamRecords) && what.kind != onConsumer
	}, q.room, StreamJobs, StreamRecords)
}

// ReadyToWork likewise reports whether jobs can be worked on. Beside the streams that needs consumers, the states of pages, and
// the paces that say when calls may begin.
func (q *Queue) ReadyToWork(ctx context.Context) error {
	return q.ready(ctx, func(what awaited) bool { return what.kind != onRoom && what.stream != StreamDead }, nil,
		StreamJobs, StreamRecords, streamOf(BucketPages), streamOf(BucketPace))
}

// ready looks at some streams, and then at what of all that matters is waited for. room, if not nil, is asked about the first.
func (q *Queue) ready(ctx context.Context, matters func(awaited) bool, room func(*jetstream.StreamInfo) error, streams ...string) error {
	if !q.Connected() {
		if err := q.waits.longest(0, func(what awaited) bool { return what.kind == onConnection }); err != nil {
			return fmt.Errorf("queue: no connection to NATS: %w", err)
		}
		return errors.New("queue: no connection to NATS")
	}
	if err := q.broken(); err != nil {
		return fmt.Errorf("queue: %w", redact(err))
	}
	infos := make([]*jetstream.StreamInfo, len(streams))
	var looking sync.WaitGroup
	for i, name := range streams {
		looking.Go(func() { infos[i] = q.look(ctx, name) })
	}
	looking.Wait()
	if err := q.waits.longest(q.waits.after, matters); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if room != nil {
		return room(infos[0])
	}
	return nil
}

// look asks for a stream, and notes whether it is there and has a leader. It returns nil if it does not answer.
func (q *Queue) look(ctx context.Context, name string) *jetstream.StreamInfo {
	began := time.Now()
	stream, err := q.js.Stream(ctx, name) // asks for its state
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil // who asked has gone: that says nothing
	}
	if err != nil {
		q.waits.note(readsOf(name), began, q.missing(err))
		return nil
	}
	info := stream.CachedInfo()
	q.waits.note(readsOf(name), began, led(info.Cluster))
	return info
}

// roomAgain is the part of the stream that has to be free before a queue that was full counts as not full: while it is emptied
// there is room for one job after the other.
const roomAgain = 0.01

// room returns an error while there is no room for jobs: on the disk, or in the stream if that is known.
func (q *Queue) room(info *jetstream.StreamInfo) error {
	if q.cfg.HasRoom != nil && !q.cfg.HasRoom() {
		return fmt.Errorf("queue: %w", errNoRoom)
	}
	if info == nil || info.Config.MaxBytes <= 0 {
		return nil
	}
	q.shares.mu.Lock()
	defer q.shares.mu.Unlock()
	least := q.shares.jobBytes
	if q.shares.full {
		least = max(least, roomAgain*float64(info.Config.MaxBytes))
	}
	if q.shares.full = float64(info.Config.MaxBytes)-float64(info.State.Bytes) < least; q.shares.full {
		return fmt.Errorf("queue: %w: %d of %d bytes; see which page's messages wait (brazier status), or raise --max-queue with brazier setup",
			ErrFull, info.State.Bytes, info.Config.MaxBytes)
	}
	return nil
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
		return errNoLeader
	}
	there := 1
	for _, r := range cluster.Replicas {
		if !r.Offline && r.Active < silent {
			there++
		}
	}
	if all := 1 + len(cluster.Replicas); there <= all/2 {
		return fmt.Errorf("%w: %d of %d replicas are there", errNoLeader, there, all)
	}
	return nil
}

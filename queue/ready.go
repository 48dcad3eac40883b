package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ready reports whether the queue accepts jobs now, as far as can be told without storing one: there is a connection,
// no stream is missing that cannot be made again, there is space, and no wait that concerns jobs has lasted longer than
// 5 s: for leaders of their streams, or for acknowledgements. A single request that is slow or fails changes nothing.
// The error tells what is missing and what helps, as the log does.
func (q *Queue) Ready(ctx context.Context) error {
	return q.ready(ctx, func(what dependency) bool {
		return what.kind == onConnection || what.kind == onJetStream || (what.stream == StreamJobs || what.stream == StreamRecords) && what.kind != onConsumer
	}, q.checkSpace, StreamJobs, StreamRecords)
}

// ReadyToWork likewise reports whether jobs can be worked on. Beside the streams that needs consumers, the states of
// pages, and the paces that tell when calls may begin.
func (q *Queue) ReadyToWork(ctx context.Context) error {
	return q.ready(ctx, func(what dependency) bool {
		return what.kind != onSpace && what.stream != StreamDead && what.stream != StreamCampaigns && what.stream != streamOf(BucketAlive)
	}, nil,
		StreamJobs, StreamRecords, streamOf(BucketPages), streamOf(BucketPace))
}

// ReadyForEvents likewise reports whether events of webhooks can be stored.
func (q *Queue) ReadyForEvents(ctx context.Context) error {
	if q.streams[StreamEvents] == nil {
		return fmt.Errorf("queue: %w", ErrNoRoadBack)
	}
	return q.ready(ctx, func(what dependency) bool {
		return what.kind == onConnection || what.kind == onJetStream || (what.stream == StreamEvents || what.stream == StreamRecords) && what.kind != onConsumer
	}, nil, StreamEvents, StreamRecords)
}

// ready looks at some streams, and then at the waits that matter. space, if not nil, judges the first stream.
func (q *Queue) ready(ctx context.Context, matters func(dependency) bool, space func(*jetstream.StreamInfo) error, streams ...string) error {
	if !q.Connected() {
		if err := q.waits.longest(0, func(what dependency) bool { return what.kind == onConnection }); err != nil {
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
		looking.Go(func() { infos[i] = q.pollStream(ctx, name) })
	}
	looking.Wait()
	if err := q.waits.longest(q.waits.logAfter, matters); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if space != nil {
		return space(infos[0])
	}
	return nil
}

// pollStream requests the state of a stream, and notes whether the stream is there and has a leader. It returns nil
// without an answer.
func (q *Queue) pollStream(ctx context.Context, name string) *jetstream.StreamInfo {
	began := time.Now()
	stream, err := q.js.Stream(ctx, name) // asks for its state
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil // the caller has gone, which tells nothing about the stream
	}
	if err != nil {
		q.waits.observe(readsOf(name), began, q.reportMissing(err))
		return nil
	}
	info := stream.CachedInfo()
	q.waits.observe(readsOf(name), began, led(info.Cluster))
	return info
}

// freeAgain is the part of the stream that has to be free before a queue that was full counts as not full any more:
// while a full queue is emptied there is space for one job after the other.
const freeAgain = 0.01

// checkSpace returns an error while there is no space for jobs: on the disk, or in the stream if its state is known.
func (q *Queue) checkSpace(info *jetstream.StreamInfo) error {
	if q.cfg.HasSpace != nil && !q.cfg.HasSpace() {
		return fmt.Errorf("queue: %w", errNoSpace)
	}
	if info == nil || info.Config.MaxBytes <= 0 {
		return nil
	}
	q.shares.mu.Lock()
	defer q.shares.mu.Unlock()
	least := q.shares.jobBytes
	if q.shares.full {
		least = max(least, freeAgain*float64(info.Config.MaxBytes))
	}
	if q.shares.full = float64(info.Config.MaxBytes)-float64(info.State.Bytes) < least; q.shares.full {
		return fmt.Errorf("queue: %w: %d of %d bytes; see which page's messages wait (brazier status), or raise --max-queue with brazier setup",
			ErrFull, info.State.Bytes, info.Config.MaxBytes)
	}
	return nil
}

// led returns an error unless the stream has a leader that can store messages. While the servers do not know yet that
// there is no leader none of them answers; from then on every member does, and names none (jsStreamInfoRequest in
// nats-server 2.15.2). A leader that has lost the others goes on reporting that it leads for up to 20 s (measured
// there, two servers of three shut down).
func led(cluster *jetstream.ClusterInfo) error {
	switch {
	case cluster == nil: // a single server
		return nil
	case cluster.Leader == "":
		return errNoLeader
	}
	there := 1
	for _, r := range cluster.Replicas {
		if !r.Offline && r.Active < replicaSilence {
			there++
		}
	}
	if all := 1 + len(cluster.Replicas); there <= all/2 {
		return fmt.Errorf("%w: %d of %d replicas are reachable", errNoLeader, there, all)
	}
	return nil
}

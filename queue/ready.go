package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Ready reports whether the queue accepts jobs now, as far as can be told without storing one: there is a connection,
// no stream is missing that cannot be made again, there is space, and no wait that concerns jobs has lasted longer than
// 5 s: for leaders of their streams, or for acknowledgements. A single request that is slow or fails changes nothing.
// The error tells what is missing and what helps, as the log does.
//
// Where there are several partitions, one that accepts jobs is enough: those of the others are refused one by one, and a process
// that is sent no requests helps nobody.
func (q *Queue) Ready(ctx context.Context) error {
	all := q.partitions()
	infos, err := q.look(ctx, streamsOf(all)...)
	if err != nil {
		return err
	}
	return inOne(all, func(p *partition) error {
		if err := q.longestWait(func(what dependency) bool {
			return what.kind == onConnection || what.kind == onJetStream || p.has(what.stream) && what.kind != onConsumer
		}); err != nil {
			return err
		}
		return q.checkSpace(p, infos[p.jobsName])
	})
}

// ReadyToWork likewise reports whether jobs can be worked on. Beside the streams that needs consumers, the states of
// pages, and the paces that tell when calls may begin. It fails where other processes use partitions that this one cannot use.
func (q *Queue) ReadyToWork(ctx context.Context) error {
	all := q.partitions()
	if _, err := q.look(ctx, append(streamsOf(all), streamOf(BucketPages), streamOf(BucketPace))...); err != nil {
		return err
	}
	if err := q.refused(); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return inOne(all, func(p *partition) error {
		return q.longestWait(func(what dependency) bool {
			ofAnother := slices.ContainsFunc(all, func(other *partition) bool { return other != p && other.has(what.stream) })
			return what.kind != onSpace && what.stream != StreamDead && what.stream != StreamCampaigns && what.stream != streamOf(BucketAlive) && !ofAnother
		})
	})
}

func streamsOf(partitions []*partition) (streams []string) {
	for _, p := range partitions {
		streams = append(streams, p.jobsName, p.recordsName)
	}
	return streams
}

// inOne returns nil if ready does for one of the partitions, else its first error.
func inOne(partitions []*partition, ready func(*partition) error) (first error) {
	for _, p := range partitions {
		err := ready(p)
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	return first
}

// ReadyForEvents likewise reports whether events of webhooks can be stored.
func (q *Queue) ReadyForEvents(ctx context.Context) error {
	if q.streams[StreamEvents] == nil {
		return fmt.Errorf("queue: %w", ErrNoRoadBack)
	}
	if _, err := q.look(ctx, StreamEvents, StreamRecords); err != nil {
		return err
	}
	return q.longestWait(func(what dependency) bool {
		return what.kind == onConnection || what.kind == onJetStream || (what.stream == StreamEvents || what.stream == StreamRecords) && what.kind != onConsumer
	})
}

// look looks at some streams at once. It fails where there is no connection, or a stream is gone and cannot be made again.
func (q *Queue) look(ctx context.Context, streams ...string) (map[string]*jetstream.StreamInfo, error) {
	if !q.Connected() {
		if err := q.waits.longest(0, func(what dependency) bool { return what.kind == onConnection }); err != nil {
			return nil, fmt.Errorf("queue: no connection to NATS: %w", err)
		}
		return nil, errors.New("queue: no connection to NATS")
	}
	if err := q.broken(); err != nil {
		return nil, fmt.Errorf("queue: %w", redact(err))
	}
	infos := make([]*jetstream.StreamInfo, len(streams))
	var looking sync.WaitGroup
	for i, name := range streams {
		looking.Go(func() { infos[i] = q.pollStream(ctx, name) })
	}
	looking.Wait()
	found := make(map[string]*jetstream.StreamInfo, len(streams))
	for i, name := range streams {
		found[name] = infos[i]
	}
	return found, nil
}

// longestWait returns, as an error, the longest of the waits that matter, if it has lasted until it is logged.
func (q *Queue) longestWait(matters func(dependency) bool) error {
	if err := q.waits.longest(q.waits.logAfter, matters); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

// pollStream requests the state of a stream, and notes whether the stream is there and has a leader. It returns nil
// without an answer.
func (q *Queue) pollStream(ctx context.Context, name string) *jetstream.StreamInfo {
	if ctx.Err() != nil {
		return nil
	}
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

// checkSpace returns an error while there is no space for jobs: on the disk, or in the stream of a partition if its state is known.
func (q *Queue) checkSpace(p *partition, info *jetstream.StreamInfo) error {
	if q.cfg.HasSpace != nil && !q.cfg.HasSpace() {
		return fmt.Errorf("queue: %w", errNoSpace)
	}
	if info == nil || info.Config.MaxBytes <= 0 {
		return nil
	}
	p.shares.mu.Lock()
	defer p.shares.mu.Unlock()
	least := p.shares.jobBytes
	if p.shares.full {
		least = max(least, freeAgain*float64(info.Config.MaxBytes))
	}
	if p.shares.full = float64(info.Config.MaxBytes)-float64(info.State.Bytes) < least; p.shares.full {
		return fmt.Errorf("queue: %w: %d of %d bytes of %s; see which page's messages wait (brazier status), or raise --max-queue with brazier setup",
			ErrFull, info.State.Bytes, info.Config.MaxBytes, p.jobsName)
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

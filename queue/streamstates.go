package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamState is one stream or bucket as it is now.
type StreamState struct {
	Stream   string `json:"stream"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`     // on disk, or in memory
	MaxBytes int64  `json:"max_bytes"` // -1: no limit
	// Oldest is when the oldest message was stored; zero if there is none.
	Oldest   time.Time `json:"-"`
	Replicas int       `json:"replicas"` // as configured
	// Current is how many replicas there are that have all that is stored, the leader included.
	Current int    `json:"replicas_current"`
	Leader  string `json:"leader,omitempty"` // the name of its server; empty on a single server and where there is none
	// Fault is why nothing can be stored or read, as /readyz says it, and Remedy what helps. Empty: it works.
	Fault  string `json:"fault,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Streams looks at all streams and buckets at once, within 5 s. Those that no process has made yet, and that messages do not
// need, are left out.
func (q *Queue) Streams(ctx context.Context) []StreamState {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	cfg := q.cfg
	cfg.RoadBack = true // where it is used without this process
	plans := cfg.layout(q.division())
	states := make([]StreamState, len(plans))
	var looking sync.WaitGroup
	for i, plan := range plans {
		looking.Go(func() { states[i] = q.streamState(ctx, plan.Name) })
	}
	looking.Wait()
	var found []StreamState
	for _, s := range states {
		if s.Stream != "" {
			found = append(found, s)
		}
	}
	return found
}

func (q *Queue) streamState(ctx context.Context, name string) StreamState {
	stream, err := q.js.Stream(ctx, name) // requests its state
	_, needed := q.streams[name]
	needed = needed || slices.ContainsFunc(q.partitions(), func(p *partition) bool { return p.has(name) })
	if errors.Is(err, jetstream.ErrStreamNotFound) && !needed {
		return StreamState{}
	}
	if err != nil {
		return q.faulty(StreamState{Stream: name}, err)
	}
	info := stream.CachedInfo()
	s := StreamState{Stream: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, Replicas: info.Config.Replicas, Current: 1}
	if s.Messages > 0 {
		s.Oldest = info.State.FirstTime
	}
	if info.Cluster == nil { // a single server
		return s
	}
	s.Leader, s.Current = info.Cluster.Leader, current(info.Cluster)
	if err := led(info.Cluster); err != nil {
		return q.faulty(s, err)
	}
	return s
}

func (q *Queue) faulty(s StreamState, err error) StreamState {
	why := q.explain(readsOf(s.Stream), err)
	s.Fault, s.Remedy = why.reason, why.remedy
	return s
}

// current counts the replicas that have all that is stored.
func current(cluster *jetstream.ClusterInfo) (n int) {
	if cluster.Leader != "" {
		n++
	}
	for _, r := range cluster.Replicas {
		if r.Current && !r.Offline && r.Active < replicaSilence {
			n++
		}
	}
	return n
}

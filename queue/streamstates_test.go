package queue_test

import (
	"testing"

	"github.com/brazier-relay/brazier/queue"
)

// states returns the state of each stream by name.
func states(t *testing.T, q *queue.Queue) map[string]queue.StreamState {
	t.Helper()
	found := map[string]queue.StreamState{}
	for _, s := range q.Streams(within(t, testTimeout)) {
		found[s.Stream] = s
	}
	return found
}

func TestStreams(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	publish(t, q, job(acme, queue.Bulk))
	all := states(t, q)
	jobs := all[queue.StreamJobs]
	if jobs.Messages != 2 || jobs.Bytes == 0 || jobs.MaxBytes <= 0 || jobs.Replicas != 1 || jobs.Current != 1 || jobs.Oldest.IsZero() { // a job and its lane's marker
		t.Errorf("jobs: %+v", jobs)
	}
	for _, none := range []string{"KV_" + queue.BucketAlive, queue.StreamEvents} { // nobody needed them yet
		if s, ok := all[none]; ok {
			t.Errorf("%s: %+v", none, s)
		}
	}
	for name, s := range all {
		if s.Fault != "" {
			t.Errorf("%s: %s", name, s.Fault)
		}
	}
}

// Of three servers one is gone, and then two. What Streams says and what Ready says are the same.
func TestStreamsOfCluster(t *testing.T) {
	t.Parallel()
	servers := natsCluster(t, "jetstream { store_dir: %DIR% }")
	q := open(t, queue.Config{URL: servers[0].ClientURL(), MaxBytes: 64 << 20})
	whole := func(n int) func() bool {
		return func() bool {
			all := states(t, q)
			for _, name := range []string{queue.StreamJobs, queue.StreamRecords, queue.StreamDead} {
				if s := all[name]; s.Current != n || s.Replicas != 3 {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all replicas are there", whole(3))
	if s := states(t, q)[queue.StreamJobs]; s.Leader == "" || s.Fault != "" {
		t.Errorf("jobs: %+v", s)
	}
	servers[2].Shutdown()
	eventually(t, "one is missing", func() bool {
		return whole(2)() && states(t, q)[queue.StreamJobs].Fault == "" && q.Ready(within(t, testTimeout)) == nil
	})
	servers[1].Shutdown()
	eventually(t, "there is no leader", func() bool {
		s := states(t, q)[queue.StreamJobs]
		return s.Fault != "" && s.Remedy != "" && q.Ready(within(t, testTimeout)) != nil
	})
}

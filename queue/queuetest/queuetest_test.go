package queuetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, queuetest.Strays()...) }

func publish(t *testing.T, q *queue.Queue) string {
	t.Helper()
	job := &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Body: []byte("{}")}
	if stored, err := q.Publish(t.Context(), job); err != nil || stored.Duplicate {
		t.Fatalf("publish: %+v, %v", stored, err)
	}
	return job.ID
}

func pending(t *testing.T, q *queue.Queue) uint64 {
	t.Helper()
	b, err := q.Backlog(t.Context(), "1029384756")
	if err != nil {
		t.Fatal(err)
	}
	return b.Pending
}

// Each queue of New stands alone; those that are On one server share it; a directory outlasts its server.
func TestQueues(t *testing.T) {
	t.Parallel()
	publish(t, queuetest.New(t))
	if n := pending(t, queuetest.New(t)); n != 0 {
		t.Errorf("a new queue holds %d jobs", n)
	}
	dir := t.TempDir()
	t.Run("first server", func(t *testing.T) {
		srv := queuetest.Server(t, dir)
		publish(t, queuetest.On(t, srv))
		if n := pending(t, queuetest.On(t, srv)); n != 1 {
			t.Errorf("the other queue sees %d jobs, want 1", n)
		}
	})
	t.Run("second server", func(t *testing.T) {
		if n := pending(t, queuetest.On(t, queuetest.Server(t, dir))); n != 1 {
			t.Errorf("%d jobs are left, want 1", n)
		}
	})
}

package queue_test

import (
	"context"
	"testing"

	"github.com/brazier-relay/brazier/queue"
)

// watchLanes returns what WatchLanes tells until the test ends.
func watchLanes(t *testing.T, q *queue.Queue) <-chan queue.PageLane {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan queue.PageLane, 1000), make(chan error, 1)
	go func() { ended <- q.WatchLanes(ctx, func(lane queue.PageLane) { heard <- lane }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return heard
}

func hears(t *testing.T, heard <-chan queue.PageLane, want queue.PageLane) {
	t.Helper()
	ctx := within(t, testTimeout)
	for {
		select {
		case lane := <-heard:
			if lane == want {
				return
			}
		case <-ctx.Done():
			t.Fatalf("nothing is heard of %v", want)
		}
	}
}

// Workers hear of the lanes that there are, of new ones, and of those that are in use, but not of each job.
func TestWatchLanes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	worker, ingress := m.open(), m.open()
	bulk, urgent := queue.PageLane{Page: acme, Lane: queue.Bulk}, queue.PageLane{Page: acme, Lane: queue.Urgent}
	publish(t, ingress, job(acme, queue.Bulk))
	heard := watchLanes(t, worker)
	hears(t, heard, bulk)
	publish(t, ingress, job(acme, queue.Urgent))
	hears(t, heard, urgent)

	for range 5 {
		publish(t, ingress, job(acme, queue.Bulk))
	}
	publish(t, ingress, job(nordwind, queue.Bulk))
	for lane := range heard {
		if lane == bulk {
			t.Error("a lane is announced with each job")
		}
		if lane.Page == nordwind {
			break
		}
	}

	ingress.AnnounceEvery(0)
	publish(t, ingress, job(acme, queue.Bulk))
	hears(t, heard, bulk)
	isPending(t, worker, acme, 8)

	m.restart(worker)
	hears(t, heard, bulk) // what was published meanwhile may not have been heard
	publish(t, ingress, job(acme, queue.Urgent))
	hears(t, heard, urgent)
}

// isPending checks that a page has so many jobs, and the queue nothing else but its markers.
func isPending(t *testing.T, q *queue.Queue, page string, n uint64) {
	t.Helper()
	eventually(t, "all jobs are counted", func() bool {
		waiting, err := q.Pending(within(t, testTimeout))
		if err != nil {
			t.Fatal(err)
		}
		var jobs uint64
		for lane, count := range waiting {
			if lane.Page == page {
				jobs += count
			}
		}
		return jobs == n
	})
}

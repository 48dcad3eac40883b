package worker_test

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

// Messages that have waited for long are warned of, with what stops their page, by one worker.
func TestBacklogOld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.byHand(acme, func(s *queue.PageState) {
		s.Hold(queue.PageState{Class: "manual", Manual: true, Reason: "paused", Since: f.q.Now()})
	})
	f.publish(acme, queue.Bulk, 1)
	f.old = time.Millisecond
	f.start(takes, worker.Config{StatsEvery: 50 * time.Millisecond})
	f.start(takes, worker.Config{StatsEvery: 50 * time.Millisecond})
	has(t, f.await("backlog_old", 1), "oldest_age_s", map[string]any{"page": "acme", "pending": 1, "class": "manual"})
	f.await("stats", 6)
	if n := len(f.events("backlog_old")); n != 1 {
		t.Errorf("%d lines", n)
	}
}

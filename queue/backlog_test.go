package queue_test

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

func TestBacklog(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	backlog := func(page string) queue.Backlog {
		t.Helper()
		b, err := q.Backlog(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	equal(t, "backlog of a page that nobody knows", backlog(acme), queue.Backlog{})

	began := time.Now()
	for range 3 {
		publish(t, q, job(acme, queue.Bulk))
	}
	publish(t, q, job(acme, queue.Media), job(nordwind, queue.Bulk))
	s, media := source(t, q, acme, queue.Bulk, 1), source(t, q, acme, queue.Media, 1)

	inHand := next(t, s)
	if err := next(t, media).Retry(t.Context(), 1, "transient", 0); err != nil {
		t.Fatal(err)
	}
	retried := next(t, media)
	b := backlog(acme)
	if b.Oldest.Before(began.Add(-time.Second)) || b.Oldest.After(time.Now()) {
		t.Errorf("oldest is of %v", b.Oldest)
	}
	oldest := b.Oldest
	equal(t, "backlog", b, queue.Backlog{Pending: 4, Retrying: 1, Oldest: oldest})

	done(t, inHand)
	if err := retried.Bury(t.Context(), queue.Reason{Class: "message"}); err != nil {
		t.Fatal(err)
	}
	b = backlog(acme)
	if !b.Oldest.After(oldest) {
		t.Errorf("oldest is still of %v", b.Oldest)
	}
	equal(t, "backlog after two are settled", b, queue.Backlog{Pending: 2, Dead: 1, Oldest: b.Oldest})
	for range 2 {
		done(t, next(t, s))
	}
	equal(t, "backlog at the end", backlog(acme), queue.Backlog{Dead: 1})
}

// Jobs are counted before any worker has come for them.
func TestBacklogWithoutWorkers(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	publish(t, q, job(acme, queue.Bulk), job(acme, queue.Urgent))
	b, err := q.Backlog(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "backlog", b, queue.Backlog{Pending: 2, Oldest: b.Oldest})
	if b.Oldest.IsZero() {
		t.Error("the oldest has no time")
	}
}

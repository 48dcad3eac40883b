package queue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/queue"
)

func TestBacklog(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	backlog := func(page string) queue.Backlog {
		t.Helper()
		b, err := q.Backlog(within(t, 2*testTimeout), page)
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

	inFlight := next(t, s)
	if err := next(t, media).Retry(within(t, 2*testTimeout), 1, "transient", 0); err != nil {
		t.Fatal(err)
	}
	retried := next(t, media)
	b := backlog(acme)
	if b.Oldest.Before(began.Add(-time.Second)) || b.Oldest.After(time.Now()) {
		t.Errorf("oldest is of %v", b.Oldest)
	}
	oldest := b.Oldest
	equal(t, "backlog", b, queue.Backlog{Pending: 4, Retrying: 1, Oldest: oldest})
	all, err := q.Backlogs(within(t, 2*testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "backlogs", all, map[string]queue.PageBacklog{
		acme:     {Backlog: b, InFlight: 1, Fetched: all[acme].Fetched},
		nordwind: {Backlog: queue.Backlog{Pending: 1, Oldest: all[nordwind].Oldest}},
	})

	done(t, inFlight)
	if err := retried.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "message"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two settled jobs are removed", func() bool {
		b = backlog(acme)
		return b.Pending == 2 && b.Oldest.After(oldest)
	})
	equal(t, "backlog after two are settled", b, queue.Backlog{Pending: 2, Dead: 1, Oldest: b.Oldest})
	for range 2 {
		done(t, next(t, s))
	}
	isEmpty(t, q, acme)
	equal(t, "backlog at the end", backlog(acme), queue.Backlog{Dead: 1})
}

// Jobs are counted before any worker has come for them.
func TestBacklogWithoutWorkers(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	publish(t, q, job(acme, queue.Bulk), job(acme, queue.Urgent))
	b, err := q.Backlog(within(t, 2*testTimeout), acme)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "backlog", b, queue.Backlog{Pending: 2, Oldest: b.Oldest})
	if b.Oldest.IsZero() {
		t.Error("the oldest has no time")
	}
}

// Pending jobs are counted by page, over all lanes, beside the size of the streams. Ids of delivered messages are no
// messages.
func TestTotals(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	pending := func() map[string]uint64 {
		t.Helper()
		lanes, err := q.Pending(within(t, 2*testTimeout))
		if err != nil {
			t.Fatal(err)
		}
		pages := map[string]uint64{}
		for lane, n := range lanes {
			pages[lane.Page] += n
		}
		return pages
	}
	totals := func() queue.Totals {
		t.Helper()
		all, err := q.Totals(within(t, 2*testTimeout))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	equal(t, "pending at first", pending(), map[string]uint64{})
	keyed := job(acme, queue.Bulk)
	keyed.Key = "k1"
	publish(t, q, keyed, job(acme, queue.Urgent), job(acme, queue.Media), job(nordwind, queue.Bulk))
	equal(t, "pending", pending(), map[string]uint64{acme: 3, nordwind: 1})

	done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
	if err := next(t, source(t, q, nordwind, queue.Bulk, 1)).DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "message"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two are gone", func() bool { return cmp.Equal(pending(), map[string]uint64{acme: 2}) })
	all := totals()
	equal(t, "jobs", all.Jobs, map[string]uint64{acme: 2})
	equal(t, "dead letters", all.Dead, map[string]uint64{nordwind: 1})
	sizes, err := q.Sizes(within(t, testTimeout))
	if err != nil || len(sizes.Jobs) != 1 || sizes.Jobs[0].Stream != queue.StreamJobs || sizes.Jobs[0].Bytes == 0 || sizes.Jobs[0].MaxBytes <= 0 || sizes.Dead != 1 {
		t.Errorf("sizes %+v, error %v", sizes, err)
	}
}

package queue_test

import (
	"slices"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// sweep returns the ids of the jobs that are found to have expired.
func sweep(t *testing.T, o *queue.Sweeper, visit func(*queue.Delivery)) (ids []string) {
	t.Helper()
	lanes, err := o.Lanes(within(t, 2*testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	for _, lane := range lanes {
		err := o.Each(within(t, 2*testTimeout), lane, func(d *queue.Delivery) {
			ids = append(ids, d.ID)
			visit(d)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(ids)
	return ids
}

func deadLetter(t *testing.T) func(*queue.Delivery) {
	return func(d *queue.Delivery) {
		t.Helper()
		if err := d.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "expired"}); err != nil {
			t.Errorf("dead-letter %s: %v", d.ID, err)
		}
	}
}

func expiring(lane queue.Lane, after time.Duration) *queue.Job {
	j := job(acme, lane)
	j.Expire = time.Now().Add(after).Truncate(time.Millisecond)
	return j
}

// Jobs that expired are found once, whether they were stored before or after the last look, and expire before or after it.
// They are removed, with a dead letter each, and what has not expired stays where it is and in order.
func TestSweeper(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	first, late, live, soon := expiring(queue.Bulk, -time.Minute), expiring(queue.Bulk, -time.Second), expiring(queue.Bulk, time.Hour), expiring(queue.Urgent, time.Second)
	publish(t, q, first, live, soon)
	o := q.NewSweeper()
	found := sweep(t, o, deadLetter(t)) // on a busy machine soon has expired by now
	if !slices.Contains(found, first.ID) || slices.Contains(found, live.ID) {
		t.Errorf("first look: %v, want %s", found, first.ID)
	}
	publish(t, q, late)
	eventually(t, "the rest has expired", func() bool {
		found = append(found, sweep(t, o, deadLetter(t))...)
		return len(found) >= 3
	})
	slices.Sort(found)
	want := []string{first.ID, late.ID, soon.ID}
	slices.Sort(want)
	equal(t, "all looks", found, want)
	equal(t, "and another look", sweep(t, o, deadLetter(t)), []string(nil))
	equal(t, "a look of another process", sweep(t, queuetest.On(t, srv).NewSweeper(), deadLetter(t)), []string(nil))
	if n := len(deadLetters(t, raw(t, srv), acme)); n != 3 {
		t.Errorf("%d dead letters, want 3", n)
	}
	if state := q.State(t, acme, queue.Bulk, first.ID); state != "done" {
		t.Errorf("the record says %q", state)
	}
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	if d.ID != live.ID || d.Deliveries != 1 {
		t.Errorf("next is %s, delivery %d; want %s, never delivered before", d.ID, d.Deliveries, live.ID)
	}
	done(t, d)
	isEmpty(t, q, acme)
}

// A job in flight is left to its worker, in this process and in others. A job that waits for its next attempt, or whose
// worker was lost, is settled.
func TestSweeperInFlight(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	q, other, looker := open(t, cfg), open(t, cfg), open(t, cfg)
	const soon = 5 * time.Second
	fetched, begun, waiting := expiring(queue.Bulk, soon), expiring(queue.Bulk, soon), expiring(queue.Bulk, soon)
	publish(t, q, begun, waiting, fetched)
	theirs := source(t, other, acme, queue.Bulk, 1)
	theirBegun := next(t, theirs)
	if err := theirBegun.Begin(within(t, 2*testTimeout)); err != nil || theirBegun.ID != begun.ID {
		t.Fatalf("%s begins: %v", theirBegun.ID, err)
	}
	if err := next(t, theirs).Retry(within(t, 2*testTimeout), 1, "transient", time.Hour); err != nil {
		t.Fatal(err)
	}
	rest(t, theirs)
	mine := next(t, source(t, q, acme, queue.Bulk, 1))
	if mine.ID != fetched.ID {
		t.Fatalf("next is %s, want %s", mine.ID, fetched.ID)
	}
	o := q.NewSweeper()
	equal(t, "before they expire", sweep(t, o, deadLetter(t)), []string(nil))
	aged(t, soon)
	var found []string
	eventually(t, "the server knows that nobody fetches any more", func() bool {
		found = sweep(t, o, deadLetter(t))
		return len(found) > 0
	})
	equal(t, "the waiting job", found, []string{waiting.ID})
	done(t, mine)
	other.Close() // so that no worker has the job that it began
	eventually(t, "the lost worker's lease is over", func() bool {
		found = sweep(t, looker.NewSweeper(), deadLetter(t))
		return len(found) > 0
	})
	equal(t, "what was begun", found, []string{begun.ID})
	isEmpty(t, q, acme)
}

// One process at a time looks, until its claim runs out.
func TestSweeperClaim(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	a, b := q.NewSweeper(), queuetest.On(t, srv).NewSweeper()
	claim := func(o *queue.Sweeper) bool {
		t.Helper()
		ours, err := o.Claim(within(t, 2*testTimeout), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return ours
	}
	if !claim(a) {
		t.Error("the first claim is refused")
	}
	if claim(b) {
		t.Error("a second process may look at the same time")
	}
	eventually(t, "the claim has run out", func() bool { return claim(b) })
}

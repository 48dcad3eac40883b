package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// pageIn is a page that is in one partition of two and another of one.
func pageIn(partition int) string {
	for i := 0; ; i++ {
		if page := fmt.Sprint(7_000_000 + i); queue.PartitionOf(page, 2) == partition {
			return page
		}
	}
}

// divided returns the server of a queue with two partitions.
func divided(t *testing.T) *embedded.Server {
	t.Helper()
	srv := queuetest.Server(t, "")
	made := setup(t, queue.Config{InProcess: srv, Partitions: 2}, false)
	if len(made) < 4 || made[2].Stream != "BRAZIER_JOBS_2" || made[3].Stream != "BRAZIER_RECORDS_2" {
		t.Fatalf("made: %v", made)
	}
	return srv
}

// sourcesOf are all sources of a page's lane, stopped when the test ends.
func sourcesOf(t *testing.T, q *queue.Queue, page string, lane queue.Lane) []*queue.Source {
	t.Helper()
	sources, _ := q.Sources(page, lane, 1)
	for _, s := range sources {
		expire := time.AfterFunc(testTimeout, s.Stop)
		t.Cleanup(func() { expire.Stop(); s.Stop() })
	}
	return sources
}

// Each page has its jobs and their records in its partition, and whatever looks at the queue sees both partitions.
func TestPartitions(t *testing.T) {
	t.Parallel()
	srv := divided(t)
	q, js := open(t, queue.Config{InProcess: srv}), raw(t, srv)
	pages := []string{pageIn(1), pageIn(2)}
	keyed := map[string]*queue.Job{}
	for i, page := range pages {
		j := job(page, queue.Bulk)
		j.Key, j.ID = "k", queue.KeyedID(page, "k")
		j.Tracking.User = "u1"
		keyed[page] = j
		publish(t, q, j, job(page, queue.Urgent), job(page, queue.Media))
		stream, err := js.Stream(t.Context(), queue.StreamJobs+[]string{"", "_2"}[i])
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Msgs; n != 6 { // and three markers of lanes
			t.Errorf("%s has %d messages, want 6", stream.CachedInfo().Config.Name, n)
		}
	}
	ctx := within(t, 3*testTimeout)
	pending, err := q.Pending(ctx)
	if err != nil || len(pending) != 6 {
		t.Errorf("pending: %v, error %v", pending, err)
	}
	all, err := q.Backlogs(ctx)
	if err != nil || all[pages[0]].Pending != 3 || all[pages[1]].Pending != 3 || all[pages[1]].Oldest.IsZero() {
		t.Errorf("backlogs: %v, error %v", all, err)
	}
	sizes, err := q.Sizes(ctx)
	if err != nil || len(sizes.Jobs) != 2 || sizes.Jobs[1].Stream != "BRAZIER_JOBS_2" || sizes.Jobs[1].Bytes == 0 {
		t.Errorf("sizes: %+v, error %v", sizes, err)
	}
	found, err := q.TraceUser(ctx, "u1", 10, nil)
	if err != nil || len(found.Messages) != 2 {
		t.Errorf("messages of the user: %+v, error %v", found, err)
	}
	var streams []string
	for _, s := range q.Streams(ctx) {
		if queue.HoldsJobs(s.Stream) {
			streams = append(streams, s.Stream)
		}
	}
	equal(t, "streams", streams, []string{"BRAZIER_JOBS", "BRAZIER_JOBS_2"})

	for _, page := range pages {
		again := *keyed[page]
		if stored, err := q.Publish(ctx, &again); err != nil || !stored.Duplicate {
			t.Errorf("published again while it waits: %+v, error %v", stored, err)
		}
		sources := sourcesOf(t, q, page, queue.Bulk)
		d := next(t, sources[0])
		if traced, err := q.Trace(ctx, d.ID, nil); err != nil || len(traced) != 1 || traced[0].State != queue.TraceWaiting {
			t.Errorf("trace of a message that waits: %+v, error %v", traced, err)
		}
		if err := d.DeadLetter(ctx, queue.Reason{Class: "message"}); err != nil {
			t.Fatal(err)
		}
		if state := q.StateIn(t, queue.PartitionOf(page, 2), page, queue.Bulk, d.ID); state != "done" {
			t.Errorf("the record says %q", state)
		}
		if stored, err := q.Publish(ctx, &again); err != nil || !stored.Duplicate {
			t.Errorf("published again after it was settled: %+v, error %v", stored, err)
		}
	}
	var dead []uint64
	for l, err := range q.DeadLetters(ctx, queue.DeadLetterFilter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		dead = append(dead, l.Seq)
	}
	if len(dead) != 2 {
		t.Fatalf("dead letters %v", dead)
	}
	for _, seq := range dead {
		if _, err := q.Replay(ctx, seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, page := range pages {
		d := next(t, sourcesOf(t, q, page, queue.Bulk)[0])
		if d.Page != page || len(d.Deaths) != 1 {
			t.Errorf("replayed: %+v", d.Job)
		}
		done(t, d)
		eventually(t, "the server has removed it", func() bool { b, err := q.Backlog(ctx, page); return err == nil && b.Pending == 2 })
		if did, err := q.DiscardJobs(ctx, page, func(*queue.Job) bool { return true }); err != nil || did.Jobs != 2 {
			t.Errorf("discarded %+v, error %v", did, err)
		}
		isEmpty(t, q, page)
	}
}

// A retry, a lost worker and an expired job are found in the second partition as they are in the first.
func TestPartitionSettles(t *testing.T) {
	t.Parallel()
	page := pageIn(2)
	cfg := queue.Config{InProcess: divided(t)}.WithLease(2 * time.Second)
	q := open(t, cfg)
	ctx := within(t, 3*testTimeout)
	publish(t, q, job(page, queue.Bulk))
	s := source(t, q, page, queue.Bulk, 1)
	d := next(t, s)
	if err := d.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Retry(ctx, 1, "transient", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	d = next(t, s)
	if d.Attempts != 1 || d.Counts["transient"] != 1 {
		t.Errorf("after a retry: %+v", d)
	}
	if err := d.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	q.Close() // its worker is lost
	q = open(t, cfg.AsAnotherProcess())
	d = next(t, source(t, q, page, queue.Bulk, 1))
	if !d.InDoubt || d.Lost != 1 {
		t.Errorf("after its worker was lost: %+v", d)
	}
	done(t, d)

	late := job(page, queue.Media)
	late.Expire = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	publish(t, q, late)
	equal(t, "expired", sweep(t, q.NewSweeper(), deadLetter(t)), []string{late.ID})
	isEmpty(t, q, page)
}

// The streams of a partition that vanish are made again, and messages go on.
func TestPartitionIsMadeAgain(t *testing.T) {
	t.Parallel()
	srv := divided(t)
	q, js := open(t, queue.Config{InProcess: srv}), raw(t, srv)
	page := pageIn(2)
	publish(t, q, job(page, queue.Bulk))
	drop(t, js, "BRAZIER_JOBS_2")
	_, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv, Existing: true})
	if !errors.As(err, new(*queue.StreamError)) || errors.Is(err, queue.ErrNoQueue) || !strings.Contains(err.Error(), "BRAZIER_JOBS_2") {
		t.Errorf("to look at what is left: %v", err)
	}
	q.Repair()
	again := job(page, queue.Bulk)
	publish(t, q, again)
	if d := next(t, source(t, q, page, queue.Bulk, 1)); d.ID != again.ID {
		t.Errorf("%s came, want %s", d.ID, again.ID)
	}
}

// A key that is repeated in the new partition is recognized also where its job in the old one is settled at that moment.
func TestPartitionSettlesMeanwhile(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	cfg := queue.Config{InProcess: srv}.WithGrowth(time.Hour, time.Millisecond)
	q := open(t, cfg)
	page := pageIn(2)
	j := job(page, queue.Bulk)
	j.Key, j.ID = "k", queue.KeyedID(page, "k")
	publish(t, q, j)
	cfg.Partitions = 2
	setup(t, cfg, false)
	q.Repair()
	sources := sourcesOf(t, q, page, queue.Bulk)
	if len(sources) != 2 {
		t.Fatalf("the page has %d sources", len(sources))
	}
	old := next(t, sources[1])
	q.AfterLookup(func() {
		done(t, old)
		eventually(t, "the job is removed", func() bool { b, err := q.Backlog(within(t, testTimeout), page); return err == nil && b.Pending == 0 })
	})
	again := *j
	if stored, err := q.Publish(within(t, testTimeout), &again); err != nil || !stored.Duplicate {
		t.Errorf("published again: %+v, error %v", stored, err)
	}
}

// A partition that does not answer makes nothing of the others unready.
func TestReadyBesidePartition(t *testing.T) {
	t.Parallel()
	q := open(t, queue.Config{InProcess: divided(t)}.WithWaits(50*time.Millisecond, time.Minute))
	if err := q.Pace(acme, "text").Prepare(within(t, testTimeout)); err != nil { // makes the bucket of paces
		t.Fatal(err)
	}
	q.Mute(queue.StreamJobs)
	// As long as /readyz asks, which is longer than until a wait counts.
	if err := errors.Join(q.Ready(within(t, 2*time.Second)), q.ReadyToWork(within(t, 2*time.Second))); err != nil {
		t.Error(err)
	}
}

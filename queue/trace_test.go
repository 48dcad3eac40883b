package queue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
)

// traced writes what is known of an id in one line.
func traced(t *testing.T, q *queue.Queue, id string) string {
	t.Helper()
	found, err := q.Trace(within(t, 2*testTimeout), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, f := range found {
		step := fmt.Sprint(f.ID, " ", f.State)
		if f.Next != "" {
			step += " as " + f.Next
		}
		if f.Reason != "" {
			step += fmt.Sprintf(" (%s)", f.Reason)
		}
		if len(f.Tries.Kept) > 0 {
			step += fmt.Sprintf(" after %d tries", len(f.Tries.Kept))
		}
		if f.Body != nil || f.Page != acme || f.At.IsZero() || (f.State == queue.TraceInDoubt) != (f.Doubt != "") {
			t.Errorf("%+v", f)
		}
		text = append(text, step)
	}
	return strings.Join(text, "; ")
}

// A message is found wherever it is.
func TestTrace(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	q := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	s := source(t, q, acme, queue.Urgent, 1)
	want := func(id, want string) {
		t.Helper()
		if got := traced(t, q, id); got != want {
			t.Errorf("%s:\n got %s\nwant %s", id, got, want)
		}
	}
	failed := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 3*testTimeout)
	want("UNKNOWN", "")
	want("not an id.*.>", "")

	j := job(acme, queue.Urgent)
	j.Tracking.User = "ada"
	publish(t, q, j)
	want(j.ID, j.ID+" waiting")
	d := next(t, s)
	failed(d.Begin(ctx))
	want(j.ID, j.ID+" begun")
	d.AddTry(try(1))
	failed(d.Retry(ctx, 1, "transient", time.Hour))
	want(j.ID, j.ID+" waiting (transient) after 1 tries")
	found, err := q.Trace(ctx, j.ID, nil)
	failed(err)
	if f := found[0]; f.Attempts != 1 || time.Until(f.NotBefore) < 59*time.Minute || f.Tracking.User != "ada" || f.Expire.IsZero() || f.Worker != "" {
		t.Errorf("%+v", f)
	}

	j = job(acme, queue.Urgent)
	publish(t, q, j)
	d = next(t, s)
	failed(d.Begin(ctx))
	done(t, d)
	want(j.ID, j.ID+" delivered")
	if found, err = q.Trace(ctx, j.ID, nil); err != nil || found[0].Attempts != 1 {
		t.Errorf("%+v, %v", found, err)
	}

	j = job(acme, queue.Urgent)
	publish(t, q, j)
	_, err = q.DiscardJobs(ctx, acme, func(other *queue.Job) bool { return other.ID == j.ID })
	failed(err)
	want(j.ID, j.ID+" discarded (discarded)")
}

// A message whose worker was lost is in doubt, and one that a person removed from the stream is missing.
func TestTraceLost(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	q := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	lost := open(t, queue.Config{InProcess: srv}.WithLease(lease).AsAnotherProcess())
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, source(t, lost, acme, queue.Bulk, 1))
	if err := d.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	lost.Close()
	eventually(t, "the lease is over", func() bool { return traced(t, q, j.ID) == j.ID+" in_doubt" })
	stream, err := raw(t, srv).Stream(t.Context(), queue.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("brazier.jobs."+acme+".bulk."+j.ID)); err != nil {
		t.Fatal(err)
	}
	if got := traced(t, q, j.ID); got != j.ID+" missing" {
		t.Error(got)
	}
}

// A message is followed over its deaths and replays, from whichever of its ids.
func TestTraceReplays(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	ctx := within(t, 3*testTimeout)
	j := job(acme, queue.Bulk)
	j.Key = "order 17"
	publish(t, q, j, job(nordwind, queue.Bulk))
	s := source(t, q, acme, queue.Bulk, 1)
	ids, path := []string{j.ID}, ""
	want := func(last string) {
		t.Helper()
		for _, id := range ids {
			if got := traced(t, q, id); got != path+last {
				t.Errorf("%s:\n got %s\nwant %s", id, got, path+last)
			}
		}
	}
	for n, class := range []string{"recipient", "window"} {
		id := ids[len(ids)-1]
		d := next(t, s)
		d.AddTry(try(n))
		if err := d.DeadLetter(ctx, queue.Reason{Class: class, Attempts: 1}); err != nil {
			t.Fatal(err)
		}
		want(fmt.Sprintf("%s dead (%s) after 1 tries", id, class))
		found, err := q.Trace(ctx, j.ID, nil)
		if err != nil || found[len(found)-1].Dead == nil {
			t.Fatalf("%+v, %v", found, err)
		}
		replay, err := q.Replay(ctx, found[len(found)-1].Dead.Seq)
		if err != nil {
			t.Fatal(err)
		}
		path += fmt.Sprintf("%s replayed as %s (%s) after 1 tries; ", id, replay.ID, class)
		ids = append(ids, replay.ID)
		want(replay.ID + " waiting")
	}
	d := next(t, s)
	records, err := raw(t, srv).Stream(ctx, queue.StreamRecords)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Purge(ctx, jetstream.WithPurgeSubject("brazier.records.0.replayed.*")); err != nil { // the stored job still knows its deaths
		t.Fatal(err)
	}
	if got, want := traced(t, q, d.ID), strings.ReplaceAll(path, " after 1 tries", "")+d.ID+" waiting"; got != want {
		t.Errorf("without pointers:\n got %s\nwant %s", got, want)
	}
	done(t, d)
	if got, want := traced(t, q, d.ID), d.ID+" delivered"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The pointer of a replay keeps no idempotency key: once the key's window is over, another message is accepted under it.
func TestPointerKeepsNoKey(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	ctx := within(t, 3*testTimeout)
	j := keyed(acme, "order 17", "ada")
	publish(t, q, j)
	if err := next(t, source(t, q, acme, queue.Bulk, 1)).DeadLetter(ctx, queue.Reason{Class: "window"}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Replay(ctx, 1); err != nil {
		t.Fatal(err)
	}
	done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
	records, err := raw(t, srv).Stream(ctx, queue.StreamRecords)
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Purge(ctx, jetstream.WithPurgeSubject("brazier.records.*.*."+j.ID), jetstream.WithPurgeKeep(0)); err != nil { // as the window does
		t.Fatal(err)
	}
	publish(t, q, keyed(acme, "order 17", "bob"))
}

// A user's messages and dead letters are found on every page, the newest first, and no other user's.
func TestTraceUser(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	ctx := within(t, 3*testTimeout)
	began := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var ids []string
	for n, of := range []queue.Tracking{{User: "ada"}, {ExternalID: "ada"}, {User: "bob"}, {User: "ada"}, {User: "ada", ExternalID: "a17"}, {}} {
		j := job(map[bool]string{true: acme, false: nordwind}[n%2 == 0], queue.Bulk)
		j.Accepted, j.Tracking = began.Add(time.Duration(n)*time.Minute), of
		publish(t, q, j)
		ids = append(ids, j.ID)
	}
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	if err := d.DeadLetter(ctx, queue.Reason{Class: "window"}); err != nil || d.ID != ids[0] {
		t.Fatal(d.ID, err)
	}
	for _, tt := range []struct {
		user string
		most int
		want []int
		more bool
	}{
		{"ada", 10, []int{4, 3, 1, 0}, false},
		{"ada", 3, []int{4, 3, 1}, true},
		{"ada", 1, []int{4}, true},
		{"a17", 10, []int{4}, false},
		{"carol", 10, nil, false},
	} {
		read := 0
		found, err := q.TraceUser(ctx, tt.user, tt.most, func(n int) { read = n })
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, f := range found.Messages {
			got = append(got, fmt.Sprint(f.ID, " ", f.State))
		}
		for _, n := range tt.want {
			want = append(want, fmt.Sprint(ids[n], " ", map[bool]queue.TraceState{true: queue.TraceDead, false: queue.TraceWaiting}[n == 0]))
		}
		equal(t, fmt.Sprintf("%d messages of %s", tt.most, tt.user), got, want)
		if found.More != tt.more || read < len(ids) {
			t.Errorf("%d messages of %s: more %v, %d read", tt.most, tt.user, found.More, read)
		}
	}
}

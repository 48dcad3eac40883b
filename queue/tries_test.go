package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// try is the n-th call for a message.
func try(n int) queue.Try {
	return queue.Try{At: time.UnixMilli(1_900_000_000_000).Add(time.Duration(n) * time.Second), Class: "transient", Code: 2, Subcode: n, TraceID: fmt.Sprint("A", n), Took: 120 * time.Millisecond}
}

// The calls that did not deliver a message go with it over every settlement, to its dead letter. The first and the last of many
// are kept.
func TestTries(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	publish(t, q, job(acme, queue.Bulk))
	d := next(t, s)
	var want queue.Tries
	const calls = queue.FirstTries + queue.LastTries + 3
	for n := range calls {
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		d.AddTry(try(n))
		if n < queue.FirstTries || n >= calls-queue.LastTries {
			want.Kept = append(want.Kept, try(n))
		}
		var err error
		if n%2 == 0 {
			err = d.Retry(within(t, 2*testTimeout), d.Attempts+1, "transient", 0)
		} else {
			err = d.Release(within(t, 2*testTimeout))
		}
		if err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		if n == 0 {
			equal(t, "tries after the first", d.Tries, queue.Tries{Kept: []queue.Try{try(0)}})
		}
	}
	want.LeftOut = calls - len(want.Kept)
	equal(t, "tries", d.Tries, want)
	if err := d.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "expired"}); err != nil {
		t.Fatal(err)
	}
	for l, err := range q.DeadLetters(within(t, 2*testTimeout), queue.DeadLetterFilter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "tries of the dead letter", l.Tries, want)
	}
}

// A message that is delivered at once has a record as small as before there were tries; one that is tried for days has one of bounded size.
func TestRecordSize(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	for _, tt := range []struct{ tries, most int }{{0, 90}, {1, 190}, {100, 1100}} {
		j := job(acme, queue.Bulk)
		publish(t, q, j)
		d := next(t, s)
		for n := range tt.tries {
			d.AddTry(try(n))
		}
		done(t, d)
		stream, err := raw(t, srv).Stream(t.Context(), queue.StreamRecords)
		if err != nil {
			t.Fatal(err)
		}
		record, err := stream.GetLastMsgForSubject(t.Context(), "brazier.records."+acme+".bulk."+j.ID)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d tries: %d bytes", tt.tries, len(record.Data))
		if len(record.Data) > tt.most {
			t.Errorf("the record after %d tries has %d bytes, want %d at most: %s", tt.tries, len(record.Data), tt.most, record.Data)
		}
	}
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue/embedded"
)

// deadLetterQueue is a queue on a server of its own. It is not queuetest's: these tests store dead letters as the
// package does.
func deadLetterQueue(t *testing.T) *Queue {
	t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Sync: embedded.SyncInterval, FlushEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	q, err := Open(t.Context(), Config{InProcess: srv, Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// deadJob is a dead letter to store: a job and why it died.
type deadJob struct {
	Job
	why Reason
}

func testDeadJob(id, page, class string, code int, campaign string) deadJob {
	now := time.Now().Truncate(time.Millisecond)
	return deadJob{
		Job: Job{ID: id, Page: page, Lane: Urgent, Key: "key of " + id, Recipient: "…6007", Accepted: now.Add(-time.Hour), Expire: now.Add(5 * time.Hour),
			Tracking: Tracking{Campaign: campaign, Canvas: "canvas", Dispatch: "dispatch", Message: "message", User: "user", ExternalID: "external"},
			Body:     []byte(`{"recipient":{"id":"2003004005006007"},"message":{"text":"Hi Ada"}}`)},
		why: Reason{Class: class, Code: code, Subcode: 7, TraceID: "trace", Attempts: 3, Text: "not available"},
	}
}

// store puts dead letters into the stream as Delivery.DeadLetter does, without the jobs' own way there.
func (q *Queue) store(t testing.TB, deadLetters ...deadJob) {
	t.Helper()
	for _, l := range deadLetters {
		d := Delivery{q: q, Job: l.Job}
		if _, err := q.js.PublishMsgAsync(d.deadLetterMessage(l.why), jetstream.WithMsgID(d.deadLetterID())); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-q.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("dead letters are not stored")
	}
}

func (q *Queue) list(t testing.TB, f DeadLetterFilter, withBody bool) []DeadLetter {
	t.Helper()
	var deadLetters []DeadLetter
	for l, err := range q.DeadLetters(t.Context(), f, withBody) {
		if err != nil {
			t.Fatal(err)
		}
		deadLetters = append(deadLetters, l)
	}
	return deadLetters
}

func names(deadLetters []DeadLetter) string {
	var ids []string
	for _, l := range deadLetters {
		ids = append(ids, l.ID)
	}
	return strings.Join(ids, " ")
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	if got := q.list(t, DeadLetterFilter{}, false); len(got) != 0 {
		t.Fatalf("an empty stream has %v", got)
	}
	first := testDeadJob("A", "11", "recipient", 551, "spring")
	q.store(t, first, testDeadJob("B", "22", "recipient", 551, "spring"), testDeadJob("C", "11", "window", 10, "autumn"))
	early := q.list(t, DeadLetterFilter{}, false)
	between := early[2].Died.Add(time.Nanosecond)
	replayed := testDeadJob("A-1", "11", "message", 100, "spring")
	replayed.Deaths = []Death{{ID: "A", Seq: 1, Class: "recipient"}}
	q.store(t, replayed, testDeadJob("D", "22", "window", 10, ""))

	for name, test := range map[string]struct {
		filter DeadLetterFilter
		want   string
	}{
		"all":             {DeadLetterFilter{}, "A B C A-1 D"},
		"page":            {DeadLetterFilter{Page: "11"}, "A C A-1"},
		"class":           {DeadLetterFilter{Class: "window"}, "C D"},
		"page and class":  {DeadLetterFilter{Page: "22", Class: "window"}, "D"},
		"unknown page":    {DeadLetterFilter{Page: "33"}, ""},
		"code":            {DeadLetterFilter{Code: 551}, "A B"},
		"which":           {DeadLetterFilter{Page: "11", Which: func(l *DeadLetter) bool { return l.Subcode == 7 && l.Code != 10 }}, "A A-1"},
		"campaign":        {DeadLetterFilter{Campaign: "spring", Page: "11"}, "A A-1"},
		"since":           {DeadLetterFilter{Since: between}, "A-1 D"},
		"until":           {DeadLetterFilter{Until: between}, "A B C"},
		"since and until": {DeadLetterFilter{Since: early[1].Died, Until: early[2].Died}, "B"},
		"since tomorrow":  {DeadLetterFilter{Since: time.Now().Add(24 * time.Hour)}, ""},
		"id":              {DeadLetterFilter{IDs: []string{"B"}}, "B"},
		"ids":             {DeadLetterFilter{IDs: []string{"D", "none", "B"}}, "B D"},
		"first id":        {DeadLetterFilter{IDs: []string{"A"}}, "A A-1"},
		"later id":        {DeadLetterFilter{IDs: []string{"A-1"}}, "A-1"},
		"max seq":         {DeadLetterFilter{MaxSeq: 2}, "A B"},
		"max seq beyond":  {DeadLetterFilter{MaxSeq: 99}, "A B C A-1 D"},
	} {
		if got := names(q.list(t, test.filter, false)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	for _, f := range []DeadLetterFilter{{Page: "acme"}, {Page: "*"}, {Class: ">"}, {Class: "a.b"}} {
		for _, err := range q.DeadLetters(t.Context(), f, false) {
			if err == nil {
				t.Errorf("filter %+v is taken", f)
			}
		}
	}

	// A dead letter is all that was stored of it.
	want := DeadLetter{Job: first.Job, Reason: first.why, Seq: 1, Size: len(first.Body), Died: early[0].Died}
	for _, withBody := range []bool{true, false} {
		if !withBody {
			want.Body = nil
		}
		got := q.list(t, DeadLetterFilter{MaxSeq: 1}, withBody)[0]
		if diff := cmp.Diff(want, got, cmp.Transformer("body", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("with body %v (-want +got):\n%s", withBody, diff)
		}
	}
	if got, err := q.DeadLetter(t.Context(), 1); err != nil || string(got.Body) != string(first.Body) || got.ID != "A" {
		t.Errorf("dead letter 1: %+v, error %v", got, err)
	}
	if _, err := q.DeadLetter(t.Context(), 99); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("dead letter 99: %v", err)
	}
}

// TestDeadLettersEnd changes the stream under the iteration.
func TestDeadLettersEnd(t *testing.T) {
	t.Parallel()
	const removed = 100
	changes := map[string]func(*testing.T, *Queue){
		"dead letters come": func(t *testing.T, q *Queue) {
			q.store(t, testDeadJob("LATER", "11", "window", 10, ""))
		},
		// The server has announced these and not yet sent them. The reader does not wait for them forever.
		"dead letters go": func(t *testing.T, q *Queue) {
			for i := range uint64(removed) {
				if err := q.Discard(t.Context(), deadLetterBuffer+1+i); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	for name, want := range map[string]int{"dead letters come": deadLetterBuffer + removed, "dead letters go": deadLetterBuffer} {
		t.Run(name, func(t *testing.T) {
			q := deadLetterQueue(t)
			for i := range deadLetterBuffer + removed {
				q.store(t, testDeadJob(fmt.Sprint("L", i), "11", "window", 10, ""))
			}
			seen := 0
			for l, err := range q.DeadLetters(t.Context(), DeadLetterFilter{Page: "11"}, false) {
				if err != nil {
					t.Fatal(err)
				}
				if seen++; seen == 1 {
					q.awaitSent(t, deadLetterBuffer)
					changes[name](t, q)
				}
				if l.ID == "LATER" {
					t.Error("a dead letter that came later is returned")
				}
			}
			if seen != want {
				t.Errorf("%d dead letters, want %d", seen, want)
			}
		})
	}
}

func TestDeadLettersStopped(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	q.store(t, testDeadJob("A", "11", "window", 10, ""), testDeadJob("B", "11", "window", 10, ""))
	for range q.DeadLetters(t.Context(), DeadLetterFilter{}, true) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range q.DeadLetters(ctx, DeadLetterFilter{}, false) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("after the context ended: %v", last)
	}
	names := q.dead.ConsumerNames(t.Context())
	for name := range names.Name() {
		t.Errorf("consumer %s is left", name)
	}
}

// TestDeadLettersInBoundedMemory reads dead letters of 80 MB and counts what is held of them.
func TestDeadLettersInBoundedMemory(t *testing.T) {
	q := deadLetterQueue(t)
	const n, size, allowed = 20_000, 4096, 40 << 20
	l := testDeadJob("", "11", "window", 10, "")
	l.Body = []byte(strings.Repeat("x", size))
	for i := range n {
		l.ID = fmt.Sprint("L", i)
		if i%1000 == 999 {
			q.store(t, l)
		} else {
			q.js.PublishMsgAsync((&Delivery{q: q, Job: l.Job}).deadLetterMessage(l.why), jetstream.WithMsgID(l.ID))
		}
	}
	before, most, seen := heap(), uint64(0), 0
	began := time.Now()
	for l, err := range q.DeadLetters(t.Context(), DeadLetterFilter{}, true) {
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Body) != size {
			t.Fatalf("a body of %d bytes", len(l.Body))
		}
		if seen++; seen%2000 == 0 {
			most = max(most, heap())
		}
	}
	t.Logf("%d dead letters of %d bytes in %v, heap %d KiB before, %d KiB at most", seen, size, time.Since(began).Round(time.Millisecond), before>>10, most>>10)
	if seen != n {
		t.Errorf("%d dead letters, want %d", seen, n)
	}
	if most > before+allowed { // the server's own caches are in it
		t.Errorf("the heap grew by %d MiB", (most-before)>>20)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// awaitSent waits until the only consumer of the dead letters has been sent so many.
func (q *Queue) awaitSent(t *testing.T, want uint64) {
	t.Helper()
	var sent uint64
	for deadline := time.Now().Add(time.Minute); sent < want; {
		if time.Now().After(deadline) {
			t.Fatalf("%d dead letters are sent, want %d", sent, want)
		}
		for info := range q.dead.ListConsumers(t.Context()).Info() {
			sent = info.Delivered.Consumer
		}
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	q.store(t, testDeadJob("A", "11", "window", 10, ""), testDeadJob("B", "11", "window", 10, ""))
	if err := q.Discard(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := q.Discard(t.Context(), 1); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("discarded twice: %v", err)
	}
	if got := names(q.list(t, DeadLetterFilter{}, false)); got != "B" {
		t.Errorf("left is %q", got)
	}
}

// TestExisting looks into servers that hold no queue.
func TestExisting(t *testing.T) {
	t.Parallel()
	srv, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Sync: embedded.SyncInterval, FlushEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	for range 2 { // the first made nothing
		if _, err := Open(t.Context(), Config{InProcess: srv, Existing: true}); !errors.Is(err, ErrNoQueue) {
			t.Errorf("no queue: %v", err)
		}
	}
	q, err := Open(t.Context(), Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	if q, err = Open(t.Context(), Config{InProcess: srv, Existing: true}); err != nil {
		t.Fatal(err)
	}
	q.Close()
}

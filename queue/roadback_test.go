package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// withRoadBack returns a queue with the streams from webhooks to Braze.
func withRoadBack(t testing.TB) *queue.Queue {
	return open(t, queue.Config{InProcess: queuetest.Server(t, ""), Embedded: true, RoadBack: true})
}

func event(page, key string) *queue.Job {
	return &queue.Job{ID: queue.KeyedID(page, "webhook "+key), Page: page, Lane: queue.Events, Key: key, Body: []byte(`{"key":"` + key + `"}`)}
}

// An event that Facebook sends again is stored once, also after it was settled, and meets no job that has its id.
func TestEventOnce(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	message := job(acme, queue.Bulk)
	e := event(acme, "m_1")
	message.ID, message.Key = e.ID, e.Key
	publish(t, q, message, e)
	again := func(what string) {
		t.Helper()
		stored, err := q.Publish(t.Context(), event(acme, "m_1"))
		if err != nil || !stored.Duplicate {
			t.Errorf("%s: got %+v, %v, want a duplicate", what, stored, err)
		}
	}
	again("while it is there")
	s := source(t, q, queue.AllPages, queue.Events, 8)
	d := next(t, s)
	equal(t, "page", d.Page, acme)
	equal(t, "body", string(d.Body), string(e.Body))
	events, updates, err := q.RoadBackBacklog(t.Context())
	if err := q.ReadyForEvents(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err != nil || events.Pending != 1 || time.Since(events.Oldest) > time.Minute || updates != (queue.Backlog{}) {
		t.Errorf("backlog: %+v, %+v, %v", events, updates, err)
	}
	done(t, d)
	again("after it was settled")
	equal(t, "message", string(next(t, source(t, q, acme, queue.Bulk, 1)).Body), string(message.Body))
}

// Each workspace has a lane of its own, and a dead letter of an update is replayed into it.
func TestUpdates(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	update := &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Updates("eu"), Body: []byte(`{"user":1}`)}
	other := &queue.Job{ID: queue.NewID(), Page: nordwind, Lane: queue.Updates("us"), Body: []byte(`{"user":2}`)}
	publish(t, q, update, other)
	eu := source(t, q, queue.AllPages, queue.Updates("eu"), 8)
	d := next(t, eu)
	equal(t, "id", d.ID, update.ID)
	if workspace, ok := d.Lane.Workspace(); !ok || workspace != "eu" {
		t.Errorf("lane %s: workspace %q, %v", d.Lane, workspace, ok)
	}
	if err := d.DeadLetter(t.Context(), queue.Reason{Class: "braze", Text: "refused"}); err != nil {
		t.Fatal(err)
	}
	for l, err := range q.DeadLetters(t.Context(), queue.DeadLetterFilter{Page: acme}, false) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Replay(t.Context(), l.Seq); err != nil {
			t.Fatal(err)
		}
	}
	again := next(t, eu)
	equal(t, "body", string(again.Body), string(update.Body))
	done(t, again)
	done(t, next(t, source(t, q, queue.AllPages, queue.Updates("us"), 8)))
}

// Two jobs of different streams may have the same sequence there, and be in flight at one time.
func TestSameSequence(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	e, u := event(acme, "m_1"), &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Updates("eu"), Body: []byte("{}")}
	publish(t, q, e, u)
	first := next(t, source(t, q, queue.AllPages, queue.Events, 8))
	second := next(t, source(t, q, queue.AllPages, queue.Updates("eu"), 8))
	equal(t, "sequence", first.StreamSeq, second.StreamSeq)
	done(t, first)
	done(t, second)
}

func TestRoadBackOff(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	if _, err := q.Publish(t.Context(), event(acme, "m_1")); !errors.Is(err, queue.ErrNoRoadBack) {
		t.Errorf("publish: %v", err)
	}
	if _, err := q.People().Read(t.Context(), acme, "7"); !errors.Is(err, queue.ErrNoRoadBack) {
		t.Errorf("entries: %v", err)
	}
	if _, err := q.People().Set(t.Context(), acme, queue.Entry{Key: "7"}); !errors.Is(err, queue.ErrNoRoadBack) {
		t.Errorf("set entry: %v", err)
	}
	if err := q.People().Erase(t.Context(), acme, "7"); !errors.Is(err, queue.ErrNoRoadBack) {
		t.Errorf("erase entries: %v", err)
	}
	if err := q.ReadyForEvents(t.Context()); !errors.Is(err, queue.ErrNoRoadBack) {
		t.Errorf("ready: %v", err)
	}
	if _, err := raw(t, srv).Stream(t.Context(), queue.StreamEvents); err == nil {
		t.Errorf("a queue without RoadBack made %s", queue.StreamEvents)
	}
}

func set(t testing.TB, q *queue.Queue, e queue.Entry) uint64 {
	t.Helper()
	revision, err := q.People().Set(within(t, testTimeout), acme, e)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func TestEntries(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	read := func(keys ...string) []queue.Entry {
		t.Helper()
		entries, err := q.People().Read(within(t, testTimeout), acme, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	none := read("person", "user")
	equal(t, "nothing", none, []queue.Entry{{Key: "person"}, {Key: "user"}})

	first := set(t, q, queue.Entry{Key: "person", Value: []byte("a")})
	last := set(t, q, queue.Entry{Key: "user", Value: []byte("b")})
	equal(t, "one entry asked for twice", read("user", "user")[0].Revision, last)
	got := read("user", "person", "another")
	equal(t, "entries", got, []queue.Entry{{Key: "user", Value: []byte("b"), Revision: last}, {Key: "person", Value: []byte("a"), Revision: first}, {Key: "another"}})

	if _, err := q.People().Set(t.Context(), acme, queue.Entry{Key: "user", Value: []byte("c")}); !errors.Is(err, queue.ErrChanged) {
		t.Errorf("set with an old revision: %v", err)
	}
	equal(t, "entries after that", read("user", "person", "another"), got)

	if err := q.People().Erase(t.Context(), acme, "user", "nobody"); err != nil {
		t.Fatal(err)
	}
	equal(t, "an erased entry", read("user"), []queue.Entry{{Key: "user"}})
	set(t, q, queue.Entry{Key: "user", Value: []byte("d")})
	for _, bad := range []queue.Entry{{Key: ""}, {Key: "a.b"}, {Key: "*"}} {
		if _, err := q.People().Set(t.Context(), acme, bad); err == nil || errors.Is(err, queue.ErrChanged) {
			t.Errorf("set %q: %v", bad.Key, err)
		}
	}
}

// Of many who change one entry at the same time, none loses another's change.
func TestEntriesContended(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	const writers, rounds = 8, 10
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range rounds {
				if err := increment(t.Context(), q); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	entries, err := q.People().Read(t.Context(), acme, "n")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "changes", string(entries[0].Value), fmt.Sprint(writers*rounds))
}

func increment(ctx context.Context, q *queue.Queue) error {
	for {
		entries, err := q.People().Read(ctx, acme, "n")
		if err != nil {
			return err
		}
		n := 0
		_, _ = fmt.Sscan(string(entries[0].Value), &n)
		entries[0].Value = fmt.Append(nil, n+1)
		if _, err = q.People().Set(ctx, acme, entries[0]); !errors.Is(err, queue.ErrChanged) {
			return err
		}
	}
}

func TestEachEntry(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	const n = 600 // more than one request returns
	var writing sync.WaitGroup
	for i := range n {
		writing.Go(func() { set(t, q, queue.Entry{Key: fmt.Sprint(i), Value: []byte("x")}) })
	}
	writing.Wait()
	found := map[string]bool{}
	for e, err := range q.People().Each(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Page != acme || string(e.Value) != "x" || time.Since(e.Written) > time.Hour {
			t.Fatalf("got %+v", e)
		}
		found[e.Key] = true
	}
	equal(t, "entries", len(found), n)
}

// What is stored before the server is killed is there after it, and what was in flight is delivered again.
func TestRoadBackRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := open(t, queue.Config{InProcess: m, Embedded: true, RoadBack: true})
	publish(t, q, event(acme, "m_1"))
	set(t, q, queue.Entry{Key: "person", Value: []byte("a")})
	d := next(t, source(t, q, queue.AllPages, queue.Events, 1))
	m.restart(q)
	done(t, d)
	entries, err := q.People().Read(within(t, testTimeout), acme, "person")
	if err != nil || string(entries[0].Value) != "a" {
		t.Errorf("entries after a restart: %v, %v", entries, err)
	}
	stored, err := q.Publish(within(t, testTimeout), event(acme, "m_1"))
	if err != nil || !stored.Duplicate {
		t.Errorf("the same event after a restart: %+v, %v", stored, err)
	}
}

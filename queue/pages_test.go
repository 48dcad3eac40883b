package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/brazier-relay/brazier/queue"
)

var (
	at       = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	held     = queue.PageState{Held: true, Class: "auth", Reason: "token expired", Code: 190, Subcode: 463, Since: at, Holds: 2, DeadToken: "d1"}
	anyState = cmpopts.IgnoreUnexported(queue.PageState{})
)

func setPage(t testing.TB, q *queue.Queue, page string, s queue.PageState) queue.PageState {
	t.Helper()
	set, err := q.SetPageState(within(t, 2*testTimeout), page, s)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The latest state counts, and only a process that has read it may change it.
func TestPageState(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	none, err := q.PageState(within(t, 2*testTimeout), acme)
	if err != nil || none.Held || none.Revision() != 0 {
		t.Fatalf("a page that nothing is known of: %+v, %v", none, err)
	}
	first := setPage(t, q, acme, held)
	if _, err := q.SetPageState(within(t, 2*testTimeout), acme, none); !errors.Is(err, queue.ErrChanged) {
		t.Errorf("set by a process that has not read it: %v", err)
	}
	probing := first
	probing.Prober, probing.ProbeUntil = "worker-1", at.Add(time.Minute)
	second := setPage(t, q, acme, probing)
	if _, err := q.SetPageState(within(t, 2*testTimeout), acme, first); !errors.Is(err, queue.ErrChanged) {
		t.Errorf("set by the slower of two processes: %v", err)
	}
	got, err := q.PageState(within(t, 2*testTimeout), acme)
	if err != nil || got.Revision() != second.Revision() || got.Revision() == first.Revision() {
		t.Errorf("revisions %d, %d, then %d; %v", first.Revision(), second.Revision(), got.Revision(), err)
	}
	equal(t, "state", got, probing, anyState)

	setPage(t, q, nordwind, queue.PageState{Resumed: at})
	all, err := q.PageStates(within(t, 2*testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "states", all, map[string]queue.PageState{acme: probing, nordwind: {Resumed: at}}, anyState)

	kv, err := raw(t, srv).KeyValue(t.Context(), queue.BucketPages)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), acme, `{"held":true,"class":"page","invented_later":{"a":1}}`); err != nil {
		t.Fatal(err)
	}
	if got, err = q.PageState(within(t, 2*testTimeout), acme); err != nil {
		t.Errorf("a record of a newer version: %v", err)
	}
	equal(t, "record of a newer version", got, queue.PageState{Held: true, Class: "page"}, anyState)
	if _, err := kv.PutString(t.Context(), acme, `broken`); err != nil {
		t.Fatal(err)
	}
	if got, err = q.PageState(within(t, 2*testTimeout), acme); err == nil || got.Revision() == 0 {
		t.Errorf("a broken record: %+v, error %v", got, err)
	}
	if err := kv.Delete(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if got, err = q.PageState(within(t, 2*testTimeout), acme); err != nil || got.Revision() != 0 {
		t.Errorf("a record that a person removed: %+v, error %v", got, err)
	}
	setPage(t, q, acme, got)
}

// A time to come, by a clock that was wrong, counts as the time at which it was written down.
func TestResumedInTheFuture(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	setPage(t, q, acme, queue.PageState{Resumed: time.Now().Add(time.Hour)})
	got, err := q.PageState(within(t, 2*testTimeout), acme)
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(got.Resumed); ahead > time.Minute || ahead < -10*time.Minute {
		t.Errorf("resumed at %v, in %v", got.Resumed, ahead)
	}
	first, _ := watch(t, q)
	if len(first) != 1 || !first[0].state.Resumed.Equal(got.Resumed) {
		t.Errorf("a watch says %+v, want it resumed at %v", first, got.Resumed)
	}
	all, err := q.PageStates(within(t, 2*testTimeout))
	if err != nil || !all[acme].Resumed.Equal(got.Resumed) {
		t.Errorf("all states %+v, %v, want it resumed at %v", all, err, got.Resumed)
	}
}

// What led to the last hold is known until there is another. Probes that are refused prolong a row of refusals.
func TestRefusedSince(t *testing.T) {
	var s queue.PageState
	since := func(what string, want time.Time) {
		t.Helper()
		if got := s.RefusedSince(); !got.Equal(want) {
			t.Errorf("%s: refused since %v, want %v", what, got, want)
		}
	}
	minute := func(n int) time.Time { return at.Add(time.Duration(n) * time.Minute) }
	since("never held", time.Time{})
	s.Hold(queue.PageState{Class: "page", Code: 10, Since: minute(1)})
	since("at the first sign", minute(1))
	s.Hold(queue.PageState{Class: "page", Code: 10, Since: minute(2)})
	s.Hold(queue.PageState{Class: "page", Code: 10, Since: minute(3)})
	since("two probes later", minute(1))
	s.Resume(minute(4))
	since("resumed", minute(1))
	want := queue.PageState{Class: "page", Code: 10, Since: minute(3), FirstRefused: minute(1), Resumed: minute(4)}
	equal(t, "resumed", s, want, anyState)
	s.Hold(queue.PageState{Class: "page", Code: 10, Since: minute(5)})
	since("the same after a message was taken", minute(5))
	s.Hold(queue.PageState{Class: "page", Code: 10, Subcode: 7, Since: minute(6)})
	since("another refusal", minute(6))
	s.Hold(queue.PageState{Class: "page", Code: 100, Subcode: 33, Since: minute(8), FirstRefused: minute(7)})
	since("after a row", minute(7))
	s.Hold(queue.PageState{Class: "page", Code: 100, Subcode: 33, Since: minute(9)})
	since("after a row, and a probe", minute(7))
	s.Hold(queue.PageState{Class: "manual", Manual: true, Since: minute(10)})
	since("by hand", minute(10))
	s.Hold(queue.PageState{Class: "in_doubt", Since: minute(11)})
	since("after one by hand", minute(11))
}

// passed is what WatchPages passed to its function.
type passed struct {
	page  string
	state queue.PageState
}

// watch runs WatchPages until the test ends, and returns what it says, once it is ready.
func watch(t testing.TB, q *queue.Queue) (first []passed, then <-chan passed) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	states, ready, ended := make(chan passed, 100), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.WatchPages(ctx, func(page string, s queue.PageState) { states <- passed{page, s} }, ready)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	select {
	case <-ready:
	case <-within(t, testTimeout).Done():
		t.Fatal("the watch is not ready")
	}
	for len(states) > 0 {
		first = append(first, <-states)
	}
	return first, states
}

func nextPassed(t testing.TB, states <-chan passed) passed {
	t.Helper()
	select {
	case got := <-states:
		return got
	case <-within(t, testTimeout).Done():
		t.Fatal("nothing was passed")
		panic("unreachable")
	}
}

// A watch passes the states that are there, then each change, each once, also those made while its connection was lost.
func TestWatchPages(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q, other := m.open(), m.open()
	if first, _ := watch(t, q); len(first) != 0 {
		t.Errorf("of no pages it says %v", first)
	}
	state := setPage(t, q, acme, held)
	first, states := watch(t, q)
	equal(t, "first", len(first), 1)
	equal(t, "first", first[0].state, held, anyState)

	state.Class = "page"
	state = setPage(t, other, acme, state)
	equal(t, "change", nextPassed(t, states).state.Class, "page")
	if m.restart(q, other); len(states) != 0 {
		t.Errorf("a restart alone changes %v", <-states)
	}
	state.Class = "throttle"
	state = setPage(t, other, acme, state)
	got := nextPassed(t, states)
	if got.page != acme || got.state.Class != "throttle" || got.state.Revision() != state.Revision() {
		t.Errorf("after a restart it says %+v, want %+v", got, state)
	}
}

func TestWatchPagesOfClosedQueue(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- q.WatchPages(t.Context(), func(string, queue.PageState) {}, ready) }()
	<-ready
	q.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the watch of a closed queue ends without an error")
		}
	case <-within(t, testTimeout).Done():
		t.Fatal("the watch of a closed queue does not end")
	}
}

package worker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// byHand changes the state of a page as brazier pages does.
func (f *fixture) byHand(key string, change func(*queue.PageState)) {
	f.t.Helper()
	for {
		s, err := f.q.PageState(f.t.Context(), key)
		if err != nil {
			f.t.Fatal(err)
		}
		change(&s)
		switch _, err = f.q.SetPageState(f.t.Context(), key, s); {
		case errors.Is(err, queue.ErrChanged):
		case err != nil:
			f.t.Fatal(err)
		default:
			return
		}
	}
}

func takes(context.Context, *queue.Delivery) worker.Verdict { return delivered }

// What a person does to a page is logged, with who did it and why.
func TestHoldByHandIsLogged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.start(takes, worker.Config{})
	f.publish(acme, queue.Bulk, 1)
	f.await("delivered", 1) // from here on changes are seen as they come
	f.byHand(acme, func(s *queue.PageState) {
		s.Hold(queue.PageState{Class: "manual", Manual: true, Reason: "wrong coupon", By: "ada@ops", Since: f.q.Now()})
	})
	has(t, f.await("held", 1), "code subcode", map[string]any{"page": "acme", "class": "manual", "reason": "wrong coupon", "by": "ada@ops", "until": "resumed by hand"})
	f.byHand(acme, func(s *queue.PageState) {
		s.Resume(f.q.Now())
		s.Manual, s.By = true, "grace@ops"
	})
	has(t, f.await("resumed", 1), "", map[string]any{"page": "acme", "class": "manual", "by": "grace@ops"})
	if n := len(f.events("held")); n != 1 {
		t.Errorf("%d lines about one hold", n)
	}
}

// A hold from before the start is told by each worker that starts, and then again and again by one of all, also where nothing
// waits.
func TestHeldStill(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.still = time.Second
	f.byHand(acme, func(s *queue.PageState) {
		s.Hold(queue.PageState{Class: "page", Code: 368, Reason: "blocked", Since: f.q.Now().Add(-time.Hour), Until: f.q.Now().Add(time.Hour)})
	})
	f.byHand(queue.AppKey("shop"), func(s *queue.PageState) {
		s.Hold(queue.PageState{Class: "throttle_app", Code: 4, Since: f.q.Now().Add(-time.Hour), Until: f.q.Now().Add(time.Hour)})
	})
	f.publish(nordwind, queue.Bulk, 2)
	pages := func() []worker.Page {
		return []worker.Page{{ID: acme, Name: "acme", Rate: 1000}, {ID: nordwind, Name: "nordwind", App: "shop", Rate: 1000}}
	}
	f.start(takes, worker.Config{Pages: pages()})
	f.await("held_still", 2)
	f.start(takes, worker.Config{Pages: pages()})
	of := func(key, value string) (found []map[string]any) {
		for _, line := range f.events("held_still") {
			if line[key] == value {
				found = append(found, line)
			}
		}
		return found
	}
	eventually(t, "both are told again", func() bool { return len(of("page", "acme")) >= 4 && len(of("app", "shop")) >= 4 })
	has(t, of("page", "acme")[3], "subcode since until", map[string]any{"class": "page", "code": 368, "reason": "blocked", "pending": 0})
	has(t, of("app", "shop")[3], "since until", map[string]any{"class": "throttle_app", "code": 4, "pending": 2})
	if n := len(f.events("held")); n > 0 {
		t.Errorf("%d lines say that a page is held anew", n)
	}
}

// A page without a token is held in one process alone, which tells it again.
func TestOwnHoldIsToldAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.still = time.Second
	f.start(takes, worker.Config{Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, Credentials: func() (string, error) { return "", errors.New("no token file") }}}})
	has(t, f.await("held_still", 2), "since pending", map[string]any{"page": "acme", "class": string(sendapi.ClassAuth), "code": 0, "reason": "no token file", "until": "another token"})
	if n := len(f.events("held")); n != 1 {
		t.Errorf("%d lines held", n)
	}
}

package worker

import (
	"context"
	"testing"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// States that nobody wrote are forgotten with their pages.
func TestForgetStates(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	h := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{} })
	page := func(id, app string) Page { return Page{ID: id, App: app, Handler: h} }
	w, err := New(Config{Queue: q, Pages: []Page{page("1", "a"), page("2", "b"), page("3", "a")}})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := q.SetPageState(t.Context(), "2", queue.PageState{Holds: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.states["2"].see(stored)
	if err := w.SetPages([]Page{page("1", "a")}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"1": true, queue.AppKey("a"): true, "2": true, "3": false, queue.AppKey("b"): false} {
		if got := w.states[key] != nil; got != want {
			t.Errorf("state %s is known: %v, want %v", key, got, want)
		}
	}
}

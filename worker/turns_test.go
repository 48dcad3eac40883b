package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Of many pages with a backlog few fetch a message for the circuit's next try, each time others, and all do in the end where
// those have nothing.
func TestCircuitTurns(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	h := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{} })
	const pages, busy = 200, 100
	cfg := Config{Queue: q}
	backlog := map[queue.PageLane]uint64{}
	for i := range pages {
		id := fmt.Sprint(3000000000 + i)
		cfg.Pages = append(cfg.Pages, Page{ID: id, Handler: h})
		if i < busy {
			backlog[queue.PageLane{Page: id, Lane: queue.Bulk}] = 1
		}
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := q.Now()
	due := func(after time.Duration) (names []string) {
		for _, p := range w.all() {
			if g, _ := w.circuit.gate(p, now.Add(after)); g == gateDue {
				names = append(names, p.Name)
			}
		}
		return names
	}
	w.circuit.open, w.circuit.next = true, now
	if n := len(due(0)); n != pages {
		t.Errorf("with no backlog known %d pages are due, want all %d", n, pages)
	}
	w.look(backlog)
	seen := map[string]bool{}
	for range busy/circuitPages + 1 {
		turn := due(0)
		if len(turn) != circuitPages {
			t.Fatalf("%d pages are due, want %d", len(turn), circuitPages)
		}
		for _, name := range turn {
			seen[name] = true
		}
		w.circuit.again(now.Add(-circuitDelays.Steady(w.circuit.tries + 1)))
	}
	if len(seen) != busy {
		t.Errorf("%d pages had their turn, want %d", len(seen), busy)
	}
	if first, second := due(0), func() []string { w.look(backlog); return due(0) }(); first[0] == second[0] {
		t.Errorf("the pages %v have their turn at the next look too", first)
	}
	if n := len(due(circuitWiden)); n != 2*circuitPages {
		t.Errorf("after a while %d pages are due, want %d", n, 2*circuitPages)
	}
	if n := len(due(time.Minute)); n != pages {
		t.Errorf("after a minute %d pages are due, want all %d", n, pages)
	}
	w.look(map[queue.PageLane]uint64{{Page: cfg.Pages[0].ID, Lane: queue.Bulk}: 1})
	if n, later := len(due(0)), len(due(circuitWiden)); n != 1 || later != pages {
		t.Errorf("with one page's backlog %d pages are due, want 1, and %d after a while, want %d", n, later, pages)
	}
}

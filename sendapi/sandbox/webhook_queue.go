package sandbox

import (
	"math/rand/v2"
	"time"
)

// hookEvent is an event that waits to be sent. It keeps the page's id for the events that were written with it.
type hookEvent struct {
	page   *page
	pageID string
	psid   string
	json   string
}

type hookPerson struct {
	page *page
	psid string
}

func (e *hookEvent) person() hookPerson { return hookPerson{e.page, e.psid} }

// hookBody is a body under way or to be repeated.
type hookBody struct {
	app      string
	events   []hookEvent
	json     []byte // the same for each attempt; nil before the first
	delivery *Delivery
	due      time.Duration // of the next attempt
	failing  time.Duration // since when; valid after the first failure
}

// repeatHeap has the body on top that is due first.
type repeatHeap []*hookBody

func (h repeatHeap) Len() int           { return len(h) }
func (h repeatHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h repeatHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *repeatHeap) Push(x any)        { *h = append(*h, x.(*hookBody)) }
func (h *repeatHeap) Pop() any {
	old := *h
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return b
}

func (s *Sandbox) enqueue(events ...hookEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.enqueue(events...)
}

// enqueue adds events to those that wait. The caller holds mu.
func (h *hooks) enqueue(events ...hookEvent) {
	h.counts.Events += len(events)
	h.counts.Waiting += len(events)
	h.waiting = append(h.waiting, events...)
	h.signal()
}

// take takes the events of one body, which are of one app. Unless Shuffle is set, an event is parked while one of the same person is
// under way. The caller holds mu.
func (h *hooks) take(rnd *rand.Rand) []hookEvent {
	var events []hookEvent
	for len(events) < h.Batch {
		q := &h.ready
		if len(*q) == 0 {
			q = &h.waiting
		}
		if len(*q) == 0 {
			break
		}
		if h.Shuffle {
			i := rnd.IntN(len(*q))
			(*q)[0], (*q)[i] = (*q)[i], (*q)[0]
		}
		e := (*q)[0]
		p := e.person()
		if len(events) > 0 && e.page.App != events[0].page.App {
			break
		}
		pop(q)
		switch {
		case len(e.page.fields) == 0: // the page has lost its subscription meanwhile
			h.counts.Waiting--
			h.counts.Unsubscribed++
			h.release(p)
		case !h.Shuffle && (h.busy[p] > 0 || q == &h.waiting && len(h.parked[p]) > 0):
			h.parked[p] = append(h.parked[p], e)
		default:
			events = append(events, e)
		}
	}
	return events
}

// release makes the first parked event of a person ready, for whom nothing is under way any more. The caller holds mu.
func (h *hooks) release(p hookPerson) {
	q := h.parked[p]
	if len(q) == 0 {
		return
	}
	h.ready = append(h.ready, q[0])
	if pop(&q); len(q) == 0 {
		delete(h.parked, p)
	} else {
		h.parked[p] = q
	}
}

// pop takes the first event off a queue, and gives the memory back when the queue is empty.
func pop(q *[]hookEvent) {
	(*q)[0] = hookEvent{}
	if *q = (*q)[1:]; len(*q) == 0 {
		*q = nil
	}
}

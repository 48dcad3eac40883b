package sandbox

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// hooks sends events to the webhook.
//
//	Write, receipts -> waiting -> dispatch -> deliver -> settle -> done, or repeats -> dispatch
//
// One goroutine dispatches; each delivery under way has a goroutine, at most Webhook.Parallel.
type hooks struct {
	client  *http.Client
	ctx     context.Context // ends when the sandbox closes
	cancel  context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{} // has a value if the dispatcher may find something to do

	// Sandbox.mu guards what follows.
	Webhook
	events   uint64 // number of the last event, for its variation and id
	bodies   uint64 // number of the last delivery
	asked    uint64 // how many challenges and calls to subscribed_apps there were
	waiting  []hookEvent
	parked   map[hookPerson][]hookEvent // of people for whom an earlier event is under way, or ready
	ready    []hookEvent                // no longer parked; these go before waiting
	repeats  repeatHeap
	underWay int
	busy     map[hookPerson]int // deliveries under way, by person
	counts   WebhookCounts
	record   []*Delivery // oldest first
}

func newHooks(w Webhook) *hooks {
	h := &hooks{Webhook: w, wake: make(chan struct{}, 1), busy: map[hookPerson]int{}, parked: map[hookPerson][]hookEvent{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.client = &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: maxParallel, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h
}

// close ends deliveries that are under way, and returns when none is left.
func (h *hooks) close() {
	h.cancel()
	h.running.Wait()
	h.client.CloseIdleConnections()
}

// signal wakes the dispatcher.
func (h *hooks) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// eventRand, bodyRand and askedRand return the sources of all variation of an event, a body, and a challenge or a call to
// subscribed_apps, each the same in each run with the same seed.
func (s *Sandbox) eventRand(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed+2, n)) }
func (s *Sandbox) bodyRand(n uint64) *rand.Rand  { return rand.New(rand.NewPCG(s.seed+3, n)) }

func (s *Sandbox) askedRand() *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.asked++
	return rand.New(rand.NewPCG(s.seed+4, s.hooks.asked))
}

// dispatch starts deliveries until the sandbox closes.
func (s *Sandbox) dispatch() {
	for s.hooks.ctx.Err() == nil {
		b, wait := s.nextBody()
		if b != nil {
			s.hooks.running.Go(func() { s.deliver(b) })
			continue
		}
		s.hooks.idle(wait)
	}
}

// idle waits for a signal, for the sandbox to close, or for a time; a negative time has no end.
func (h *hooks) idle(wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-h.wake:
	case <-due:
	case <-h.ctx.Done():
	}
}

// nextBody returns a body to send now, or how long until one is due; negative: until a signal.
func (s *Sandbox) nextBody() (*hookBody, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, now := s.hooks, s.clock()
	if h.URL == "" || h.underWay >= h.Parallel {
		return nil, -1
	}
	b := h.dueRepeat(now)
	if b == nil {
		b = s.newBody()
	}
	if b != nil {
		h.underWay++
		for i := range b.events {
			h.busy[b.events[i].person()]++
		}
		return b, 0
	}
	if len(h.repeats) > 0 {
		return nil, h.repeats[0].due - now
	}
	return nil, -1
}

// dueRepeat takes a body off repeats whose time has come. What no page is subscribed to any more is dropped. The caller holds mu.
func (h *hooks) dueRepeat(now time.Duration) *hookBody {
	for len(h.repeats) > 0 && h.repeats[0].due <= now {
		b := heap.Pop(&h.repeats).(*hookBody)
		if b.subscribed() {
			return b
		}
		h.drop(b)
	}
	return nil
}

func (b *hookBody) subscribed() bool {
	for i := range b.events {
		if len(b.events[i].page.fields) > 0 {
			return true
		}
	}
	return false
}

// newBody makes a body of events that wait, or returns nil. The caller holds mu.
func (s *Sandbox) newBody() *hookBody {
	h := s.hooks
	n := h.bodies + 1
	events := h.take(s.bodyRand(n))
	if len(events) == 0 {
		return nil
	}
	h.bodies = n
	d := &Delivery{ID: n, At: time.Now(), Events: len(events), State: Waiting}
	for _, e := range events {
		d.addPage(e.pageID)
	}
	h.keep(d)
	return &hookBody{app: events[0].page.App, events: events, delivery: d}
}

// deliver makes one attempt.
func (s *Sandbox) deliver(b *hookBody) {
	w := s.webhook()
	if b.json == nil { // outside of the lock, since it takes a millisecond for 1,000 events
		b.json = envelope(s.bodyRand(b.delivery.ID), b.delivery.At, b.events)
	}
	began := time.Now()
	status, err := s.hooks.post(w, b)
	took := time.Since(began)
	if s.hooks.ctx.Err() != nil {
		return
	}
	s.settle(b, status, err, took)
}

// post sends a body and returns the status answered, 0 for none.
func (h *hooks) post(w Webhook, b *hookBody) (int, error) {
	ctx, cancel := context.WithTimeout(h.ctx, w.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(b.json))
	if err != nil {
		return 0, err
	}
	req.Header["X-Sandbox"] = sandboxHeader
	req.Header.Set("User-Agent", "brazier-sandbox")
	req.Header.Set("Content-Type", "application/json")
	sign(req.Header, w.app(b.app).Secret, b.json)
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)) // for the connection to be used again
	return resp.StatusCode, nil
}

// settle records an attempt and decides what becomes of the body.
func (s *Sandbox) settle(b *hookBody, status int, err error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, d := s.hooks, b.delivery
	h.underWay--
	for i := range b.events {
		p := b.events[i].person()
		if h.busy[p]--; h.busy[p] == 0 {
			delete(h.busy, p)
			h.release(p)
		}
	}
	h.counts.Attempts++
	d.Attempts++
	d.Status, d.Duration, d.Error = status, took, failure(status, err)
	if d.Error == "" {
		d.State = Delivered
		h.counts.Delivered++
		h.counts.DeliveredEvents += d.Events
		h.counts.Waiting -= d.Events
		for i := range b.events {
			b.events[i].page.failing = false
		}
	} else {
		h.fail(b, s.clock())
	}
	h.signal()
}

// failure names why an attempt failed: only status 200 is none.
func failure(status int, err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case err != nil:
		return "no answer"
	case status != http.StatusOK:
		return "status"
	}
	return ""
}

// fail plans the next attempt at a body or drops it, and ends the subscription of pages for which nothing has succeeded for
// RetryFor. The caller holds mu.
func (h *hooks) fail(b *hookBody, now time.Duration) {
	h.counts.Failed++
	if b.delivery.Attempts == 1 {
		b.failing = now
	}
	for i := range b.events {
		switch p := b.events[i].page; {
		case !p.failing:
			p.failing, p.failingSince = true, now
		case now-p.failingSince >= h.RetryFor && len(p.fields) > 0:
			p.fields = nil
			h.counts.Disabled++
		}
	}
	end := b.failing + h.RetryFor
	if now >= end || !b.subscribed() {
		h.drop(b)
		for i := range b.events {
			b.events[i].page.failing = false // what follows is another failure
		}
		return
	}
	b.due = min(now+retryPause(b.delivery.Attempts, h.RetryEvery), end)
	heap.Push(&h.repeats, b)
}

func (h *hooks) drop(b *hookBody) {
	b.delivery.State = Dropped
	h.counts.Dropped += b.delivery.Events
	h.counts.Waiting -= b.delivery.Events
}

// retryPause is the pause after so many attempts: none a few times, then every, then twice as long each time.
func retryPause(attempts int, every time.Duration) time.Duration {
	if attempts <= immediateRetries {
		return 0
	}
	pause := every
	for n := immediateRetries + 1; n < attempts && pause < maxDelay; n++ {
		pause *= 2
	}
	return min(pause, maxDelay)
}

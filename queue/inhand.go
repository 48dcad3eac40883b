package queue

import (
	"context"
	"sync"
	"time"
)

// Lease is how long the server waits for a word about a job before it hands it out again: how long the jobs of a killed
// worker stay away. A [Queue] renews the leases of the jobs in its hands until they are settled.
const Lease = 30 * time.Second

// A lease is renewed when a third of it is over, and which ones are to be renewed is looked at five times as often. That
// leaves more than half of it for a server that is away.
const (
	renewAfter = 3 // parts of a lease
	renewEvery = 15
)

// inHand has the jobs that this process was handed and has not settled. One goroutine renews their leases.
type inHand struct {
	lease time.Duration
	begin sync.Once
	ctx   context.Context // of the renewals
	stop  context.CancelFunc
	done  chan struct{}

	mu   sync.Mutex
	jobs map[uint64]*Delivery // by their sequence in the stream
}

func newInHand(lease time.Duration) *inHand {
	h := &inHand{lease: lease, jobs: map[uint64]*Delivery{}, done: make(chan struct{})}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

func (h *inHand) add(d *Delivery) {
	h.begin.Do(func() { go h.run() })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobs[d.StreamSeq] = d
}

func (h *inHand) remove(d *Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.jobs[d.StreamSeq] == d {
		delete(h.jobs, d.StreamSeq)
	}
}

// has reports whether the job with this sequence is in hand.
func (h *inHand) has(seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.jobs[seq] != nil
}

// replace reports whether the job is in hand already. The server has then forgotten that it handed it out, and what is said
// of the job from now on is said of the new delivery.
func (h *inHand) replace(d *Delivery) bool {
	h.mu.Lock()
	held := h.jobs[d.StreamSeq]
	h.mu.Unlock()
	if held == nil {
		return false
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.settled || held.ID != d.ID || held.Page != d.Page { // settled a moment ago, or of a stream that is gone
		return false
	}
	held.msg = d.msg
	return true
}

// void gives up every job in hand: they were of a stream that is gone, and what is said of them by their sequence would be
// taken for a word about jobs of the new one.
func (h *inHand) void() {
	h.mu.Lock()
	jobs := h.jobs
	h.jobs = map[uint64]*Delivery{}
	h.mu.Unlock()
	for _, d := range jobs {
		d.mu.Lock()
		d.gone = true
		d.mu.Unlock()
	}
}

func (h *inHand) run() {
	defer close(h.done)
	every := time.NewTicker(h.lease / renewEvery)
	defer every.Stop()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	for {
		select {
		case <-every.C:
		case <-h.ctx.Done():
			return
		}
		for _, d := range h.due() {
			renewing.Go(func() { d.renew(h.ctx) })
		}
	}
}

// due returns the jobs whose lease is to be renewed, and that are not being settled or renewed.
func (h *inHand) due() (due []*Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.jobs {
		if d.mu.TryLock() {
			if time.Since(d.renewed) >= h.lease/renewAfter {
				due = append(due, d)
			}
			d.mu.Unlock()
		}
	}
	return due
}

func (h *inHand) close() {
	h.stop()
	h.begin.Do(func() { close(h.done) })
	<-h.done
}

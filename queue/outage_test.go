package queue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// The server is away for longer than leases last while calls are under way, and comes back with their jobs to be delivered
// again. The worker that made the calls runs on, keeps trying to settle them, and is the only one who ever sent them: each
// person gets exactly one copy, and nothing is in doubt.
func TestOutageLongerThanLease(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	const calls, lease = 20, 2 * time.Second
	cfg := queue.Config{InProcess: m}.WithLease(lease)
	a, b := open(t, cfg), open(t, cfg)
	var mu sync.Mutex
	copies := map[string]int{}
	send := func(d *queue.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		copies[d.ID]++
		if d.InDoubt {
			t.Errorf("%s is in doubt: %s", d.ID, d.Doubt)
		}
	}
	for range calls {
		publish(t, a, job(acme, queue.Bulk))
	}
	mine := source(t, a, acme, queue.Bulk, calls)
	var underWay []*queue.Delivery
	for range calls {
		d := next(t, mine)
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		underWay = append(underWay, d)
	}
	m.stop()
	eventually(t, "the connection is lost", func() bool { return !a.Connected() && !b.Connected() })
	var settling sync.WaitGroup
	for _, d := range underWay {
		send(d) // Facebook accepts the message, and then there is no server to store that
		settling.Go(func() { done(t, d) })
	}
	aged(t, 2*lease)
	m.start()
	settling.Wait()

	// Who fetches now gets what is new, and none of these.
	for _, d := range rest(t, mine) {
		t.Errorf("%s comes again", d.ID)
	}
	for _, q := range []*queue.Queue{b, a} {
		after := job(acme, queue.Bulk)
		publish(t, q, after)
		s := source(t, q, acme, queue.Bulk, calls)
		for last := false; !last; {
			d := next(t, s)
			send(d)
			done(t, d)
			last = d.ID == after.ID
		}
		for _, d := range rest(t, s) {
			t.Errorf("%s comes again", d.ID)
		}
	}
	isEmpty(t, b, acme)
	for id, n := range copies {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	if len(copies) != calls+2 {
		t.Errorf("%d messages were sent, want %d", len(copies), calls+2)
	}
}

// A worker knows of a job that it began whether another can have it by now: not while it renews the lease, and perhaps
// once it has not for half of one.
func TestOwnsLease(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := open(t, queue.Config{InProcess: m}.WithLease(lease))
	publish(t, q, job(acme, queue.Bulk))
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	if d.OwnsLease() {
		t.Error("a job is ours before it is begun")
	}
	if err := d.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		eventually(t, "the job is ours", d.OwnsLease)
		m.stop()
		eventually(t, "it may be another's", func() bool { return !d.OwnsLease() })
		m.start()
	}
	if err := d.Begin(within(t, 2*testTimeout)); err != nil { // there is no other
		t.Error(err)
	}
	done(t, d)
}

package queue_test

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// Everything that is known of a job outlasts the server: that it is there, its attempts, and when its next one is due.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	s := source(t, q, acme, queue.Bulk, 1)
	stored, retried, held := job(acme, queue.Media), job(acme, queue.Bulk), job(acme, queue.Urgent)
	publish(t, q, stored, retried, held)
	if err := next(t, s).Retry(within(t, 2*testTimeout), 3, "transient", 4*time.Second); err != nil {
		t.Fatal(err)
	}
	put := time.Now()
	urgent := source(t, q, acme, queue.Urgent, 1)
	inFlight := next(t, urgent)
	m.restart(q)

	// The source that is there finds the new server by itself.
	again := make(chan *queue.Delivery, 1)
	go func() {
		d, err := s.Next(within(t, 2*testTimeout))
		if err != nil {
			t.Error(err)
		}
		again <- d
	}()
	d := next(t, source(t, q, acme, queue.Media, 1))
	equal(t, "stored job", d.Job, *stored)
	done(t, d)
	done(t, inFlight) // the worker of a job goes on with it
	late := job(acme, queue.Urgent)
	publish(t, q, late)
	if d := next(t, urgent); d.ID != late.ID {
		t.Errorf("the settled job %s came again", d.ID)
	} else {
		done(t, d)
	}

	d = <-again
	if waited := time.Since(put); waited < 3900*time.Millisecond || waited > testTimeout {
		t.Errorf("the retry of 4 s came after %v", waited)
	}
	if d.ID != retried.ID || d.Attempts != 3 || d.InDoubt {
		t.Errorf("got %s with attempts %d, in doubt %v %q; want %s with 3, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, retried.ID)
	}
	done(t, d)
	isEmpty(t, q, acme)
}

// Who waits for a job while the server is restarted hears of the next one at once: its consumer went with the server, and a
// request to none would be found out after two heartbeats, 20 s.
func TestRestartWhileWaiting(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	s := source(t, q, acme, queue.Bulk, 1)
	publish(t, q, job(acme, queue.Bulk))
	done(t, next(t, s))
	got := make(chan *queue.Delivery, 1)
	go func() {
		if d, err := s.Next(within(t, 2*testTimeout)); err == nil {
			got <- d
		}
	}()
	m.restart(q)
	after := job(acme, queue.Bulk)
	publish(t, q, after)
	select {
	case d := <-got:
		if d.ID != after.ID {
			t.Errorf("got %s, want %s", d.ID, after.ID)
		}
		done(t, d)
	case <-time.After(12 * time.Second): // it takes one or two
		t.Error("the next job is not delivered")
	}
}

// A restart of the server in good order, while a worker is at a job that is older than a lease: the job stays its own.
func TestRestartInFlight(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	cfg := queue.Config{InProcess: m}.WithLease(lease)
	a, b := open(t, cfg), open(t, cfg)
	publish(t, a, job(acme, queue.Bulk))
	aged(t, lease)
	first := next(t, source(t, a, acme, queue.Bulk, 1))
	if err := first.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	theirs := source(t, b, acme, queue.Bulk, 1)
	for range 2 {
		m.restart(a, b)
		after := job(acme, queue.Bulk)
		publish(t, b, after)
		if d := next(t, theirs); d.ID != after.ID {
			t.Errorf("the other worker got %s, in doubt %v %q; want %s", d.ID, d.InDoubt, d.Doubt, after.ID)
		} else {
			done(t, d)
		}
		aged(t, lease)
	}
	done(t, first)
}

// A full buffer of jobs older than a lease, over a restart: each job still comes exactly once, none is dropped for want of
// space, none is in doubt.
func TestRestartWithFullBuffer(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := open(t, queue.Config{InProcess: m}.WithLease(lease))
	const buffer, jobs = 6, 40
	want := map[string]bool{}
	for range jobs {
		j := job(acme, queue.Bulk)
		publish(t, q, j)
		want[j.ID] = true
	}
	aged(t, lease)
	js := raw(t, m)
	s := source(t, q, acme, queue.Bulk, buffer)
	taken := []*queue.Delivery{next(t, s)}
	eventually(t, "the buffer is full", func() bool {
		consumer, err := js.Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
		return err == nil && consumer.CachedInfo().NumAckPending == buffer
	})
	m.restart(q)
	for len(taken) < jobs {
		taken = append(taken, next(t, s))
	}
	for _, d := range taken {
		if d.InDoubt || !want[d.ID] {
			t.Errorf("%s was waited for: %v; is in doubt: %v %s", d.ID, want[d.ID], d.InDoubt, d.Doubt)
		}
		delete(want, d.ID)
		done(t, d)
	}
	isEmpty(t, q, acme)
}

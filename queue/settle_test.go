package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Attempts go with the job, and a delay is kept.
func TestRetry(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	s := source(t, q, acme, queue.Bulk, 2)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	for attempt, delay := range []time.Duration{300 * time.Millisecond, 0, time.Millisecond} {
		put := time.Now()
		if err := d.Retry(within(t, 2*testTimeout), attempt+1, "transient", delay); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		if waited := time.Since(put); waited < delay {
			t.Errorf("it came back after %v, before its delay of %v", waited, delay)
		}
		if d.ID != j.ID || d.Attempts != attempt+1 || d.InDoubt {
			t.Errorf("got %s with attempts %d, in doubt %v %q; want %s with %d, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, j.ID, attempt+1)
		}
		equal(t, "job", d.Job, *j)
	}
	done(t, d)
	isEmpty(t, q, acme)

	if state := q.State(t, acme, queue.Bulk, j.ID); state != "done" {
		t.Errorf("its record says %q", state)
	}
}

// Attempts are counted by the reason of their retry, over restarts of the worker. Those that an older version counted all
// together count for the reason of the last.
func TestRetryCounts(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	for _, step := range []struct {
		reason  string
		counted bool
		want    map[string]int
	}{
		{"transient", true, map[string]int{"transient": 1}},
		{"thread", true, map[string]int{"transient": 1, "thread": 1}},
		{"throttle", false, map[string]int{"transient": 1, "thread": 1}},
		{"transient", true, map[string]int{"transient": 2, "thread": 1}},
	} {
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		attempts := d.Attempts
		if step.counted {
			attempts++
		}
		if err := d.Retry(within(t, 2*testTimeout), attempts, step.reason, 0); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		equal(t, "counts", d.Counts, step.want)
		if err := d.Release(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		equal(t, "counts after a release", d.Counts, step.want)
	}
	done(t, d)

	old := job(acme, queue.Bulk)
	record := fmt.Appendf(nil, `{"state":"waiting","attempts":4,"lost":1,"reason":"thread","write":"x"}`)
	if _, err := raw(t, srv).Publish(t.Context(), "brazier.records."+acme+".bulk."+old.ID, record); err != nil {
		t.Fatal(err)
	}
	publish(t, q, old)
	d = next(t, s)
	if err := d.Release(within(t, 2*testTimeout)); err != nil { // its first delivery is not looked up
		t.Fatal(err)
	}
	d = next(t, s)
	equal(t, "counts of an old record", d.Counts, map[string]int{"thread": 3})
	done(t, d)
}

// A job that waits for its next attempt delays no other job.
func TestRetryLetsOthersPass(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	s := source(t, q, acme, queue.Bulk, 1)
	first, second := job(acme, queue.Bulk), job(acme, queue.Bulk)
	publish(t, q, first, second)
	d := next(t, s)
	if err := d.Retry(within(t, 2*testTimeout), 1, "transient", time.Second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{second.ID, first.ID} {
		d := next(t, s)
		if d.ID != want {
			t.Errorf("next is %s, want %s", d.ID, want)
		}
		done(t, d)
	}
}

// A job that is released is another's at once, and nothing of it is counted.
func TestRelease(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	other := queuetest.On(t, srv)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	s := source(t, q, acme, queue.Bulk, 1)
	d := next(t, s)
	if err := d.Retry(within(t, 2*testTimeout), 4, "transient", 0); err != nil {
		t.Fatal(err)
	}
	d = next(t, s)
	for _, q := range []*queue.Queue{other, q, other} {
		rest(t, s)
		if err := d.Release(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		released := time.Now()
		s = source(t, q, acme, queue.Bulk, 1)
		d = next(t, s)
		if took := time.Since(released); took > queue.Lease/2 {
			t.Errorf("it came after %v", took)
		}
		if d.ID != j.ID || d.Attempts != 4 || d.InDoubt {
			t.Errorf("got %s with attempts %d, in doubt %v %q; want %s with 4, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, j.ID)
		}
	}
	done(t, d)
	isEmpty(t, q, acme)
}

// lease is short, for tests that wait until one is over.
const lease = time.Second

// Done is repeated until the server has confirmed it, also when its first confirmation was lost.
func TestDoneIsConfirmed(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	w := &wire{server: srv}
	q, other := open(t, queue.Config{InProcess: w}), queuetest.On(t, srv)
	publish(t, q, job(acme, queue.Bulk))
	d := next(t, source(t, q, acme, queue.Bulk, 1))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Done(ended); err == nil {
		t.Error("done under an ended context: no error")
	}

	cut := w.mute()
	confirmed := make(chan error, 1)
	go func() { confirmed <- d.Done(within(t, testTimeout)) }()
	eventually(t, "the settlement is stored", func() bool { return other.State(t, acme, queue.Bulk, d.ID) == "done" })
	cut()
	if err := <-confirmed; err != nil {
		t.Errorf("done: %v", err)
	}
	isEmpty(t, other, acme)
}

// Settlements wait for a server that is away.
func TestSettleOverOutage(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(context.Context, *queue.Delivery) error{
		"done":    func(ctx context.Context, d *queue.Delivery) error { return d.Done(ctx) },
		"retry":   func(ctx context.Context, d *queue.Delivery) error { return d.Retry(ctx, 1, "transient", 0) },
		"release": func(ctx context.Context, d *queue.Delivery) error { return d.Release(ctx) },
		"dead": func(ctx context.Context, d *queue.Delivery) error {
			return d.DeadLetter(ctx, queue.Reason{Class: "message"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.start()
			q := m.open()
			publish(t, q, job(acme, queue.Bulk))
			s := source(t, q, acme, queue.Bulk, 1)
			d := next(t, s)
			m.stop()
			eventually(t, "the connection is lost", func() bool { return !q.Connected() })
			if err := settle(within(t, 50*time.Millisecond), d); err == nil {
				t.Error("settled without a server")
			}
			settled := make(chan error, 1)
			go func() { settled <- settle(within(t, testTimeout), d) }()
			m.start()
			if err := <-settled; err != nil {
				t.Fatal(err)
			}
			if name == "retry" || name == "release" {
				if d = next(t, s); d.InDoubt {
					t.Errorf("in doubt: %s", d.Doubt)
				}
				done(t, d)
			} else {
				go func() { _, _ = s.Next(within(t, 2*testTimeout)) }() // the server delivers it again, and its record ends that
			}
			eventually(t, "the job is gone", func() bool {
				b, err := q.Backlog(within(t, 2*testTimeout), acme)
				return err == nil && b.Pending == 0
			})
		})
	}
}

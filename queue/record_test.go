package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// A job whose worker was lost with it is in doubt, and stays so until a caller has decided. Its attempts are kept, and
// the lost ones counted.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	workers := []*queue.Queue{open(t, cfg)}
	j := job(acme, queue.Bulk)
	publish(t, workers[0], j)
	// lose has a worker begin the job and end without settling it. It returns what the next worker gets.
	lose := func(d *queue.Delivery) *queue.Delivery {
		t.Helper()
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		last := workers[len(workers)-1]
		last.Close()
		workers = append(workers, open(t, cfg))
		return next(t, source(t, workers[len(workers)-1], acme, queue.Bulk, 1))
	}
	want := func(d *queue.Delivery, doubt bool, attempts, lost int) {
		t.Helper()
		if d.ID != j.ID || d.InDoubt != doubt || (d.Doubt != "") != doubt || d.Attempts != attempts || d.Lost != lost {
			t.Errorf("got %s, in doubt %v %q, attempts %d, lost %d; want %s, %v, %d, %d", d.ID, d.InDoubt, d.Doubt, d.Attempts, d.Lost, j.ID, doubt, attempts, lost)
		}
	}
	d := lose(next(t, source(t, workers[0], acme, queue.Bulk, 1)))
	want(d, true, 1, 1)
	q := workers[len(workers)-1]
	s := source(t, q, acme, queue.Bulk, 1)
	for _, begin := range []bool{false, true} {
		if begin {
			if err := d.Begin(within(t, 2*testTimeout)); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Release(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		d = next(t, s)
		want(d, true, 1, 1)
	}
	if err := d.Retry(within(t, 2*testTimeout), 2, "in_doubt", 0); err != nil {
		t.Fatal(err)
	}
	d = next(t, s)
	want(d, false, 2, 1)
	s.Stop()
	d = lose(d)
	want(d, true, 3, 2)
	d = lose(d)
	want(d, true, 4, 3)
	done(t, d)
	isEmpty(t, workers[len(workers)-1], acme)
}

// A job that a server counts as delivered, to a worker that never began it, is not in doubt: the next worker begins it.
func TestNotBegun(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	first, second := open(t, cfg), open(t, cfg)
	j := job(acme, queue.Bulk)
	publish(t, first, j)
	idle := next(t, source(t, first, acme, queue.Bulk, 1))
	first.Close()
	d := next(t, source(t, second, acme, queue.Bulk, 1))
	if d.ID != j.ID || d.InDoubt || d.Attempts != 0 || d.Deliveries != 2 {
		t.Errorf("got %s, delivery %d, in doubt %v %q, attempts %d; want %s, not in doubt", d.ID, d.Deliveries, d.InDoubt, d.Doubt, d.Attempts, idle.ID)
	}
	done(t, d)
}

// Of two workers to which the same job was delivered one begins it. The other releases it, which does no harm.
func TestBeginOnce(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	slow, quick := open(t, cfg), open(t, cfg)
	publish(t, slow, job(acme, queue.Bulk))
	buffered := next(t, source(t, slow, acme, queue.Bulk, 1))
	consumer, err := raw(t, srv).Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	if err := raw(t, srv).DeleteConsumer(t.Context(), queue.StreamJobs, config.Durable); err != nil { // its deliveries are forgotten
		t.Fatal(err)
	}
	working := next(t, source(t, quick, acme, queue.Bulk, 1))
	if err := working.Begin(within(t, 2*testTimeout)); err != nil || working.ID != buffered.ID {
		t.Fatalf("begin %s: %v; want %s", working.ID, err, buffered.ID)
	}
	if err := buffered.Begin(within(t, 2*testTimeout)); !errors.Is(err, queue.ErrTaken) {
		t.Errorf("the other delivery begins with error %v", err)
	}
	if err := buffered.Release(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	done(t, working)
	isEmpty(t, slow, acme)
	if state := slow.State(t, acme, queue.Bulk, working.ID); state != "done" {
		t.Errorf("its record says %q", state)
	}
}

// A delay is kept although the server never heard of it.
func TestDelayWithoutNak(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	w := &wire{server: srv}
	cfg := queue.Config{InProcess: w}.WithLease(lease)
	q := open(t, cfg)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	// The worker records that the job waits, and ends before it tells the consumer.
	const delay = 3 * lease
	put := time.Now()
	js := raw(t, srv)
	value := fmt.Sprintf(`{"state":"waiting","attempts":1,"not_before":%d}`, put.Add(delay).UnixMilli())
	if _, err := js.Publish(within(t, 2*testTimeout), "brazier.records."+acme+".bulk."+j.ID, []byte(value)); err != nil {
		t.Fatal(err)
	}
	q.Close()
	other := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	again := next(t, source(t, other, acme, queue.Bulk, 1))
	if waited := time.Since(put); waited < delay-100*time.Millisecond || again.ID != d.ID || again.Attempts != 1 || again.InDoubt {
		t.Errorf("%s with attempts %d, in doubt %v, came after %v; want %s after %v", again.ID, again.Attempts, again.InDoubt, waited, d.ID, delay)
	}
	done(t, again)
}

// A record that cannot be read puts its job in doubt. It does not stop the lane.
func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	_, srv := fresh(t)
	q := open(t, queue.Config{InProcess: srv}.WithLease(lease))
	s := source(t, q, acme, queue.Bulk, 1)
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := next(t, s)
	if _, err := raw(t, srv).Publish(within(t, 2*testTimeout), "brazier.records."+acme+".bulk."+j.ID, []byte("by hand")); err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(within(t, 2*testTimeout)); !errors.Is(err, queue.ErrTaken) {
		t.Errorf("begin: %v", err)
	}
	if err := d.Release(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	if d = next(t, s); d.ID != j.ID || !d.InDoubt {
		t.Errorf("got %s, in doubt %v", d.ID, d.InDoubt)
	}
	done(t, d)
}

// The record of a settled job stays for the window of its key, counted from when it was accepted.
func TestRecordAge(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv, Window: 3 * time.Hour})
	for _, tt := range []struct {
		key  string
		age  time.Duration
		want time.Duration
	}{
		{"order-1", time.Hour, 2 * time.Hour},
		{"order-2", 4 * time.Hour, 10 * time.Minute}, // the acknowledgement may be under way
		{"", 0, 10 * time.Minute},
	} {
		j := keyed(acme, tt.key, "ada")
		if tt.key == "" {
			j = job(acme, queue.Bulk)
		}
		j.Accepted = time.Now().Add(-tt.age)
		publish(t, q, j)
		done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
		stream, err := raw(t, srv).Stream(t.Context(), queue.StreamRecords)
		if err != nil {
			t.Fatal(err)
		}
		record, err := stream.GetLastMsgForSubject(t.Context(), "brazier.records."+acme+".bulk."+j.ID)
		if err != nil {
			t.Fatal(err)
		}
		ttl, err := time.ParseDuration(record.Header.Get(jetstream.MsgTTLHeader))
		if err != nil || ttl > tt.want || ttl < tt.want-time.Minute {
			t.Errorf("key %q, accepted %v ago: the record stays for %v, %v; want %v", tt.key, tt.age, ttl, err, tt.want)
		}
	}
}

package queue

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue/embedded"
)

// These tests are inside the package for the sake of times that are too long to wait for.

func openServer(t *testing.T) *embedded.Server {
	t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Sync: embedded.SyncInterval, FlushEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func openInside(t *testing.T) *Queue {
	t.Helper()
	return openOn(t, Config{InProcess: openServer(t)})
}

func openOn(t *testing.T, cfg Config) *Queue {
	t.Helper()
	cfg.Log = zaptest.NewLogger(t)
	q, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

func publishOne(t *testing.T, q *Queue) string {
	t.Helper()
	j := &Job{ID: NewID(), Page: "1029384756", Lane: Bulk, Body: []byte("{}")}
	if _, err := q.Publish(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j.ID
}

func takeOne(t *testing.T, s *Source) *Delivery {
	t.Helper()
	abandon := time.AfterFunc(Lease/2, s.Stop)
	defer abandon.Stop()
	d, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A consumer that was deleted while nothing was asked of it answers the next request with silence.
func TestSilentConsumer(t *testing.T) {
	t.Parallel()
	q := openInside(t)
	s := q.Source("1029384756", Bulk, 1)
	defer s.Stop()
	s.heartbeat = 500 * time.Millisecond // the least that nats.go takes
	publishOne(t, q)
	if err := takeOne(t, s).Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	for settled := false; !settled; { // a job is removed shortly after it is settled
		b, err := q.Backlog(t.Context(), "1029384756")
		if err != nil {
			t.Fatal(err)
		}
		settled = b.Pending == 0
	}
	if err := q.js.DeleteConsumer(t.Context(), StreamJobs, "1029384756-bulk"); err != nil {
		t.Fatal(err)
	}
	id := publishOne(t, q)
	if d := takeOne(t, s); d.ID != id || d.InDoubt {
		t.Errorf("got %s, in doubt %v; want %s", d.ID, d.InDoubt, id)
	}
}

// A lease is renewed for as long as its worker runs, and no longer.
func TestRenewal(t *testing.T) {
	t.Parallel()
	srv := openServer(t)
	cfg := Config{InProcess: srv}.WithLease(time.Second)
	q, other := openOn(t, cfg), openOn(t, cfg)
	s, theirs := q.Source("1029384756", Bulk, 1), other.Source("1029384756", Bulk, 1)
	defer s.Stop()
	defer theirs.Stop()
	first := publishOne(t, q)
	d := takeOne(t, s)
	if err := d.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	records := func() uint64 { // how often its record was written
		msg, err := q.first.records.GetLastMsgForSubject(t.Context(), d.recordSubject())
		if err != nil {
			t.Fatal(err)
		}
		return msg.Sequence
	}
	for before, renewed := records(), 0; renewed < 6; {
		if now := records(); now != before {
			before, renewed = now, renewed+1
		}
	}
	second := publishOne(t, q)
	if d := takeOne(t, theirs); d.ID != second {
		t.Errorf("got %s again, in doubt %v; want the next job", d.ID, d.InDoubt)
	}
	q.Close() // and with it the renewals
	if d := takeOne(t, theirs); d.ID != first || !d.InDoubt {
		t.Errorf("got %s, in doubt %v; want %s in doubt", d.ID, d.InDoubt, first)
	}
}

// A renewal that comes too late does not change when a job that was requeued is due.
func TestRenewalAfterRetry(t *testing.T) {
	t.Parallel()
	q := openInside(t)
	s := q.Source("1029384756", Bulk, 1)
	defer s.Stop()
	publishOne(t, q)
	for _, requeue := range []func(*Delivery) error{
		func(d *Delivery) error { return d.Retry(t.Context(), 1, "transient", 300*time.Millisecond) },
		func(d *Delivery) error { return d.Release(t.Context()) },
	} {
		d := takeOne(t, s)
		if err := requeue(d); err != nil {
			t.Fatal(err)
		}
		d.renew(t.Context())
	}
	if d := takeOne(t, s); d.InDoubt || d.Attempts != 1 {
		t.Errorf("in doubt %v, attempts %d", d.InDoubt, d.Attempts)
	}
}

// The settings that a promise depends on.
func TestConsumerSettings(t *testing.T) {
	t.Parallel()
	q := openInside(t)
	s := q.Source("1029384756", Bulk, 1)
	defer s.Stop()
	publishOne(t, q)
	takeOne(t, s)
	consumer, err := q.js.Consumer(t.Context(), StreamJobs, "1029384756-bulk")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	if cfg.AckPolicy != jetstream.AckExplicitPolicy || cfg.AckWait != Lease || cfg.MaxDeliver != -1 || len(cfg.BackOff) != 0 || cfg.MaxAckPending != maxAckPending {
		t.Errorf("the consumer is %+v", cfg)
	}
}

// A renewal that was stored though its answer was lost is no other worker's. Nor is a record that has gone meanwhile.
func TestSettleAfterLostRenewal(t *testing.T) {
	t.Parallel()
	q := openInside(t)
	s := q.Source("1029384756", Bulk, 1)
	defer s.Stop()
	for name, meanwhile := range map[string]func(d *Delivery){
		"renewed": func(d *Delivery) {
			r := *d.record
			r.Write = NewID()
			if _, err := q.first.recording.write(t.Context(), r.message(d.recordSubject(), d.record.seq, time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(d *Delivery) {
			if err := q.first.records.DeleteMsg(t.Context(), d.record.seq); err != nil {
				t.Fatal(err)
			}
		},
	} {
		publishOne(t, q)
		d := takeOne(t, s)
		if err := d.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		meanwhile(d)
		if err := d.Done(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
)

// crash is what a kill leaves behind: the files as they are, with the last of the consumers' state not yet written. The
// server writes it ten times a second; here it is put back to what it was.
func (m *machine) crash(consumer string, forget func()) {
	m.t.Helper()
	state := filepath.Join(m.dir, "jetstream", "$G", "streams", queue.StreamJobs, "obs", consumer, "o.dat")
	before, err := os.ReadFile(state)
	if err != nil {
		m.t.Fatal(err)
	}
	forget()
	m.stop()
	if err := os.WriteFile(state, before, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.start()
}

func TestServerForgetsDeliveries(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	s := source(t, q, acme, queue.Bulk, 1)
	first := job(acme, queue.Bulk)
	publish(t, q, first)
	done(t, next(t, s)) // the consumer is there, and has a state
	eventually(t, "the state is written", func() bool {
		_, err := os.Stat(filepath.Join(m.dir, "jetstream", "$G", "streams", queue.StreamJobs, "obs", acme+"-bulk", "o.dat"))
		return err == nil
	})

	begun, fetched, retried := job(acme, queue.Bulk), job(acme, queue.Bulk), job(acme, queue.Bulk)
	m.crash(acme+"-bulk", func() {
		publish(t, q, begun, fetched, retried)
		for range 3 {
			d := next(t, s)
			switch d.ID {
			case begun.ID:
				if err := d.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
			case retried.ID:
				if err := d.Begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := d.Retry(t.Context(), 1, "transient", 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Stop()
		q.Close()
	})

	q = m.open()
	if err := q.Pace(acme, "text").Prepare(t.Context()); err != nil { // measures the server's time
		t.Fatal(err)
	}
	// The one that was begun is handed out and comes back at once: it is young, and no record tells of it.
	consumer, err := raw(t, m).Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Nak(); err != nil || msg.Headers().Get("Brazier-Id") != begun.ID {
		t.Fatalf("got %s, error %v; want %s", msg.Headers().Get("Brazier-Id"), err, begun.ID)
	}
	s = source(t, q, acme, queue.Bulk, 1)
	for range 3 {
		d := next(t, s)
		switch d.ID {
		case begun.ID:
			if !d.InDoubt || d.Lost != 1 || d.Attempts != 1 {
				t.Errorf("a job that was begun comes back as %+v", d)
			}
		case fetched.ID:
			if d.InDoubt {
				t.Errorf("a job that was not begun is in doubt: %s", d.Doubt)
			}
		case retried.ID:
			if d.InDoubt || d.Attempts != 1 {
				t.Errorf("a job that was put back comes with attempts %d, in doubt %v %s", d.Attempts, d.InDoubt, d.Doubt)
			}
		default:
			t.Errorf("job %s came, which was settled", d.ID)
		}
		done(t, d)
	}
	// The consumer's count is off after the loss of its state; the stream's is not.
	if b, err := q.Backlog(t.Context(), acme); err != nil || !b.Oldest.IsZero() {
		t.Errorf("backlog %+v, error %v", b, err)
	}
}

// A worker that holds a job of a run of the server that is over puts it back. The server takes that for a word about its
// new delivery of the job, whose worker has begun.
func TestStaleRelease(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"who has begun", "another"} { // the job is handed out once more
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.start()
			slow, quick := m.open(), m.open()
			s := source(t, slow, acme, queue.Bulk, 1)
			publish(t, slow, job(acme, queue.Bulk))
			done(t, next(t, s))
			state := filepath.Join(m.dir, "jetstream", "$G", "streams", queue.StreamJobs, "obs", acme+"-bulk", "o.dat")
			eventually(t, "the state is written", func() bool { _, err := os.Stat(state); return err == nil })
			j := job(acme, queue.Bulk)
			publish(t, slow, j)
			var stale *queue.Delivery
			m.crash(acme+"-bulk", func() { stale = next(t, s) })
			eventually(t, "both are connected again", func() bool { return slow.Connected() && quick.Connected() })

			s = source(t, quick, acme, queue.Bulk, 1)
			begun := next(t, s)
			if err := begun.Begin(t.Context()); err != nil || begun.ID != j.ID || begun.InDoubt {
				t.Fatalf("begin %s, in doubt %v, error %v", begun.ID, begun.InDoubt, err)
			}
			if err := stale.Begin(t.Context()); !errors.Is(err, queue.ErrStale) {
				t.Errorf("a delivery of a run that is over begins with error %v", err)
			}
			if err := stale.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			if to == "another" {
				s = source(t, slow, acme, queue.Bulk, 1)
			}
			again := next(t, s)
			if err := again.Begin(t.Context()); !errors.Is(err, queue.ErrStale) {
				t.Errorf("begun a second time, in doubt %v %q, error %v", again.InDoubt, again.Doubt, err)
			}
			if err := again.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			done(t, begun)
			isEmpty(t, quick, acme)
		})
	}
}

// A job that is begun and lost again and again is counted, also by a server that forgets.
func TestLostAgainAndAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	s := source(t, q, acme, queue.Bulk, 1)
	publish(t, q, job(acme, queue.Bulk))
	done(t, next(t, s))
	state := filepath.Join(m.dir, "jetstream", "$G", "streams", queue.StreamJobs, "obs", acme+"-bulk", "o.dat")
	eventually(t, "the state is written", func() bool { _, err := os.Stat(state); return err == nil })
	publish(t, q, job(acme, queue.Bulk))
	for lost := range 4 {
		m.crash(acme+"-bulk", func() {
			d := next(t, s)
			if d.Lost != lost {
				t.Errorf("lost %d times before, counted %d", lost, d.Lost)
			}
			if err := d.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Stop()
			q.Close()
		})
		q = m.open()
		s = source(t, q, acme, queue.Bulk, 1)
	}
	done(t, next(t, s))
}

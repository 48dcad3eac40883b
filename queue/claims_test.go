package queue_test

import (
	"os"
	"path/filepath"
	"testing"

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

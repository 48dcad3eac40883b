package queue_test

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// Where the server ends with the process, all that it knew of deliveries ends too. What became of each is known all the
// same: who was begun is in doubt, who was put back keeps its attempts and its delay, and the others come as if new.
func TestEmbeddedForgets(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	begin := func() (*queue.Queue, *queue.Source) {
		q := open(t, queue.Config{InProcess: m, Embedded: true})
		return q, source(t, q, acme, queue.Bulk, 1)
	}
	q, s := begin()
	begun, retried, released, fetched, waiting := job(acme, queue.Bulk), job(acme, queue.Bulk), job(acme, queue.Bulk), job(acme, queue.Bulk), job(acme, queue.Bulk)
	publish(t, q, begun, retried, released, fetched, waiting)
	took := map[string]*queue.Delivery{}
	for range 4 {
		d := next(t, s)
		took[d.ID] = d
	}
	for _, id := range []string{begun.ID, retried.ID} {
		if err := took[id].Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const delay = 3 * time.Second
	put := time.Now()
	if err := took[retried.ID].Retry(t.Context(), 4, "transient", delay); err != nil {
		t.Fatal(err)
	}
	if err := took[released.ID].Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.Close()
	m.stop()
	m.start()

	q, s = begin()
	came := map[string]time.Duration{}
	for range 5 {
		d := next(t, s)
		came[d.ID] = time.Since(put)
		attempts, doubt := 0, false
		switch d.ID {
		case begun.ID:
			attempts, doubt = 1, true
		case retried.ID:
			attempts = 4
		}
		if d.Attempts != attempts || d.InDoubt != doubt {
			t.Errorf("%s comes with attempts %d, in doubt %v %q; want %d, %v", d.ID, d.Attempts, d.InDoubt, d.Doubt, attempts, doubt)
		}
		done(t, d)
	}
	if len(came) != 5 {
		t.Errorf("%d jobs came", len(came))
	}
	if came[retried.ID] < delay-time.Second/10 {
		t.Errorf("the retry of %v came after %v", delay, came[retried.ID])
	}
	isEmpty(t, q, acme)
}

// A queue whose consumers keep their state on disk, as those of a server of its own do, is taken over.
func TestEmbeddedTakesOver(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	retried, waiting := job(acme, queue.Bulk), job(acme, queue.Bulk)
	publish(t, q, retried, waiting)
	s := source(t, q, acme, queue.Bulk, 1)
	if err := next(t, s).Retry(t.Context(), 2, "transient", time.Hour); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	q.Close()

	s = source(t, open(t, queue.Config{InProcess: m, Embedded: true}), acme, queue.Bulk, 1)
	for range 2 {
		d := next(t, s)
		want := 0
		if d.ID == retried.ID {
			want = 2
		}
		if d.Attempts != want || d.InDoubt {
			t.Errorf("%s comes with attempts %d, in doubt %v %q; want %d, not in doubt", d.ID, d.Attempts, d.InDoubt, d.Doubt, want)
		}
		done(t, d)
	}
}

package queue_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Where the server ends with the process, all that it knew of deliveries ends too. What became of each is known all the
// same: a job that was begun is in doubt, a job that was requeued keeps its attempts and its delay, and the others come
// as if new.
func TestEmbeddedForgets(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	begin := func() (*queue.Queue, *queue.Source) {
		q := open(t, queue.Config{InProcess: m, Embedded: true}.AsAnotherProcess())
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
		if err := took[id].Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	const delay = 3 * time.Second
	put := time.Now()
	if err := took[retried.ID].Retry(within(t, 2*testTimeout), 4, "transient", delay); err != nil {
		t.Fatal(err)
	}
	if err := took[released.ID].Release(within(t, 2*testTimeout)); err != nil {
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

// A consumer is used as it is, wherever it keeps its state: the files may have been another server's before.
func TestMovedConsumer(t *testing.T) {
	t.Parallel()
	for _, inMemory := range []bool{true, false} {
		srv := queuetest.Server(t, "")
		q := open(t, queue.Config{InProcess: srv})
		_, err := raw(t, srv).CreateConsumer(t.Context(), queue.StreamJobs, jetstream.ConsumerConfig{
			Durable: acme + "-bulk", FilterSubject: "brazier.jobs." + acme + ".bulk.*", AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: queue.Lease / 2, MaxDeliver: -1, MaxAckPending: 1000, MemoryStorage: inMemory,
		})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, q, job(acme, queue.Bulk))
		d := next(t, source(t, q, acme, queue.Bulk, 1))
		consumer, err := raw(t, srv).Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
		if err != nil {
			t.Fatal(err)
		}
		if cfg := consumer.CachedInfo().Config; cfg.MemoryStorage != inMemory || cfg.AckWait != queue.Lease || cfg.MaxAckPending <= 1000 {
			t.Errorf("in memory %v: it has %+v", inMemory, cfg)
		}
		done(t, d)
	}
}

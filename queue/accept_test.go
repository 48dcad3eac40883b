package queue_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// keyed is a job with an idempotency key.
func keyed(page, key, recipient string) *queue.Job {
	j := job(page, queue.Bulk)
	j.ID, j.Key, j.RecipientDigest = queue.KeyedID(page, key), key, recipient
	return j
}

func TestKeyOverRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	publish(t, q, keyed(acme, "order-1", "ada"))
	again := keyed(acme, "order-1", "ada")
	other := keyed(acme, "order-1", "ada")
	other.Body = []byte(`{"recipient":{"id":"2000000000000001"},"message":{"text":"another"}}`)
	elsewhere := keyed(acme, "order-1", "bela")

	check := func(when string) {
		t.Helper()
		for _, tt := range []struct {
			name string
			job  *queue.Job
			want queue.Stored
			err  error
		}{
			{"the same", again, queue.Stored{Duplicate: true}, nil},
			{"another body", other, queue.Stored{Duplicate: true, BodyDiffers: true}, nil},
			{"another recipient", elsewhere, queue.Stored{}, queue.ErrKeyReused},
		} {
			got, err := q.Publish(within(t, 2*testTimeout), tt.job)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s, %s: %+v, error %v; want %+v, %v", when, tt.name, got, err, tt.want, tt.err)
			}
		}
	}
	check("while it waits")
	s := source(t, q, acme, queue.Bulk, 1)
	done(t, next(t, s))
	check("once it is delivered")
	isEmpty(t, q, acme) // a restart may lose an acknowledgement, and no worker comes for the job after it
	m.restart(q)
	check("after a restart of the server")
	publish(t, q, keyed(nordwind, "order-1", "bela")) // another page's key is another key
}

// A key is taken for as long as its job or its record is there, and no longer. The next job under it shares nothing with
// the first.
func TestWindow(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv, Window: time.Second})
	s := source(t, q, acme, queue.Bulk, 1)
	first := keyed(acme, "order-1", "ada")
	first.Accepted = time.Now().Add(-time.Hour) // its window is long over
	publish(t, q, first)
	d := next(t, s)
	if err := d.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := d.Retry(within(t, 2*testTimeout), 1, "transient", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if stored, err := q.Publish(within(t, 2*testTimeout), keyed(acme, "order-1", "ada")); err != nil || !stored.Duplicate {
		t.Errorf("the same key while its job waits: %+v, %v", stored, err)
	}
	done(t, next(t, s))
	js := raw(t, srv)
	record := &nats.Msg{Subject: "brazier.records." + acme + ".bulk." + first.ID, Data: []byte(`{"state":"done"}`), Header: nats.Header{jetstream.MsgTTLHeader: {"1s"}}}
	if _, err := js.PublishMsg(t.Context(), record); err != nil { // as it is ten minutes later
		t.Fatal(err)
	}
	eventually(t, "the key is forgotten", func() bool {
		stored, err := q.Publish(within(t, 2*testTimeout), keyed(acme, "order-1", "bela"))
		return err == nil && !stored.Duplicate
	})
	if d := next(t, s); d.ID != first.ID || d.Attempts != 0 || d.InDoubt {
		t.Errorf("the next job under the key: %s with attempts %d, in doubt %v %q", d.ID, d.Attempts, d.InDoubt, d.Doubt)
	} else if err := d.Begin(within(t, 2*testTimeout)); err != nil {
		t.Errorf("begin: %v", err)
	} else {
		done(t, d)
	}
}

// Many at once: those that come together share a batch, and of each key one is stored.
func TestPublishTogether(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv, Flushed: true})
	const keys, callers = 300, 4
	var stored, duplicate, refused atomic.Int64
	var together sync.WaitGroup
	for k := range keys {
		for c := range callers {
			together.Go(func() {
				recipient := "ada"
				if c == callers-1 && k%3 == 0 {
					recipient = "bela"
				}
				got, err := q.Publish(within(t, 2*testTimeout), keyed(acme, fmt.Sprint(k), recipient))
				switch {
				case errors.Is(err, queue.ErrKeyReused):
					refused.Add(1)
				case err != nil:
					t.Errorf("key %d: %v", k, err)
				case got.Duplicate:
					duplicate.Add(1)
				default:
					stored.Add(1)
				}
			})
		}
	}
	together.Wait()
	if stored.Load() != keys || stored.Load()+duplicate.Load()+refused.Load() != keys*callers {
		t.Errorf("%d stored, %d duplicates, %d refused", stored.Load(), duplicate.Load(), refused.Load())
	}
	if b, err := q.Backlog(within(t, 2*testTimeout), acme); err != nil || b.Pending != keys {
		t.Errorf("backlog %+v, error %v", b, err)
	}
	// A batch is one flush, and there were far fewer of them than jobs.
	stream, err := raw(t, srv).Stream(t.Context(), queue.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batches := map[string]bool{}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		if msg, err := stream.GetMsg(t.Context(), seq); err == nil {
			batches[msg.Header.Get("Nats-Batch-Id")] = true
		} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Fatal(err)
		}
	}
	if len(batches) > keys/2 {
		t.Errorf("%d jobs took %d batches", keys, len(batches))
	}

	// All are settled, and come again together with others: those are known by their records.
	jobs := source(t, q, acme, queue.Bulk, 100)
	for range keys {
		done(t, next(t, jobs))
	}
	isEmpty(t, q, acme)
	var known atomic.Int64
	for k := range 2 * keys {
		together.Go(func() {
			got, err := q.Publish(within(t, 2*testTimeout), keyed(acme, fmt.Sprint(k), "ada"))
			switch {
			case errors.Is(err, queue.ErrKeyReused) && k < keys: // it was bela's
				known.Add(1)
			case err != nil:
				t.Errorf("key %d again: %v", k, err)
			case got.Duplicate != (k < keys):
				t.Errorf("key %d again: %+v", k, got)
			case got.Duplicate:
				known.Add(1)
			}
		})
	}
	together.Wait()
	if known.Load() != keys {
		t.Errorf("%d were known", known.Load())
	}
	eventually(t, "the backlog is the others", func() bool { // a consumer counts what is stored a little later
		b, err := q.Backlog(within(t, 2*testTimeout), acme)
		return err == nil && b.Pending == keys
	})
}

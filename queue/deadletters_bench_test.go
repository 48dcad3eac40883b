package queue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/brazier-relay/brazier/queue/embedded"
)

func benchQueue(b *testing.B, sync embedded.Sync, deadLetters int) *Queue {
	b.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Sync: sync})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = srv.Close() })
	q, err := Open(b.Context(), Config{InProcess: srv})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(q.Close)
	batch := make([]deadJob, 0, 1000)
	for i := range deadLetters {
		batch = append(batch, testDeadJob(fmt.Sprint("L", i), fmt.Sprint(10+i%20), "recipient", 551, "campaign"))
		if len(batch) == cap(batch) || i == deadLetters-1 {
			q.store(b, batch...)
			batch = batch[:0]
		}
	}
	return q
}

// BenchmarkDeadLetters lists 100,000 dead letters per operation, without their bodies.
func BenchmarkDeadLetters(b *testing.B) {
	const deadLetters = 100_000
	q := benchQueue(b, embedded.SyncInterval, deadLetters)
	for name, f := range map[string]DeadLetterFilter{"all": {}, "page": {Page: "15"}, "id": {IDs: []string{"L99999"}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				q.list(b, f, false)
			}
		})
	}
}

// BenchmarkChange replays or discards one dead letter per operation, 32 at one time.
func BenchmarkChange(b *testing.B) {
	for _, mode := range []embedded.Sync{embedded.SyncAlways, embedded.SyncInterval} {
		for name, change := range map[string]func(*Queue, uint64) error{
			"replay":  func(q *Queue, seq uint64) error { _, err := q.Replay(b.Context(), seq); return err },
			"discard": func(q *Queue, seq uint64) error { return q.Discard(b.Context(), seq) },
		} {
			b.Run(name+"/"+string(mode), func(b *testing.B) {
				q := benchQueue(b, mode, b.N)
				b.ResetTimer()
				var next atomic.Uint64
				var all sync.WaitGroup
				for range 32 {
					all.Go(func() {
						for seq := next.Add(1); seq <= uint64(b.N); seq = next.Add(1) {
							if err := change(q, seq); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// BenchmarkTrace looks for one message among 100,000 dead letters and 20,000 messages, and for those of one user.
func BenchmarkTrace(b *testing.B) {
	q := benchQueue(b, embedded.SyncInterval, 100_000)
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			for i := range 1000 {
				j := testDeadJob(fmt.Sprint("J", n*1000+i), fmt.Sprint(10+i%20), "", 0, "").Job
				j.Tracking.User = j.ID
				if _, err := q.Publish(b.Context(), &j); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	for name, id := range map[string]string{"waiting": "J777", "dead": "L99999"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if found, err := q.Trace(b.Context(), id, nil); err != nil || len(found) != 1 {
					b.Fatal(found, err)
				}
			}
		})
	}
	b.Run("user", func(b *testing.B) {
		for b.Loop() {
			if found, err := q.TraceUser(b.Context(), "J777", 50, nil); err != nil || len(found.Messages) != 1 {
				b.Fatal(found, err)
			}
		}
	})
}

package queue

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/brazier-relay/brazier/queue/embedded"
)

func benchQueue(b *testing.B, sync embedded.Sync, letters int) *Queue {
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
	for i := range letters {
		batch = append(batch, testLetter(fmt.Sprint("L", i), fmt.Sprint(10+i%20), "recipient", 551, "campaign"))
		if len(batch) == cap(batch) || i == letters-1 {
			q.store(b, batch...)
			batch = batch[:0]
		}
	}
	return q
}

// BenchmarkLetters lists 100,000 letters per operation, without their bodies.
func BenchmarkLetters(b *testing.B) {
	const letters = 100_000
	q := benchQueue(b, embedded.SyncInterval, letters)
	for name, f := range map[string]LetterFilter{"all": {}, "page": {Page: "15"}, "id": {IDs: []string{"L99999"}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				q.list(b, f, false)
			}
		})
	}
}

// BenchmarkChange replays or discards one letter per operation, 32 at one time.
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

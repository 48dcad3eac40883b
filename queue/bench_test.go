package queue_test

import (
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// openBench is a queue as `brazier serve` has it, flushes included if sync says so.
func openBench(b *testing.B, sync embedded.Sync) *queue.Queue {
	srv, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Sync: sync})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = srv.Close() })
	return open(b, queue.Config{InProcess: srv, Log: zap.NewNop()})
}

var syncs = []embedded.Sync{embedded.SyncInterval, embedded.SyncAlways}

// BenchmarkPublish stores jobs from many goroutines at once, as a campaign does.
func BenchmarkPublish(b *testing.B) {
	for _, sync := range syncs {
		b.Run(string(sync), func(b *testing.B) {
			q := openBench(b, sync)
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := q.Publish(b.Context(), job(acme, queue.Bulk)); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// BenchmarkConsumeSettle takes stored jobs and confirms their end, 64 at a time, as a worker does without its pace.
func BenchmarkConsumeSettle(b *testing.B) {
	for _, flush := range syncs {
		b.Run(string(flush), func(b *testing.B) {
			q := openBench(b, flush)
			fill(b, q, b.N)
			s := q.Source(acme, queue.Bulk, 64)
			defer s.Stop()
			places := make(chan struct{}, 64)
			var settling sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				d, err := s.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				places <- struct{}{}
				settling.Go(func() {
					defer func() { <-places }()
					if err := d.Done(b.Context()); err != nil {
						b.Error(err)
					}
				})
			}
			settling.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func fill(b *testing.B, q *queue.Queue, jobs int) {
	var publishing sync.WaitGroup
	places := make(chan struct{}, 64)
	for range jobs {
		places <- struct{}{}
		publishing.Go(func() {
			defer func() { <-places }()
			if _, err := q.Publish(b.Context(), job(acme, queue.Bulk)); err != nil {
				b.Error(err)
			}
		})
	}
	publishing.Wait()
}

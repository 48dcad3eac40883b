package queue_test

import (
	"errors"
	"sync"
	"sync/atomic"
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
					if _, err := q.Publish(b.Context(), campaignJob(acme, launch, "d")); err != nil {
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
			permits := make(chan struct{}, 64)
			var settling sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				d, err := s.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				permits <- struct{}{}
				settling.Go(func() {
					defer func() { <-permits }()
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

// BenchmarkBegin is two workers that begin jobs and confirm their end, 64 at a time each.
func BenchmarkBegin(b *testing.B) {
	for _, flush := range syncs {
		b.Run(string(flush), func(b *testing.B) {
			srv, err := embedded.Start(embedded.Config{Dir: b.TempDir(), Sync: flush})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = srv.Close() })
			workers := []*queue.Queue{
				open(b, queue.Config{InProcess: srv, Log: zap.NewNop()}),
				open(b, queue.Config{InProcess: srv, Log: zap.NewNop()}),
			}
			fill(b, workers[0], b.N)
			var sources []*queue.Source
			for _, q := range workers {
				sources = append(sources, q.Source(acme, queue.Bulk, 64))
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			var working sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for _, s := range sources {
				permits := make(chan struct{}, 64)
				working.Go(func() {
					for {
						d, err := s.Next(b.Context())
						if err != nil {
							return
						}
						permits <- struct{}{}
						working.Go(func() {
							defer func() { <-permits }()
							if err := errors.Join(d.Begin(b.Context()), d.Done(b.Context())); err != nil {
								b.Error(err)
							}
							if left.Add(-1) == 0 {
								for _, s := range sources {
									s.Stop()
								}
							}
						})
					}
				})
			}
			working.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func fill(b *testing.B, q *queue.Queue, jobs int) {
	var publishing sync.WaitGroup
	permits := make(chan struct{}, 64)
	for range jobs {
		permits <- struct{}{}
		publishing.Go(func() {
			defer func() { <-permits }()
			if _, err := q.Publish(b.Context(), campaignJob(acme, launch, "d")); err != nil {
				b.Error(err)
			}
		})
	}
	publishing.Wait()
}

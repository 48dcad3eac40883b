package worker_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/worker"
)

// BenchmarkPages publishes and delivers messages of 1, 50 and 500 busy pages in turn, with handlers that do nothing and
// rates that do not hold them up: what a message costs the queue and the worker.
func BenchmarkPages(b *testing.B) {
	for _, many := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			q := queuetest.New(b)
			var warm, done atomic.Int64
			all := make(chan struct{})
			h := handler(func(context.Context, *queue.Delivery) worker.Verdict {
				switch n := done.Add(1); {
				case n <= int64(many):
					warm.Add(1)
				case n == int64(many+b.N):
					close(all)
				}
				return delivered
			})
			var pages []worker.Page
			for i := range many {
				pages = append(pages, worker.Page{ID: strconv.Itoa(1_000_000_000 + i), Handler: h, Rate: 200_000 / float64(many)})
			}
			w, err := worker.New(worker.Config{Queue: q, Pages: pages})
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() { ended <- w.Run(ctx) }()
			for _, p := range pages { // every page is at work before it counts
				publish(b, q, p.ID, 0)
			}
			for poll := time.NewTicker(10 * time.Millisecond); warm.Load() < int64(many); {
				<-poll.C
			}
			b.ReportAllocs()
			b.ResetTimer()
			numbers := make(chan int, 1024)
			var senders sync.WaitGroup
			for range 256 {
				senders.Go(func() {
					for i := range numbers {
						publish(b, q, pages[i%many].ID, i)
					}
				})
			}
			for i := range b.N {
				numbers <- i
			}
			close(numbers)
			senders.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "published/s")
			<-all
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
			stop()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

func publish(b *testing.B, q *queue.Queue, page string, i int) {
	now := time.Now()
	job := &queue.Job{ID: queue.NewID(), Page: page, Lane: queue.Bulk, Accepted: now, Expire: now.Add(time.Hour),
		Body: fmt.Appendf(nil, `{"recipient":{"id":"2003004005006007"},"messaging_type":"UPDATE","message":{"text":"%0300d"}}`, i)}
	if _, err := q.Publish(context.Background(), job); err != nil {
		b.Error(err)
	}
}

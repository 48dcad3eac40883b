package queue_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// While many jobs are stored at once, jobs are handed out 500 times a second and no less, over all who ask. Where the server
// is another process nobody yields.
func TestYield(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	for _, embedded := range []bool{true, false} {
		q := open(t, queue.Config{InProcess: srv, Embedded: embedded, Flushed: true, Log: zap.NewNop()})
		ctx, stop := context.WithCancel(t.Context())
		var publishing, yielding sync.WaitGroup
		for range 128 {
			publishing.Go(func() {
				for ctx.Err() == nil {
					if _, err := q.Publish(t.Context(), job(acme, queue.Bulk)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		const callers, calls, burst = 8, 100, 25
		eventually(t, "the queue is busy, or nobody cares", func() bool { return q.Busy() })
		began := time.Now()
		for range callers {
			yielding.Go(func() {
				for range calls {
					q.Yield(ctx)
				}
			})
		}
		yielding.Wait()
		took := time.Since(began)
		const least = time.Second * (callers*calls - burst) / 500
		if embedded && (took < least*9/10 || took > patience) || !embedded && took >= least {
			t.Errorf("embedded %v: %d jobs were handed out in %v, and 500 a second are %v", embedded, callers*calls, took, least)
		}
		stop()
		publishing.Wait()
	}
}

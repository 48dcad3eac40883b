package queue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// While the ingress is busy, Yield returns 500 times a second and no less, over all callers. Where the server is
// another process it returns at once.
func TestYield(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	for _, embedded := range []bool{true, false} {
		q := open(t, queue.Config{InProcess: srv, Embedded: embedded})
		const callers, calls, burst = 8, 100, 25
		const least = time.Second * (callers*calls - burst) / 500
		q.StayBusy()
		began := time.Now()
		var yielding sync.WaitGroup
		for range callers {
			yielding.Go(func() {
				for range calls {
					q.Yield(within(t, 2*testTimeout))
				}
			})
		}
		yielding.Wait()
		took := time.Since(began)
		if embedded && (took < least*9/10 || took > testTimeout) || !embedded && took >= least {
			t.Errorf("embedded %v: Yield returned %d times in %v, want 500 a second, %v", embedded, callers*calls, took, least)
		}
	}
}

// Many jobs that are stored at once make the ingress busy, and it is so no longer when they are.
func TestBusy(t *testing.T) {
	t.Parallel()
	q := open(t, queue.Config{InProcess: queuetest.Server(t, ""), Embedded: true, Flushed: true})
	if q.Busy() {
		t.Error("it is busy with nothing")
	}
	eventually(t, "it is busy", func() bool {
		var publishing sync.WaitGroup
		for range 128 {
			publishing.Go(func() {
				if _, err := q.Publish(within(t, 2*testTimeout), job(acme, queue.Bulk)); err != nil {
					t.Error(err)
				}
			})
		}
		publishing.Wait()
		return q.Busy()
	})
	eventually(t, "it is not busy any more", func() bool { return !q.Busy() })
}

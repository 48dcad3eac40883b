package worker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

// While one page tries to reach Facebook, the jobs of the others are not taken and put back over and over.
func TestCircuitLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var pages []worker.Page
	for i := range 8 {
		id := fmt.Sprintf("300000000%d", i)
		pages = append(pages, worker.Page{ID: id, Name: id, Rate: 1000, MaxInFlight: 1})
		f.publish(id, queue.Bulk, 5)
	}
	var mu sync.Mutex
	var most uint64 // deliveries of one job
	trying := 0
	f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
		mu.Lock()
		most = max(most, job.Deliveries)
		if len(f.events("graph_down")) == 0 {
			mu.Unlock()
			return away
		}
		trying++
		healed := trying > 12
		mu.Unlock()
		if healed {
			return delivered
		}
		<-time.After(300 * time.Millisecond) // the call hangs
		return away
	}, worker.Config{SlowStart: time.Millisecond, Pages: pages})
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 40 })
	mu.Lock()
	defer mu.Unlock()
	if t.Logf("a job was handed out %d times at most", most); most > 60 {
		t.Errorf("a job was handed out %d times", most)
	}
}

package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// A page is restricted while a call is under way that Facebook has taken already. The answer comes after the first refusal, and
// does not condemn the message that was refused.
func TestTakenBeforeRefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	restricted := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 2022, Delays: probes, Text: "restricted", Took: time.Millisecond}
	begun, held := make(chan struct{}), make(chan struct{})
	var calls, healed atomic.Int64
	f.publish(acme, queue.Bulk, 1)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if calls.Add(1) == 1 {
			close(begun)
			<-held
			return delivered
		}
		if healed.Load() == 1 {
			return delivered
		}
		return restricted
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 2}}})
	<-begun
	f.publish(acme, queue.Bulk, 1)
	f.await("held", 1)
	close(held)
	eventually(t, "the message is refused again, or dead", func() bool { return len(f.events("held")) >= 3 || len(f.events("dead")) > 0 })
	healed.Store(1)
	eventually(t, "both are settled", func() bool { return len(f.events("delivered"))+len(f.events("dead")) == 2 })
	if n := len(f.events("dead")); n != 0 {
		t.Errorf("a message is dead of its page's fault: %v", f.events("dead"))
	}
}

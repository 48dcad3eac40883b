package worker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Somebody wrote a state that cannot be read. A hold replaces it.
func TestHoldReplacesUnreadableState(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	f := newFixture(t)
	f.q = queuetest.On(t, srv)
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), queue.BucketPages)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), acme, "not JSON"); err != nil {
		t.Fatal(err)
	}
	throttle := worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassThrottle, Code: 613, Delays: probes, Took: time.Millisecond}
	var healed atomic.Bool
	f.publish(acme, queue.Bulk, 5)
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		if healed.Load() {
			return delivered
		}
		return throttle
	}, worker.Config{SlowStart: time.Millisecond})
	eventually(t, "the page is held, or cannot be", func() bool { return len(f.events("held"))+len(f.events("hold_error")) >= 2 })
	healed.Store(true)
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 5 })
	if n := len(f.events("hold_error")); n > 0 {
		t.Errorf("%d holds were not written down: %v", n, f.events("hold_error")[0])
	}
}

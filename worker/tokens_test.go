package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// Two workers have different tokens, and Facebook refuses both. Each is tried once, not in turns, and a third one at once.
func TestTwoDeadTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish(acme, queue.Bulk, 20)
	var calls atomic.Int64
	var second atomic.Value
	second.Store("B")
	start := func(token func() string) {
		f.start(func(context.Context, *queue.Delivery) worker.Verdict {
			name := token()
			if name == "C" {
				return delivered
			}
			calls.Add(1)
			return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassAuth, Code: 190, Credentials: name, Took: time.Millisecond,
				Delays: worker.Delays{First: time.Hour, Max: time.Hour}}
		}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1,
			Credentials: func() (string, error) { return token(), nil }}}})
	}
	start(func() string { return "A" })
	start(func() string { return second.Load().(string) })
	f.await("held", 2)
	wait(t, 2*time.Second)
	if n := calls.Load(); n > 4 { // each once, and what a worker had begun when it heard of the other
		t.Errorf("%d calls with dead tokens", n)
	}
	second.Store("C")
	eventually(t, "all are delivered", func() bool { return len(f.events("delivered")) == 20 })
}

// Token A is refused and B is taken; later A is in the file again, and is valid.
func TestTokenComesBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var token atomic.Value
	token.Store("A")
	valid := sync.Map{}
	valid.Store("B", true)
	f.publish(acme, queue.Bulk, 3)
	h := func(context.Context, *queue.Delivery) worker.Verdict {
		name := token.Load().(string)
		if _, ok := valid.Load(name); !ok {
			return worker.Verdict{Outcome: worker.Hold, Class: sendapi.ClassAuth, Code: 190, Credentials: name, Delays: probes, Took: time.Millisecond}
		}
		return delivered
	}
	cfg := worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1,
		Credentials: func() (string, error) { return token.Load().(string), nil }}}}
	stop := f.start(h, cfg)
	has(t, f.await("held", 1), "", map[string]any{"class": "auth"})
	token.Store("B")
	eventually(t, "all are delivered with the new token", func() bool { return len(f.events("delivered")) == 3 })
	stop()
	token.Store("A")
	valid.Store("A", true)
	f.publish(acme, queue.Bulk, 2)
	f.start(h, cfg)
	eventually(t, "and with the old one, which is valid again", func() bool { return len(f.events("delivered")) == 5 })
	eventually(t, "which is not called dead any more", func() bool {
		s, err := f.q.PageState(t.Context(), acme)
		return err == nil && s.DeadToken == "" && !s.Held
	})
}

package worker

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// A page that waits long for its slot keeps no other page from trying what both depend on: Facebook, or their app.
func TestSlowPageKeepsNoTry(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*testing.T, *Worker){
		"circuit": func(_ *testing.T, w *Worker) { w.circuit.open, w.circuit.next = true, w.cfg.Queue.Now() },
		"app": func(t *testing.T, w *Worker) {
			var s queue.PageState
			s.Hold(queue.PageState{Class: "throttle_app", Since: w.cfg.Queue.Now(), Until: w.cfg.Queue.Now()})
			if _, err := w.cfg.Queue.SetPageState(t.Context(), queue.AppKey(""), s); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const slow, fast = "1000000001", "1000000002"
			q := queuetest.New(t)
			pace := q.Pace(slow, "text")
			if err := pace.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, rate := range []float64{100, 1. / 60} { // the slot after these is a minute away
				if _, err := pace.Reserve(t.Context(), rate, 1); err != nil {
					t.Fatal(err)
				}
			}
			sent := make(chan struct{}, 1)
			h := handlerFunc(func(_ context.Context, job *queue.Delivery) Verdict {
				if job.Page == fast {
					sent <- struct{}{}
				}
				return Verdict{Outcome: Delivered, Took: time.Millisecond}
			})
			w, err := New(Config{Queue: q, Log: zap.NewNop(), Pages: []Page{{ID: slow, Rate: MinRate, Handler: h}, {ID: fast, Handler: h}}})
			if err != nil {
				t.Fatal(err)
			}
			stop(t, w)
			publishExpiring(t, q, slow, queue.Bulk, 1, time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			for deadline := time.Now().Add(Deadline); w.InFlight() == 0; <-time.After(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the slow page has not begun a message")
				}
			}
			publishExpiring(t, q, fast, queue.Bulk, 1, time.Hour)
			select {
			case <-sent:
			case <-time.After(50 * time.Second):
				t.Error("the other page's message is not sent while the slow one waits for its slot")
			}
		})
	}
}

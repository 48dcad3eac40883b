package queue_test

import (
	"bytes"
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// A page that is not delivered for fills half of the queue, the next one half of what is left, and there is still space for
// a third. A page with a share of its own has that. What is delivered frees space.
func TestShares(t *testing.T) {
	t.Parallel()
	const most = 8 << 20
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: queuetest.Server(t, ""), MaxBytes: most, Log: zap.New(core)})
	const generous = "777"
	q.SetShares(map[string]float64{generous: 0.9})
	large := func(page string) *queue.Job {
		j := job(page, queue.Bulk)
		j.Body = bytes.Repeat([]byte("x"), 16<<10)
		return j
	}
	// fill publishes until the page is refused, and returns how much of the queue the page has then. The queue is measured in
	// between: a machine that stalls would fill it between two measurements.
	fill := func(page string) float64 {
		t.Helper()
		for n := 0; ; n++ {
			if n%16 == 0 {
				q.MeasureShares(t)
			}
			_, err := q.Publish(within(t, 2*testTimeout), large(page))
			switch {
			case errors.Is(err, queue.ErrPageFull) && errors.Is(err, queue.ErrFull):
				return float64(n) * (17 << 10) / most
			case err != nil:
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		page     string
		min, max float64
	}{{acme, 0.35, 0.65}, {nordwind, 0.12, 0.4}} {
		if got := fill(tt.page); got < tt.min || got > tt.max {
			t.Errorf("page %s fills %.2f of the queue, want about half of what is left", tt.page, got)
		}
	}
	publish(t, q, large("333")) // a third page is not refused
	fill(generous)
	eventually(t, "the log says that it fills", func() bool { return lines.FilterField(zap.String("event", "queue_filling")).Len() > 0 })

	s := source(t, q, acme, queue.Bulk, 16)
	b, err := q.Backlog(within(t, 2*testTimeout), acme)
	if err != nil {
		t.Fatal(err)
	}
	for range b.Pending {
		done(t, next(t, s))
	}
	eventually(t, "there is space again", func() bool {
		_, err := q.Publish(within(t, 2*testTimeout), large(acme))
		return err == nil
	})
}

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

// A page that is not delivered for fills half of the queue, the next one half of what is left, and there is still room for
// a third. A page with a share of its own has that. What is delivered makes room again.
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
	// fill publishes until the page is turned away, and goes on until the measurement has caught up. It returns how much of
	// the queue the page has then.
	fill := func(page string) float64 {
		t.Helper()
		n := 0
		for range 3 {
			eventually(t, "the page has its share", func() bool {
				_, err := q.Publish(within(t, 2*patience), large(page))
				switch {
				case err == nil:
					n++
				case !errors.Is(err, queue.ErrPageFull) || !errors.Is(err, queue.ErrFull):
					t.Fatal(err)
				}
				return err != nil
			})
		}
		return float64(n) * (17 << 10) / most
	}
	for _, tt := range []struct {
		page     string
		min, max float64
	}{{acme, 0.35, 0.65}, {nordwind, 0.12, 0.4}} {
		if got := fill(tt.page); got < tt.min || got > tt.max {
			t.Errorf("page %s fills %.2f of the queue, want about half of what is left", tt.page, got)
		}
	}
	publish(t, q, large("333")) // a third one is not turned away
	fill(generous)
	eventually(t, "the log says that it fills", func() bool { return lines.FilterField(zap.String("event", "queue_filling")).Len() > 0 })

	s := source(t, q, acme, queue.Bulk, 16)
	b, err := q.Backlog(within(t, 2*patience), acme)
	if err != nil {
		t.Fatal(err)
	}
	for range b.Pending {
		done(t, next(t, s))
	}
	eventually(t, "there is room again", func() bool {
		_, err := q.Publish(within(t, 2*patience), large(acme))
		return err == nil
	})
}

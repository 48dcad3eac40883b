package worker_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/worker"
)

// publishOf stores n jobs of a campaign.
func (f *fixture) publishOf(campaign string, n int) (ids map[string]bool) {
	f.t.Helper()
	ids = map[string]bool{}
	for range n {
		j := &queue.Job{ID: queue.NewID(), Page: acme, Lane: queue.Bulk, Accepted: time.Now(), Expire: time.Now().Add(time.Hour),
			Tracking: queue.Tracking{Campaign: campaign}, Body: []byte(`{}`)}
		if _, err := f.q.Publish(f.t.Context(), j); err != nil {
			f.t.Fatal(err)
		}
		ids[j.ID] = true
	}
	return ids
}

// A long block of bad messages stands before good ones. These are reached within a few holds.
func TestBlockOfBadMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		campaign      string
		bad, good     int
		holds, copies int // at most, until the good ones are delivered
		verdict       worker.Verdict
	}{
		{"of one campaign", "bad", 300, 20, 4, 60, mayBePage},
		{"of none", "", 30, 10, 5, 60, mayBePage},
		{"of one campaign and of a code that condemns messages", "bad", 300, 20, 4, 90, badMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.behind = time.Minute
			v := c.verdict
			v.HoldDelays = worker.Delays{First: 500 * time.Millisecond, Max: time.Hour}
			if v.Outcome == worker.Hold {
				v.Delays = v.HoldDelays
			}
			bad := f.publishOf(c.campaign, c.bad)
			good := f.publishOf("good", c.good)
			var mu sync.Mutex
			delivered, refused := 0, 0
			f.start(func(_ context.Context, job *queue.Delivery) worker.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if bad[job.ID] {
					refused++
					return v
				}
				if !good[job.ID] || job.Attempts != 0 || job.InDoubt {
					t.Errorf("a job comes with attempts %d, in doubt %v", job.Attempts, job.InDoubt)
				}
				delivered++
				return worker.Verdict{Outcome: worker.Delivered, Took: time.Millisecond}
			}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
			eventually(t, "the good messages are delivered, or the page was held too often", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return delivered == c.good || len(f.events("held")) > c.holds
			})
			mu.Lock()
			defer mu.Unlock()
			t.Logf("%d good messages delivered, %d bad ones sent, held %d times", delivered, refused, len(f.events("held")))
			if delivered != c.good || refused > c.copies {
				t.Errorf("%d of %d good messages delivered after %d holds, and %d bad ones sent, at most %d wanted", delivered, c.good, len(f.events("held")), refused, c.copies)
			}
		})
	}
}

// Where one refusal is enough to hold a page, one is tried after it.
func TestOneTryWhereOneIsEnough(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	v := known
	v.Delays = probes
	f.publish(acme, queue.Bulk, 30)
	var mu sync.Mutex
	calls := 0
	f.start(func(context.Context, *queue.Delivery) worker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return v
	}, worker.Config{SlowStart: time.Millisecond, Pages: []worker.Page{{ID: acme, Name: "acme", Rate: 1000, MaxInFlight: 1}}})
	f.await("held", 5)
	mu.Lock()
	defer mu.Unlock()
	if held := len(f.events("held")); calls > held+1 {
		t.Errorf("%d calls, and held %d times", calls, held)
	}
}

package queue_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// moment is how late a slot may be when it is handed out, with a margin for a busy machine between the answer and here.
const moment = 100 * time.Millisecond

func reserve(t testing.TB, p *queue.Pace, rate float64, n int) queue.Slots {
	t.Helper()
	slots, err := p.Reserve(t.Context(), rate, n)
	if err != nil {
		t.Fatal(err)
	}
	return slots
}

// ledger gathers the slots that several workers got, by the clock of this machine.
type ledger struct {
	t     testing.TB
	mu    sync.Mutex
	slots []time.Time
}

func (l *ledger) add(s queue.Slots) {
	if late := time.Since(s.First); late > moment {
		l.t.Errorf("a slot is handed out %v late", late)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range s.N {
		l.slots = append(l.slots, s.First.Add(time.Duration(i)*s.Every))
	}
}

// tolerance is what the workers' measurements of the server's time may be apart.
const tolerance = 5 * time.Millisecond

// audit checks that no second holds more slots than rate, and no two slots are the same.
func (l *ledger) audit(rate int) {
	l.t.Helper()
	slices.SortFunc(l.slots, time.Time.Compare)
	for i := rate; i < len(l.slots); i++ {
		if span := l.slots[i].Sub(l.slots[i-rate]); span < time.Second-tolerance {
			l.t.Fatalf("%d slots within %v", rate+1, span)
		}
	}
}

// Workers that reserve at once, with their own connections and clocks, share the rate exactly.
func TestPaceShared(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rate  int
		skews []time.Duration
	}{
		{"40", 40, make([]time.Duration, 8)},
		{"300", 300, make([]time.Duration, 8)},
		{"clocks apart", 300, []time.Duration{0, 5 * time.Second, -5 * time.Second, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := queuetest.Server(t, "")
			l := &ledger{t: t}
			var workers sync.WaitGroup
			share := 2 * c.rate / len(c.skews)
			for _, skew := range c.skews {
				q := open(t, queue.Config{InProcess: srv, Log: zap.NewNop(), Clock: func() time.Time { return time.Now().Add(skew) }})
				workers.Go(func() {
					p := q.Pace(acme, "text")
					for got := 0; got < share; {
						s, err := p.Reserve(t.Context(), float64(c.rate), share-got)
						if err != nil {
							t.Error(err)
							return
						}
						got += s.N
						l.add(s)
					}
				})
			}
			workers.Wait()
			if want := share * len(c.skews); len(l.slots) != want {
				t.Errorf("%d slots, want %d", len(l.slots), want)
			}
			l.audit(c.rate)
		})
	}
}

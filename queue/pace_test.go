package queue_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// slack is how late a slot may be when it is reserved, with a margin for a busy machine between the server and the test.
const slack = time.Second

func reserve(t testing.TB, p *queue.Pace, rate float64, n int) queue.Slots {
	t.Helper()
	slots, err := p.Reserve(within(t, 2*testTimeout), rate, n)
	if err != nil {
		t.Fatal(err)
	}
	return slots
}

// ledger gathers the slots that several workers got, by the server's clock, as each of them knows it. How well they know
// it depends on how busy the machine is.
type ledger struct {
	t     testing.TB
	mu    sync.Mutex
	slots []time.Time
}

func (l *ledger) add(q *queue.Queue, s queue.Slots) {
	if late := time.Since(s.First); late > slack {
		l.t.Errorf("a slot is reserved %v late", late)
	}
	first := onServer(q, s.First)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range s.N {
		l.slots = append(l.slots, first.Add(time.Duration(i)*s.Every))
	}
}

// onServer returns the time on the server at a time of this process.
func onServer(q *queue.Queue, t time.Time) time.Time {
	for {
		before := time.Now()
		server := q.Now()
		if after := time.Now(); after.Sub(before) < tolerance/4 { // nothing came between
			return server.Add(t.Sub(after))
		}
	}
}

// tolerance is for what is lost in counting, and for the drift of clocks.
const tolerance = 2 * time.Millisecond

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
						s, err := p.Reserve(within(t, 2*testTimeout), float64(c.rate), share-got)
						if err != nil {
							t.Error(err)
							return
						}
						got += s.N
						l.add(q, s)
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

// Who is alone gets many slots at a time, and the first of them at once; with others about, few.
func TestPaceLease(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q, other := queuetest.On(t, srv), queuetest.On(t, srv)
	p := q.Pace(acme, "text")
	if err := p.Prepare(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	// On a busy machine an answer may come when some of its slots are over, and those are dropped.
	eventually(t, "an eighth of a second's slots are taken at a time, the first of them at once", func() bool {
		s := reserve(t, p, 40, 64)
		if s.N > 5 || s.Every != 25*time.Millisecond {
			t.Fatalf("alone: %d slots every %v", s.N, s.Every)
		}
		<-time.After(time.Until(s.First.Add(time.Duration(s.N) * s.Every)))
		next := reserve(t, p, 40, 64)
		return next.N == 5 && time.Until(next.First) < slack
	})

	mine := reserve(t, p, 40, 2)
	if mine.N > 2 {
		t.Errorf("asked for 2 slots: %d", mine.N)
	}
	theirs := reserve(t, other.Pace(acme, "text"), 40, 64) // they do not know of each other yet
	if gap := onServer(other, theirs.First).Sub(onServer(q, mine.First)); gap < time.Duration(mine.N)*mine.Every-tolerance {
		t.Errorf("slots of another begin %v after %d", gap, mine.N)
	}
	if s := reserve(t, p, 40, 64); s.N != 1 {
		t.Errorf("with others: %d slots, want 1", s.N)
	}
	if s := reserve(t, p, 300, 64); s.N > 7 {
		t.Errorf("with others, at 300: %d slots, want a fortieth of a second's", s.N)
	}
	// Another pace of the page, and other pages, know nothing of it.
	for _, p := range []*queue.Pace{q.Pace(acme, "media"), q.Pace(nordwind, "text")} {
		eventually(t, "another pace has its own slots", func() bool { return reserve(t, p, 40, 64).N == 5 })
	}
}

// However few the calls are, the next is never reserved long before it is due.
func TestPaceAhead(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	p := q.Pace(acme, "text")
	var last time.Time
	for range 4 {
		s := reserve(t, p, 4, 1)
		if wait := time.Until(s.First); wait > 250*time.Millisecond+tolerance {
			t.Errorf("a slot is reserved %v ahead", wait)
		}
		first := onServer(q, s.First)
		if gap := first.Sub(last); gap < 250*time.Millisecond-tolerance {
			t.Errorf("two calls are %v apart, want 250 ms", gap)
		}
		last = first
	}
}

func TestPaceRefuses(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	p := q.Pace(acme, "text")
	for _, rate := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := p.Reserve(within(t, 2*testTimeout), rate, 1); err == nil {
			t.Errorf("rate %v is taken", rate)
		}
	}
	if _, err := p.Reserve(within(t, 2*testTimeout), 40, 0); err == nil {
		t.Error("0 slots are taken")
	}
	q.Close()
	if _, err := p.Reserve(within(t, 2*testTimeout), 40, 1); err == nil {
		t.Error("a closed queue reserves slots")
	}
	if err := q.Pace(acme, "media").Prepare(within(t, 2*testTimeout)); err == nil {
		t.Error("a closed queue prepares a pace")
	}
}

// A restarted server has forgotten the reserved slots. None is reserved again, and none while it is away.
func TestPaceOverRestart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	l := &ledger{t: t}
	queues := []*queue.Queue{m.open(), m.open(), m.open()}
	paces := make([]*queue.Pace, len(queues))
	for i, q := range queues {
		paces[i] = q.Pace(acme, "text")
	}
	take := func(rounds int) {
		var workers sync.WaitGroup
		for i, p := range paces {
			workers.Go(func() {
				for range rounds {
					s, err := p.Reserve(within(t, 2*testTimeout), 300, 10)
					if err != nil {
						t.Error(err)
						return
					}
					l.add(queues[i], s)
				}
			})
		}
		workers.Wait()
	}
	for range 2 {
		take(6)
		m.stop()
		if s, err := paces[0].Reserve(within(t, 50*time.Millisecond), 300, 1); err == nil {
			t.Errorf("without a server there are slots: %+v", s)
		}
		m.start()
	}
	take(6)
	l.audit(300)
}

// A time that no lease explains, left by a clock that was wrong, does not stop a page.
func TestPaceStrayed(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	p := q.Pace(acme, "text")
	reserve(t, p, 40, 1)
	kv, err := raw(t, srv).KeyValue(t.Context(), queue.BucketPace)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{fmt.Sprintf(`{"next":%d}`, time.Now().Add(time.Hour).UnixNano()), "broken"} {
		if _, err := kv.PutString(t.Context(), acme+".text", value); err != nil {
			t.Fatal(err)
		}
		s, err := p.Reserve(within(t, testTimeout), 40, 1)
		if err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		if wait := time.Until(s.First); wait > time.Second {
			t.Errorf("%s: the next slot is %v off", value, wait)
		}
	}
}

// The server's time is known to processes whose own clocks are wrong, in the middle of it too.
func TestNow(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	for _, skew := range []time.Duration{0, 5 * time.Second, -5 * time.Second} {
		core, lines := observer.New(zap.InfoLevel)
		q := open(t, queue.Config{InProcess: srv, Log: zap.New(core), Clock: func() time.Time { return time.Now().Add(skew) }})
		q.Now()
		eventually(t, "the time is measured", func() bool { return time.Until(q.Now()).Abs() < time.Second })
		if off := time.Until(q.Now()); off.Abs() > slack {
			t.Errorf("with a clock %v off, the server's time is %v off", skew, off)
		}
		if skew == 0 {
			continue
		}
		logged := func() []observer.LoggedEntry { return lines.FilterField(zap.String("event", "clock_offset")).All() }
		eventually(t, "it is logged", func() bool { return len(logged()) > 0 })
		if ahead := logged()[0].ContextMap()["server_ahead_s"].(float64); math.Abs(ahead+skew.Seconds()) > slack.Seconds() {
			t.Errorf("with a clock %v off, the log says that the server is %v s ahead", skew, ahead)
		}
	}
}

// BenchmarkReserve is what a reservation costs: of one worker alone, of eight that share a page, and of one worker with
// 500 pages. The pace is beyond any limit, so that no worker waits for a slot.
func BenchmarkReserve(b *testing.B) {
	for _, c := range []struct {
		name           string
		workers, pages int
	}{{"alone", 1, 1}, {"8 workers", 8, 1}, {"500 pages", 1, 500}} {
		b.Run(c.name, func(b *testing.B) {
			srv := queuetest.Server(b, "")
			paces := make([][]*queue.Pace, c.workers)
			for i := range paces {
				q := open(b, queue.Config{InProcess: srv, Log: zap.NewNop()})
				for page := range c.pages {
					p := q.Pace(fmt.Sprint(page), "text")
					if err := p.Prepare(b.Context()); err != nil {
						b.Fatal(err)
					}
					paces[i] = append(paces[i], p)
				}
				for _, p := range paces[i] {
					reserve(b, p, 1e6, 1)
				}
			}
			b.ResetTimer()
			var workers sync.WaitGroup
			for _, own := range paces {
				workers.Go(func() {
					for i := range b.N / c.workers {
						if _, err := own[i%c.pages].Reserve(b.Context(), 1e6, 1); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			workers.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reservations/s")
		})
	}
}

package worker

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
)

// idler is a worker with one page, whose looks are made by the test.
type idler struct {
	t    *testing.T
	srv  *embedded.Server
	q    *queue.Queue
	js   jetstream.JetStream
	w    *Worker
	sent chan queue.Lane

	verdict atomic.Pointer[Verdict]
}

const idlePage = "1029384756"

func newIdler(t *testing.T) *idler {
	i := &idler{t: t, srv: queuetest.Server(t, ""), sent: make(chan queue.Lane, 100)}
	i.q = queuetest.On(t, i.srv)
	i.verdict.Store(&Verdict{Outcome: Delivered, Took: time.Millisecond})
	nc, err := nats.Connect("", nats.InProcessServer(i.srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if i.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	i.w, err = New(Config{Queue: i.q, StatsEvery: time.Hour, Pages: []Page{{ID: idlePage, Rate: 1000, MediaRate: 1000,
		Handler: handlerFunc(func(_ context.Context, job *queue.Delivery) Verdict {
			i.sent <- job.Lane
			return *i.verdict.Load()
		})}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return i
}

func (i *idler) eventually(what string, ok func() bool) {
	i.t.Helper()
	for deadline := time.Now().Add(Deadline); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			i.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// publish stores a job by a process of its own, so that the worker hears of it.
func (i *idler) publish(lane queue.Lane) *queue.Queue {
	i.t.Helper()
	q := queuetest.On(i.t, i.srv)
	publishExpiring(i.t, q, idlePage, lane, 1, time.Hour)
	return q
}

func (i *idler) receive(lane queue.Lane) {
	i.t.Helper()
	select {
	case got := <-i.sent:
		if got != lane {
			i.t.Fatalf("a message of lane %s was sent, want one of %s", got, lane)
		}
	case <-time.After(Deadline):
		i.t.Fatalf("no message of lane %s is sent", lane)
	}
}

// look is what the worker does every 10 s.
func (i *idler) look(idle time.Duration) {
	i.t.Helper()
	i.w.mu.Lock()
	i.w.laneIdle = idle
	i.w.mu.Unlock()
	i.eventually("the backlog is known", func() bool {
		waiting, err := i.q.Pending(i.t.Context())
		if err == nil {
			i.w.look(waiting)
		}
		return err == nil
	})
}

// requests counts those that wait at the server for jobs of a lane.
func (i *idler) requests(lane queue.Lane) int {
	i.t.Helper()
	n := 0
	i.eventually("the server tells", func() bool {
		consumer, err := i.js.Consumer(i.t.Context(), queue.StreamJobs, idlePage+"-"+string(lane))
		if err == nil {
			n = consumer.CachedInfo().NumWaiting
		}
		return err == nil
	})
	return n
}

// awaitAsleep looks until a lane is asleep. What was heard late may wake it once more.
func (i *idler) awaitAsleep(lane queue.Lane) {
	i.t.Helper()
	i.eventually("the lane is asleep, and nothing is asked for", func() bool {
		i.look(0)
		return !i.isAwake(lane) && i.requests(lane) == 0
	})
}

func (i *idler) isAwake(lane queue.Lane) bool {
	l := i.w.pages[idlePage].lanes[lane]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awake
}

// A lane without a job for a while is not fetched from, and is as soon as there is one.
func TestLaneFallsAsleep(t *testing.T) {
	t.Parallel()
	for _, lane := range queue.Lanes() {
		t.Run(string(lane), func(t *testing.T) {
			t.Parallel()
			i := newIdler(t)
			i.publish(lane)
			i.receive(lane)
			i.eventually("it is fetched from", func() bool { return i.requests(lane) == 1 })
			i.look(time.Hour)
			if n := i.requests(lane); n != 1 {
				t.Errorf("%d requests for a lane that was in use just now, want 1", n)
			}
			i.awaitAsleep(lane)
			publisher := i.publish(lane)
			i.receive(lane)

			// The same process says nothing of its next job so soon; a look finds it.
			i.awaitAsleep(lane)
			publishExpiring(t, publisher, idlePage, lane, 1, time.Hour)
			i.look(0)
			i.receive(lane)
		})
	}
}

// Lanes with jobs for later do not fall asleep.
func TestLaneWithDelayedJob(t *testing.T) {
	t.Parallel()
	i := newIdler(t)
	i.verdict.Store(&Verdict{Outcome: Retry, Class: sendapi.ClassTransient, Delays: Delays{First: 24 * time.Hour, Max: 24 * time.Hour}})
	i.publish(queue.Bulk)
	i.receive(queue.Bulk)
	i.eventually("the job is requeued", func() bool { return i.w.InFlight() == 0 })
	for range 3 {
		i.look(0)
		if !i.isAwake(queue.Bulk) {
			t.Fatal("the lane fell asleep")
		}
	}
}

// While lanes fall asleep and jobs come, none is left lying.
func TestLaneFallsAsleepWhileJobsCome(t *testing.T) {
	t.Parallel()
	i := newIdler(t)
	for range 30 {
		q := queuetest.On(t, i.srv)
		asleep := make(chan struct{})
		go func() {
			defer close(asleep)
			for range 5 {
				i.look(0)
			}
		}()
		for range 2 {
			publishExpiring(t, q, idlePage, queue.Media, 1, time.Hour)
			publishExpiring(t, q, idlePage, queue.Bulk, 1, time.Hour)
		}
		<-asleep
		i.look(time.Hour) // where the process was silent about its second jobs
		for range 4 {
			select {
			case <-i.sent:
			case <-time.After(Deadline):
				t.Fatal("a job is left lying")
			}
		}
	}
}

// No goroutine is left of the fetching of lanes that are asleep.
func TestLaneAsleepHasNoGoroutines(t *testing.T) {
	i := newIdler(t)
	for _, lane := range queue.Lanes() {
		i.publish(lane)
		i.receive(lane)
	}
	for _, lane := range queue.Lanes() {
		i.awaitAsleep(lane)
	}
	i.eventually("no goroutine fetches", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "worker.(*page).pour")
	})
}

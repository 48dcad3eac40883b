package ingress

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// What an ingress sees, look by look, and when it says that nobody works.
func TestWorkerWatch(t *testing.T) {
	t.Parallel()
	type seen struct {
		at      int  // seconds
		own     bool // this process's record is there
		worker  int  // when the worker's record was written, in seconds; 0: there is none
		stopped bool
		waiting uint64
		fetched bool
		say     verdict
	}
	for name, looks := range map[string][]seen{
		"the ingress starts first": {
			{at: 10, own: true, waiting: 1}, {at: 20, own: true, waiting: 1}, {at: 35, own: true, worker: 30, waiting: 1}, {at: 45, own: true, worker: 40}},
		"no worker comes": {
			{at: 10, own: true, waiting: 1}, {at: 39, own: true, waiting: 1}, {at: 40, own: true, waiting: 1, say: sayAbsent},
			{at: 50, own: true, waiting: 1}, {at: 339, own: true, waiting: 1}, {at: 340, own: true, waiting: 2, say: sayAbsent},
			{at: 345, own: true, worker: 342, waiting: 2, say: sayBack}, {at: 355, own: true, worker: 352}},
		"nothing waits": {
			{at: 10, own: true}, {at: 50, own: true}, {at: 1000, own: true}, {at: 1010, own: true, waiting: 1, say: sayAbsent}},
		"a worker is killed": {
			{at: 10, own: true, worker: 8}, {at: 20, own: true, worker: 8}, {at: 37, own: true, worker: 8, waiting: 1}, {at: 47, own: true, waiting: 1, say: sayAbsent}},
		"a worker stops": {
			{at: 10, own: true, worker: 8, waiting: 1}, {at: 20, own: true, worker: 19, stopped: true, waiting: 1}, {at: 48, own: true, worker: 19, stopped: true, waiting: 1},
			{at: 50, own: true, waiting: 1, say: sayAbsent}},
		"NATS is away": {
			{at: 10, own: true, worker: 8}, {at: 60, waiting: 1}, {at: 100, waiting: 1}, {at: 110, own: true, waiting: 1}, {at: 120, own: true, worker: 115}},
		"NATS was away, and nobody came back": {
			{at: 10, own: true, worker: 8}, {at: 60, waiting: 1}, {at: 110, own: true, waiting: 1}, {at: 139, own: true, waiting: 1}, {at: 141, own: true, waiting: 1, say: sayAbsent}},
		"this user may not write its record": {{at: 10, waiting: 1}, {at: 100, waiting: 1}, {at: 1000, waiting: 1}},
		"a worker without a record fetches": {
			{at: 10, own: true, waiting: 1, fetched: true}, {at: 50, own: true, waiting: 1, fetched: true}, {at: 60, own: true, waiting: 1},
			{at: 80, own: true, waiting: 1, say: sayAbsent}, {at: 90, own: true, waiting: 1, fetched: true, say: sayBack}},
	} {
		watch := workerWatch{tolerance: queue.AliveFor}
		start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
		after := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
		for _, look := range looks {
			var alive []queue.AliveProcess
			if look.own {
				alive = append(alive, queue.AliveProcess{Role: "ingress", Own: true, Seen: after(look.at)})
			}
			if look.worker > 0 {
				alive = append(alive, queue.AliveProcess{Role: "worker", Stopped: look.stopped, Seen: after(look.worker)})
			}
			overdue, say := watch.look(after(look.at), alive)
			if overdue {
				say = watch.judge(after(look.at), look.waiting, look.fetched)
			}
			if say != look.say {
				t.Errorf("%s: after %d s it says %d, want %d", name, look.at, say, look.say)
			}
			if say == sayBack {
				watch.gone = time.Time{}
			}
		}
	}
}

// Through a real queue: an ingress that is there alone says so once messages wait, and hears of a worker.
func TestNoWorker(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	as := func(role string) *queue.Queue {
		q, err := queue.Open(t.Context(), queue.Config{InProcess: srv, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Close)
		return q
	}
	core, lines := observer.New(zap.InfoLevel)
	front := as("ingress")
	s, err := Open(Config{Queue: front, Listen: "127.0.0.1:0", Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	watch := workerWatch{tolerance: 20 * time.Millisecond}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain until %s", what)
			}
			s.lookForWorkers(t.Context(), &watch)
		}
	}
	announce := func(q *queue.Queue) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Announce(ctx, func() queue.AliveProcess { return queue.AliveProcess{} }) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
	counted := func(want string) {
		t.Helper()
		if err := testutil.CollectAndCompare(s.metrics.workers, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	const help = "# HELP brazier_ingress_workers_alive Workers that this process knows to be alive. Missing while it cannot know.\n# TYPE brazier_ingress_workers_alive gauge\n"
	s.lookForWorkers(t.Context(), &watch)
	counted("")
	announce(front)
	eventually("its own record is there", func() bool { return !watch.since.IsZero() })
	counted(help + "brazier_ingress_workers_alive 0\n")
	eventually("it is known for long enough", func() bool { return front.Now().Sub(watch.since) > 2*watch.tolerance })
	if n := lines.Len(); n > 0 {
		t.Errorf("with nothing to do it says %v", lines.All())
	}
	now := time.Now()
	job := &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Accepted: now, Expire: now.Add(time.Hour), Body: []byte("{}")}
	if _, err := front.Publish(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	said := func(event string) []observer.LoggedEntry { return lines.FilterField(zap.String("event", event)).All() }
	eventually("it says that nobody works", func() bool { return len(said("no_worker")) > 0 })
	if line := said("no_worker")[0].ContextMap(); line["pending"] != uint64(1) || line["since"] == nil || line["remedy"] == nil {
		t.Errorf("it says %v", line)
	}
	announce(as("worker"))
	eventually("it says that a worker is back", func() bool { return len(said("worker_back")) > 0 })
	counted(help + "brazier_ingress_workers_alive 1\n")
	if n := lines.Len(); n != 2 {
		t.Errorf("it says %v", lines.All())
	}
}

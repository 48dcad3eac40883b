package queue_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// announce keeps a record of a process until stop is called, or the test ends.
func announce(t *testing.T, q *queue.Queue, p queue.AliveProcess) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Announce(ctx, func() queue.AliveProcess { return p }) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("announce: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// aliveOf returns what is known of one role.
func aliveOf(t *testing.T, q *queue.Queue, role string) (found []queue.AliveProcess) {
	t.Helper()
	all, err := q.Alive(within(t, testTimeout))
	if err != nil && !errors.Is(err, queue.ErrNoAlive) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p queue.AliveProcess) bool { return p.Role != role })
}

// Who looks sees what each process says of itself, and who has stopped.
func TestAlive(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	as := func(role string) queue.Config {
		return queue.Config{InProcess: srv, Role: role}.WithAlive(20*time.Millisecond, 0)
	}
	front, worker := open(t, as("ingress")), open(t, as("worker"))
	if _, err := front.Alive(within(t, testTimeout)); !errors.Is(err, queue.ErrNoAlive) {
		t.Errorf("before anybody has said anything: %v", err)
	}
	announce(t, front, queue.AliveProcess{Name: "front-1", Version: "1", Pages: 1, PageIDs: []string{acme}})
	slowed := map[string]queue.RateInForce{acme: {Rate: 4, Why: "usage"}}
	end := announce(t, worker, queue.AliveProcess{Name: "w-1", Version: "2", Pages: 2, PageIDs: []string{acme, nordwind}, Slowed: slowed})
	eventually(t, "both are there", func() bool {
		return len(aliveOf(t, front, "ingress")) == 1 && len(aliveOf(t, front, "worker")) == 1
	})
	w, f := aliveOf(t, front, "worker")[0], aliveOf(t, front, "ingress")[0]
	if !w.Works() || w.Takes() || w.Own || w.Stopped || !f.Own || f.Works() || !f.Takes() {
		t.Errorf("worker %+v, ingress %+v", w, f)
	}
	if now := front.Now(); now.Sub(w.Seen) > testTimeout || w.Started.IsZero() || w.Started.After(now) {
		t.Errorf("at %v: worker %+v", now, w)
	}
	equal(t, "pages", w.PageIDs, []string{acme, nordwind})
	equal(t, "slowed", w.Slowed, slowed)
	end()
	if now := aliveOf(t, front, "worker"); len(now) != 1 || !now[0].Stopped || !now[0].Seen.After(w.Seen) {
		t.Errorf("after it has stopped: %+v", now)
	}
}

// Of a process that was killed nothing stays, and one whose clock is wrong says so.
func TestAliveEnds(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	behind := queue.Config{InProcess: srv, Role: "worker", Clock: func() time.Time { return time.Now().Add(-time.Hour) }}
	dying := open(t, behind.WithAlive(time.Hour, 0)) // writes one record
	announce(t, dying, queue.AliveProcess{Name: "w-1"})
	q := open(t, queue.Config{InProcess: srv}.WithAlive(0, time.Second))
	eventually(t, "it is there", func() bool {
		found := aliveOf(t, q, "worker")
		return len(found) == 1 && found[0].ServerAhead > 3590 && found[0].ServerAhead < 3610
	})
	eventually(t, "it is not any more", func() bool { return len(aliveOf(t, q, "worker")) == 0 })
}

// A bucket that cannot be used is told once, and once that it can. Messages go on.
func TestAliveCannotBeWritten(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	js := raw(t, srv)
	wrong := planned(t, "KV_"+queue.BucketAlive)
	wrong.MaxAge = time.Hour
	if _, err := js.CreateStream(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: srv, Role: "worker", Log: zap.New(core)}.WithAlive(20*time.Millisecond, 0).WithWaits(50*time.Millisecond, time.Minute))
	announce(t, q, queue.AliveProcess{Name: "w-1"})
	count := func(event string) int { return lines.FilterField(zap.String("event", event)).Len() }
	eventually(t, "it is told", func() bool { return count("alive_wait") == 1 })
	publish(t, q, job(acme, queue.Bulk))
	if err := q.Ready(within(t, testTimeout)); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := js.DeleteStream(t.Context(), wrong.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is over", func() bool { return count("alive_ok") == 1 && len(aliveOf(t, q, "worker")) == 1 })
	if n := count("alive_wait"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if n := count("stream_lost"); n != 0 {
		t.Errorf("%d lines stream_lost of a bucket that is made when it is first needed", n)
	}
}

// A bucket that somebody removes is made again.
func TestAliveIsMadeAgain(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	js := raw(t, srv)
	q := open(t, queue.Config{InProcess: srv, Role: "worker"}.WithAlive(20*time.Millisecond, 0))
	announce(t, q, queue.AliveProcess{Name: "w-1"})
	there := func() bool { return len(aliveOf(t, q, "worker")) == 1 }
	eventually(t, "it is there", there)
	if err := js.DeleteStream(t.Context(), "KV_"+queue.BucketAlive); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatal(err)
	}
	eventually(t, "it is there again", there)
}

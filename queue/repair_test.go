package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// drop removes a stream under everybody's feet.
func drop(t *testing.T, js jetstream.JetStream, stream string) {
	t.Helper()
	if err := js.DeleteStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
}

// A stream that is removed while everything runs is made again by a process that may, which logs that its messages are lost.
func TestStreamsAreMadeAgain(t *testing.T) {
	t.Parallel()
	for stream, use := range map[string]func(*testing.T, *queue.Queue){
		queue.StreamJobs: func(t *testing.T, q *queue.Queue) {
			publish(t, q, job(acme, queue.Bulk))
			done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
		},
		queue.StreamDead: func(t *testing.T, q *queue.Queue) {
			publish(t, q, job(acme, queue.Bulk))
			d := next(t, source(t, q, acme, queue.Bulk, 1))
			if err := d.DeadLetter(within(t, 2*testTimeout), queue.Reason{Class: "window", Attempts: 1}); err != nil {
				t.Fatal(err)
			}
		},
		"KV_" + queue.BucketPages: func(t *testing.T, q *queue.Queue) {
			s, err := q.PageState(within(t, testTimeout), acme)
			if err != nil {
				t.Fatal(err)
			}
			s.Hold(queue.PageState{Class: "throttle"})
			if _, err := q.SetPageState(within(t, testTimeout), acme, s); err != nil {
				t.Fatal(err)
			}
		},
		"KV_" + queue.BucketPace: func(t *testing.T, q *queue.Queue) {
			if _, err := q.Pace(acme, "text").Reserve(within(t, testTimeout), 40, 1); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			srv := queuetest.Server(t, "")
			js := raw(t, srv)
			core, lines := observer.New(zap.InfoLevel)
			q := open(t, queue.Config{InProcess: srv, Log: zap.New(core)})
			use(t, q)
			drop(t, js, stream)
			use(t, q)
			eventually(t, "its lane is known", func() bool {
				lanes, err := q.Lanes(within(t, 2*testTimeout))
				return err == nil && (len(lanes) == 1 || stream != queue.StreamJobs)
			})
			eventually(t, "the queue is ready", func() bool { return q.Ready(t.Context()) == nil })
			lost := lines.FilterField(zap.String("event", "stream_lost")).All()
			switch {
			case stream == "KV_"+queue.BucketPace && len(lost) == 0: // nothing is lost with it
			case len(lost) != 1 || lost[0].Level != zap.ErrorLevel || lost[0].ContextMap()["stream"] != stream:
				t.Errorf("lines %v", lost)
			}
		})
	}
}

// A reader of the source that was there before goes on when the stream is made again.
func TestSourceOutlivesItsStream(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv})
	s := q.Source(acme, queue.Bulk, 1)
	defer time.AfterFunc(3*testTimeout, s.Stop).Stop() // a request that meets no consumer is missed after some 20 s
	defer s.Stop()
	publish(t, q, job(acme, queue.Bulk))
	done(t, next(t, s))
	got := make(chan *queue.Delivery, 1)
	go func() {
		d, err := s.Next(within(t, 2*testTimeout))
		if err != nil {
			t.Error(err)
		}
		got <- d
	}()
	drop(t, raw(t, srv), queue.StreamJobs)
	after := job(acme, queue.Bulk)
	publish(t, q, after)
	if d := <-got; d.ID != after.ID {
		t.Errorf("got %s, want %s", d.ID, after.ID)
	} else {
		done(t, d)
	}
}

// Who watches page states hears that those of a bucket that is gone are too, and of those in the one that another process made
// again, which come after them whatever their revisions.
func TestWatchOutlivesItsBucket(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	watching, acting := open(t, queue.Config{InProcess: srv}), open(t, queue.Config{InProcess: srv})
	hold := func(class string) {
		t.Helper()
		s, err := acting.PageState(within(t, testTimeout), acme)
		if err != nil {
			t.Fatal(err)
		}
		s.Hold(queue.PageState{Class: class})
		if _, err := acting.SetPageState(within(t, testTimeout), acme, s); err != nil {
			t.Fatal(err)
		}
	}
	hold("first")
	ctx, end := context.WithCancel(t.Context())
	heard, ended := make(chan queue.PageState, 10), make(chan error, 1)
	go func() {
		ended <- watching.WatchPages(ctx, func(_ string, s queue.PageState) { heard <- s }, nil)
	}()
	defer func() { end(); <-ended }()
	last := <-heard
	equal(t, "heard", last.Class, "first")
	drop(t, raw(t, srv), "KV_"+queue.BucketPages)
	hold("second") // under the revision that the first one had
	for _, want := range []string{"", "second"} {
		select {
		case s := <-heard:
			equal(t, "heard", s.Class, want)
			if !s.After(last) {
				t.Errorf("state %q does not come after %q", s.Class, last.Class)
			}
			last = s
		case <-time.After(testTimeout):
			t.Fatalf("%q is not heard of", want)
		}
	}
}

// A process that may not make a stream logs so once, is not ready, and goes on when another has made the stream.
func TestMissingStreamWithoutRights(t *testing.T) {
	t.Parallel()
	srv := natsServer(t, `
		jetstream { store_dir: %DIR% }
		accounts { A { jetstream: enabled, users: [
			{ user: operator, password: o }
			{ user: ingress, password: d, permissions { publish: { deny: ["$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"] } } }
		] } }`)
	as := func(user string) string { return strings.Replace(srv.ClientURL(), "nats://", "nats://"+user+"@", 1) }
	js, err := jetstream.New(dial(t, as("operator:o")))
	if err != nil {
		t.Fatal(err)
	}
	core, lines := observer.New(zap.InfoLevel)
	event := func(name string) []observer.LoggedEntry { return lines.FilterField(zap.String("event", name)).All() }

	// Before the streams are made Open waits, and tells for what.
	early, stop := context.WithCancel(t.Context())
	opened, dialed := make(chan error, 1), make(chan *queue.Queue, 1)
	go func() {
		_, err := queue.Open(early, queue.Config{URL: as("ingress:d"), Dialed: func(q *queue.Queue) { dialed <- q }})
		opened <- err
	}()
	waits := <-dialed
	eventually(t, "Open tells what it waits for", func() bool {
		err := waits.WaitingFor()
		return err != nil && strings.Contains(err.Error(), "brazier setup")
	})
	stop()
	if err := <-opened; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "brazier setup") {
		t.Errorf("open: %v", err)
	}
	operator := open(t, queue.Config{URL: as("operator:o")})
	ingress := open(t, queue.Config{URL: as("ingress:d"), Log: zap.New(core)})
	publish(t, ingress, job(acme, queue.Bulk))
	operator.Close()

	drop(t, js, queue.StreamJobs)
	failing := make(chan error, 1)
	go func() {
		_, err := ingress.Publish(within(t, testTimeout), job(acme, queue.Bulk))
		failing <- err
	}()
	eventually(t, "it is logged", func() bool { return len(event("streams_broken")) > 0 })
	if err := ingress.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "BRAZIER_JOBS") || !strings.Contains(err.Error(), "brazier setup") {
		t.Errorf("ready: %v", err)
	}
	select {
	case err := <-failing:
		t.Fatalf("publish: %v", err)
	case <-time.After(3 * time.Second): // in which it is tried some times
	}
	broken := event("streams_broken")
	if len(broken) != 1 || broken[0].Level != zap.ErrorLevel || !strings.Contains(fmt.Sprint(broken[0].ContextMap()["error"]), "may not") {
		t.Errorf("lines %v", broken)
	}
	if refused := event("nats_error"); len(refused) > 0 {
		t.Errorf("lines %v", refused)
	}
	if _, err := queue.Setup(within(t, testTimeout), queue.Config{URL: as("operator:o")}, false); err != nil {
		t.Fatal(err)
	}
	if err := <-failing; err != nil {
		t.Errorf("publish: %v", err)
	}
	eventually(t, "the queue is ready", func() bool { return ingress.Ready(t.Context()) == nil })

	// An addition that this user may not make is an error, too.
	dead := config(t, js, queue.StreamDead)
	dead.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	var bad *queue.StreamError
	if _, err := queue.Open(within(t, testTimeout), queue.Config{URL: as("ingress:d")}); !errors.As(err, &bad) ||
		!strings.Contains(err.Error(), "allow_direct true (it is false)") || !strings.Contains(err.Error(), "brazier setup") {
		t.Errorf("open: %v", err)
	}
	if _, err := queue.Setup(within(t, testTimeout), queue.Config{URL: as("ingress:d")}, false); err == nil || !strings.Contains(err.Error(), "operator") {
		t.Errorf("setup: %v", err)
	}
}

// A stream that is changed while everything runs so that a promise would not hold is logged once, and fails Ready until it
// is set right. A newer version's streams are no trouble to those that run.
func TestStreamsAreChanged(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	js := raw(t, srv)
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: srv, Log: zap.New(core)})
	change := func(f func(*jetstream.StreamConfig)) {
		t.Helper()
		cfg := config(t, js, queue.StreamJobs)
		f(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		q.Repair()
		q.Repair()
	}
	change(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
	if err := q.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "max_msg_size is 1000") {
		t.Errorf("ready: %v", err)
	}
	change(func(c *jetstream.StreamConfig) { c.MaxMsgSize = -1 })
	if err := q.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	change(func(c *jetstream.StreamConfig) { c.Metadata[queue.SchemaKey] = "3" })
	if err := q.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	publish(t, q, job(acme, queue.Bulk))
	var events []string
	for _, l := range lines.All() {
		events = append(events, fmt.Sprint(l.ContextMap()["event"]))
	}
	equal(t, "events", events, []string{"connected", "streams_broken", "streams_ok"})
}

// A job in flight whose stream is gone is no job of the stream that was made again: its settlement does not settle the job that has its sequence now.
func TestInFlightOfAnotherStream(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv})
	s := source(t, q, acme, queue.Bulk, 2)
	publish(t, q, job(acme, queue.Bulk), job(acme, queue.Bulk))
	old := []*queue.Delivery{next(t, s), next(t, s)}
	s.Stop()
	drop(t, raw(t, srv), queue.StreamJobs)
	// The lane's marker is left again somewhere among these: one of them has the sequence of an old job.
	const jobs = 4
	s = source(t, q, acme, queue.Bulk, jobs)
	var after []*queue.Delivery
	found := false
	for range jobs {
		publish(t, q, job(acme, queue.Bulk))
		d := next(t, s)
		after = append(after, d)
		found = found || d.StreamSeq == old[0].StreamSeq || d.StreamSeq == old[1].StreamSeq
	}
	if !found {
		t.Fatalf("no job has the sequence %d or %d", old[0].StreamSeq, old[1].StreamSeq)
	}
	for _, d := range old {
		if err := d.Begin(within(t, 2*testTimeout)); err != nil {
			t.Fatal(err)
		}
		done(t, d)
	}
	if b, err := q.Backlog(within(t, 2*testTimeout), acme); err != nil || b.Pending != jobs {
		t.Errorf("backlog %+v, %v; want the new jobs", b, err)
	}
	for _, d := range after {
		done(t, d)
	}
	isEmpty(t, q, acme)
}

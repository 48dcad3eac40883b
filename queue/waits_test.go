package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// soon and repeated stand for the 5 s and the minute after which waits are logged.
const soon, repeated = 300 * time.Millisecond, 1500 * time.Millisecond

// watched is a queue whose log is looked at.
type watched struct {
	*queue.Queue
	t     testing.TB
	lines *observer.ObservedLogs
}

// openWatched opens a queue in the background if it may take long: then the caller takes it from the channel.
func openWatched(t testing.TB, cfg queue.Config) (w *watched, opened <-chan error) {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	w = &watched{t: t, lines: lines}
	cfg.Log = zap.New(core)
	cfg.Dialed = func(q *queue.Queue) { w.Queue = q }
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var opening sync.WaitGroup
	opening.Go(func() {
		_, err := queue.Open(ctx, cfg.WithWaits(soon, repeated))
		done <- err
	})
	t.Cleanup(func() {
		cancel()
		opening.Wait()
		w.Close()
	})
	return w, done
}

func opens(t testing.TB, opened <-chan error) {
	t.Helper()
	select {
	case err := <-opened:
		if err != nil {
			t.Fatalf("open: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("does not open")
	}
}

// said returns the lines of an event about a thing.
func (w *watched) said(event, what string) (found []map[string]any) {
	for _, line := range w.lines.FilterField(zap.String("event", event)).All() {
		if fields := line.ContextMap(); strings.Contains(fields["what"].(string), what) {
			found = append(found, fields)
		}
	}
	return found
}

// waitsFor returns the first line that says that a thing is waited for, which must name a reason and a remedy.
func (w *watched) waitsFor(what, reason, remedy string) map[string]any {
	w.t.Helper()
	var line map[string]any
	eventually(w.t, "it is said that "+what+" is waited for: "+reason+"; "+fmt.Sprint(w.lines.FilterField(zap.String("event", "waiting")).All()), func() bool {
		i := slices.IndexFunc(w.said("waiting", what), func(l map[string]any) bool {
			return strings.Contains(l["reason"].(string), reason) && strings.Contains(l["remedy"].(string), remedy)
		})
		if i >= 0 {
			line = w.said("waiting", what)[i]
		}
		return i >= 0
	})
	for _, key := range []string{"what", "since", "for_s", "waiters", "reason", "remedy"} {
		if line[key] == nil {
			w.t.Errorf("the line has no %s: %v", key, line)
		}
	}
	return line
}

// goesOn waits until the end of a wait is said.
func (w *watched) goesOn(what string) map[string]any {
	w.t.Helper()
	eventually(w.t, "it is said that the wait for "+what+" is over", func() bool { return len(w.said("waited", what)) > 0 })
	return w.said("waited", what)[0]
}

// keepsWords fails the test where a line about waits has words of a library.
func (w *watched) keepsWords() {
	w.t.Helper()
	for _, line := range w.lines.All() {
		for _, inner := range []string{"outbound buffer", "nats:", "context ", "EOF", "no responders"} {
			fields := line.ContextMap()
			if event := fields["event"]; (event == "waiting" || event == "waited") && strings.Contains(fmt.Sprint(fields), inner) {
				w.t.Errorf("a line has %q: %v", inner, fields)
			}
		}
	}
}

func startServer(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	stop := sync.OnceFunc(func() { s.Shutdown(); s.WaitForShutdown() })
	t.Cleanup(stop)
	if !s.ReadyForConnections(patience) {
		t.Fatal("server is not ready")
	}
	return s
}

// JetStream is not enabled: Open waits and says what to do, and opens once the server is another.
func TestWaitsForJetStream(t *testing.T) {
	t.Parallel()
	opts := &server.Options{Host: "127.0.0.1", Port: queuetest.FreePort(t), NoSigs: true, NoLog: true, StoreDir: t.TempDir()}
	s := startServer(t, opts.Clone())
	w, opened := openWatched(t, queue.Config{URL: s.ClientURL()})
	line := w.waitsFor("JetStream", "JetStream is not enabled on this server", "-js")
	if line["waiters"] != int64(1) {
		t.Errorf("line %v", line)
	}
	if err := w.Awaited(); err == nil || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("awaited: %v", err)
	}
	eventually(t, "it is said again", func() bool { return len(w.said("waiting", "JetStream")) > 1 })
	s.Shutdown()
	s.WaitForShutdown()
	opts.JetStream = true
	startServer(t, opts.Clone())
	opens(t, opened)
	w.goesOn("JetStream")
	if err := w.Awaited(); err != nil {
		t.Errorf("awaited: %v", err)
	}
	w.keepsWords()
}

// Three replicas on a single server are no matter of waiting.
func TestReplicasOnSingleServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	_, err := queue.Open(within(t, patience), queue.Config{URL: s.ClientURL(), Replicas: 3})
	var bad *queue.ConfigError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "3 replicas need a cluster, and this is a single server; ask for one replica (--replicas)") {
		t.Errorf("open: %v", err)
	}
}

// Many wait for a server that is gone: one line says so, with their number, and one that it is over.
func TestWaitsForConnection(t *testing.T) {
	t.Parallel()
	const callers = 300
	m := newMachine(t)
	m.start()
	w, opened := openWatched(t, queue.Config{InProcess: m})
	opens(t, opened)
	publish(t, w.Queue, job(acme, queue.Bulk))
	m.stop()
	var publishing sync.WaitGroup
	for range callers {
		publishing.Go(func() {
			if _, err := w.Publish(within(t, patience), job(acme, queue.Bulk)); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	line := w.waitsFor("connection to NATS", "embedded server does not run", "by itself")
	if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no connection to NATS") || !strings.Contains(err.Error(), "embedded server") {
		t.Errorf("ready: %v", err)
	}
	eventually(t, "it is said again, for all", func() bool {
		all := w.said("waiting", "connection")
		line = all[len(all)-1]
		return len(all) > 1 && line["waiters"] == int64(callers)
	})
	_, err := w.Publish(within(t, soon), job(acme, queue.Bulk))
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "embedded server does not run") {
		t.Errorf("publish: %v", err)
	}
	m.start()
	publishing.Wait()
	w.goesOn("connection")
	eventually(t, "ready", func() bool { return w.Ready(t.Context()) == nil })
	if n := len(w.lines.FilterField(zap.String("event", "waiting")).All()); n > 10 {
		t.Errorf("%d lines", n)
	}
	w.keepsWords()
}

// Two servers of three are gone, so that nothing has a leader: whoever waits says so, neither role is ready, and both go on
// by themselves.
func TestWaitsForLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	door, opened := openWatched(t, queue.Config{URL: c.url(0), Role: "ingress"})
	opens(t, opened)
	worker, opened := openWatched(t, queue.Config{URL: c.url(0), Role: "worker"})
	opens(t, opened)
	pace := worker.Pace(acme, "text")
	if err := pace.Prepare(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	jobs := source(t, worker.Queue, acme, queue.Bulk, 1)
	publish(t, door.Queue, job(acme, queue.Bulk))
	held := next(t, jobs)
	if err := held.Begin(within(t, 2*patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { return door.Ready(t.Context()) == nil && worker.ReadyToWork(t.Context()) == nil })

	c.stop(1)
	c.stop(2)
	var running sync.WaitGroup
	const callers = 100
	for range callers {
		running.Go(func() {
			if _, err := door.Publish(within(t, 2*patience), job(acme, queue.Bulk)); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	running.Go(func() {
		if err := held.Done(within(t, 2*patience)); err != nil {
			t.Errorf("settle: %v", err)
		}
	})
	running.Go(func() {
		if _, err := pace.Reserve(within(t, 2*patience), 100, 1); err != nil {
			t.Errorf("reserve: %v", err)
		}
	})
	running.Go(func() {
		if _, err := worker.SetPageState(within(t, 2*patience), acme, queue.PageState{Class: "page"}); err != nil && !errors.Is(err, queue.ErrChanged) {
			t.Errorf("set state: %v", err)
		}
	})
	door.waitsFor("stream BRAZIER_JOBS", "leader", "")
	for _, what := range []string{"stream BRAZIER_JOBS", "bucket BRAZIER_PACE", "bucket BRAZIER_PAGES"} {
		worker.waitsFor(what, "", "")
	}
	eventually(t, "the door counts who waits", func() bool {
		all := door.said("waiting", "stream BRAZIER_JOBS")
		return all[len(all)-1]["waiters"].(int64) >= callers
	})
	eventually(t, "neither is ready", func() bool { return door.Ready(t.Context()) != nil && worker.ReadyToWork(t.Context()) != nil })
	t.Logf("door: %v", door.Ready(t.Context()))
	t.Logf("worker: %v", worker.ReadyToWork(t.Context()))

	c.start(1)
	c.start(2)
	running.Wait()
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("not ready: %v", last)
		}
	}()
	eventually(t, "both are ready", func() bool {
		err := errors.Join(door.Ready(t.Context()), worker.ReadyToWork(t.Context()))
		if err != nil {
			last = err
		}
		return err == nil
	})
	door.goesOn("stream BRAZIER_JOBS")
	for _, what := range []string{"stream BRAZIER_JOBS", "bucket BRAZIER_PACE", "bucket BRAZIER_PAGES"} {
		worker.goesOn(what)
	}
	for _, w := range []*watched{door, worker} {
		w.keepsWords()
		if n := len(w.said("waiting", "")); n > 200 {
			t.Errorf("%d lines", n)
		}
	}
}

// A worker that may not make consumers says so once for all of them, with the right that it lacks.
func TestWaitsForConsumers(t *testing.T) {
	t.Parallel()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	opts.Users = []*server.User{
		{Username: "operator", Password: "o"},
		{Username: "worker", Password: "w", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.CREATE.BRAZIER_JOBS.>"}}}},
	}
	s := startServer(t, opts)
	as := func(user string) string {
		return fmt.Sprintf("nats://%s@127.0.0.1:%d", user, s.Addr().(*net.TCPAddr).Port)
	}
	open(t, queue.Config{URL: as("operator:o")})
	w, opened := openWatched(t, queue.Config{URL: as("worker:w"), Role: "worker"})
	opens(t, opened)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, lane := range queue.Lanes() {
		jobs := source(t, w.Queue, acme, lane, 1)
		waiting.Go(func() {
			if _, err := jobs.Next(within(t, 2*patience)); !errors.Is(err, queue.ErrStopped) {
				t.Errorf("next: %v", err)
			}
		})
		defer jobs.Stop()
	}
	line := w.waitsFor("consumer of page "+acme, "may not", "deploy/nats-users.conf")
	if n := len(w.said("waiting", "consumer")); n > 3 {
		t.Errorf("%d lines", n)
	}
	t.Log(line)
	eventually(t, "the worker is not ready", func() bool { return w.ReadyToWork(t.Context()) != nil })
	if err := w.ReadyToWork(t.Context()); !strings.Contains(err.Error(), "consumer of page") || !strings.Contains(err.Error(), "nats-users.conf") {
		t.Errorf("ready: %v", err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("jobs are taken all the same: %v", err)
	}
	w.keepsWords()
}

// Publishes that nobody acknowledges make an ingress unready although the stream has its leader. When nobody tries any more it
// is ready again.
func TestWaitsForAcknowledgements(t *testing.T) {
	t.Parallel()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	opts.Users = []*server.User{{Username: "ingress", Password: "i",
		Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"brazier.jobs.>"}}}}}
	s := startServer(t, opts)
	w, opened := openWatched(t, queue.Config{URL: fmt.Sprintf("nats://ingress:i@127.0.0.1:%d", s.Addr().(*net.TCPAddr).Port), Role: "ingress"})
	opens(t, opened)
	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	for range 20 {
		publishing.Go(func() {
			if _, err := w.Publish(ctx, job(acme, queue.Bulk)); !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "this user may not do that") {
				t.Errorf("publish: %v", err)
			}
		})
	}
	w.waitsFor("stream BRAZIER_JOBS", "this user may not do that", "deploy/nats-users.conf")
	if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "stream BRAZIER_JOBS") {
		t.Errorf("ready: %v", err)
	}
	if n := w.lines.FilterField(zap.String("event", "nats_error")).Len(); n != 1 {
		t.Errorf("the refusal is logged %d times, want once", n)
	}
	stop()
	publishing.Wait()
	eventually(t, "ready", func() bool { return w.Ready(t.Context()) == nil })
	if end := w.goesOn("stream BRAZIER_JOBS"); end["given_up"] != true {
		t.Errorf("end %v", end)
	}
	w.keepsWords()
}

// A queue without room is not ready, and is again once there is some.
func TestReadyWithoutRoom(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	room := make(chan bool, 1)
	room <- true
	has := func() bool { r := <-room; room <- r; return r }
	w, opened := openWatched(t, queue.Config{InProcess: m, MaxBytes: 1 << 20, HasRoom: has})
	opens(t, opened)
	if err := w.Ready(t.Context()); err != nil {
		t.Fatalf("ready: %v", err)
	}
	<-room
	room <- false
	if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "free disk") {
		t.Errorf("ready on a full disk: %v", err)
	}
	<-room
	room <- true
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := w.Pace(acme, "text").Prepare(within(t, patience)); err != nil { // as every worker does
		t.Fatal(err)
	}
	w.SetShares(map[string]float64{acme: 1})
	var err error
	for err == nil {
		large := job(acme, queue.Bulk)
		large.Body = []byte(strings.Repeat("x", 10_000))
		_, err = w.Publish(within(t, 2*patience), large)
	}
	if !errors.Is(err, queue.ErrFull) {
		t.Fatalf("publish: %v", err)
	}
	eventually(t, "the full queue is not ready", func() bool {
		_, _ = w.Publish(within(t, 2*patience), job(acme, queue.Bulk))
		err := w.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "full")
	})
	if err := w.ReadyToWork(t.Context()); err != nil {
		t.Errorf("a full queue can be worked on: %v", err)
	}
	jobs := source(t, w.Queue, acme, queue.Bulk, 1)
	for range 20 {
		done(t, next(t, jobs))
	}
	eventually(t, "ready", func() bool { return w.Ready(t.Context()) == nil })
	w.keepsWords()
}

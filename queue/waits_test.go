package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	case <-time.After(testTimeout):
		t.Fatal("does not open")
	}
}

// logged returns the lines of an event about a dependency.
func (w *watched) logged(event, what string) (found []map[string]any) {
	for _, line := range w.lines.FilterField(zap.String("event", event)).All() {
		if fields := line.ContextMap(); strings.Contains(fields["what"].(string), what) {
			found = append(found, fields)
		}
	}
	return found
}

// waitsFor returns the first line about a wait for a dependency, which must name a reason and a remedy.
func (w *watched) waitsFor(what, reason, remedy string) map[string]any {
	w.t.Helper()
	var line map[string]any
	eventually(w.t, "a wait for "+what+" is logged: "+reason+"; "+fmt.Sprint(w.lines.FilterField(zap.String("event", "waiting")).All()), func() bool {
		i := slices.IndexFunc(w.logged("waiting", what), func(l map[string]any) bool {
			return strings.Contains(l["reason"].(string), reason) && strings.Contains(l["remedy"].(string), remedy)
		})
		if i >= 0 {
			line = w.logged("waiting", what)[i]
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

// goesOn waits until the end of a wait is logged.
func (w *watched) goesOn(what string) map[string]any {
	w.t.Helper()
	eventually(w.t, "the end of the wait for "+what+" is logged", func() bool { return len(w.logged("waited", what)) > 0 })
	return w.logged("waited", what)[0]
}

// hidesLibraryTexts fails the test where a line about waits has a text of a library.
func (w *watched) hidesLibraryTexts() {
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
	if !s.ReadyForConnections(testTimeout) {
		t.Fatal("server is not ready")
	}
	return s
}

// JetStream is not enabled: Open waits, logs what to do, and opens once another server runs.
func TestWaitsForJetStream(t *testing.T) {
	t.Parallel()
	opts := &server.Options{Host: "127.0.0.1", Port: queuetest.FreePort(t), NoSigs: true, NoLog: true, StoreDir: t.TempDir()}
	s := startServer(t, opts.Clone())
	w, opened := openWatched(t, queue.Config{URL: s.ClientURL()})
	line := w.waitsFor("JetStream", "JetStream is not enabled on this server", "-js")
	if line["waiters"] != int64(1) {
		t.Errorf("line %v", line)
	}
	if err := w.WaitingFor(); err == nil || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("waiting for: %v", err)
	}
	eventually(t, "it is logged again", func() bool { return len(w.logged("waiting", "JetStream")) > 1 })
	s.Shutdown()
	s.WaitForShutdown()
	opts.JetStream = true
	startServer(t, opts.Clone())
	opens(t, opened)
	w.goesOn("JetStream")
	if err := w.WaitingFor(); err != nil {
		t.Errorf("waiting for: %v", err)
	}
	w.hidesLibraryTexts()
}

// Three replicas on a single server are refused at once: waiting does not help.
func TestReplicasOnSingleServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	_, err := queue.Open(within(t, testTimeout), queue.Config{URL: s.ClientURL(), Replicas: 3})
	var bad *queue.StreamError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "3 replicas need a cluster, and this is a single server; ask for one replica (--replicas)") {
		t.Errorf("open: %v", err)
	}
}

// Many callers wait for a server that is gone: one line tells so, with their number, and one line tells that it is over.
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
			if _, err := w.Publish(within(t, testTimeout), job(acme, queue.Bulk)); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	line := w.waitsFor("connection to NATS", "embedded server is not running", "by itself")
	if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no connection to NATS") || !strings.Contains(err.Error(), "embedded server") {
		t.Errorf("ready: %v", err)
	}
	eventually(t, "it is logged again, for all", func() bool {
		all := w.logged("waiting", "connection")
		line = all[len(all)-1]
		return len(all) > 1 && line["waiters"] == int64(callers)
	})
	_, err := w.Publish(within(t, soon), job(acme, queue.Bulk))
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "embedded server is not running") {
		t.Errorf("publish: %v", err)
	}
	m.start()
	publishing.Wait()
	w.goesOn("connection")
	eventually(t, "ready", func() bool { return w.Ready(t.Context()) == nil })
	if n := len(w.lines.FilterField(zap.String("event", "waiting")).All()); n > 10 {
		t.Errorf("%d lines", n)
	}
	w.hidesLibraryTexts()
}

// Two servers of three are gone, so that nothing has a leader: all waits are logged, neither role is ready, and both go on
// by themselves.
func TestWaitsForLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ingress, opened := openWatched(t, queue.Config{URL: c.url(0), Role: "ingress"})
	opens(t, opened)
	worker, opened := openWatched(t, queue.Config{URL: c.url(0), Role: "worker"})
	opens(t, opened)
	pace := worker.Pace(acme, "text")
	if err := pace.Prepare(within(t, testTimeout)); err != nil {
		t.Fatal(err)
	}
	jobs := source(t, worker.Queue, acme, queue.Bulk, 1)
	publish(t, ingress.Queue, job(acme, queue.Bulk))
	held := next(t, jobs)
	if err := held.Begin(within(t, 2*testTimeout)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { return ingress.Ready(t.Context()) == nil && worker.ReadyToWork(t.Context()) == nil })

	c.stop(1)
	c.stop(2)
	var running sync.WaitGroup
	const callers = 100
	for range callers {
		running.Go(func() {
			if _, err := ingress.Publish(within(t, 2*testTimeout), job(acme, queue.Bulk)); err != nil {
				t.Errorf("publish: %v", err)
			}
		})
	}
	running.Go(func() {
		if err := held.Done(within(t, 2*testTimeout)); err != nil {
			t.Errorf("settle: %v", err)
		}
	})
	running.Go(func() {
		if _, err := pace.Reserve(within(t, 2*testTimeout), 100, 1); err != nil {
			t.Errorf("reserve: %v", err)
		}
	})
	running.Go(func() {
		if _, err := worker.SetPageState(within(t, 2*testTimeout), acme, queue.PageState{Class: "page"}); err != nil && !errors.Is(err, queue.ErrChanged) {
			t.Errorf("set state: %v", err)
		}
	})
	ingress.waitsFor("stream BRAZIER_JOBS", "leader", "")
	for _, what := range []string{"stream BRAZIER_JOBS", "bucket BRAZIER_PACE", "bucket BRAZIER_PAGES"} {
		worker.waitsFor(what, "", "")
	}
	eventually(t, "the ingress counts its waiters", func() bool {
		all := ingress.logged("waiting", "stream BRAZIER_JOBS")
		return all[len(all)-1]["waiters"].(int64) >= callers
	})
	eventually(t, "neither is ready", func() bool { return ingress.Ready(t.Context()) != nil && worker.ReadyToWork(t.Context()) != nil })
	t.Logf("ingress: %v", ingress.Ready(t.Context()))
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
		err := errors.Join(ingress.Ready(t.Context()), worker.ReadyToWork(t.Context()))
		if err != nil {
			last = err
		}
		return err == nil
	})
	ingress.goesOn("stream BRAZIER_JOBS")
	for _, what := range []string{"stream BRAZIER_JOBS", "bucket BRAZIER_PACE", "bucket BRAZIER_PAGES"} {
		worker.goesOn(what)
	}
	for _, w := range []*watched{ingress, worker} {
		w.hidesLibraryTexts()
		if n := len(w.logged("waiting", "")); n > 200 {
			t.Errorf("%d lines", n)
		}
	}
}

// A worker that may not make consumers logs that once for all of them, with the right that it lacks.
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
			if _, err := jobs.Next(within(t, 2*testTimeout)); !errors.Is(err, queue.ErrStopped) {
				t.Errorf("next: %v", err)
			}
		})
		defer jobs.Stop()
	}
	line := w.waitsFor("consumer of page "+acme, "may not", "deploy/nats-users.conf")
	if n := len(w.logged("waiting", "consumer")); n > 3 {
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
	w.hidesLibraryTexts()
}

// Publishes that are not acknowledged make an ingress unready although the stream has its leader. Once none is tried
// any more it is ready again.
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
	var refused atomic.Int64
	for range 20 {
		publishing.Go(func() {
			_, err := w.Publish(ctx, job(acme, queue.Bulk))
			if !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("publish: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "this user may not do that") {
				refused.Add(1)
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
	if refused.Load() == 0 { // others may have had no answer yet
		t.Error("no caller learns that the user may not do that")
	}
	eventually(t, "ready", func() bool { return w.Ready(t.Context()) == nil })
	if end := w.goesOn("stream BRAZIER_JOBS"); end["given_up"] != true {
		t.Errorf("end %v", end)
	}
	w.hidesLibraryTexts()
}

// A queue without space is not ready, and is ready again once there is some.
func TestReadyWithoutSpace(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	space := make(chan bool, 1)
	space <- true
	has := func() bool { r := <-space; space <- r; return r }
	w, opened := openWatched(t, queue.Config{InProcess: m, MaxBytes: 1 << 20, HasSpace: has})
	opens(t, opened)
	if err := w.Ready(t.Context()); err != nil {
		t.Fatalf("ready: %v", err)
	}
	<-space
	space <- false
	if err := w.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "free disk") {
		t.Errorf("ready on a full disk: %v", err)
	}
	<-space
	space <- true
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := w.Pace(acme, "text").Prepare(within(t, testTimeout)); err != nil { // as every worker does
		t.Fatal(err)
	}
	w.SetShares(map[string]float64{acme: 1})
	var err error
	for err == nil {
		large := job(acme, queue.Bulk)
		large.Body = []byte(strings.Repeat("x", 10_000))
		_, err = w.Publish(within(t, 2*testTimeout), large)
	}
	if !errors.Is(err, queue.ErrFull) {
		t.Fatalf("publish: %v", err)
	}
	eventually(t, "the full queue is not ready", func() bool {
		_, _ = w.Publish(within(t, 2*testTimeout), job(acme, queue.Bulk))
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
	w.hidesLibraryTexts()
}

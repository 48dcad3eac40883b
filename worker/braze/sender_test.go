package braze_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/braze/sandbox"
)

const (
	workspace = "eu"
	thePage   = "1029384756"
	theTime   = 30 * time.Second // more than anything takes here
)

// fixture is a queue with updates, and a simulated Braze.
type fixture struct {
	t    testing.TB
	srv  *embedded.Server
	q    *queue.Queue
	fake *sandbox.Sandbox
	url  string
	key  atomic.Pointer[string]
	logs *observer.ObservedLogs
	log  *zap.Logger
}

// update is what an update of these tests is stored as.
type update struct {
	Users []string
	Value string
	Fails int // how often it cannot be resolved
	Bad   bool
	Event bool // it is an event of each user
}

func newFixture(t testing.TB, c sandbox.Config) *fixture {
	t.Helper()
	fake, err := sandbox.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake.API())
	t.Cleanup(server.Close)
	t.Cleanup(fake.Close)
	r := &fixture{t: t, srv: queuetest.Server(t, ""), fake: fake, url: server.URL}
	r.q = r.open()
	key := theKey
	r.key.Store(&key)
	core, logs := observer.New(zapcore.InfoLevel)
	r.logs, r.log = logs, zap.New(core)
	return r
}

func (r *fixture) open() *queue.Queue {
	r.t.Helper()
	q, err := queue.Open(r.t.Context(), queue.Config{InProcess: r.srv, RoadBack: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(q.Close)
	return q
}

// start runs a sender on a queue until the returned function is called.
func (r *fixture) start(q *queue.Queue) (stop func()) {
	r.t.Helper()
	c, err := braze.New(braze.Config{URL: r.url, Key: func() (string, error) { return *r.key.Load(), nil }, Timeout: 2 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := braze.NewSender(braze.SenderConfig{Queue: q, Workspaces: []braze.Workspace{{Name: workspace, Client: c}}, Resolve: resolve,
		Linger: 20 * time.Millisecond, Log: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	s.RenewEvery(200 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); running.Wait(); c.Close() }) }
	r.t.Cleanup(stop)
	return stop
}

func resolve(_ context.Context, job *queue.Delivery) ([]braze.Object, error) {
	var u update
	if err := json.Unmarshal(job.Body, &u); err != nil || u.Bad {
		return nil, braze.ErrUnreadable
	}
	if job.Attempts < u.Fails {
		return nil, errors.New("not yet")
	}
	var objects []braze.Object
	for _, id := range u.Users {
		if u.Event {
			objects = append(objects, event(id))
			continue
		}
		objects = append(objects, braze.Object{User: user(id), Attributes: map[string]any{"messenger_id": u.Value}})
	}
	return objects, nil
}

func (r *fixture) publish(updates ...update) {
	r.t.Helper()
	var publishing sync.WaitGroup
	for _, u := range updates {
		publishing.Go(func() {
			body, _ := json.Marshal(u)
			if _, err := r.q.Publish(r.t.Context(), &queue.Job{ID: queue.NewID(), Page: thePage, Lane: queue.Updates(workspace), Body: body}); err != nil {
				r.t.Error(err)
			}
		})
	}
	publishing.Wait()
}

func (r *fixture) profile(id string) {
	r.t.Helper()
	if _, err := r.fake.Create(sandbox.Profile{ExternalID: id}); err != nil {
		r.t.Fatal(err)
	}
}

// emptied waits until no update is stored.
func (r *fixture) emptied() {
	r.t.Helper()
	r.eventually("all updates are settled", func() bool {
		_, updates, err := r.q.RoadBackBacklog(r.t.Context())
		return err == nil && updates.Pending == 0
	})
}

func (r *fixture) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * theTime); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not in time: %s", what)
		}
	}
}

func (r *fixture) lines(event string) (found []map[string]any) {
	for _, line := range r.logs.All() {
		if fields := line.ContextMap(); fields["event"] == event {
			found = append(found, fields)
		}
	}
	return found
}

// Many updates of few users reach Braze, in batches, and no two calls that are under way hold the same user.
func TestSend(t *testing.T) {
	r := newFixture(t, sandbox.Config{Keys: []string{theKey}, Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
	const users, n = 20, 400
	for i := range users {
		r.profile(fmt.Sprint("user-", i))
	}
	var updates []update
	for i := range n {
		updates = append(updates, update{Users: []string{fmt.Sprint("user-", i%users), fmt.Sprint("user-", (i+1)%users)}, Value: "7"})
	}
	r.publish(updates...)
	r.start(r.q)
	r.emptied()
	got := r.fake.Summary()
	if got.Overlaps > 0 || got.Attributes != 2*n || got.Created > 0 {
		t.Errorf("got %+v", got)
	}
	if got.Calls > n/2 {
		t.Errorf("%d objects went in %d calls", 2*n, got.Calls)
	}
}

// What Braze refuses by name is a dead letter, and its neighbours are written. What nobody can read is one too.
func TestSendRefused(t *testing.T) {
	r := newFixture(t, sandbox.Config{Blocked: []string{"bad"}})
	r.profile("good")
	r.publish(update{Users: []string{"good"}, Value: "7"}, update{Users: []string{"bad"}, Value: "8"}, update{Bad: true}, update{Users: []string{"good"}, Value: "7", Fails: 2})
	r.start(r.q)
	r.emptied()
	if p, err := r.fake.Profile("good"); err != nil || p.Attributes["messenger_id"] != "7" {
		t.Errorf("profile %+v, %v", p, err)
	}
	n := 0
	for l, err := range r.q.DeadLetters(t.Context(), queue.DeadLetterFilter{Page: thePage}, false) {
		if err != nil || l.Class != braze.ClassUpdate || strings.Contains(l.Text, "bad") {
			t.Errorf("%+v, %v", l, err)
		}
		n++
	}
	if lines := r.lines("update_dead"); n != 2 || len(lines) != 2 {
		t.Errorf("%d dead letters, lines %v", n, lines)
	}
}

// A key that is refused holds the workspace with one line, until the file has another.
func TestSendDenied(t *testing.T) {
	r := newFixture(t, sandbox.Config{Keys: []string{"another-key-0123456789"}})
	r.profile("ada")
	r.publish(update{Users: []string{"ada"}, Value: "7"})
	r.start(r.q)
	r.eventually("the workspace is held", func() bool { return len(r.lines("braze_held")) == 1 })
	key := "another-key-0123456789"
	r.key.Store(&key)
	r.emptied()
	if lines := r.lines("braze_resumed"); len(lines) != 1 || len(r.lines("braze_held")) != 1 {
		t.Errorf("held %v, resumed %v", r.lines("braze_held"), lines)
	}
	for _, line := range r.logs.All() {
		if s := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(s, theKey) || strings.Contains(s, key) || strings.Contains(s, "ada") {
			t.Errorf("a line has a secret: %s", s)
		}
	}
}

// While Braze fails nothing is lost, and the log has one line.
func TestSendOutage(t *testing.T) {
	for name, fault := range map[string]sandbox.Fault{
		"5xx":     {Status: http.StatusBadGateway, Times: 3},
		"429":     {Status: http.StatusTooManyRequests, Times: 2, Header: http.Header{"Retry-After": {"1"}}},
		"resets":  {Action: sandbox.Reset, Times: 3},
		"nothing": {Action: sandbox.Hang, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, sandbox.Config{})
			var updates []update
			for i := range 100 {
				id := fmt.Sprint("user-", i)
				r.profile(id)
				updates = append(updates, update{Users: []string{id}, Value: "7"})
			}
			r.fake.Script(fault)
			r.publish(updates...)
			r.start(r.q)
			r.emptied()
			for _, p := range r.fake.Profiles() {
				if p.Attributes["messenger_id"] != "7" {
					t.Errorf("profile %+v", p)
				}
			}
			if n := len(r.lines("braze_held")); n > 1 {
				t.Errorf("%d lines tell that Braze is away", n)
			}
		})
	}
}

// Of two processes one sends. When it ends, the other goes on, and what was not settled is sent again.
func TestSendTakesOver(t *testing.T) {
	r := newFixture(t, sandbox.Config{Latency: 10 * time.Millisecond})
	r.profile("ada")
	first, second := r.open(), r.open()
	stopFirst := r.start(first)
	r.publish(update{Users: []string{"ada"}, Value: "1"})
	r.emptied()
	r.start(second)
	r.publish(update{Users: []string{"ada"}, Value: "2"})
	r.emptied()
	stopFirst()
	r.publish(update{Users: []string{"ada"}, Value: "3"})
	r.emptied()
	if p, _ := r.fake.Profile("ada"); p.Attributes["messenger_id"] != "3" || r.fake.Summary().Overlaps > 0 {
		t.Errorf("profile %+v, %+v", p, r.fake.Summary())
	}
}

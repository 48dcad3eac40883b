package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, queuetest.Strays()...) }

const (
	acme      = "1029384756"
	workspace = "eu"
	ada       = "6650f1a2b3c4d5e6f7a8b9c0"
	bob       = "6650f1a2b3c4d5e6f7a8b9c1"
	externalB = "kunde-4711"
)

var (
	secret = []byte("ref-secret-of-this-test")
	start  = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
)

type fixture struct {
	t       testing.TB
	q       *queue.Queue
	handler *capture.Handler
	logs    *observer.ObservedLogs
	stored  int

	events, outcomes, updates *queue.Source
}

func newFixture(t testing.TB, change ...func(*capture.Page)) *fixture {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Config{InProcess: queuetest.Server(t, ""), Embedded: true, RoadBack: true, UpdatesMaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	page := capture.Page{ID: acme, Name: "acme", Workspace: workspace,
		References: func() (webhook.RefPolicy, error) { return webhook.RefPolicy{Secrets: [][]byte{secret}}, nil }}
	for _, c := range change {
		c(&page)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	h, err := capture.New(capture.Config{Queue: q, Pages: []capture.Page{page}, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, q: q, handler: h, logs: logs, events: q.Source(acme, queue.Events, 1), outcomes: q.Source(acme, queue.Outcomes, 1), updates: q.Source(queue.AllPages, queue.Updates(workspace), 1)}
	t.Cleanup(f.events.Stop)
	t.Cleanup(f.outcomes.Stop)
	t.Cleanup(f.updates.Stop)
	return f
}

// within is a context for what must not take long.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// contact is an event of a person, who uses a reference for a user if one is given.
func contact(psid string, at time.Time, refs ...string) webhook.Event {
	e := webhook.Event{Kind: webhook.KindMessage, Page: acme, PSID: psid, At: at, Opens: true}
	for _, ref := range refs {
		e.Refs = append(e.Refs, webhook.FoundRef{Ref: ref, From: webhook.FromReferral})
	}
	return e
}

func reference(t testing.TB, user string, made time.Time) string {
	t.Helper()
	form := webhook.FormBrazeID
	if len(user) != len(ada) {
		form = webhook.FormPlain
	}
	ref, err := webhook.NewRef(secret, form, user, made)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// store publishes an event and returns its delivery.
func (f *fixture) store(e webhook.Event) *queue.Delivery {
	f.t.Helper()
	f.stored++
	e.Key = fmt.Sprintf("event %d", f.stored)
	f.publish(e)
	d, err := f.events.Next(within(f.t, 30*time.Second))
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func encodeEvent(e webhook.Event) ([]byte, error) { return json.Marshal(e) }

func (f *fixture) publish(e webhook.Event) {
	f.t.Helper()
	body, err := encodeEvent(e)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.q.Publish(within(f.t, 30*time.Second), &queue.Job{ID: queue.KeyedID(acme, e.Key), Page: acme, Lane: queue.Events, Key: e.Key, Body: body}); err != nil {
		f.t.Fatal(err)
	}
}

// capture takes events to their end.
func (f *fixture) capture(events ...webhook.Event) {
	f.t.Helper()
	for _, e := range events {
		d := f.store(e)
		if v := f.handler.Handle(within(f.t, 30*time.Second), d); v.Outcome != "delivered" {
			f.t.Fatalf("%+v: %+v", e, v)
		}
		if err := d.Done(within(f.t, 30*time.Second)); err != nil {
			f.t.Fatal(err)
		}
	}
}

// profiles is what Braze would have: attributes by user.
type profiles map[string]map[string]any

// send writes the updates that are stored, and returns how many there were.
func (f *fixture) send(to profiles) (n int) {
	f.t.Helper()
	for ctx := within(f.t, 60*time.Second); ; n++ {
		_, updates, err := f.q.RoadBackBacklog(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if updates.Pending == 0 {
			return n
		}
		d, err := f.updates.Next(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		changes, err := f.handler.Resolve(ctx, d)
		if errors.Is(err, capture.ErrNotYet) { // another event came between, and captured again this one changes nothing
			n--
		} else if err != nil {
			f.t.Fatal(err)
		}
		for _, c := range changes {
			to.write(c)
		}
		if err := d.Done(ctx); err != nil {
			f.t.Fatal(err)
		}
		eventually(f.t, "the update is gone", func() bool {
			_, now, err := f.q.RoadBackBacklog(ctx)
			return err == nil && now.Pending < updates.Pending
		})
	}
}

func (p profiles) write(c capture.Change) {
	id := c.User.BrazeID + c.User.ExternalID
	if c.User.Alias != "" {
		id = "alias " + c.User.Alias
	}
	if p[id] == nil {
		p[id] = map[string]any{}
	}
	if e := c.Event; e != nil {
		all, _ := p[id]["events"].([]capture.Event)
		p[id]["events"] = append(all, *e)
	}
	for name, value := range c.Attributes {
		if value == nil {
			delete(p[id], name)
			continue
		}
		p[id][name] = value
	}
}

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// fillUpdates stores updates until there is no room for more.
func (f *fixture) fillUpdates() {
	f.t.Helper()
	for size := 64 << 10; size > 0; {
		id := queue.NewID()
		_, err := f.q.Publish(within(f.t, 30*time.Second), &queue.Job{ID: id, Page: "77", Lane: queue.Updates(workspace), Key: id, Body: make([]byte, size)})
		switch {
		case errors.Is(err, queue.ErrFull):
			size /= 2
		case err != nil:
			f.t.Fatal(err)
		}
	}
}

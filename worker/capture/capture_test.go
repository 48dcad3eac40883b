package capture_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/capture"
)

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// linkedTo are the attributes of a user whose person was last seen at a time.
func linkedTo(psid string, seen time.Time) map[string]any {
	return map[string]any{"messenger_id": psid, "messenger_window_until": seen.Add(24 * time.Hour)}
}

// A person follows a link, writes, and writes again.
func TestCapture(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	f.capture(contact("7001", start)) // nobody knows yet who that is
	equal(t, "updates", f.send(braze), 0)
	ref := reference(t, ada, start.Add(-time.Hour))
	f.capture(contact("7001", start, ref))
	equal(t, "updates", f.send(braze), 1)
	equal(t, "profiles", braze, profiles{ada: linkedTo("7001", start)})

	f.capture(contact("7001", start.Add(time.Minute), ref), contact("7001", start.Add(2*time.Minute)))
	equal(t, "updates of what is known", f.send(braze), 0)
	f.capture(contact("7001", start.Add(time.Hour)))
	equal(t, "updates of a contact", f.send(braze), 1)
	equal(t, "profiles", braze, profiles{ada: linkedTo("7001", start.Add(time.Hour))})
	f.keepsSecrets("7001", ref)
}

// keepsSecrets checks that no line has a whole PSID, a reference or an external id.
func (f *fixture) keepsSecrets(secrets ...string) {
	f.t.Helper()
	for _, line := range f.logs.All() {
		written := fmt.Sprint(line.Message, line.ContextMap())
		for _, s := range secrets {
			if len(s) > 4 && strings.Contains(written, s) {
				f.t.Errorf("a line has %q: %s", s, written)
			}
		}
	}
}

// The PSID goes where the newest reference says, and is taken from whom it was before.
func TestMoves(t *testing.T) {
	t.Parallel()
	first, second := start.Add(-2*time.Hour), start.Add(-time.Hour)
	later := start.Add(time.Minute)
	for name, tt := range map[string]struct {
		events func(t *testing.T) []webhook.Event
		want   profiles
	}{
		"another user": {
			func(t *testing.T) []webhook.Event {
				return []webhook.Event{contact("7001", start, reference(t, ada, first)), contact("7001", later, reference(t, bob, second))}
			},
			profiles{ada: {"messenger_window_until": start.Add(24 * time.Hour)}, bob: linkedTo("7001", later)},
		},
		"another person": {
			func(t *testing.T) []webhook.Event {
				return []webhook.Event{contact("7001", start, reference(t, ada, first)), contact("7002", later, reference(t, ada, second))}
			},
			profiles{ada: linkedTo("7002", later)},
		},
		"a forwarded mail": {
			func(t *testing.T) []webhook.Event {
				return []webhook.Event{contact("7001", start, reference(t, ada, first)), contact("7002", later, reference(t, ada, first))}
			},
			profiles{ada: linkedTo("7001", start)},
		},
		"by an external id": {
			func(t *testing.T) []webhook.Event {
				return []webhook.Event{contact("7001", start, reference(t, externalB, first))}
			},
			profiles{externalB: linkedTo("7001", start)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, braze := newFixture(t), profiles{}
			events := tt.events(t)
			f.capture(events...)
			f.capture(events...) // Facebook's repetitions, under other keys
			f.send(braze)
			equal(t, "profiles", braze, tt.want)
			f.keepsSecrets(externalB)
		})
	}
}

// References that are not good are refused with their reason, and touch nobody.
func TestRefused(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	good := reference(t, ada, start.Add(-time.Hour))
	endless, err := webhook.NewRef(secret, webhook.FormBrazeID, ada, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{
		good[:len(good)-1] + "x":                        "malformed",
		good[:len(good)-64] + strings.Repeat("0", 64):   "forged",
		reference(t, ada, start.Add(-100*24*time.Hour)): "expired",
		reference(t, ada, start.Add(time.Hour)):         "future",
		endless:                                         "endless",
	}
	for ref := range refused {
		f.capture(contact("7001", start, ref))
	}
	f.capture(contact("7001", start, "SUMMER-SALE"))
	equal(t, "updates", f.send(braze), 0)
	got := map[string]int{}
	for _, line := range f.logs.FilterMessageSnippet("reference refused").All() {
		got[line.ContextMap()["cause"].(string)]++
	}
	want := map[string]int{}
	for _, cause := range refused {
		want[cause]++
	}
	equal(t, "causes", got, want)
}

// A page's secrets are its own, and its settings are obeyed.
func TestSettings(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, func(p *capture.Page) {
		p.Reusable = true
		p.Attributes = capture.Attributes{MessengerID: "fb_id", Window: "fb_until", Reachable: "fb_ok"}
	}), profiles{}
	ref := reference(t, ada, start.Add(-time.Hour))
	f.capture(contact("7001", start, ref), contact("7002", start.Add(time.Minute), ref))
	f.send(braze)
	equal(t, "profiles", braze, profiles{ada: {"fb_id": "7002", "fb_until": start.Add(24*time.Hour + time.Minute)}})
}

// Where the page wants aliases, somebody unknown has a profile of their own, until a reference links them.
func TestAliases(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, func(p *capture.Page) { p.Aliases = true }), profiles{}
	f.capture(contact("7001", start), contact("7001", start.Add(time.Hour)))
	f.send(braze)
	equal(t, "profiles", braze, profiles{"alias 7001": linkedTo("7001", start.Add(time.Hour))})
	later := start.Add(2 * time.Hour)
	f.capture(contact("7001", later, reference(t, ada, start.Add(-time.Hour))))
	f.send(braze)
	equal(t, "profiles", braze, profiles{"alias 7001": {"messenger_window_until": start.Add(25 * time.Hour)}, ada: linkedTo("7001", later)})
	f.capture(contact("7001", start.Add(3*time.Hour)))
	f.send(braze)
	equal(t, "profiles", braze[ada], linkedTo("7001", start.Add(3*time.Hour)))
}

// An event of a page that another worker knows waits, and so does one whose secrets cannot be read. What cannot be read itself is a
// dead letter.
func TestLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(p *capture.Page) {
		p.References = func() (webhook.RefPolicy, error) { return webhook.RefPolicy{}, errors.New("no such file") }
	})
	if v := f.handler.Handle(t.Context(), f.store(contact("7001", start))); v.Outcome != worker.Retry || v.Delays.First == 0 {
		t.Errorf("without secrets: %+v", v)
	}
	e := contact("7001", start)
	e.Page = "77"
	body, _ := json.Marshal(e)
	if v := f.handler.Handle(t.Context(), &queue.Delivery{Job: queue.Job{Page: "77", Body: body}}); v.Outcome != worker.Retry {
		t.Errorf("of another page: %+v", v)
	}
	old := &queue.Delivery{Job: queue.Job{Page: "77", Body: body, Accepted: time.Now().Add(-8 * 24 * time.Hour)}}
	if v := f.handler.Handle(t.Context(), old); v.Outcome != worker.Dead {
		t.Errorf("of a page that nobody has: %+v", v)
	}
	if v := f.handler.Handle(t.Context(), &queue.Delivery{Job: queue.Job{Page: acme, Body: []byte("[]")}}); v.Outcome != worker.Dead {
		t.Errorf("what cannot be read: %+v", v)
	}
}

// A worker that is killed between the update and the entries loses nothing: the update waits until the event is captured again.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d := f.store(contact("7001", start, reference(t, ada, start.Add(-time.Hour))))
	capture.KillBefore(f.handler, 0)
	if v := f.handler.Handle(within(t, 30*time.Second), d); v.Outcome != worker.Retry {
		t.Fatalf("got %+v", v)
	}
	u, err := f.updates.Next(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.handler.Resolve(t.Context(), u); !errors.Is(err, capture.ErrNotYet) {
		t.Errorf("before the event is captured again: %v", err)
	}
	capture.KillBefore(f.handler, -1)
	if v := f.handler.Handle(within(t, 30*time.Second), d); v.Outcome != worker.Delivered {
		t.Fatalf("got %+v", v)
	}
	changes, err := f.handler.Resolve(t.Context(), u)
	if err != nil || len(changes) != 1 {
		t.Fatalf("got %+v, %v", changes, err)
	}
	equal(t, "attributes", changes[0].Attributes, linkedTo("7001", start))
	if err := u.Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no other update is stored", func() bool {
		_, updates, err := f.q.RoadBackBacklog(t.Context())
		return err == nil && updates.Pending == 0
	})
}

// Wherever a worker is killed while a person moves from one user to another, the event that is captured again ends the move.
func TestKilledWhileMoving(t *testing.T) {
	t.Parallel()
	for n := range 3 { // the user before, the user now, the person
		t.Run(fmt.Sprint("before entry ", n), func(t *testing.T) {
			t.Parallel()
			f, braze := newFixture(t), profiles{}
			f.capture(contact("7001", start, reference(t, ada, start.Add(-2*time.Hour))))
			f.send(braze)
			later := start.Add(time.Minute)
			d := f.store(contact("7001", later, reference(t, bob, start.Add(-time.Hour))))
			capture.KillBefore(f.handler, n)
			if v := f.handler.Handle(within(t, 30*time.Second), d); v.Outcome != worker.Retry {
				t.Fatalf("got %+v", v)
			}
			capture.KillBefore(f.handler, -1)
			if v := f.handler.Handle(within(t, 30*time.Second), d); v.Outcome != worker.Delivered {
				t.Fatalf("got %+v", v)
			}
			f.send(braze)
			equal(t, "profiles", braze, profiles{ada: {"messenger_window_until": start.Add(24 * time.Hour)}, bob: linkedTo("7001", later)})
		})
	}
}

// Many events of one person at the same time end as they would one after the other.
func TestContended(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	const n = 40
	deliveries := make([]*queue.Delivery, n)
	for i := range n {
		at := start.Add(time.Duration(i) * time.Hour)
		deliveries[i] = f.store(contact("7001", at, reference(t, []string{ada, bob}[i%2], at.Add(-time.Minute))))
	}
	var handling sync.WaitGroup
	for _, d := range deliveries {
		handling.Go(func() {
			if v := f.handler.Handle(within(t, 60*time.Second), d); v.Outcome != worker.Delivered {
				t.Errorf("got %+v", v)
			}
		})
	}
	handling.Wait()
	f.send(braze)
	last := start.Add((n - 1) * time.Hour)
	equal(t, "the newest reference's user", braze[bob], linkedTo("7001", last))
	if id, ok := braze[ada]["messenger_id"]; ok {
		t.Errorf("the other user has %v", id)
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.capture(webhook.Event{Kind: webhook.KindPolicy, Page: acme, At: start, Action: "block", Reason: "Too many complaints"})
	lines := f.logs.FilterMessageSnippet("policy").All()
	if len(lines) != 1 || lines[0].ContextMap()["action"] != "block" || lines[0].ContextMap()["page"] != "acme" {
		t.Errorf("lines: %+v", lines)
	}
	if n := testutil.CollectAndCount(f.handler, "brazier_capture_events_total"); n != 1 {
		t.Errorf("%d series", n)
	}
}

// What is forgotten is gone here and in Braze, and the person may come back.
func TestForget(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	ref := reference(t, ada, start.Add(-time.Hour))
	f.capture(contact("7001", start, ref))
	f.send(braze)
	byPSID, ok, err := capture.FindPSID(t.Context(), f.q, acme, "7001")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	byUser, ok, err := capture.FindUser(t.Context(), f.q, acme, capture.User{BrazeID: ada})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	equal(t, "by user", byUser, byPSID)
	equal(t, "person", byPSID, capture.Person{PSID: "7001", User: capture.User{BrazeID: ada}, Linked: true, Made: start.Add(-time.Hour), Window: start.Add(24 * time.Hour)})
	if err := capture.Forget(t.Context(), f.q, &capture.Page{ID: acme, Workspace: workspace}, byPSID); err != nil {
		t.Fatal(err)
	}
	f.send(braze)
	equal(t, "profiles", braze, profiles{ada: {}})
	if _, ok, err := capture.FindPSID(t.Context(), f.q, acme, "7001"); ok || err != nil {
		t.Errorf("still known: %v, %v", ok, err)
	}
	f.capture(contact("7001", start.Add(time.Hour)))
	equal(t, "updates of somebody unknown", f.send(braze), 0)
	f.capture(contact("7001", start.Add(time.Hour), ref))
	f.send(braze)
	equal(t, "profiles", braze, profiles{ada: linkedTo("7001", start.Add(time.Hour))})
}

// A user who lost the PSID to another is forgotten without the other's being touched, and so is a PSID that lost the user.
func TestForgetOneOfTwo(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	page := &capture.Page{ID: acme, Workspace: workspace}
	f.capture(contact("7001", start, reference(t, ada, start.Add(-time.Hour))))
	f.capture(contact("7001", start.Add(time.Minute), reference(t, bob, start.Add(-time.Minute)))) // and so ada has no PSID
	f.send(braze)
	before, ok, err := capture.FindPSID(t.Context(), f.q, acme, "7001")
	if err != nil || !ok || before.User.BrazeID != bob {
		t.Fatal(before, ok, err)
	}
	lost, ok, err := capture.FindUser(t.Context(), f.q, acme, capture.User{BrazeID: ada})
	if err != nil || !ok || lost.Linked {
		t.Fatal(lost, ok, err)
	}
	if err := capture.Forget(t.Context(), f.q, page, lost); err != nil {
		t.Fatal(err)
	}
	if found, ok, err := capture.FindUser(t.Context(), f.q, acme, capture.User{BrazeID: ada}); ok || err != nil {
		t.Errorf("ada is still known: %+v, %v", found, err)
	}
	after, _, err := capture.FindPSID(t.Context(), f.q, acme, "7001")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "bob", after, before)
	f.send(braze)
	equal(t, "ada in Braze", len(braze[ada]), 0)

	f.capture(contact("7002", start.Add(2*time.Minute), reference(t, bob, start.Add(time.Minute)))) // and so 7001 has no user
	f.send(braze)
	if lost, ok, err = capture.FindPSID(t.Context(), f.q, acme, "7001"); err != nil || !ok || lost.Linked {
		t.Fatal(lost, ok, err)
	}
	if err := capture.Forget(t.Context(), f.q, page, lost); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := capture.FindPSID(t.Context(), f.q, acme, "7001"); ok || err != nil {
		t.Errorf("7001 is still known: %v", err)
	}
	f.send(braze)
	if found, ok, err := capture.FindPSID(t.Context(), f.q, acme, "7002"); err != nil || !ok || !found.Linked || braze[bob]["messenger_id"] != "7002" {
		t.Errorf("bob is %+v, %v, in Braze %v", found, err, braze[bob])
	}
}

// Run takes what is stored to its end, and leaves no event in flight when it returns.
func TestRun(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t), profiles{}
	ctx, stop := contextWithCancel(t)
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.handler.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	const people = 50
	for i := range people {
		e := contact(fmt.Sprint(7000+i), start, reference(t, fmt.Sprintf("user-%d", i), start.Add(-time.Hour)))
		e.Key = fmt.Sprint("m_", i)
		f.publish(e)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range f.logs.All() {
				t.Log(line.Message, line.ContextMap())
			}
		}
	})
	eventually(t, "all events are captured", func() bool {
		return testutil.ToFloat64(capture.Counter(f.handler, "acme", "message", "linked")) == people
	})
	stop()
	running.Wait()
	equal(t, "updates", f.send(braze), people)
	equal(t, "profiles", len(braze), people)
}

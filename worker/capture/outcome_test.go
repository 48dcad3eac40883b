package capture_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/capture"
)

// allEvents has a page tell Braze of everything.
func allEvents(p *capture.Page) {
	p.Events = map[capture.EventKind]string{}
	for _, kind := range capture.EventKinds() {
		p.Events[kind] = "m_" + string(kind)
	}
}

func only(kinds ...capture.EventKind) func(*capture.Page) {
	return func(p *capture.Page) {
		p.Events = map[capture.EventKind]string{}
		for _, kind := range kinds {
			p.Events[kind] = "m_" + string(kind)
		}
	}
}

// message is one to a person, from a caller who names the user.
func message(id, psid, user string) *queue.Delivery {
	job := queue.Job{ID: id, Page: acme, Lane: queue.Bulk, Accepted: time.Now(), Tracking: queue.Tracking{Campaign: "spring", Dispatch: "d1", Message: "m1"},
		Body: fmt.Appendf(nil, `{"recipient":{"id":%q},"message":{"text":"this is private"}}`, psid)}
	if len(user) == len(ada) {
		job.Tracking.User = user
	} else {
		job.Tracking.ExternalID = user
	}
	return &queue.Delivery{Job: job}
}

func refusedAs(class sendapi.Class) worker.End {
	return worker.End{Reason: queue.Reason{Class: string(class), Code: 551, Text: "Facebook's own words"}}
}

func sentBy(mid string, begun time.Time) worker.End {
	return worker.End{Delivered: true, MessageID: mid, Begun: begun}
}

// end takes the end of a message to its end.
func (f *fixture) end(job *queue.Delivery, end worker.End) {
	f.t.Helper()
	f.handler.Ended(within(f.t, 30*time.Second), job, end)
	d, err := f.outcomes.Next(within(f.t, 30*time.Second))
	if err != nil {
		f.t.Fatal(err)
	}
	f.settle(d)
}

func (f *fixture) settle(d *queue.Delivery) {
	f.t.Helper()
	if v := f.handler.Handle(within(f.t, 30*time.Second), d); v.Outcome != worker.Delivered {
		f.t.Fatalf("%+v", v)
	}
	if err := d.Done(within(f.t, 30*time.Second)); err != nil {
		f.t.Fatal(err)
	}
}

// events are those that Braze has of a user, each as its name and some properties.
func (p profiles) events(user string) (all []string) {
	events, _ := p[user]["events"].([]capture.Event)
	for _, e := range events {
		text := e.Name
		for _, name := range []string{"class", "code", "brazier_id", "mid", "kind", "how"} {
			if v := e.Properties[name]; v != nil {
				text += fmt.Sprint(" ", v)
			}
		}
		all = append(all, text)
	}
	return all
}

// Braze is told of each end, once, by whoever is known as its user.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, allEvents), profiles{}
	f.capture(contact("7003", start, reference(t, bob, start.Add(-time.Hour))))
	f.send(braze)
	equal(t, "events of a link", braze.events(bob), []string{"m_inbound message", "m_linked braze_id"})

	f.end(message("A1", "7001", ada), sentBy("mid.1", time.Now()))
	f.end(message("A2", "7001", ada), refusedAs(sendapi.ClassMessage))
	f.end(message("B1", "7002", externalB), refusedAs(sendapi.ClassExpired))
	f.end(message("C1", "7003", ""), refusedAs(sendapi.ClassInDoubt))       // the PSID says whose it is
	f.end(message("D1", "7004", ""), refusedAs(sendapi.ClassInDoubt))       // nobody knows
	f.end(message("E1", "7003", "not-a-user"), sentBy("mid.2", time.Now())) // an external id
	f.send(braze)
	equal(t, "events", map[string][]string{"ada": braze.events(ada), "B": braze.events(externalB), "bob": braze.events(bob), "other": braze.events("not-a-user")}, map[string][]string{
		"ada": {"m_sent A1 mid.1", "m_failed message 551 A2"}, "B": {"m_failed expired 551 B1"},
		"bob": {"m_inbound message", "m_linked braze_id", "m_failed in_doubt 551 C1"}, "other": {"m_sent E1 mid.2"}})
	failed := braze[ada]["events"].([]capture.Event)[1]
	equal(t, "properties", failed.Properties, map[string]any{"class": "message", "code": 551.0, "reason": sendapi.ClassMessage.Sentence(),
		"campaign_id": "spring", "dispatch_id": "d1", "message_id": "m1", "page_id": acme, "brazier_id": "A2"})
	if n := testutil.ToFloat64(capture.Counter(f.handler, "acme", "failed", "no_user")); n != 1 {
		t.Errorf("%v outcomes of nobody", n)
	}

	// The settlement is repeated, with another end.
	f.handler.Ended(t.Context(), message("A1", "7001", ada), refusedAs(sendapi.ClassInDoubt))
	if outcomes, err := f.q.OutcomesBacklog(t.Context()); err != nil || outcomes.Pending != 0 {
		t.Errorf("%d outcomes are stored again, %v", outcomes.Pending, err)
	}
	equal(t, "updates of what is known", f.send(braze), 0)
	f.keepsSecrets("this is private", "Facebook's own words", "7001", externalB)
}

// What Braze is not to know is not stored.
func TestUnwantedOutcomes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, only(capture.EventFailed))
	quiet := message("S1", "7001", ada)
	quiet.Body = []byte(`{"recipient":{"id":"7001"},"sender_action":"typing_on"}`)
	other := message("S2", "7001", ada)
	other.Page = "77"
	f.handler.Ended(t.Context(), quiet, refusedAs(sendapi.ClassMessage))
	f.handler.Ended(t.Context(), other, refusedAs(sendapi.ClassMessage))
	f.handler.Ended(t.Context(), message("S3", "7001", ada), sentBy("mid", time.Now()))
	outcomes, err := f.q.OutcomesBacklog(t.Context())
	if err != nil || outcomes.Pending != 0 {
		t.Errorf("%d stored, %v", outcomes.Pending, err)
	}
}

// Where failures are off, who cannot be reached is still written.
func TestReachable(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only()), profiles{}
	attributes := func(user string) map[string]any { f.send(braze); return braze[user] }

	now := time.Now().UTC().Truncate(time.Millisecond)
	f.capture(contact("7001", now.Add(-time.Hour), reference(t, ada, now.Add(-2*time.Hour))))
	equal(t, "linked", attributes(ada), linkedTo("7001", now.Add(-time.Hour)))
	f.end(message("A1", "7001", ada), refusedAs(sendapi.ClassRecipient))
	if got := attributes(ada); got["messenger_reachable"] != false {
		t.Errorf("blocked: %v", got)
	}
	f.end(message("A2", "7001", ada), refusedAs(sendapi.ClassWindow))
	if until, _ := attributes(ada)["messenger_window_until"].(time.Time); until.After(time.Now()) || until.Before(now) {
		t.Errorf("the window ends at %v", until)
	}
	f.capture(contact("7001", now.Add(-time.Minute))) // it was on its way for long
	if got := attributes(ada); got["messenger_reachable"] != false {
		t.Errorf("after an older contact: %v", got)
	}
	back := now.Add(time.Hour)
	f.capture(contact("7001", back))
	want := linkedTo("7001", back)
	want["messenger_reachable"] = true
	equal(t, "back", attributes(ada), want)
	f.end(message("A3", "7001", ada), refusedAs(sendapi.ClassRecipient)) // before that contact
	f.end(message("A4", "7099", ada), refusedAs(sendapi.ClassRecipient)) // to a PSID that is not the user's
	equal(t, "after older refusals", attributes(ada), want)
	person, _, err := capture.FindPSID(t.Context(), f.q, acme, "7001")
	if err != nil || person.Unreachable || person.User.BrazeID != ada {
		t.Errorf("%+v, %v", person, err)
	}
}

// Of somebody whom no reference links, the caller's word is taken: Braze had the PSID of the user. A reference counts for more.
func TestTold(t *testing.T) {
	t.Parallel()
	for n := -1; n < 2; n++ { // before which entry the worker is killed once
		t.Run(fmt.Sprint("killed before entry ", n), func(t *testing.T) {
			t.Parallel()
			f, braze := newFixture(t, only()), profiles{}
			f.handler.Ended(within(t, 30*time.Second), message("A1", "7001", ada), refusedAs(sendapi.ClassRecipient))
			d, err := f.outcomes.Next(within(t, 30*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if n >= 0 {
				capture.KillBefore(f.handler, n)
				if v := f.handler.Handle(t.Context(), d); v.Outcome != worker.Retry {
					t.Fatalf("%+v", v)
				}
				capture.KillBefore(f.handler, -1)
			}
			f.settle(d)
			f.send(braze)
			equal(t, "blocked", braze, profiles{ada: {"messenger_reachable": false}})
			back := time.Now().UTC().Add(time.Hour).Truncate(time.Millisecond)
			f.capture(contact("7001", back))
			f.send(braze)
			equal(t, "back", braze, profiles{ada: {"messenger_reachable": true, "messenger_window_until": back.Add(24 * time.Hour)}})
			f.capture(contact("7001", back.Add(time.Hour), reference(t, bob, back)))
			f.send(braze)
			equal(t, "linked with another", braze[bob], linkedTo("7001", back.Add(time.Hour)))
		})
	}
}

// A message to a PSID that is somebody else's says nothing of the user who was named.
func TestNotTold(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only()), profiles{}
	f.capture(contact("7001", start, reference(t, ada, start.Add(-time.Hour))))
	f.end(message("B1", "7001", bob), refusedAs(sendapi.ClassRecipient))
	f.send(braze)
	want := linkedTo("7001", start)
	want["messenger_reachable"] = false
	equal(t, "profiles", braze, profiles{ada: want})
}

func receipt(kind webhook.Kind, psid string, watermark time.Time, mids ...string) webhook.Event {
	return webhook.Event{Kind: kind, Page: acme, PSID: psid, At: watermark.Add(time.Second), Watermark: watermark, MIDs: mids}
}

// Receipts find their messages in whatever order they and the outcomes come, and tell of each once.
func TestReceipts(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	steps := []func(f *fixture){
		func(f *fixture) { f.end(message("A1", "7001", ada), sentBy("mid.1", at(1))) },
		func(f *fixture) { f.end(message("A2", "7001", ada), sentBy("mid.2", at(2))) },
		func(f *fixture) { f.end(message("A3", "7001", ada), sentBy("mid.3", at(3))) },
		func(f *fixture) { f.capture(receipt(webhook.KindDelivery, "7001", at(2))) }, // names no message
		func(f *fixture) { f.capture(receipt(webhook.KindRead, "7001", at(1))) },
	}
	for seed, order := range [][]int{{0, 1, 2, 3, 4}, {3, 4, 0, 1, 2}, {4, 2, 3, 1, 0}, {0, 4, 4, 3, 2, 3, 1}} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			f, braze := newFixture(t, only(capture.EventDelivered, capture.EventRead)), profiles{}
			for _, step := range order {
				steps[step](f)
			}
			f.send(braze)
			got := map[string]bool{}
			for _, e := range braze.events(ada) {
				if got[e] {
					t.Errorf("told twice: %s", e)
				}
				got[e] = true
			}
			equal(t, "events", got, map[string]bool{"m_delivered A1 mid.1": true, "m_delivered A2 mid.2": true, "m_read A1 mid.1": true})

			f.capture(receipt(webhook.KindDelivery, "7001", at(2), "mid.3", "mid.of.another.app"))
			f.capture(receipt(webhook.KindRead, "7002", at(9)))
			f.send(braze)
			if all := strings.Join(braze.events(ada), "\n"); !strings.Contains(all, "m_delivered A3 mid.3") || strings.Count(all, "\n") != 3 {
				t.Errorf("events:\n%s", all)
			}
		})
	}
}

// Of many messages to one person the latest are remembered.
func TestManySent(t *testing.T) {
	t.Parallel()
	f, braze := newFixture(t, only(capture.EventRead)), profiles{}
	for i := range 25 {
		f.end(message(fmt.Sprint("A", i), "7001", ada), sentBy("", start.Add(time.Duration(i)*time.Second)))
	}
	f.capture(receipt(webhook.KindRead, "7001", start.Add(time.Hour)))
	f.send(braze)
	equal(t, "events", len(braze.events(ada)), 20)
}

// Where there is no room for updates, messages are not told of, which is counted, and attributes wait.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t, allEvents)
	f.fillUpdates()
	f.end(message("A1", "7001", ada), sentBy("mid.1", time.Now()))
	if n := testutil.ToFloat64(capture.LostCounter(f.handler, "acme", capture.EventSent)); n != 1 {
		t.Errorf("%v counted as lost", n)
	}
	if n := f.logs.FilterMessageSnippet("never told").Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
	d := f.store(contact("7001", start, reference(t, ada, start.Add(-time.Hour))))
	if v := f.handler.Handle(within(t, 30*time.Second), d); v.Outcome != worker.Retry {
		t.Errorf("a link with no room for its update: %+v", v)
	}
}

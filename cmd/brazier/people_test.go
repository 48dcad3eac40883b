package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/capture"
)

const (
	peoplePage    = "1029384756"
	peoplePSID    = "2003004005006007"
	otherPSID     = "2003004005006008"
	peopleText    = "Hi Ada, your secret order has shipped"
	peopleDefault = 30 * time.Second
)

// peopleFixture is a queue in which people are linked, and the commands beside it.
type peopleFixture struct {
	t       *testing.T
	q       *queue.Queue
	handler *capture.Handler
	flags   []string
	now     time.Time
	events  int
}

func newPeopleFixture(t *testing.T) *peopleFixture {
	t.Helper()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv, RoadBack: true, Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	policy := webhook.RefPolicy{Secrets: [][]byte{[]byte(marker + "-new")}}
	h, err := capture.New(capture.Config{Queue: q, Log: zaptest.NewLogger(t), Pages: []capture.Page{{ID: peoplePage, Name: "acme", Workspace: "eu",
		References: func() (webhook.RefPolicy, error) { return policy, nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	return &peopleFixture{t: t, q: q, handler: h, flags: []string{"--data=" + dir, "--pages=" + refPages(t)}, now: time.Now().Truncate(time.Second).UTC()}
}

// run runs a people command.
func (f *peopleFixture) run(answer string, args ...string) ended {
	f.t.Helper()
	got := command(f.t, answer, slices.Concat([]string{"people", args[0]}, f.flags, args[1:])...)
	keepsSecrets(f.t, got.out+got.err, marker, peopleText)
	return got
}

// event stores that a person wrote, by a link for a user, made some time ago.
func (f *peopleFixture) event(psid string, form webhook.Form, user string, ago time.Duration) {
	f.t.Helper()
	ref, err := webhook.NewRef([]byte(marker+"-new"), form, user, f.now.Add(-ago))
	if err != nil {
		f.t.Fatal(err)
	}
	f.events++
	key := "m_" + strings.Repeat("x", f.events)
	body, _ := json.Marshal(webhook.Event{Kind: webhook.KindMessage, Page: peoplePage, PSID: psid, At: f.now, Opens: true, Key: key,
		Refs: []webhook.FoundRef{{Ref: ref, From: webhook.FromReferral}}})
	f.publish(&queue.Job{ID: queue.KeyedID(peoplePage, key), Key: key, Page: peoplePage, Lane: queue.Events, Body: body})
}

// capture captures what is stored.
func (f *peopleFixture) capture() {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.handler.Run(ctx) }()
	eventually(f.t, "events are captured", func() bool {
		events, _, err := f.q.RoadBackBacklog(f.t.Context())
		return err == nil && events.Pending == 0
	})
	stop()
	if err := <-ended; err != nil {
		f.t.Fatal(err)
	}
}

func (f *peopleFixture) publish(j *queue.Job) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), peopleDefault)
	defer cancel()
	if stored, err := f.q.Publish(ctx, j); err != nil || stored.Duplicate {
		f.t.Fatal(stored, err)
	}
}

// message stores a message to a person.
func (f *peopleFixture) message(psid string) (id string) {
	f.t.Helper()
	now := time.Now()
	j := &queue.Job{ID: queue.NewID(), Page: peoplePage, Lane: queue.Bulk, RecipientDigest: sendapi.PSID(psid).Digest(), Accepted: now, Expire: now.Add(time.Hour),
		Body: []byte(message(psid, peopleText))}
	f.publish(j)
	return j.ID
}

// die makes a dead letter of the next message.
func (f *peopleFixture) die() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), peopleDefault)
	defer cancel()
	s := f.q.Source(peoplePage, queue.Bulk, 1)
	defer s.Stop()
	d, err := s.Next(ctx)
	if err == nil {
		err = d.DeadLetter(ctx, queue.Reason{Class: "window"})
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *peopleFixture) left(is func(*queue.Job) bool) int {
	f.t.Helper()
	n, err := f.q.CountJobs(f.t.Context(), peoplePage, is)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *peopleFixture) dead() (n int) {
	f.t.Helper()
	for _, err := range f.q.DeadLetters(f.t.Context(), queue.DeadLetterFilter{Page: peoplePage}, false) {
		if err != nil {
			f.t.Fatal(err)
		}
		n++
	}
	return n
}

func TestPeopleShow(t *testing.T) {
	t.Parallel()
	f := newPeopleFixture(t)
	f.event(peoplePSID, webhook.FormBrazeID, refBrazeID, time.Hour)
	f.event(otherPSID, webhook.FormEncoded, "ada@example.com", 2*time.Hour)
	f.capture()
	window := f.now.Add(24 * time.Hour)
	yes := true
	ada := admin.Person{Page: "acme", PageID: peoplePage, PSID: peoplePSID, BrazeID: refBrazeID, Linked: true, Since: f.now.Add(-time.Hour), WindowUntil: &window, Reachable: &yes}
	for _, args := range [][]string{{peoplePSID}, {refBrazeID}, {peoplePSID, "--page=acme"}, {refBrazeID, "--page=" + peoplePage}} {
		got := f.run("", append([]string{"show", "--json"}, args...)...)
		var v admin.Person
		if err := json.Unmarshal([]byte(got.out), &v); got.code != cli.ExitOK || err != nil {
			t.Fatalf("show %v: %+v", args, got)
		}
		if v.WindowUntil == nil || !v.WindowUntil.Equal(window) || v.Reachable == nil || !*v.Reachable || !v.Since.Equal(ada.Since) || v.PSID != ada.PSID ||
			v.BrazeID != ada.BrazeID || v.ExternalID != "" || v.Page != ada.Page || v.PageID != ada.PageID || !v.Linked {
			t.Errorf("show %v: %+v, want %+v", args, v, ada)
		}
	}
	got := f.run("", "show", "ada@example.com")
	for _, want := range []string{"acme (1029384756)", otherPSID, "ada@example.com", "linked        yes", window.Format(time.RFC3339), "yes, as far as is known"} {
		if got.code != cli.ExitOK || !strings.Contains(got.out, want) {
			t.Errorf("%q is missing: %+v", want, got)
		}
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown PSID":        {[]string{"show", "1234"}, cli.ExitFailed, "nothing is known"},
		"an unknown user":        {[]string{"show", "bob"}, cli.ExitFailed, "nothing is known"},
		"on another page":        {[]string{"show", peoplePSID, "--page=nordwind"}, cli.ExitFailed, "nothing is known"},
		"on no page of the file": {[]string{"show", peoplePSID, "--page=nobody"}, cli.ExitUsage, "neither an id nor a name"},
	} {
		if got := f.run("", c.args...); got.code != c.code || !strings.Contains(got.err, c.says) || got.out != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// One command answers a request to be forgotten, and touches nobody else.
func TestPeopleForget(t *testing.T) {
	t.Parallel()
	f := newPeopleFixture(t)
	f.event(peoplePSID, webhook.FormBrazeID, refBrazeID, time.Hour)
	f.event(otherPSID, webhook.FormEncoded, "ada@example.com", time.Hour)
	f.capture()
	f.message(peoplePSID)
	f.die()
	f.message(otherPSID)
	f.die()
	f.message(peoplePSID)
	f.message(otherPSID)
	f.event(peoplePSID, webhook.FormBrazeID, refBrazeID, time.Minute)
	every := func(*queue.Job) bool { return true }

	if got := f.run("", "forget", peoplePSID); got.code != cli.ExitUsage || !strings.Contains(got.err, "--yes") {
		t.Errorf("without a terminal: %+v", got)
	}
	if got := f.run("", "forget", peoplePSID, "--dry-run"); got.code != cli.ExitOK || !strings.Contains(got.out, refBrazeID) || !strings.Contains(got.out, "--dry-run") {
		t.Errorf("dry run: %+v", got)
	}
	if got := f.run("no", "forget", refBrazeID); got.code != cli.ExitOK || !strings.Contains(got.out, "Nothing was removed.") {
		t.Errorf("not confirmed: %+v", got)
	}
	if got := f.run("", "forget", refBrazeID, "--yes", "--page="+peoplePage, "--pages=none.yaml"); got.code != cli.ExitUsage || !strings.Contains(got.err, "--pages") {
		t.Errorf("without the page file: %+v", got)
	}
	if n, dead := f.left(every), f.dead(); n != 3 || dead != 2 {
		t.Fatalf("%d jobs and %d dead letters before anything is confirmed, want 3 and 2", n, dead)
	}

	got := f.run("yes", "forget", refBrazeID)
	if got.code != cli.ExitOK || !strings.Contains(got.out, "1 mapping(s) of PSID and user, 2 message(s) and webhook event(s) that waited, 1 dead letter(s)") || !strings.Contains(got.out, "What remains:") {
		t.Errorf("forget: %+v", got)
	}
	if n, dead := f.left(every), f.dead(); n != 1 || dead != 1 {
		t.Errorf("%d jobs and %d dead letters are left, want the other person's", n, dead)
	}
	if got := f.run("", "show", peoplePSID); got.code != cli.ExitFailed {
		t.Errorf("still known: %+v", got)
	}
	if got := f.run("", "show", otherPSID); got.code != cli.ExitOK {
		t.Errorf("the other is not known any more: %+v", got)
	}
	f.erased(refBrazeID)
	for _, who := range []string{peoplePSID, refBrazeID} {
		if got := f.run("", "forget", who, "--yes"); who == peoplePSID && (got.code != cli.ExitOK || !strings.Contains(got.out, "nothing to forget")) ||
			who == refBrazeID && got.code != cli.ExitFailed {
			t.Errorf("forget %s again: %+v", who, got)
		}
	}
	// A PSID that was never linked.
	f.message("5005")
	if got := f.run("", "forget", "5005", "--yes"); got.code != cli.ExitOK || f.left(every) != 1 {
		t.Errorf("a PSID of which nothing is known: %+v", got)
	}
}

// erased fails unless the last update that waits removes the attributes of a user.
func (f *peopleFixture) erased(brazeID string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), peopleDefault)
	defer cancel()
	s := f.q.Source(queue.AllPages, queue.Updates("eu"), 16)
	defer s.Stop()
	for ctx.Err() == nil {
		d, err := s.Next(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		changes, err := f.handler.Resolve(ctx, d)
		if err != nil && !errors.Is(err, capture.ErrNotYet) {
			f.t.Fatal(err)
		}
		if err := d.Done(ctx); err != nil {
			f.t.Fatal(err)
		}
		for _, c := range changes {
			if c.User.BrazeID != brazeID {
				continue
			}
			for name, value := range c.Attributes {
				if value != nil {
					f.t.Errorf("%s is not removed", name)
				}
			}
			if len(c.Attributes) != 3 {
				f.t.Errorf("%d attributes are removed, want 3", len(c.Attributes))
			}
			return
		}
	}
}

// Where no worker ever captured webhooks, the messages of a PSID are discarded all the same.
func TestPeopleWithoutRoadBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &peopleFixture{t: t, q: queuetest.On(t, queuetest.Server(t, dir)), flags: []string{"--data=" + dir, "--pages=" + refPages(t)}}
	f.message(peoplePSID)
	if got := f.run("", "show", peoplePSID); got.code != cli.ExitFailed || !strings.Contains(got.err, "nothing is known") {
		t.Errorf("show: %+v", got)
	}
	if got := f.run("", "forget", peoplePSID, "--yes"); got.code != cli.ExitOK || f.left(func(*queue.Job) bool { return true }) != 0 {
		t.Errorf("forget: %+v", got)
	}
}

// The whole of it beside a running serve: support makes a link, the person follows it, and is forgotten.
func TestForgottenEndToEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir, user := t.TempDir(), w.user(1)
	code, out, complaints := runCommand(t, "ref", "new", user, "--page=acme", "--pages="+w.pages)
	ref, _, _ := strings.Cut(out, "\n")
	if code != cli.ExitOK || complaints != "" {
		t.Fatalf("ref new: code %d, %s", code, complaints)
	}
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+dir, "--pages="+w.pages, "--graph-url=http://127.0.0.1:1", "--log-format=json")
	address := r.log.await(t, "started")["address"].(string)
	if status := w.tell(address, wrote(peoplePSID, "m_1", time.Now(), ref)); status != 200 {
		t.Fatalf("the webhook was answered %d", status)
	}
	eventually(t, "Braze has the PSID", func() bool { return w.attribute(user, "messenger_id") == peoplePSID })
	for _, who := range []string{peoplePSID, user} {
		if got := command(t, "", "people", "show", who, "--data="+dir, "--pages="+w.pages); got.code != cli.ExitOK || !strings.Contains(got.out, user) || !strings.Contains(got.out, peoplePSID) {
			t.Errorf("show %s: %+v", who, got)
		}
	}
	if got := command(t, "", "people", "forget", user, "--yes", "--data="+dir, "--pages="+w.pages); got.code != cli.ExitOK || !strings.Contains(got.out, "1 mapping(s)") {
		t.Errorf("forget: %+v", got)
	}
	eventually(t, "Braze has it no more", func() bool {
		return w.attribute(user, "messenger_id") == nil && w.attribute(user, "messenger_window_until") == nil
	})
	if got := command(t, "", "people", "show", user, "--data="+dir, "--pages="+w.pages); got.code != cli.ExitFailed {
		t.Errorf("still known: %+v", got)
	}
	for _, full := range []string{peoplePSID, "this is private"} {
		if strings.Contains(r.log.String(), full) {
			t.Errorf("the log has %q", full)
		}
	}
}

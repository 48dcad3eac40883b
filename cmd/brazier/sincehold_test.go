package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestReplaySinceHold replays the dead letters of what the last hold was for, and no others, while the page is held
// and after.
func TestReplaySinceHold(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	s := newPacing(t, acme, nordwind)
	defer s.end()
	run := func(args ...string) ended {
		t.Helper()
		return command(t, "", append(args, "--nats-url=nats://"+s.address, "--pages="+s.pages)...)
	}
	deadLetters := func() (n int) {
		t.Helper()
		b, err := s.q.Backlog(t.Context(), acme.id)
		if err != nil {
			t.Fatal(err)
		}
		return int(b.Dead)
	}
	change := func(f func(*queue.PageState)) {
		t.Helper()
		state, err := s.q.PageState(t.Context(), acme.id)
		if err != nil {
			t.Fatal(err)
		}
		f(&state)
		if _, err := s.q.SetPageState(t.Context(), acme.id, state); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"":                                 "name the dead letters by ids or filters, or give --all",
		"--since-hold":                     "--since-hold: requires --page",
		"--since-hold --all":               "--since-hold: requires --page",
		"--since-hold --page=a --code=1":   "must not be combined with --code or --since",
		"--since-hold --page=a --since=1h": "must not be combined with --code or --since",
	} {
		if got := run(append([]string{"deadletters", "replay", "--yes"}, strings.Fields(args)...)...); got.code != cli.ExitUsage || !strings.Contains(got.err, want) {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	replay := []string{"deadletters", "replay", "--since-hold", "--page=acme", "--yes"}
	if got := run(replay...); got.code != cli.ExitFailed || !strings.Contains(got.err, "page acme was never held") {
		t.Errorf("never held: %+v", got)
	}

	p := s.worker()
	n := 0
	die := func(code, subcode int) {
		t.Helper()
		fault := s.fb.Script(sandbox.Fault{Page: acme.id, Times: sandbox.Standing, Status: http.StatusBadRequest, Code: code, Subcode: subcode})
		n++
		s.publishOne(acme, queue.Bulk, fmt.Sprintf("20030040050060%02d", n))
		eventually(t, "a message is dead", func() bool { return deadLetters() == n })
		s.fb.Clear(fault)
	}
	die(551, 1545041) // before the row
	began := s.q.Now()
	die(551, 1545041)
	die(551, 0)
	die(10, 2018278)
	die(551, 1545041)
	dead := p.log.events("dead")
	hold := queue.PageState{Class: "page", Code: 551, Subcode: 1545041, FirstRefused: began, Since: s.q.Now()}
	change(func(state *queue.PageState) { state.Hold(hold) })
	if got := run(append(replay[:4:4], "--dry-run")...); got.code != cli.ExitOK || !strings.Contains(got.out, "Page acme is held at ") || !strings.Contains(got.out, "(class page, code 551/1545041)") ||
		!strings.Contains(got.out, " 2 ") || !strings.Contains(got.out, "Nothing was replayed") {
		t.Errorf("while it is held: %+v\n%v", got, dead)
	}
	var pages []admin.Page
	if got := run("pages", "resume", "acme"); got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	for line := range strings.Lines(run("pages", "list", "--json").out) {
		var v admin.Page
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, v)
	}
	if i := slices.IndexFunc(pages, func(v admin.Page) bool { return v.Page == "acme" }); i < 0 || pages[i].State != "open" || pages[i].Class != "" || pages[i].Code != 0 || pages[i].Since != nil {
		t.Errorf("after the hold the list has %+v", pages)
	}
	if got := run(replay...); got.code != cli.ExitOK || !strings.Contains(got.out, "Page acme was held at ") || !strings.Contains(got.out, "Replayed 2, failed 0") {
		t.Errorf("after it was held: %+v", got)
	}
	eventually(t, "both are delivered", func() bool { return s.fb.Counts().Accepted == 2 })
	if left := deadLetters(); left != 3 {
		t.Errorf("%d dead letters are left, want 3", left)
	}

	if got := run("pages", "hold", "acme"); got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	if got := run(replay...); got.code != cli.ExitFailed || !strings.Contains(got.err, "a person held page") {
		t.Errorf("held by hand: %+v", got)
	}
}

// A wrong setting kills the first messages of a campaign, before the page is held. All of them come back, and none that
// died of something else.
func TestReplayAfterBreaker(t *testing.T) {
	t.Parallel()
	acme := newTestPage("1029384756", "acme")
	s := newPacing(t, acme)
	defer s.end()
	deadLetters := func() int {
		t.Helper()
		b, err := s.q.Backlog(t.Context(), acme.id)
		if err != nil {
			t.Fatal(err)
		}
		return int(b.Dead)
	}
	p := s.worker()
	s.publishOne(acme, queue.Bulk, "2003004005006001")
	eventually(t, "the page works", func() bool { return s.fb.Counts().Accepted == 1 })
	down := s.fb.Script(unreachable(acme.id))
	s.publishOne(acme, queue.Bulk, "2003004005006002")
	eventually(t, "a message is dead", func() bool { return deadLetters() == 1 })
	s.fb.Clear(down)

	const campaign = 40
	wrong := s.fb.Script(sandbox.Fault{Page: acme.id, Times: sandbox.Standing, Status: http.StatusBadRequest, Code: 100, Subcode: 1234567})
	s.publish(acme, queue.Bulk, campaign)
	held := p.log.await(t, "held")
	if held["class"] != "page" || held["code"] != 100.0 || held["subcode"] != 1234567.0 {
		t.Errorf("held line: %v", held)
	}
	s.fb.Clear(wrong)
	args := []string{"--nats-url=nats://" + s.address, "--pages=" + s.pages}
	if got := command(t, "", append([]string{"pages", "resume", "acme"}, args...)...); got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	// But for the message that led to the hold: it comes back a minute later.
	eventually(t, "those that were not tried are delivered", func() bool { return s.fb.Counts().Accepted+deadLetters() >= 1+1+campaign-1 })
	died := deadLetters() - 1
	got := command(t, "", append([]string{"deadletters", "replay", "--since-hold", "--page=acme", "--yes"}, args...)...)
	if got.code != cli.ExitOK || !strings.Contains(got.out, fmt.Sprintf("Replayed %d, failed 0", died)) || died == 0 {
		t.Errorf("%d died: %+v", died, got)
	}
	eventually(t, "the campaign is delivered", func() bool { return s.fb.Counts().Accepted >= 1+campaign-1 })
	if left := deadLetters(); left != 1 {
		t.Errorf("%d dead letters are left, want 1", left)
	}
	t.Logf("%d of %d died before the page was held", died, campaign)
}

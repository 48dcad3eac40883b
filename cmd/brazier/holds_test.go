package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// A throttle that one worker meets at full speed stops all of them. Nothing is lost and no attempt counted; the hold
// outlasts the workers; and the page goes on soon after Facebook takes messages again.
func testThrottleStopsAllWorkers(t *testing.T) {
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	s := newPacing(t, page)
	defer s.end()
	const jobs = 900
	s.publish(page, queue.Bulk, jobs)
	crew := []*proc{s.chatty(), s.chatty(), s.chatty(), s.chatty()}
	eventually(t, "they send", func() bool { return s.fb.Counts().Accepted > 150 })
	block := s.fb.Script(sandbox.Fault{Times: sandbox.Standing, Status: http.StatusBadRequest, Code: 613})
	var throttled sandbox.Call
	heldBy := func() (lines []map[string]any) {
		for _, p := range s.crew {
			lines = append(lines, p.log.events("held")...)
		}
		return lines
	}
	eventually(t, "the page is held", func() bool { return len(heldBy()) > 0 })
	eventually(t, "nothing is in flight", func() bool {
		calls := s.fb.Find(sandbox.Query{Limit: 1})
		return len(calls) == 1 && time.Since(calls[0].At) > 2*time.Second
	})
	calls := s.fb.Find(sandbox.Query{})
	slices.SortFunc(calls, func(a, b sandbox.Call) int { return a.At.Compare(b.At) })
	inFlight, after := 0, 0
	for _, c := range calls {
		answered := throttled.At.Add(latencyThere)
		switch {
		case throttled.At.IsZero() && c.Code == 613:
			throttled = c
		case throttled.At.IsZero():
		case c.At.Before(answered):
			inFlight++
		default:
			after++
		}
	}
	t.Logf("in flight at the first throttled answer %d, calls after it %d", inFlight, after)
	if soon := 150; after > soon { // half a second's worth: a busy machine takes that long to tell all workers
		t.Errorf("%d calls after the first throttled answer, want at most %d", after, soon)
	}
	if lines := heldBy(); len(lines) != 1 || lines[0]["class"] != "throttle" {
		t.Errorf("held lines: %v", lines)
	}

	for _, p := range crew { // others take over, and know of the hold
		if code := p.terminate(); code != cli.ExitOK {
			t.Errorf("exit code %d:\n%s", code, p.log.tail())
		}
	}
	s.chatty()
	s.chatty()
	s.fb.Clear(block)
	cleared := time.Now()
	eventually(t, "all are delivered", func() bool { return s.fb.Counts().Accepted >= jobs })
	if counts := s.fb.Counts(); counts.Accepted != jobs || counts.Duplicates != 0 {
		t.Errorf("%+v for %d messages", counts, jobs)
	}
	var resumed, attempts int
	for _, p := range s.crew {
		eventually(t, "a worker has started", func() bool { return len(p.log.events("delivered"))+len(p.log.events("started")) > 0 })
		resumed += len(p.log.events("resumed"))
		for _, line := range p.log.events("delivered") {
			attempts = max(attempts, int(line["attempt"].(float64)))
		}
	}
	if resumed != 1 || attempts != 1 {
		t.Errorf("%d resumed lines, up to %d attempts", resumed, attempts)
	}
	t.Logf("all delivered %v after the block was gone", time.Since(cleared).Round(time.Millisecond))
}

// latencyThere is how long the sandbox takes for an answer.
const latencyThere = 50 * time.Millisecond

// chatty is a worker that logs each message.
func (s *pacing) chatty() *proc {
	p := startProcess(s.t, "brazier", "worker", "--nats-url=nats://"+s.address, "--pages="+s.pages, "--graph-url="+s.fb.URL(),
		"--ops-listen=off", "--log-format=json", "--slow-start=2s")
	s.crew = append(s.crew, p)
	p.log.await(s.t, "started")
	return p
}

// A page whose token Facebook refuses waits for another one, and heals without a restart. The other page goes on.
func TestNewTokenHeals(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	fb := newFacebook(t, acme, nordwind)
	pages := writePages(t, acme, nordwind)
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+pages, "--graph-url="+fb.URL(),
		"--log-format=json", "--slow-start=1s")
	address := r.log.await(t, "started")["address"].(string)
	if err := fb.KillToken(acme.id, 463); err != nil {
		t.Fatal(err)
	}
	postAll(t, address, acme, "2003", 5)
	held := r.log.await(t, "held")
	if held["page"] != "acme" || held["class"] != "auth" || held["until"] != "another token" {
		t.Errorf("held line: %v", held)
	}
	postAll(t, address, nordwind, "2004", 5)
	eventually(t, "the other page's messages are delivered", func() bool { return fb.Counts().Accepted == 5 })

	const renewed = "tok-acme-renewed-0a1b2c"
	if err := fb.SetToken(acme.id, renewed); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(filepath.Dir(pages), "acme.token"), renewed)
	eventually(t, "all are delivered", func() bool { return fb.Counts().Accepted == 10 })
	r.log.await(t, "resumed")
	if lines := r.log.events("held"); len(lines) != 1 {
		t.Errorf("held lines: %v", lines)
	}
	keepsSecrets(t, r.log.String(), renewed, acme.token, acme.secret, acme.key)
}

// People hold and resume pages, and see the backlog, while everything runs.
func TestPagesCommand(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	fb := newFacebook(t, acme, nordwind)
	pages, data := writePages(t, acme, nordwind), t.TempDir()
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+data, "--pages="+pages, "--graph-url="+fb.URL(),
		"--log-format=json", "--slow-start=1s")
	address := r.log.await(t, "started")["address"].(string)
	brazier := func(args ...string) string {
		t.Helper()
		got := command(t, "", append(args, "--data="+data, "--pages="+pages)...)
		if got.code != cli.ExitOK {
			t.Fatalf("%v: exit code %d: %s", args, got.code, got.err)
		}
		return got.out
	}
	if out := brazier("pages", "hold", "acme", "--for=2h", "--reason=campaign paused"); !strings.Contains(out, "held until 20") {
		t.Errorf("hold says %s", out)
	}
	postAll(t, address, acme, "2003", 3)
	postAll(t, address, nordwind, "2004", 3)
	eventually(t, "the other page's messages are delivered", func() bool { return fb.Counts().Accepted == 3 })
	var acmeNow, nordwindNow admin.Page
	list := strings.SplitAfter(brazier("pages", "list", "--json"), "\n")
	if err := json.Unmarshal([]byte(list[0]), &acmeNow); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(list[1]), &nordwindNow); err != nil {
		t.Fatal(err)
	}
	if acmeNow.Page != "acme" || acmeNow.State != "held" || acmeNow.Class != "manual" || acmeNow.Reason != "campaign paused" || acmeNow.Pending != 3 {
		t.Errorf("list has %+v", acmeNow)
	}
	if nordwindNow.State != "open" || nordwindNow.Since != nil {
		t.Errorf("list has %+v", nordwindNow)
	}
	table := strings.Split(brazier("pages", "list"), "\n")
	want := fmt.Sprintf("acme %s held 3 0 manual - %s %s campaign paused", acme.id, acmeNow.Since.UTC().Format(time.RFC3339), acmeNow.Until.UTC().Format(time.RFC3339))
	if got := strings.Join(strings.Fields(table[1]), " "); got != want {
		t.Errorf("the table has\n%s, want\n%s", got, want)
	}
	if got := strings.Join(strings.Fields(table[2]), " "); got != "nordwind "+nordwind.id+" open 0 0 - - - - -" {
		t.Errorf("the table has\n%s", got)
	}
	var now admin.Status
	status := func(args ...string) ended {
		t.Helper()
		return command(t, "", append([]string{"status", "--data=" + data, "--pages=" + pages}, args...)...)
	}
	got := status("--json")
	if err := json.Unmarshal([]byte(got.out), &now); err != nil {
		t.Fatal(err)
	}
	held := now.Pages[0]
	if got.code != cli.ExitFailed || now.OK || now.Pending != 3 || now.Dead != 0 || len(now.Pages) != 2 || held.Page.Page != "acme" || held.State != "held" || *held.Rate != 0 ||
		len(now.Needs) != 1 || now.Needs[0].Kind != "hold_by_hand" || len(now.Processes) != 1 || now.Processes[0].Role != "serve" || len(now.Streams) < 6 {
		t.Errorf("exit code %d, status has %+v", got.code, now)
	}
	if got := status(); got.code != cli.ExitFailed || !strings.Contains(got.out, "campaign paused") || !strings.Contains(got.out, `"brazier pages resume acme" ends the hold.`) {
		t.Errorf("exit code %d, status says %s", got.code, got.out)
	}
	if out := brazier("pages", "resume", "acme"); !strings.Contains(out, "delivered to again") {
		t.Errorf("resume says %s", out)
	}
	eventually(t, "all are delivered", func() bool { return fb.Counts().Accepted == 6 })
	if out := brazier("pages", "resume", acme.id); !strings.Contains(out, "was not held") {
		t.Errorf("resume says %s", out)
	}
	if out := brazier("status"); !strings.Contains(out, "Nothing needs a person.") {
		t.Errorf("status says %s", out)
	}
	for _, wrong := range [][]string{{"pages", "hold", "nobody"}, {"pages", "hold", "acme", "--for=-1h"}, {"pages", "hold"}} {
		if got := command(t, "", append(wrong, "--data="+data, "--pages="+pages)...); got.code != cli.ExitUsage {
			t.Errorf("%v: exit code %d: %s", wrong, got.code, got.err)
		}
	}
}

// Pages are added and removed by editing the page file. One with a fault changes nothing.
func TestPageFileReload(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	fb := newFacebook(t, acme, nordwind)
	pages, both := writePages(t, acme), writePages(t, acme, nordwind)
	data := t.TempDir()
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data="+data, "--pages="+pages, "--graph-url="+fb.URL(), "--log-format=json")
	address, ops := r.log.await(t, "started")["address"].(string), "http://"+r.log.await(t, "ops")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	answered := func(page testPage, body string) int {
		status, _, err := post(client, address, page, body, nil)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	accepted := func(page testPage, psid string) int { return answered(page, message(psid, "hello")) }
	if got := accepted(nordwind, "2004000000000001"); got != http.StatusUnauthorized {
		t.Errorf("before it is in the file a page's key is answered %d", got)
	}
	only, err := os.ReadFile(pages)
	if err != nil {
		t.Fatal(err)
	}
	more, err := os.ReadFile(both)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, pages, string(more))
	eventually(t, "the page is known", func() bool { return answered(nordwind, "{}") == http.StatusBadRequest })
	accepted(nordwind, "2004000000000002")
	eventually(t, "its message is delivered", func() bool { return fb.Counts().Accepted >= 1 })

	writeFile(t, pages, "pages: 7\n")
	r.log.await(t, "pages_error")
	remove(t, pages)
	eventually(t, "the missing file is told", func() bool {
		told := r.log.events("pages_error")
		return len(told) == 2 && strings.Contains(told[1]["error"].(string), "no such file")
	})
	if got := accepted(acme, "2003000000000001"); got != http.StatusAccepted {
		t.Errorf("after a broken file a key is answered %d", got)
	}

	got := command(t, "", "pages", "hold", nordwind.id, "--data="+data, "--pages="+both)
	if got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	eventually(t, "the worker knows that the page is held", func() bool {
		_, metrics := get(t, ops+"/metrics")
		return strings.Contains(metrics, `brazier_page_held{page="nordwind"} 1`)
	})
	if got := accepted(nordwind, "2004000000000003"); got != http.StatusAccepted {
		t.Fatalf("a held page's key is answered %d", got)
	}
	writeFile(t, pages, string(only))
	eventually(t, "the page is not known", func() bool { return answered(nordwind, "{}") == http.StatusUnauthorized })
	missing := r.log.await(t, "page_missing")
	if missing["page_id"] != nordwind.id || missing["pending"] != 1.0 {
		t.Errorf("page_missing line: %v", missing)
	}
}

// An ingress takes over a page file whose tokens it does not have.
func TestIngressReloadsWithoutTokens(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	s := newPacing(t, acme)
	defer s.end()
	both := writePages(t, acme, nordwind)
	for _, dir := range []string{filepath.Dir(s.pages), filepath.Dir(both)} {
		for _, name := range []string{"acme.token", "acme.secret", "nordwind.token", "nordwind.secret"} {
			_ = os.Remove(filepath.Join(dir, name)) // not all are there
		}
	}
	r := startRole(t, "ingress", "--listen=127.0.0.1:0", "--ops-listen=off", "--nats-url=nats://"+s.address, "--pages="+s.pages, "--log-format=json")
	address := r.log.await(t, "started")["address"].(string)
	writeFile(t, s.pages, read(t, both))
	if line := r.log.await(t, "pages"); line["pages"] != 2.0 {
		t.Errorf("pages line: %v", line)
	}
	postAll(t, address, nordwind, "2004", 1)
	if lines := r.log.events("pages_error"); len(lines) > 0 {
		t.Errorf("pages_error lines: %v", lines)
	}
}

// newFacebook is a sandbox that knows the pages.
func newFacebook(t *testing.T, pages ...testPage) *sandbox.Sandbox {
	t.Helper()
	var cfg sandbox.Config
	for _, p := range pages {
		cfg.Pages = append(cfg.Pages, sandbox.Page{ID: p.id, Token: p.token, AppSecret: p.secret})
	}
	fb, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	return fb
}

// postAll posts n messages, each to another person.
func postAll(t *testing.T, address string, page testPage, prefix string, n int) {
	t.Helper()
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for i := range n {
		status, answer, err := post(client, address, page, message(fmt.Sprintf("%s%012d", prefix, i), "hello"), nil)
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
}

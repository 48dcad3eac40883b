package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// ended is what a command that has ended wrote.
type ended struct {
	code     int
	out, err string
}

// command runs a command to its end. answer is what a person at a terminal types; without one, nobody is there.
func command(t *testing.T, answer string, args ...string) ended {
	t.Helper()
	var out, errs bytes.Buffer
	std := cli.Stdio{Out: &out, Err: &errs}
	if answer != "" {
		std.In = strings.NewReader(answer + "\n")
	}
	code := execute(t.Context(), args, std)
	return ended{code, out.String(), errs.String()}
}

// unreachable makes every message to a page's people a dead letter, until it is cleared.
func unreachable(page string) sandbox.Fault {
	return sandbox.Fault{Page: page, Times: sandbox.Standing, Status: 400, Code: 551, Subcode: 1545041, Message: "This person isn't available right now."}
}

// TestDeadLetters takes dead letters through every command, first beside a running serve, then alone with its directory.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	pages := []testPage{newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")}
	var simulated []sandbox.Page
	for _, p := range pages {
		simulated = append(simulated, sandbox.Page{ID: p.id, Token: p.token, AppSecret: p.secret})
	}
	fb, err := sandbox.New(sandbox.Config{Pages: simulated})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	down := fb.Script(unreachable(pages[0].id))
	fb.Script(sandbox.Fault{Page: pages[1].id, Times: 1, Status: 400, Code: 10, Subcode: 2018278})
	dir, file := t.TempDir(), writePages(t, pages...)
	serve := []string{"serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data=" + dir, "--pages=" + file, "--graph-url=" + fb.URL(), "--log-format=json", "--log-level=debug"}
	r := startRole(t, serve...)
	ingress := r.log.await(t, "started")["address"].(string)

	var written strings.Builder
	const psid, text = "2003004005006007", "Hi Ada, your secret order has shipped"
	posted := func(page testPage, campaign string) string {
		t.Helper()
		client := &http.Client{}
		defer client.CloseIdleConnections()
		status, answer, err := post(client, ingress, page, message(psid, text), map[string]string{"X-Brazier-Campaign": campaign, "X-Brazier-User": "braze-1"})
		var a struct{ ID string }
		if err != nil || status != http.StatusAccepted || json.Unmarshal([]byte(answer), &a) != nil {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
		return a.ID
	}
	run := func(answer string, args ...string) ended {
		t.Helper()
		got := command(t, answer, append([]string{"deadletters"}, append(args, "--data="+dir, "--pages="+file)...)...)
		written.WriteString(got.out + got.err)
		return got
	}
	list := func(args ...string) (found []admin.DeadLetter) {
		t.Helper()
		got := run("", append([]string{"list", "--json"}, args...)...)
		if got.code != cli.ExitOK {
			t.Fatalf("list %v: %+v", args, got)
		}
		for line := range strings.Lines(got.out) {
			var v admin.DeadLetter
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			found = append(found, v)
		}
		return found
	}
	deaths := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d messages are dead", n), func() bool { return len(r.log.events("dead")) == n })
	}

	if got := run("", "list"); got.code != cli.ExitOK || got.out != "0 dead letters.\n" {
		t.Errorf("with no dead letter: %+v", got)
	}
	spring := posted(pages[0], "spring")
	deaths(1)
	autumn := posted(pages[0], "autumn")
	deaths(2)
	late := posted(pages[1], "spring")
	deaths(3)

	// list and show
	for args, want := range map[string][]string{
		"":                                     {spring, autumn, late},
		"--page=acme":                          {spring, autumn},
		"--page=5647382910":                    {late},
		"--class=window":                       {late},
		"--code=551 --campaign=autumn":         {autumn},
		"--since=1h":                           {spring, autumn, late},
		"--until=1d":                           nil,
		"--since=2020-01-01T00:00:00Z":         {spring, autumn, late},
		"--limit=1":                            {spring},
		"--page=acme --class=window --limit=5": nil,
	} {
		var got []string
		for _, v := range list(strings.Fields(args)...) {
			got = append(got, v.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %s: %v, want %v", args, got, want)
		}
	}
	got := run("", "list", "--page=acme", "--limit=1")
	if !strings.HasPrefix(got.out, "DIED ") || !strings.Contains(got.out, "551/1545041") || !strings.Contains(got.out, "These are the oldest 1.") {
		t.Errorf("table:\n%s", got.out)
	}
	first := list("--campaign=spring", "--page=acme")[0]
	if first.ID != spring || first.PageName != "acme" || first.Page != pages[0].id || first.Subcode != 1545041 || first.Attempts != 1 || first.User != "braze-1" ||
		first.Lane != queue.Bulk || first.Recipient != "…6007" || first.Bytes == 0 || first.FBTraceID == "" || first.Body != nil {
		t.Errorf("dead letter %+v", first)
	}
	got = run("", "show", spring)
	for _, want := range []string{spring, "acme (1029384756)", "551/1545041", "spring", "…6007", "--body prints it", "isn't available"} {
		if got.code != cli.ExitOK || !strings.Contains(got.out, want) {
			t.Errorf("show lacks %q: %+v", want, got)
		}
	}
	traced := command(t, "", "trace", spring, "--data="+dir, "--pages="+file)
	if written.WriteString(traced.out + traced.err); !regexp.MustCompile(`dead since \S+ recipient 551/1545041, after 1 attempt\n(?s:.*)\n  20\S+ +recipient  551/1545041 +\d[\d.]*m?s `).MatchString(traced.out) {
		t.Errorf("trace: %+v", traced)
	}
	for _, args := range [][]string{{"--body"}, {"--body", "--json"}} {
		got := command(t, "", append([]string{"deadletters", "show", spring, "--data=" + dir}, args...)...)
		if got.code != cli.ExitOK || !strings.Contains(got.out, psid) || !strings.Contains(got.out, text) {
			t.Errorf("show %v: %+v", args, got)
		}
	}
	if got := run("", "show", "NONE"); got.code != cli.ExitFailed || !strings.Contains(got.err, "no dead letter has the id NONE") {
		t.Errorf("show of none: %+v", got)
	}

	// replay: shown, refused, confirmed, and dead again with its history
	for _, command := range []string{"replay", "discard"} {
		for _, c := range []struct {
			answer string // empty: nobody is there
			args   []string
			code   int
			want   string
		}{
			{"", nil, cli.ExitUsage, "no person is at a terminal to confirm it: add --yes"},
			{"n", nil, cli.ExitOK, "Nothing was " + command},
			{"", []string{"--dry-run"}, cli.ExitOK, "Nothing was " + command},
			{"y", []string{"--dry-run", "--yes"}, cli.ExitOK, "Nothing was " + command},
		} {
			got := run(c.answer, append([]string{command, "--page=acme"}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.out+got.err, c.want) || !regexp.MustCompile(`acme +recipient +2 `).MatchString(got.out) {
				t.Errorf("%s %v, answered %q: %+v", command, c.args, c.answer, got)
			}
		}
	}
	if n := len(list()); n != 3 {
		t.Fatalf("%d dead letters after replays that were not confirmed", n)
	}
	if got := run("y", "replay", "--page=acme"); got.code != cli.ExitOK || !strings.Contains(got.out, "Replay 2 dead letters? [y/N] Replayed 2, failed 0") {
		t.Errorf("replay: %+v", got)
	}
	deaths(5)
	again := list("--campaign=spring", "--page=acme")[0]
	if again.FirstID != spring || again.ID != fmt.Sprintf("%s-%d", spring, first.Seq) || len(again.Deaths) != 1 || again.Deaths[0].Class != "recipient" {
		t.Errorf("dead letter after a replay: %+v", again)
	}
	if got := run("", "show", spring); !strings.Contains(got.out, "replayed ") || !strings.Contains(got.out, "as "+spring+" it died") {
		t.Errorf("show after a replay:\n%s", got.out)
	}
	fb.Clear(down)
	if got := run("", "replay", "--yes", spring); got.code != cli.ExitOK || !strings.Contains(got.out, "Replayed 1, failed 0") {
		t.Errorf("replay of an id: %+v", got)
	}
	eventually(t, "the replayed message is delivered", func() bool { return len(r.log.events("delivered")) == 1 })
	if d := r.log.events("delivered")[0]; d["id"] != fmt.Sprintf("%s-%d", spring, again.Seq) || d["campaign"] != "spring" {
		t.Errorf("delivered line: %v", d)
	}
	if got := run("", "replay", "--yes", spring); got.code != cli.ExitOK || got.out != "No dead letter matches.\n" {
		t.Errorf("replay again: %+v", got)
	}

	// discard: refused without a terminal, asked for on one
	if got := run("", "discard", late); got.code != cli.ExitUsage || !strings.Contains(got.err, "add --yes") {
		t.Errorf("discard: %+v", got)
	}
	if got := run("no", "discard", late); got.code != cli.ExitOK || !strings.Contains(got.out, "Nothing was discarded") {
		t.Errorf("discard, answered no: %+v", got)
	}
	if got := run("yes", "discard", late); got.code != cli.ExitOK || !strings.Contains(got.out, "Discarded 1, failed 0") {
		t.Errorf("discard: %+v", got)
	}

	// The same with nobody serving, and after that serve delivers what was replayed.
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
	written.WriteString(r.log.String())
	if got := list(); len(got) != 1 || got[0].FirstID != autumn {
		t.Fatalf("left are %+v", got)
	}
	if got := run("", "replay", "--all", "--yes"); got.code != cli.ExitOK || !strings.Contains(got.out, "Replayed 1, failed 0") {
		t.Errorf("replay in a directory: %+v", got)
	}
	r = startRole(t, serve...)
	eventually(t, "what was replayed without serve is delivered", func() bool { return len(r.log.events("delivered")) == 1 })
	if n := len(fb.Duplicates()); fb.Summary().Accepted != 2 || n > 1 { // both campaigns sent the same text to the same person
		t.Errorf("Facebook accepted %d", fb.Summary().Accepted)
	}
	if got := run("", "discard", "--all", "--yes"); got.code != cli.ExitOK || got.out != "No dead letter matches.\n" {
		t.Errorf("discard of none: %+v", got)
	}
	r.end()
	written.WriteString(r.log.String())
	keepsSecrets(t, written.String(), psid, text, "secret order", pages[0].token, pages[0].secret, pages[0].key, pages[1].token, pages[1].secret)
}

// TestDeadLettersByURL reaches a queue by --nats-url, with a password in it.
func TestDeadLettersByURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv, err := embedded.Start(queuetest.Unflushed(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	url, err := embedded.Address(dir)
	if err != nil {
		t.Fatal(err)
	}
	password := regexp.MustCompile(`:([^:@]+)@`).FindStringSubmatch(url)[1]
	if got := command(t, "", "deadletters", "list", "--nats-url="+url); got.code != cli.ExitUsage || !strings.Contains(got.err, "nothing of Brazier's ever ran there") {
		t.Errorf("no queue: %+v", got)
	}
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, args := range [][]string{{"list", "--nats-url=" + url}, {"list", "--nats-url=" + url, "--data="}, {"list", "--data=" + dir}} {
		got := command(t, "", append([]string{"deadletters"}, args...)...)
		if got.code != cli.ExitOK || got.out != "0 dead letters.\n" {
			t.Errorf("%v: %+v", args[1:], got)
		}
		keepsSecrets(t, got.out+got.err, password)
	}
	got := command(t, "", "deadletters", "list", "--nats-url="+strings.Replace(url, password, "wrong-password", 1))
	if got.code != cli.ExitFailed || got.out != "" {
		t.Errorf("wrong password: %+v", got)
	}
	keepsSecrets(t, got.out+got.err, "wrong-password")
}

func TestDeadLettersMisused(t *testing.T) {
	t.Chdir(t.TempDir())
	file := writePages(t, newTestPage("1029384756", "acme"))
	for args, want := range map[string]string{
		"list":                "where is the queue?",
		"list --data=nowhere": "nowhere holds no queue",
		"list --data=x --nats-url=nats://127.0.0.1":  "both --data and --nats-url",
		"list --data=x --page=acme":                  "no page file has its name",
		"list --data=x --page=other --pages=" + file: `"other" is neither an id nor a name`,
		"list --data=x --class=dead":                 `--class: must be one of transient,`,
		"list --data=x --since=yesterday":            `must be a time such as 2026-11-22T08:00:00Z, or an age such as 90m, 2h or 3d (got "yesterday")`,
		"list --data=x --since=-2h":                  "must be a time such as",
		"list --data=x --since=1h --until=2h":        "--since: must be before --until",
		"list --data=x --limit=-1":                   "--limit: must not be negative (got -1)",
		"show --data=x":                              `expected "<id>"`,
		"replay --data=x --yes":                      "name the dead letters by ids or filters, or give --all",
		"discard --data=x --yes":                     "name the dead letters by ids or filters, or give --all",
		"discard --data=x --all --page=1 --yes":      "--all: must not be combined with ids or filters",
		"replay --data=x --all A":                    "--all: must not be combined with ids or filters",
	} {
		got := command(t, "", append([]string{"deadletters"}, strings.Fields(args)...)...)
		if got.code != cli.ExitUsage || !strings.Contains(got.err, want) {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
	if left, _ := filepath.Glob("*"); len(left) > 0 {
		t.Errorf("commands made %v", left)
	}
}

var replayed = flag.Int("replay.deadletters", 1000, "dead letters that TestReplayMany replays")

// TestReplayMany lets a whole campaign die, replays it by a process that is killed in the middle and by another one, and
// counts what Facebook gets.
func TestReplayMany(t *testing.T) {
	t.Parallel()
	pageCount := min(4+*replayed/5000, 20)
	var pages []testPage
	var simulated []sandbox.Page
	for i := range pageCount {
		p := newTestPage(fmt.Sprint(1029384700+i), fmt.Sprint("page", i))
		p.extra = "    rate: 300\n"
		pages = append(pages, p)
		simulated = append(simulated, sandbox.Page{ID: p.id, Token: p.token, AppSecret: p.secret, Rate: sandbox.Off, HighVolume: sandbox.Off})
	}
	fb, err := sandbox.New(sandbox.Config{Pages: simulated})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	down := fb.Script(unreachable(""))
	dir := t.TempDir()
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+dir, "--sync=interval", "--pages="+writePages(t, pages...),
		"--graph-url="+fb.URL(), "--log-format=json", "--log-level=error")
	var address string
	eventually(t, "serve is open", func() bool { address, err = embedded.Address(dir); return err == nil })
	q, err := queue.Open(t.Context(), queue.Config{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	backlog := func() (pending, dead int) {
		for _, p := range pages {
			b, err := q.Backlog(t.Context(), p.id)
			if err != nil {
				t.Fatal(err)
			}
			pending, dead = pending+int(b.Pending), dead+int(b.Dead)
		}
		return pending, dead
	}

	began := time.Now()
	publish(t, q, pages, *replayed)
	growsTo(t, "dead letters", *replayed, func() int { _, dead := backlog(); return dead })
	died := time.Since(began)
	if n := fb.Summary().Accepted; n != 0 {
		t.Fatalf("%d messages were delivered", n)
	}
	fb.Clear(down)

	began = time.Now()
	killed := startProcess(t, "brazier", "deadletters", "replay", "--all", "--yes", "--data="+dir)
	eventually(t, "the replay has begun", func() bool { _, dead := backlog(); return dead < *replayed*9/10 })
	killed.signal(syscall.SIGKILL)
	<-killed.done
	_, left := backlog()
	got := command(t, "", "deadletters", "replay", "--all", "--yes", "--data="+dir)
	took := time.Since(began)
	if got.code != cli.ExitOK {
		t.Errorf("replay: %+v", got)
	}
	growsTo(t, "delivered messages", *replayed, func() int { return fb.Counts().Accepted })
	eventually(t, "the queue is empty", func() bool { pending, _ := backlog(); return pending == 0 })
	t.Logf("%d messages dead in %v; replayed in %v (%d left when the first replay was killed); delivered in %v", *replayed, died.Round(time.Millisecond),
		took.Round(time.Millisecond), left, time.Since(began).Round(time.Millisecond))
	t.Log(strings.TrimSpace(got.out))
	if sent := fb.Counts(); sent.Accepted != *replayed || sent.Duplicates != 0 {
		t.Errorf("%d messages delivered, %d of them twice; want each of %d once", sent.Accepted, sent.Duplicates, *replayed)
	}
	if got := command(t, "", "deadletters", "replay", "--all", "--yes", "--data="+dir); got.out != "No dead letter matches.\n" {
		t.Errorf("a replay after all: %+v", got)
	}
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
	if lines := r.log.String(); lines != "" {
		t.Errorf("errors were logged:\n%s", r.log.tail())
	}
}

// publish puts messages, each to another person, into the queue as the ingress does.
func publish(t *testing.T, q *queue.Queue, pages []testPage, n int) {
	t.Helper()
	numbers := make(chan int)
	var senders sync.WaitGroup
	for range 32 {
		senders.Go(func() {
			for i := range numbers {
				now := time.Now()
				job := &queue.Job{ID: queue.NewID(), Page: pages[i%len(pages)].id, Lane: queue.Bulk, Accepted: now, Expire: now.Add(time.Hour),
					Body: []byte(message(fmt.Sprintf("20030%011d", i), "hello"))}
				if _, err := q.Publish(t.Context(), job); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	senders.Wait()
}

// growsTo waits until count is n, for as long as it grows.
func growsTo(t *testing.T, what string, n int, count func() int) {
	t.Helper()
	last, grew := -1, time.Now()
	for poll := time.NewTicker(100 * time.Millisecond); last < n; <-poll.C {
		now := count()
		if now > last {
			last, grew = now, time.Now()
		}
		if time.Since(grew) > time.Minute {
			t.Fatalf("%s: %d, want %d", what, last, n)
		}
	}
}

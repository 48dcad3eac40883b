package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// startDeployedNATS starts a server on which the roles have the rights of deploy/nats-users.conf, and returns its address, and the file
// into which it writes what its clients ask of it.
func startDeployedNATS(t *testing.T) (address, trace string) {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	trace = filepath.Join(dir, "trace.log")
	conf := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\ninclude nats-users.conf\ntrace: true\nmax_traced_msg_len: 1\nlog_file: %q\npid_file: %q\n", address, dir, trace, filepath.Join(dir, "nats.pid"))
	for name, content := range map[string]string{"nats.conf": conf, "nats-users.conf": read(t, "../../deploy/nats-users.conf")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startProcessWith(t, deployEnvironment(), "nats-server", "-c", filepath.Join(dir, "nats.conf"))
	eventually(t, "NATS", func() bool { log, _ := os.ReadFile(trace); return strings.Contains(string(log), "Server is ready") })
	return address, trace
}

// TestDeployNATSInboxes tries to listen to what others are answered, as the users of deploy/nats-users.conf: who has the
// password of the ingress must not read what workers fetch.
func TestDeployNATSInboxes(t *testing.T) {
	t.Parallel()
	address, _ := startDeployedNATS(t)
	const ingress, worker, admin = "_INBOX_brazier_ingress.>", "_INBOX_brazier_worker.>", "_INBOX_brazier_admin.>"
	for _, c := range []struct {
		user        string
		may, mayNot []string
	}{
		{"ingress", []string{ingress, "_INBOX_brazier_ingress.a.b"}, []string{worker, admin}},
		{"worker", []string{worker}, []string{ingress, admin}},
		{"operator", []string{ingress, worker, admin}, nil},
	} {
		refused := func(subject string) bool {
			return refused(t, address, c.user, func(nc *nats.Conn) error { _, err := nc.SubscribeSync(subject); return err })
		}
		for _, subject := range c.may {
			if refused(subject) {
				t.Errorf("the user %s cannot subscribe to %s", c.user, subject)
			}
		}
		if c.mayNot != nil {
			c.mayNot = append(c.mayNot, ">", "_INBOX.>", "_INBOX_brazier_*.>", "*.>", "brazier.>", "$JS.>")
		}
		for _, subject := range c.mayNot {
			if !refused(subject) {
				t.Errorf("the user %s can subscribe to %s", c.user, subject)
			}
		}
	}
}

// buryOverdue does what a worker does about a message of a page that no worker has.
func buryOverdue(t *testing.T, q *queue.Queue, address, page string) {
	t.Helper()
	operator, err := queue.Open(t.Context(), queue.Config{URL: "nats://operator:poperator@" + address})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	job := &queue.Job{ID: queue.NewID(), Page: page, Lane: queue.Bulk, Accepted: time.Now(), Expire: time.Now().Add(-time.Minute), Body: []byte("{}")}
	if _, err := operator.Publish(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	overdue := q.NewSweeper()
	if _, err := overdue.Claim(t.Context(), time.Second); err != nil { // the worker may have it
		t.Error(err)
	}
	err = overdue.Each(t.Context(), queue.PageLane{Page: job.Page, Lane: job.Lane}, func(d *queue.Delivery) {
		if err := d.DeadLetter(t.Context(), queue.Reason{Class: "expired"}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if b, err := operator.Backlog(t.Context(), job.Page); err != nil || b.Pending != 0 || b.Dead != 1 {
		t.Errorf("of a page that no worker has: backlog %+v, error %v", b, err)
	}
}

// TestDeployNATSUsers runs an ingress and a worker as the users of deploy/nats-users.conf. They need each of their rights, and each is
// refused what only the other may do.
func TestDeployNATSUsers(t *testing.T) {
	t.Parallel()
	asked := map[string]map[string]bool{"ingress": {}, "worker": {}}
	for name, part := range map[string]func(*testing.T) (trace string){"messages": messagesByRights, "webhooks": webhooksByRights, "ids": idsByRights} {
		t.Run(name, func(t *testing.T) {
			for user, subjects := range published(t, part(t)) {
				maps.Copy(asked[user], subjects)
			}
		})
	}
	rights := map[string][]string{}
	for _, user := range []string{"ingress", "worker"} {
		rights[user] = rightsOf(t, user)
		for _, pattern := range rights[user] {
			used := func(subject string) bool { return matches(pattern, subject) }
			if !slices.ContainsFunc(slices.Collect(maps.Keys(asked[user])), used) && !strings.Contains(pattern, ".*.*.") { // for js_ack_fc_v2, which no server has on
				t.Errorf("the user %s does not need %s", user, pattern)
			}
		}
	}
	address, _ := startDeployedNATS(t)
	for user, other := range map[string]string{"ingress": "worker", "worker": "ingress"} {
		tried := 0
		for subject := range asked[other] {
			may := func(user string) bool {
				return slices.ContainsFunc(rights[user], func(pattern string) bool { return matches(pattern, subject) })
			}
			if !may(other) || may(user) {
				continue
			}
			tried++
			if !refused(t, address, user, func(nc *nats.Conn) error { return nc.Publish(subject, nil) }) {
				t.Errorf("the user %s may publish to %s", user, subject)
			}
		}
		if tried == 0 {
			t.Errorf("%s may do all that %s does", user, other)
		}
	}
}

// published returns to which subjects each role published, by what a server traced.
func published(t *testing.T, trace string) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{"ingress": {}, "worker": {}}
	for _, m := range regexp.MustCompile(`user:(ingress|worker)" - <<- \[H?PUB (\S+)`).FindAllStringSubmatch(read(t, trace), -1) {
		found[m[1]][m[2]] = true
	}
	return found
}

// rightsOf returns to which subjects a user of deploy/nats-users.conf may publish.
func rightsOf(t *testing.T, user string) (patterns []string) {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, "../../deploy/nats-users.conf"), "user: "+user+",")
	rest, _, _ = strings.Cut(rest, "subscribe:")
	for line := range strings.Lines(rest) {
		before, _, _ := strings.Cut(line, "# ")
		for _, m := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(before, -1) {
			if slices.Contains(patterns, m[1]) {
				t.Errorf("the user %s has %s twice", user, m[1])
			}
			patterns = append(patterns, m[1])
		}
	}
	if len(patterns) < 10 {
		t.Fatalf("rights of %s: %q", user, patterns)
	}
	return patterns
}

// matches reports whether a subject is one of a pattern's, as NATS has it.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}

// refused reports whether the server refuses a user what do asks of it.
func refused(t *testing.T, address, user string, do func(*nats.Conn) error) bool {
	t.Helper()
	nc, err := nats.Connect("nats://"+user+":p"+user+"@"+address, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := errors.Join(do(nc), nc.FlushTimeout(settleTimeout)); err != nil {
		t.Fatal(err)
	}
	return errors.Is(nc.LastError(), nats.ErrPermissionViolation)
}

// messagesByRights takes messages through a server on which the roles have the rights of deploy/nats-users.conf, and no others.
func messagesByRights(t *testing.T) (trace string) {
	address, trace := startDeployedNATS(t)
	page := newTestPage("1029384756", "acme")
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	pages := "--pages=" + writePages(t, page)
	as := func(user string) string { return "--nats-url=nats://" + user + "@" + address }
	ingress := func(user string) *role {
		return startRole(t, "ingress", as(user), pages, "--listen=127.0.0.1:0", "--ops-listen=off", "--log-format=json")
	}

	wrong := ingress("ingress:wrong")
	early := ingress("ingress:pingress")
	line := early.log.await(t, "waiting")
	if line["what"] != "stream BRAZIER_JOBS" || !strings.Contains(line["reason"].(string), "it does not exist, and this user may not create it") ||
		!strings.Contains(line["remedy"].(string), "brazier setup") {
		t.Errorf("an ingress that may not make streams says %v", line)
	}
	early.end()

	w := startRole(t, "worker", as("worker:pworker"), pages, "--graph-url="+fb.URL(), "--ops-listen=off", "--log-format=json")
	w.log.await(t, "started")
	front := ingress("ingress:pingress")
	at := front.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	// One is delivered, one fails at first, one cannot be reached, one fails again and again.
	for _, psid := range []string{"2003004005006007", "9000000500000001", "9000000551000001", "9000000002000001"} {
		if status, answer, err := post(client, at, page, message(psid, "Hello"), map[string]string{"X-Brazier-Campaign": "spring"}); err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	eventually(t, "two messages delivered, one dead", func() bool {
		return len(w.log.events("delivered")) == 2 && len(w.log.events("dead")) == 1
	})
	// What a worker does for its stats line.
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://worker:pworker@" + address, Role: "worker", Log: cli.LogFlags{Format: "json"}.Logger(&w.log)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if backlog, err := q.Backlog(t.Context(), page.id); err != nil || backlog.Pending != 1 || backlog.Dead != 1 || backlog.Oldest.IsZero() {
		t.Errorf("backlog %+v, error %v", backlog, err)
	}
	usePages(t, q, page.id)
	buryOverdue(t, q, address, "42")
	eventually(t, "both have counted", func() bool {
		operator := command(t, "", "campaign", "spring", "--json", as("operator:poperator"))
		return strings.Contains(operator.out, `"accepted":4,"delivered":2,"failed":1,"waiting":1,`)
	})
	eventually(t, "both are alive", func() bool { return len(aliveRoles(t, "ingress:pingress@"+address)) == 2 })
	for name, r := range map[string]*role{"worker": w, "ingress": front} {
		if refused := slices.Concat(r.log.events("nats_error"), r.log.events("campaign_counts_wait"), r.log.events("alive_wait")); len(refused) > 0 {
			t.Errorf("%s: %v", name, refused)
		}
	}
	// Changes are for operators.
	if printed := runSetup(t, cli.ExitFailed, as("ingress:pingress"), "--max-queue=2000000000"); !strings.Contains(printed[len(printed)-1], "operator") {
		t.Errorf("an ingress that changes a stream says %q", printed)
	}
	lines(t, "setup", runSetup(t, cli.ExitOK, as("operator:poperator"), "--max-queue=2000000000"),
		"BRAZIER_JOBS: max_bytes was 10737418240, and is 2000000000")
	updateStreams(t, address, func() {
		w.end()
		startRole(t, "worker", as("worker:pworker"), pages, "--graph-url="+fb.URL(), "--ops-listen=off", "--log-format=json").log.await(t, "started")
	})
	wrong.log.await(t, "stopped") // by itself
	if code := wrong.end(); code != cli.ExitFailed {
		t.Errorf("a wrong password: exit code %d, log\n%s", code, wrong.log.String())
	}
	return trace
}

// updateStreams has a worker find streams of an earlier version, to which it adds what its own needs.
func updateStreams(t *testing.T, address string, restart func()) {
	t.Helper()
	nc, err := nats.Connect("nats://operator:poperator@" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[string]string{}
	for stream := range js.ListStreams(t.Context()).Info() {
		schemas[stream.Config.Name] = stream.Config.Metadata["brazier.schema"]
		stream.Config.Metadata["brazier.schema"] = "1"
		if _, err := js.UpdateStream(t.Context(), stream.Config); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	eventually(t, "all streams are of this version", func() bool {
		for stream := range js.ListStreams(t.Context()).Info() {
			if stream.Config.Metadata["brazier.schema"] != schemas[stream.Config.Name] {
				return false
			}
		}
		return true
	})
}

// idsByRights looks ids up in all streams where that is done.
func idsByRights(t *testing.T) (trace string) {
	address, trace := startDeployedNATS(t)
	operator := openAs(t, address, "operator")
	defer operator.Close() // it has made the streams
	ingress, worker := openAs(t, address, "ingress"), openAs(t, address, "worker")
	defer ingress.Close()
	defer worker.Close()
	publishAtOnce(t, ingress, "42", queue.Bulk, queue.Events, queue.Outcomes)
	publishAtOnce(t, worker, "43", queue.Updates("eu"), queue.Outcomes)
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	if n, _, err := ingress.Waiting(ctx); err != nil || n != jobsAtOnce {
		t.Errorf("%d jobs wait, %v", n, err)
	}
	return trace
}

// openAs opens a queue as a user of deploy/nats-users.conf.
func openAs(t *testing.T, address, user string) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://" + user + ":p" + user + "@" + address, Role: user, RoadBack: true,
		Existing: user == "ingress", Flushed: true, Log: zaptest.NewLogger(t)}) // Flushed, so that it makes batches
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// jobsAtOnce is how many jobs publishAtOnce stores in each lane.
const jobsAtOnce = 60

// publishAtOnce stores jobs at the same time, in batches, and again, when they are found by their ids.
func publishAtOnce(t *testing.T, q *queue.Queue, page string, lanes ...queue.Lane) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	for _, lane := range lanes {
		for _, again := range []bool{false, true} {
			var publishing sync.WaitGroup
			for i := range jobsAtOnce {
				publishing.Go(func() {
					job := &queue.Job{ID: fmt.Sprintf("%s-%d", lane, i), Page: page, Lane: lane, Key: fmt.Sprint(i), Accepted: time.Now(),
						Expire: time.Now().Add(time.Hour), Body: []byte(`{"id":"A1"}`)}
					if stored, err := q.Publish(ctx, job); err != nil || stored.Duplicate != again {
						t.Errorf("%s that is stored again=%t: %+v, %v", lane, again, stored, err)
					}
				})
			}
			publishing.Wait()
		}
	}
}

// usePages does what workers do to share a page.
func usePages(t *testing.T, q *queue.Queue, page string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	for _, pace := range []*queue.Pace{q.Pace(page, "text"), q.Pace(page, "text")} { // the second reads what the first wrote
		if err := pace.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		if slots, err := pace.Reserve(ctx, 40, 1); err != nil || slots.N != 1 {
			t.Fatalf("slots %+v, error %v", slots, err)
		}
	}
	watching, end := context.WithCancel(ctx)
	last, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.WatchPages(watching, func(_ string, s queue.PageState) {
			if s.Class == "page" {
				close(last)
			}
		}, nil)
	}()
	// After a megabyte or two the server waits until the watcher says that it follows.
	state := queue.PageState{Reason: strings.Repeat("x", 50_000)}
	for i := range 100 {
		var err error
		if i == 99 {
			state.Class = "page"
		}
		if state, err = q.SetPageState(ctx, page, state); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-last:
	case <-ctx.Done():
		t.Error("the watch says nothing")
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if all, err := q.PageStates(ctx); err != nil || all[page].Class != "page" {
		t.Errorf("states %+v, error %v", all, err)
	}
	if state, err := q.PageState(ctx, page); err != nil || state.Class != "page" {
		t.Errorf("state %+v, error %v", state, err)
	}
}

// Pages can be spread over streams by an account of NATS for each group of them: two fleets on one server, which know nothing of each other.
func TestAccountPerGroup(t *testing.T) {
	t.Parallel()
	address, conf := freeAddress(t), filepath.Join(t.TempDir(), "nats.conf")
	writeFile(t, conf, fmt.Sprintf(`listen: %q
jetstream { store_dir: %q }
accounts {
  EU { jetstream: enabled, users: [{ user: eu, password: peu }] }
  US { jetstream: enabled, users: [{ user: us, password: pus }] }
}
`, address, t.TempDir()))
	server := startProcess(t, "nats-server", "-c", conf)
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	fb, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	client := &http.Client{}
	defer client.CloseIdleConnections()
	workers := map[string]*role{}
	for group, page := range map[string]testPage{"eu": newTestPage("1029384756", "acme"), "us": newTestPage("1029384757", "nordwind")} {
		common := []string{"--nats-url=nats://" + group + ":p" + group + "@" + address, "--pages=" + writePages(t, page), "--ops-listen=off", "--log-format=json"}
		workers[group] = startRole(t, append([]string{"worker", "--graph-url=" + fb.URL()}, common...)...)
		workers[group].log.await(t, "started")
		ingress := startRole(t, append([]string{"ingress", "--listen=127.0.0.1:0"}, common...)...)
		at := ingress.log.await(t, "started")["address"].(string)
		header := map[string]string{"Idempotency-Key": "the same in both"}
		if status, answer, err := post(client, at, page, message("2003004005006007", "Hello"), header); err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	for group, page := range map[string]string{"eu": "acme", "us": "nordwind"} {
		if line := workers[group].log.await(t, "delivered"); line["page"] != page {
			t.Errorf("the worker of %s says %v", group, line)
		}
	}
}

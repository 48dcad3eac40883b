package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestDeployPartitions raises the number of partitions under the users of deploy/nats-users.conf. Before these have the permissions that
// the command of deploy/SIZING.md adds, the roles go on as they did and say what they lack; with them they use the new partition.
func TestDeployPartitions(t *testing.T) {
	t.Parallel()
	address, trace := startDeployedNATS(t)
	users := filepath.Join(filepath.Dir(trace), "nats-users.conf")
	page := newTestPage("100000000000000001", "acme") // in the second of two partitions
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	common := []string{"--pages=" + writePages(t, page), "--ops-listen=127.0.0.1:0", "--log-format=json"}
	as := func(user string) string { return "--nats-url=nats://" + user + ":p" + user + "@" + address }
	client := &http.Client{}
	defer client.CloseIdleConnections()
	worker := func() *role {
		r := startRole(t, append([]string{"worker", as("worker"), "--graph-url=" + fb.URL()}, common...)...)
		r.log.await(t, "started")
		return r
	}
	ingress := func() (r *role, address string) {
		r = startRole(t, append([]string{"ingress", as("ingress"), "--listen=127.0.0.1:0"}, common...)...)
		return r, r.log.await(t, "started")["address"].(string)
	}
	send := func(at, key, want string) {
		t.Helper()
		status, answer, err := post(client, at, page, message("2003004005006007", "Hello"), map[string]string{"Idempotency-Key": key})
		if err != nil || status != http.StatusAccepted || !strings.Contains(answer, want) {
			t.Fatalf("answer %d %s, error %v; want %s", status, answer, err, want)
		}
	}
	w := worker()
	front, at := ingress()
	send(at, "1", "queued")

	raised := runSetup(t, cli.ExitOK, as("operator"), "--partitions=2")
	const last = "BRAZIER_JOBS: partitions was 1, and is 2, the new ones from "
	lines(t, "setup", raised[:len(raised)-1], "BRAZIER_JOBS_2 was missing, and has been created", "BRAZIER_RECORDS_2 was missing, and has been created")
	if !strings.HasPrefix(raised[len(raised)-1], last) {
		t.Errorf("setup prints %q", raised)
	}
	if refused := runSetup(t, cli.ExitUsage, as("operator"), "--partitions=99"); !strings.Contains(refused[0], "--partitions: must be between 1 and 32 (got 99)") {
		t.Errorf("setup says %q", refused)
	}
	for _, r := range []*role{w, front} {
		if line := r.log.await(t, "partitions_refused"); !strings.Contains(line["error"].(string), "BRAZIER_JOBS_2") {
			t.Errorf("line %v", line)
		}
	}
	send(at, "2", "queued")
	eventually(t, "both are delivered", func() bool { return fb.Counts().Accepted == 2 })
	useNow(t, address)
	ready(t, w.ops(t), http.StatusServiceUnavailable, "new partitions cannot be used")
	ready(t, front.ops(t), http.StatusOK, "ready") // it stores messages where others take them

	command := regexp.MustCompile(`(?m)^ *sed -i .*$`).FindString(read(t, "../../deploy/SIZING.md"))
	add := exec.Command("sh", "-c", command)
	add.Dir = filepath.Dir(users)
	if out, err := add.CombinedOutput(); err != nil || !strings.Contains(read(t, users), `"$JS.ACK.BRAZIER_JOBS_2.>"`) {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	pid := strings.TrimSpace(read(t, filepath.Join(filepath.Dir(trace), "nats.pid")))
	if out, err := exec.Command("kill", "-HUP", pid).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, r := range []*role{w, front} {
		if line := r.log.await(t, "partitions"); line["partitions"] != 2.0 {
			t.Errorf("line %v", line)
		}
	}
	operator, err := queue.Open(t.Context(), queue.Config{URL: "nats://operator:poperator@" + address})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	ready(t, w.ops(t), http.StatusOK, "ready")
	sent := 2
	eventually(t, "the second partition is used", func() bool {
		sent++
		send(at, fmt.Sprint(sent), "queued")
		sizes, err := operator.Sizes(t.Context())
		return err == nil && sizes.Jobs[1].Bytes > 0
	})
	send(at, "1", "duplicate") // which is in the first partition
	send(at, fmt.Sprint(sent), "duplicate")
	eventually(t, "all are delivered", func() bool { return fb.Counts().Accepted == sent })
	if status, answer, err := post(client, at, page, message("9000000551000001", "Hello"), nil); err != nil || status != http.StatusAccepted { // cannot be reached
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	w.log.await(t, "dead")
	w.end()
	w = worker() // with both from its start
	send(at, "last", "queued")
	eventually(t, "the last is delivered", func() bool { return fb.Counts().Accepted == sent+1 })
	looker, err := queue.Open(t.Context(), queue.Config{URL: "nats://worker:pworker@" + address, Role: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	defer looker.Close()
	buryOverdue(t, looker, address, "100000000000000002")
	for name, r := range map[string]*role{"worker": w, "ingress": front} {
		for _, line := range r.log.events("nats_error") {
			if !strings.Contains(line["error"].(string), "STREAM.INFO.BRAZIER_") { // of before
				t.Errorf("%s: %v", name, line)
			}
		}
	}
}

// useNow has the partitions that were added used from now on.
func useNow(t *testing.T, address string) {
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
	now := fmt.Sprint(time.Now().UnixMilli())
	for _, name := range []string{queue.StreamRecords, queue.StreamJobs} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.Metadata["brazier.partitions.since"] = now
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}

package main

import (
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// runSetup returns what brazier setup prints, line by line.
func runSetup(t *testing.T, code int, args ...string) []string {
	t.Helper()
	got := command(t, "", append([]string{"setup"}, args...)...)
	if got.code != code {
		t.Fatalf("setup %v: exit code %d, want %d: %s%s", args, got.code, code, got.out, got.err)
	}
	return strings.Split(strings.TrimSuffix(got.out+got.err, "\n"), "\n")
}

func lines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// brazier setup makes and changes what NATS has, where the roles only say that it differs. This is what deploy/README.md
// says of --max-queue, --dead-age, --replicas and --key-window.
func TestSetupCommand(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	nats := startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	eventually(t, "NATS", func() bool { return strings.Contains(nats.log.String(), "Server is ready") })
	url := "--nats-url=nats://" + address
	lines(t, "dry run", runSetup(t, cli.ExitOK, url, "--max-queue=20000000", "--dry-run"),
		"BRAZIER_JOBS is missing, and would be created", "BRAZIER_RECORDS is missing, and would be created", "BRAZIER_DEAD is missing, and would be created",
		"KV_BRAZIER_PAGES is missing, and would be created", "KV_BRAZIER_PACE is missing, and would be created", "KV_BRAZIER_ALIVE is missing, and would be created", "BRAZIER_CAMPAIGNS is missing, and would be created")
	lines(t, "first run", runSetup(t, cli.ExitOK, url, "--max-queue=20000000"),
		"BRAZIER_JOBS was missing, and has been created", "BRAZIER_RECORDS was missing, and has been created", "BRAZIER_DEAD was missing, and has been created",
		"KV_BRAZIER_PAGES was missing, and has been created", "KV_BRAZIER_PACE was missing, and has been created", "KV_BRAZIER_ALIVE was missing, and has been created", "BRAZIER_CAMPAIGNS was missing, and has been created")
	lines(t, "second run", runSetup(t, cli.ExitOK, url, "--max-queue=20000000"), "Nothing differs.")

	page := newTestPage("1029384756", "acme")
	pages := "--pages=" + writePages(t, page)
	start := func(args ...string) *role {
		t.Helper()
		r := startRole(t, append([]string{"ingress", url, pages, "--listen=127.0.0.1:0", "--ops-listen=off", "--log-format=json"}, args...)...)
		r.log.await(t, "started")
		return r
	}
	r := start("--max-queue=30000000", "--dead-age=48h", "--key-window=4h")
	var drift []string
	for _, line := range r.log.events("drift") {
		drift = append(drift, strings.Join([]string{line["level"].(string), line["stream"].(string), line["setting"].(string), line["want"].(string), line["have"].(string)}, " "))
		if !strings.Contains(line["remedy"].(string), "brazier setup") {
			t.Errorf("remedy %q", line["remedy"])
		}
	}
	lines(t, "drift", drift, "warn BRAZIER_JOBS max_bytes 30000000 20000000", "warn BRAZIER_DEAD max_age 48h0m0s 720h0m0s")
	var now admin.Status
	if err := json.Unmarshal([]byte(command(t, "", "status", "--json", url, pages, "--max-queue=30000000").out), &now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]queue.Difference{{Stream: "BRAZIER_JOBS", Setting: "max_bytes", Have: "20000000", Want: "30000000"}}, now.Drift); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if out := command(t, "", "status", url, pages, "--dead-age=48h").out; !strings.Contains(out, `BRAZIER_DEAD: max_age is 720h0m0s, not 48h0m0s; "brazier setup"`) {
		t.Errorf("status says %s", out)
	}
	if out := command(t, "", "status", url, pages).out; strings.Contains(out, "brazier setup") {
		t.Errorf("status says without being told what there should be: %s", out)
	}

	lines(t, "change", runSetup(t, cli.ExitOK, url, "--max-queue=30000000", "--dead-age=48h"),
		"BRAZIER_JOBS: max_bytes was 20000000, and is 30000000", "BRAZIER_DEAD: max_age was 720h0m0s, and is 48h0m0s")
	if drift := start("--max-queue=30000000", "--dead-age=48h").log.events("drift"); len(drift) > 0 {
		t.Errorf("after setup: %v", drift)
	}
	if printed := runSetup(t, cli.ExitUsage, url, "--replicas=3"); !strings.Contains(printed[0], "3 replicas need a cluster, and this is a single server") {
		t.Errorf("setup says %q", printed)
	}
	if printed := runSetup(t, cli.ExitUsage, url, "--replicas=9"); !strings.Contains(printed[0], "between 1 and 5") {
		t.Errorf("setup says %q", printed)
	}
}

// --key-window is no setting of a stream: each id is kept for the window of the process that took its message, whatever
// nats stream edit --dupe-window says.
func TestKeyWindowIsTheRoles(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	server := startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	nc, err := nats.Connect("nats://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// kept returns for how long the id of a message is kept that a process with this window takes, once it is delivered.
	kept := func(window time.Duration) time.Duration {
		t.Helper()
		q, err := queue.Open(t.Context(), queue.Config{URL: "nats://" + address, Window: window})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		key := window.String()
		job := &queue.Job{ID: queue.KeyedID("1029384756", key), Key: key, Page: "1029384756", Lane: queue.Bulk, Accepted: time.Now(),
			RecipientDigest: "r", Body: []byte("{}")}
		if _, err := q.Publish(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		source := q.Source(job.Page, job.Lane, 1)
		defer source.Stop()
		d, err := source.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Begin(t.Context()), d.Done(t.Context())); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), queue.StreamRecords)
		if err != nil {
			t.Fatal(err)
		}
		record, err := stream.GetLastMsgForSubject(t.Context(), "brazier.records."+job.Page+".bulk."+job.ID)
		if err != nil {
			t.Fatal(err)
		}
		keep, err := time.ParseDuration(record.Header.Get(jetstream.MsgTTLHeader))
		if err != nil {
			t.Fatal(err)
		}
		return keep.Round(time.Minute)
	}
	before := kept(time.Hour)
	stream, err := js.Stream(t.Context(), queue.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	edited := stream.CachedInfo().Config
	edited.Duplicates = 4 * time.Hour // nats stream edit --dupe-window
	if _, err := js.UpdateStream(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	if after, longer := kept(time.Hour+time.Minute), kept(4*time.Hour); before != time.Hour || after != time.Hour+time.Minute || longer != 4*time.Hour {
		t.Errorf("ids are kept for %v, after the edit for %v, with a longer window for %v", before, after, longer)
	}
}

// On one machine setup works beside a running serve, and without it.
func TestSetupOnOneMachine(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	fb := newFacebook(t, page)
	data := t.TempDir()
	pages := "--pages=" + writePages(t, page)
	if printed := runSetup(t, cli.ExitUsage, "--data="+data); !strings.Contains(printed[0], "holds no queue") {
		t.Errorf("setup says %q", printed)
	}
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+data, pages, "--graph-url="+fb.URL(), "--log-format=json")
	r.log.await(t, "started")
	printed := runSetup(t, cli.ExitOK, "--data="+data, "--max-queue=20000000")
	if !slices.Contains(printed, "BRAZIER_JOBS: max_bytes was 10737418240, and is 20000000") {
		t.Errorf("setup says %q", printed)
	}
	lines(t, "again", runSetup(t, cli.ExitOK, "--data="+data, "--max-queue=20000000"), "Nothing differs.")
	if code := r.end(); code != cli.ExitOK {
		t.Fatalf("serve ended with %d", code)
	}
	lines(t, "without serve", runSetup(t, cli.ExitOK, "--data="+data, "--max-queue=20000000"), "Nothing differs.")
	lines(t, "change without serve", runSetup(t, cli.ExitOK, "--data="+data), "BRAZIER_JOBS: max_bytes was 20000000, and is 10737418240")
	if printed := runSetup(t, cli.ExitUsage, "--data="+data, "--replicas=3"); !strings.Contains(printed[0], "3 replicas need a cluster") {
		t.Errorf("setup says %q", printed)
	}
}

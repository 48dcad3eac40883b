package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func setup(t *testing.T, cfg queue.Config, dryRun bool) []queue.Difference {
	t.Helper()
	differs, err := queue.Setup(within(t, testTimeout), cfg, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	return differs
}

// Setup makes what is missing and changes what differs, says so, and has nothing to do the second time.
func TestSetup(t *testing.T) {
	t.Parallel()
	srv := natsServer(t, "jetstream { store_dir: %DIR% }")
	js := raw(t, srv)
	cfg := queue.Config{URL: srv.ClientURL(), MaxBytes: 2 << 20}
	made := []queue.Difference{
		{Stream: "BRAZIER_JOBS", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "BRAZIER_RECORDS", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "BRAZIER_DEAD", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "KV_BRAZIER_PAGES", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "KV_BRAZIER_PACE", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "KV_BRAZIER_ALIVE", Setting: "stream", Have: "missing", Want: "made"},
		{Stream: "BRAZIER_CAMPAIGNS", Setting: "stream", Have: "missing", Want: "made"},
	}
	equal(t, "what a dry run says", setup(t, cfg, true), made)
	if _, err := js.Stream(t.Context(), queue.StreamJobs); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("after a dry run: %v", err)
	}
	equal(t, "what was made", setup(t, cfg, false), made)
	if again := setup(t, cfg, false); again != nil {
		t.Errorf("the second run: %v", again)
	}

	jobs := config(t, js, queue.StreamJobs)
	jobs.MaxMsgSize, jobs.Discard, jobs.Description, jobs.Metadata["team"] = 1000, jetstream.DiscardOld, "ours", "growth"
	if _, err := js.UpdateStream(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	cfg.MaxBytes, cfg.DeadMaxAge = 4<<20, time.Hour
	changed := []queue.Difference{
		{Stream: "BRAZIER_JOBS", Setting: "max_bytes", Have: "2097152", Want: "4194304"},
		{Stream: "BRAZIER_JOBS", Setting: "discard", Have: "DiscardOld", Want: "DiscardNew"},
		{Stream: "BRAZIER_JOBS", Setting: "max_msg_size", Have: "1000", Want: "-1"},
		{Stream: "BRAZIER_DEAD", Setting: "max_age", Have: "720h0m0s", Want: "1h0m0s"},
	}
	equal(t, "what a dry run says", setup(t, cfg, true), changed)
	equal(t, "what a dry run leaves", config(t, js, queue.StreamJobs), jobs)
	equal(t, "what was changed", setup(t, cfg, false), changed)
	if again := setup(t, cfg, false); again != nil {
		t.Errorf("the second run: %v", again)
	}
	want := jobs
	want.MaxBytes, want.Discard, want.MaxMsgSize = 4<<20, jetstream.DiscardNew, -1
	equal(t, "stream of jobs", config(t, js, queue.StreamJobs), want)
	cfg.MaxBytes = 0 // 10 GiB
	cfg.DeadMaxAge = 0
	open(t, cfg)
}

// What Setup cannot do it says, and then it has changed nothing.
func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	message := func(t *testing.T, js jetstream.JetStream, subject string) {
		t.Helper()
		if _, err := js.Publish(within(t, 2*testTimeout), subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		cfg    queue.Config
		before func(*testing.T, jetstream.JetStream)
		want   []string // nil: it is done
	}{
		"replicas on a single server": {queue.Config{Replicas: 3}, nil, []string{"3 replicas need a cluster", "single server", "--replicas"}},
		"storage": {queue.Config{}, func(t *testing.T, js jetstream.JetStream) {
			install(t, js, setting{stream: queue.StreamDead, change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }})
		}, []string{"BRAZIER_DEAD", "storage is Memory and must be File", "cannot change", "nats stream rm"}},
		"of an earlier version": {queue.Config{}, func(t *testing.T, js jetstream.JetStream) {
			install(t, js, setting{stream: queue.StreamDead, change: func(c *jetstream.StreamConfig) { c.Metadata = nil }})
			message(t, js, "brazier.dead.1.window")
		}, []string{"BRAZIER_DEAD", "no brazier.schema", "1 messages", "nats stream rm"}},
		"of a newer version": {queue.Config{}, func(t *testing.T, js jetstream.JetStream) {
			install(t, js, setting{stream: queue.StreamDead, change: func(c *jetstream.StreamConfig) { c.Metadata[queue.SchemaKey] = "9" }})
		}, []string{"BRAZIER_DEAD", "schema 9", "newer"}},
		"made by hand, empty": {queue.Config{}, func(t *testing.T, js jetstream.JetStream) {
			install(t, js, setting{stream: queue.StreamDead, change: func(c *jetstream.StreamConfig) { c.Metadata = nil; c.Discard = jetstream.DiscardOld }})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := queuetest.Server(t, "")
			js := raw(t, srv)
			if c.before != nil {
				c.before(t, js)
			}
			c.cfg.InProcess = srv
			for _, dryRun := range []bool{true, false} {
				_, err := queue.Setup(within(t, testTimeout), c.cfg, dryRun)
				var bad *queue.StreamError
				if errors.As(err, &bad) != (c.want != nil) {
					t.Fatalf("setup: %v", err)
				}
				for _, text := range c.want {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("setup: %v; want %q", err, text)
					}
				}
			}
			_, err := js.Stream(t.Context(), queue.StreamJobs)
			if made := err == nil; made != (c.want == nil) {
				t.Errorf("the stream of jobs: %v", err)
			}
			if c.want == nil {
				open(t, queue.Config{InProcess: srv})
			}
		})
	}
}

// Replicas of everything are changed together on a cluster. Roles work with what is there, and say where it differs.
func TestSetupReplicas(t *testing.T) {
	t.Parallel()
	servers := natsCluster(t, "jetstream { store_dir: %DIR% }")
	cfg := queue.Config{URL: servers[0].ClientURL(), Replicas: 1, MaxBytes: 64 << 20}
	setup(t, cfg, false)
	core, lines := observer.New(zap.InfoLevel)
	cfg.Replicas, cfg.Log = 0, zap.New(core)
	q := open(t, cfg)
	publish(t, q, job(acme, queue.Bulk))
	if err := q.Pace(acme, "text").Prepare(within(t, testTimeout)); err != nil { // which looks at the bucket
		t.Fatal(err)
	}
	drift := func() *observer.ObservedLogs { return lines.FilterField(zap.String("event", "drift")) }
	eventually(t, "all six streams are logged as different", func() bool { return drift().Len() == 6 })
	for _, l := range drift().All() {
		if line := l.ContextMap(); line["setting"] != "num_replicas" || line["want"] != "3" || line["have"] != "1" {
			t.Errorf("line %v", line)
		}
	}
	cfg.Log = nil
	if changed := setup(t, cfg, false); len(changed) != 7 {
		t.Errorf("changed: %v", changed)
	}
	eventually(t, "nothing differs", func() bool { return setup(t, cfg, false) == nil })
	js, err := jetstream.New(dial(t, servers[0].ClientURL()))
	if err != nil {
		t.Fatal(err)
	}
	for _, plan := range queue.Layout() {
		if got := config(t, js, plan.Name).Replicas; got != 3 {
			t.Errorf("%s has %d replicas", plan.Name, got)
		}
	}
	if b, err := q.Backlog(within(t, 2*testTimeout), acme); err != nil || b.Pending != 1 {
		t.Errorf("backlog %+v, %v", b, err)
	}
	cfg.Replicas = 5
	var bad *queue.StreamError
	if _, err := queue.Setup(within(t, testTimeout), cfg, false); !errors.As(err, &bad) || !strings.Contains(err.Error(), "does not have enough servers") {
		t.Errorf("five replicas on three servers: %v", err)
	}
	eventually(t, "the queue is ready", func() bool { return q.Ready(t.Context()) == nil })
}

package queue_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// A field that a later nats.go adds has to be thought through.
func TestRulesForEveryField(t *testing.T) {
	t.Parallel()
	var fields []string
	for f := range reflect.TypeFor[jetstream.StreamConfig]().Fields() {
		fields = append(fields, f.Name)
	}
	slices.Sort(fields)
	equal(t, "fields with a rule", slices.Sorted(slices.Values(queue.Rules())), fields)
}

// The layout of each schema is kept. Another layout needs another schema, and a file of its own, except for a stream that is
// added and that the version before does not need.
func TestLayoutOfSchema(t *testing.T) {
	t.Parallel()
	layout := queue.Layout()
	for i := range layout {
		layout[i].Description = "" // says nothing to the program
	}
	var now strings.Builder
	enc := json.NewEncoder(&now)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(layout); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("testdata/layout-%d.json", queue.Schema)
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "layout of the present schema (raise the schema with a change of a stream, and keep both in testdata)", now.String(), string(kept))
}

// setting is one change of a stream by an operator.
type setting struct {
	stream string
	name   string // of the setting, as the server's API has it
	change func(*jetstream.StreamConfig)
	refuse string // part of what is line; empty if it is taken
	add    bool   // a role sets it right
	update bool   // the server takes it as an update alone
}

var settings = []setting{
	{stream: queue.StreamJobs, name: "subjects", change: func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "orders.>") }, refuse: "orders.>"},
	{stream: queue.StreamJobs, name: "subjects", change: func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] }, add: true},
	{stream: queue.StreamJobs, name: "retention", change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }, refuse: "Limits and must be WorkQueue"},
	{stream: queue.StreamJobs, name: "max_consumers", change: func(c *jetstream.StreamConfig) { c.MaxConsumers = 10 }, add: true},
	{stream: queue.StreamJobs, name: "max_msgs", change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }, refuse: "100 and must be -1"},
	{stream: queue.StreamJobs, name: "max_bytes", change: func(c *jetstream.StreamConfig) { c.MaxBytes = 2 << 20 }},
	{stream: queue.StreamJobs, name: "max_bytes", change: func(c *jetstream.StreamConfig) { c.MaxBytes = -1 }},
	{stream: queue.StreamJobs, name: "discard", change: func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, refuse: "DiscardOld and must be DiscardNew"},
	{stream: queue.StreamJobs, name: "discard_new_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 5, true }, refuse: "true and must be false"},
	{stream: queue.StreamJobs, name: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, refuse: "1h0m0s and must be 0s"},
	{stream: queue.StreamJobs, name: "max_msgs_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }, refuse: "2 and must be"},
	{stream: queue.StreamJobs, name: "max_msg_size", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 2000 }, refuse: "2000 and must be -1"},
	{stream: queue.StreamJobs, name: "storage", change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, refuse: "Memory and must be File"},
	{stream: queue.StreamJobs, name: "no_ack", change: func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, false }, refuse: "true and must be false"},
	{stream: queue.StreamJobs, name: "duplicate_window", change: func(c *jetstream.StreamConfig) { c.Duplicates = time.Hour }},
	{stream: queue.StreamJobs, name: "mirror", change: func(c *jetstream.StreamConfig) {
		*c = jetstream.StreamConfig{Name: c.Name, Mirror: &jetstream.StreamSource{Name: "OTHER"}, Metadata: c.Metadata}
	}, refuse: "mirror is set and must be none"},
	{stream: queue.StreamJobs, name: "sources", change: func(c *jetstream.StreamConfig) {
		c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}}
	}, refuse: "sources is set and must be none"},
	{stream: queue.StreamJobs, name: "sealed", change: func(c *jetstream.StreamConfig) { c.Sealed = true }, refuse: "sealed is true", update: true},
	{stream: queue.StreamJobs, name: "deny_delete", change: func(c *jetstream.StreamConfig) { c.DenyDelete = true }},
	{stream: queue.StreamJobs, name: "deny_purge", change: func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
	{stream: queue.StreamJobs, name: "allow_rollup_hdrs", change: func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
	{stream: queue.StreamJobs, name: "compression", change: func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression }},
	{stream: queue.StreamJobs, name: "first_seq", change: func(c *jetstream.StreamConfig) { c.FirstSeq = 1000 }},
	{stream: queue.StreamJobs, name: "description", change: func(c *jetstream.StreamConfig) { c.Description = "ours" }},
	{stream: queue.StreamJobs, name: "subject_transform", change: func(c *jetstream.StreamConfig) {
		c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "brazier.jobs.>", Destination: "elsewhere.>"}
	}, refuse: "subject_transform is set"},
	{stream: queue.StreamJobs, name: "republish", change: func(c *jetstream.StreamConfig) {
		c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
	}, refuse: "republish is set"},
	{stream: queue.StreamJobs, name: "allow_direct", change: func(c *jetstream.StreamConfig) { c.AllowDirect = false }, add: true},
	{stream: queue.StreamJobs, name: "consumer_limits", change: func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 1000 }, refuse: "max_ack_pending 1000"},
	{stream: queue.StreamJobs, name: "consumer_limits", change: func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Minute }, refuse: "inactive_threshold 1m0s"},
	{stream: queue.StreamJobs, name: "metadata", change: func(c *jetstream.StreamConfig) { c.Metadata["team"] = "growth" }},
	{stream: queue.StreamJobs, name: "allow_msg_ttl", change: func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false }, add: true},
	{stream: queue.StreamJobs, name: "subject_delete_marker_ttl", change: func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }, refuse: "1m0s and must be 0s"},
	{stream: queue.StreamJobs, name: "allow_atomic", change: func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, add: true},
	{stream: queue.StreamJobs, name: "persist_mode", change: func(c *jetstream.StreamConfig) {
		c.AllowAtomicPublish, c.PersistMode = false, jetstream.AsyncPersistMode
	}, refuse: "persist_mode is "},
	{stream: queue.StreamJobs, name: "allow_batched", change: func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true }},
	{stream: queue.StreamJobs, name: "allow_msg_counter", change: func(c *jetstream.StreamConfig) {
		c.Discard, c.Retention, c.AllowMsgTTL, c.AllowAtomicPublish, c.AllowMsgCounter = jetstream.DiscardOld, jetstream.LimitsPolicy, false, false, true
	}, refuse: "allow_msg_counter is true"},
	{stream: queue.StreamJobs, name: "allow_msg_schedules", change: func(c *jetstream.StreamConfig) {
		c.Discard, c.AllowMsgSchedules = jetstream.DiscardOld, true
	}, refuse: "allow_msg_schedules is true"},

	{stream: queue.StreamDead, name: "retention", change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, refuse: "WorkQueue and must be Limits"},
	{stream: queue.StreamDead, name: "discard", change: func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, refuse: "DiscardOld and must be DiscardNew"},
	{stream: queue.StreamDead, name: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = 48 * time.Hour }},
	{stream: queue.StreamDead, name: "max_msgs", change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }, refuse: "100 and must be -1"},
	{stream: queue.StreamDead, name: "max_bytes", change: func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }},
	{stream: queue.StreamDead, name: "duplicate_window", change: func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, add: true},
	{stream: queue.StreamDead, name: "deny_delete", change: func(c *jetstream.StreamConfig) { c.DenyDelete = true }, refuse: "deny_delete is true"},
	{stream: queue.StreamDead, name: "deny_purge", change: func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
	{stream: queue.StreamDead, name: "subject_delete_marker_ttl", change: func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Minute }, refuse: "taken for messages"},

	{stream: queue.StreamCampaigns, name: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = 48 * time.Hour }},
	{stream: queue.StreamCampaigns, name: "max_bytes", change: func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }},
	{stream: queue.StreamCampaigns, name: "duplicate_window", change: func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, add: true},

	{stream: "KV_" + queue.BucketPages, name: "storage", change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, refuse: "a restart would lose"},
	{stream: "KV_" + queue.BucketPages, name: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, refuse: "1h0m0s and must be 0s"},
	{stream: "KV_" + queue.BucketPages, name: "allow_direct", change: func(c *jetstream.StreamConfig) { c.AllowDirect = true }, refuse: "true and must be false"},
	{stream: "KV_" + queue.BucketPages, name: "max_msgs_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }, refuse: "10 and must be 1"},
	{stream: "KV_" + queue.BucketPages, name: "max_consumers", change: func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }, add: true},
	{stream: "KV_" + queue.BucketPages, name: "discard_new_per_subject", change: func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = true }, refuse: "could not be replaced"},
}

// planned is a stream as the layout has it.
func planned(t testing.TB, name string) jetstream.StreamConfig {
	t.Helper()
	for _, s := range queue.Layout() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stream %s", name)
	return jetstream.StreamConfig{}
}

// Each setting of a stream that would break a promise is refused, by its name, with what it is, what it has to be and what
// helps. What breaks nothing stays as the operator set it. What this version adds it adds.
func TestOpenJudgesSettings(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	js := raw(t, srv)
	for _, s := range settings { // one after the other on one server
		t.Run(s.stream+" "+s.name, func(t *testing.T) {
			before := install(t, js, s)
			defer remove(t, js)
			q, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv})
			if err == nil {
				q.Close()
			}
			var bad *queue.StreamError
			switch {
			case s.refuse == "" && err != nil:
				t.Errorf("open: %v", err)
			case s.refuse == "":
			case !errors.As(err, &bad) || bad.Stream != s.stream:
				t.Errorf("open: %v; want a StreamError of %s", err, s.stream)
			case !strings.Contains(err.Error(), s.name+" is ") || !strings.Contains(err.Error(), s.refuse) || !strings.Contains(err.Error(), "brazier setup"):
				t.Errorf("open: %v; want %s, %q and the remedy", err, s.name, s.refuse)
			}
			after := config(t, js, s.stream)
			want := before
			if s.add {
				want = config(t, raw(t, reference(t)), s.stream)
			}
			slices.Sort(after.Subjects)
			slices.Sort(want.Subjects)
			equal(t, "stream after Open", after, want)
		})
	}
}

// reference is a server with everything as Brazier makes it.
func reference(t *testing.T) *embedded.Server {
	srv := queuetest.Server(t, "")
	open(t, queue.Config{InProcess: srv}).Close()
	return srv
}

// install puts one stream there with an operator's change, and returns it as the server has it.
func install(t *testing.T, js jetstream.JetStream, s setting) jetstream.StreamConfig {
	t.Helper()
	cfg := planned(t, s.stream)
	if !s.update {
		s.change(&cfg)
	}
	eventually(t, "the server has removed the files of the stream before", func() bool {
		_, err := js.CreateStream(t.Context(), cfg)
		if err != nil && !strings.Contains(err.Error(), "error creating store") {
			t.Fatal(err)
		}
		return err == nil
	})
	if s.update {
		s.change(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	return config(t, js, s.stream)
}

// config is what the server says of a stream, without what it adds itself.
func config(t *testing.T, js jetstream.JetStream, stream string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	maps.DeleteFunc(cfg.Metadata, func(key, _ string) bool { return strings.HasPrefix(key, "_nats.") })
	return cfg
}

// remove removes all streams.
func remove(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	names := js.StreamNames(t.Context())
	var all []string
	for name := range names.Name() {
		all = append(all, name)
	}
	for _, name := range all {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// A stream without a schema is no released version's, and one of a newer version is not touched.
func TestOpenJudgesSchema(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		metadata map[string]string
		messages int
		refuse   []string
	}{
		"made by hand":               {nil, 0, []string{"no brazier.schema", "`brazier setup`"}},
		"of an earlier version":      {nil, 1, []string{"no brazier.schema", "holds 1 messages", "nats stream rm"}},
		"of a newer version":         {map[string]string{"brazier.schema": "7"}, 0, []string{"schema 7", "knows schema 2"}},
		"with something else":        {map[string]string{"brazier.schema": "two"}, 0, []string{`"two"`, "must be a positive number"}},
		"made by hand with a schema": {map[string]string{"brazier.schema": "2", "team": "growth"}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := queuetest.Server(t, "")
			js := raw(t, srv)
			dead := planned(t, queue.StreamDead)
			dead.Metadata = c.metadata
			if _, err := js.CreateStream(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
			for range c.messages {
				if _, err := js.Publish(within(t, 2*testTimeout), "brazier.dead.1.window", []byte("{}")); err != nil {
					t.Fatal(err)
				}
			}
			q, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv})
			if err == nil {
				q.Close()
			}
			if (err == nil) != (c.refuse == nil) {
				t.Fatalf("open: %v", err)
			}
			for _, text := range c.refuse {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("open: %v; want %q", err, text)
				}
			}
		})
	}
}

// A newer version adds what it needs to the streams of an older one, and leaves the operator's settings.
func TestNewerVersionAdds(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	tuned := config(t, js, queue.StreamDead)
	tuned.MaxBytes, tuned.Description = 1<<20, "ours"
	if _, err := js.UpdateStream(t.Context(), tuned); err != nil {
		t.Fatal(err)
	}
	next := planned(t, queue.StreamDead)
	next.Metadata[queue.SchemaKey] = "3"
	next.Subjects = append(next.Subjects, "brazier.undead.>")
	for range 2 { // the second time there is nothing to do
		if err := q.EnsureStream(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	want := tuned
	want.Subjects, want.Metadata = next.Subjects, map[string]string{queue.SchemaKey: "3"}
	equal(t, "stream", config(t, js, queue.StreamDead), want)

	// The older one stays away from then on.
	if _, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv}); err == nil || !strings.Contains(err.Error(), "schema 3") {
		t.Errorf("the older version opens: %v", err)
	}
	// What cannot be added is left to brazier setup.
	next.Metadata[queue.SchemaKey], next.MaxMsgSize = "4", 1000
	if err := q.EnsureStream(t.Context(), next); err == nil || !strings.Contains(err.Error(), "max_msg_size") || !strings.Contains(err.Error(), "brazier setup") {
		t.Errorf("a change that is no addition: %v", err)
	}
}

// A difference between the flags and a stream is logged once, and nothing is changed.
func TestDriftIsLogged(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	open(t, queue.Config{InProcess: srv, MaxBytes: 2 << 20, DeadMaxAge: 48 * time.Hour}).Close()
	core, lines := observer.New(zap.InfoLevel)
	open(t, queue.Config{InProcess: srv, MaxBytes: 3 << 20, DeadMaxAge: time.Hour, Log: zap.New(core)})
	var got []string
	for _, l := range lines.FilterField(zap.String("event", "drift")).All() {
		line := l.ContextMap()
		got = append(got, fmt.Sprint(l.Level, " ", line["stream"], " ", line["setting"], " ", line["want"], " ", line["have"]))
		if !strings.Contains(fmt.Sprint(line["remedy"]), "brazier setup") {
			t.Errorf("remedy: %v", line["remedy"])
		}
	}
	equal(t, "lines", got, []string{"warn BRAZIER_JOBS max_bytes 3145728 2097152", "warn BRAZIER_DEAD max_age 1h0m0s 48h0m0s"})
	equal(t, "max_bytes", config(t, raw(t, srv), queue.StreamJobs).MaxBytes, int64(2<<20))
}

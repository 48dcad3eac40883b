package queue

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// WithLease is for tests that would wait long for the real one.
func (c Config) WithLease(d time.Duration) Config {
	c.lease = d
	return c
}

// AsAnotherProcess is for tests in which a process stands for its successor too.
func (c Config) AsAnotherProcess() Config {
	c.worker = NewID()
	if c.Embedded {
		c.worker = embeddedPrefix + c.worker
	}
	return c
}

// State returns what the record of a job says, empty where there is none.
func (q *Queue) State(t testing.TB, page string, lane Lane, id string) string {
	t.Helper()
	r, err := q.findRecord(t.Context(), recordSubject(page, lane, id))
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		return ""
	}
	return string(r.State)
}

// What tests of the layout need to see.

// Layout returns the configuration of every stream and bucket with the defaults.
func Layout() []jetstream.StreamConfig {
	cfg := Config{Replicas: 1}
	if err := cfg.setDefaults(); err != nil {
		panic(err)
	}
	return cfg.layout()
}

// Rules returns the names of the fields that have a rule.
func Rules() (fields []string) {
	for name := range rules {
		fields = append(fields, name)
	}
	return fields
}

const (
	Schema    = schema
	SchemaKey = schemaKey
)

// Repair looks at the streams now.
func (q *Queue) Repair() { q.repair() }

// EnsureStream does what Open does for a stream of the layout, for a layout that is not this version's.
func (q *Queue) EnsureStream(ctx context.Context, plan jetstream.StreamConfig) error {
	_, _, err := q.ensureStream(ctx, plan)
	return err
}

// WithWaits is for tests that would wait long until something is said to be waited for, and until it is said again.
func (c Config) WithWaits(told, again time.Duration) Config {
	c.waitTold, c.waitAgain = told, again
	return c
}

// Busy reports whether many jobs are being stored.
func (q *Queue) Busy() bool { return q.accepting.isBusy() }

// StayBusy makes it so for an hour.
func (q *Queue) StayBusy() {
	q.accepting.mu.Lock()
	defer q.accepting.mu.Unlock()
	q.accepting.busy = time.Now().Add(time.Hour)
}

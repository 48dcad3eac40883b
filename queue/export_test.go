package queue

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// WithLease is for tests that would wait long for the real one.
func (c Config) WithLease(d time.Duration) Config {
	c.lease = d
	return c
}

// RemedyOfFull returns what to do where a stream is full.
func (q *Queue) RemedyOfFull(stream string) string {
	return q.explain(spaceIn(stream), fmt.Errorf("publish: %w", ErrFull)).remedy
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
	return q.StateIn(t, 1, page, lane, id)
}

// StateIn is State in a partition.
func (q *Queue) StateIn(t testing.TB, partition int, page string, lane Lane, id string) string {
	t.Helper()
	p := q.partitions()[partition-1]
	r, err := q.findRecord(t.Context(), p, p.recordSubject(page, lane, id))
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
	cfg := Config{Replicas: 1}.withDefaults()
	return cfg.layout(division{partitions: 1})
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

// WithGrowth is for tests that would wait long until new partitions are seen, and until they come into use.
func (c Config) WithGrowth(every, lead time.Duration) Config {
	c.repairEvery, c.partitionsLead = every, lead
	return c
}

// AfterLookup has f called after the next look-up of a record in the first partition.
func (q *Queue) AfterLookup(f func()) {
	q.first.records = &interrupted{q.first.records, sync.OnceFunc(f)}
}

type interrupted struct {
	jetstream.Stream
	after func()
}

func (s *interrupted) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	defer s.after()
	return s.Stream.GetLastMsgForSubject(ctx, subject)
}

// Mute has requests for the state of a stream go unanswered.
func (q *Queue) Mute(stream string) { q.js = muted{q.js, stream} }

type muted struct {
	jetstream.JetStream
	stream string
}

func (m muted) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if name == m.stream {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.JetStream.Stream(ctx, name)
}

// PartitionOf returns the partition of a page among n.
func PartitionOf(page string, n int) int { return partitionOf(page, n) }

// Partitions returns how many partitions are used for new jobs.
func (q *Queue) Partitions() int { return q.division().at(q.Now()) }

// WithWaits is for tests that would wait long until a wait is logged, and until it is logged again.
func (c Config) WithWaits(after, every time.Duration) Config {
	c.waitLogAfter, c.waitLogEvery = after, every
	return c
}

// WithAlive is for tests that would wait long until a process is no longer alive.
func (c Config) WithAlive(every, lasts time.Duration) Config {
	c.aliveEvery, c.aliveFor = every, lasts
	return c
}

// Busy reports whether many jobs are being stored.
func (q *Queue) Busy() bool { return q.first.accepting.isBusy() }

// StayBusy makes it so for an hour.
func (q *Queue) StayBusy() {
	q.first.accepting.mu.Lock()
	defer q.first.accepting.mu.Unlock()
	q.first.accepting.busyAt = time.Now().Add(time.Hour)
}

// MeasureShares measures the queue now, as happens every second.
func (q *Queue) MeasureShares(t testing.TB) {
	t.Helper()
	if err := q.first.shares.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// CountAccepted counts a job as accepted, as Publish does once the job is stored.
func (q *Queue) CountAccepted(j *Job) { q.countPublished(j, false) }

// CountDelivered counts a job as delivered, as Done does.
func (q *Queue) CountDelivered(j *Job) { q.countDelivered(j) }

// WriteCounts writes what was counted, in a Queue whose goroutine has not begun to.
func (q *Queue) WriteCounts(ctx context.Context) bool { return q.counters.write(ctx) }

// WithoutWriting keeps the goroutine from writing counts.
func (q *Queue) WithoutWriting() { q.counters.begin.Do(func() { close(q.counters.done) }) }

// MaxCounts and MaxDispatches are the bounds of what is counted.
const (
	MaxCounts     = maxCounts
	MaxDispatches = maxDispatches
)

// Quantile returns a quantile of times as the counters tell it.
func Quantile(part float64, took []time.Duration) time.Duration {
	counted := times{}
	for _, d := range took {
		counted.add(tookCounter(d), 1)
	}
	return counted.quantile(part)
}

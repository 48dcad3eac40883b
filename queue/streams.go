package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names on the server. Operators' tools and alerts rely on them.
const (
	StreamJobs    = "BRAZIER_JOBS"
	StreamRecords = "BRAZIER_RECORDS"
	StreamDead    = "BRAZIER_DEAD"
	BucketPace    = "BRAZIER_PACE"
	BucketPages   = "BRAZIER_PAGES"
)

const (
	defaultWindow   = 2 * time.Hour
	defaultMaxBytes = 10 << 30
	defaultDeadAge  = 30 * 24 * time.Hour
	// maxConsumers leaves room for the lanes of tens of thousands of pages. Without a number of its own a stream takes a
	// thousand, those of 333 pages (nats-server 2.15.2).
	maxConsumers = 100_000
	// maxExpire bounds how long a job may wait in the queue.
	maxExpire = 7 * 24 * time.Hour
)

// MaxExpire is the longest time a job may be asked to wait before it counts as expired.
const MaxExpire = maxExpire

func (c *Config) jobs() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamJobs,
		Description: "Messages on their way to Facebook",
		Subjects:    []string{jobSubjects + "*.*.*", laneSubjects + "*.*"},
		Retention:   jetstream.WorkQueuePolicy,
		// A subject is one job's, or one marker's, which is replaced when it is left again.
		MaxMsgsPerSubject: 1,
		// The default, DiscardOld, would silently drop the oldest undelivered job of a full queue.
		Discard:            jetstream.DiscardNew,
		MaxBytes:           c.MaxBytes,
		MaxConsumers:       maxConsumers,
		Storage:            jetstream.FileStorage,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		Replicas:           c.Replicas,
	}
}

// records is a stream of its own. A consumer looks at every message between one of its own and the next, and on the stream
// of jobs the records of those that are done would be most of them (firstMatching in nats-server 2.15.2: with 500 busy pages
// they doubled the cost of a message).
func (c *Config) records() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamRecords,
		Description: "What became of messages",
		Subjects:    []string{recordSubjects + "*.*.*"},
		Retention:   jetstream.LimitsPolicy,
		// A new record of a job replaces the old one. Each has a time to live; nothing else bounds them, since what becomes of
		// a job that was accepted has to be written in any case.
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		Storage:            jetstream.FileStorage,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		AllowMsgTTL:        true,
		Replicas:           c.Replicas,
	}
}

func (c *Config) dead() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamDead,
		Description: "Messages that cannot be delivered, with the reason",
		Subjects:    []string{deadSubjects + ">"},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      c.DeadMaxAge,
		Storage:     jetstream.FileStorage,
		Duplicates:  min(c.DeadMaxAge, 24*time.Hour),
		AllowDirect: true,
		Replicas:    c.Replicas,
	}
}

// Two buckets for a page, since they differ in what a restart may cost. A hold must outlast it: a page with a dead token
// is not to be tried again because a server was restarted. A slot is worth nothing a moment later, and a flush for each
// would cost the disk as much as the messages do. A single server forgets a bucket in memory as a whole when it is
// restarted (nats-server 2.15.2), so that one is made by whoever needs it, and by [Open] it is not asked for.

func (c *Config) pages() jetstream.StreamConfig {
	return c.register(BucketPages, "Pages that are held, and why", jetstream.FileStorage)
}

// paceBytes is room for the paces of some 50,000 pages. A cluster sees only by such a bound that it has no memory for
// streams: without one it makes the bucket, and then refuses each write (nats-server 2.15.2, selectPeerGroup).
const paceBytes = 16 << 20

func (c *Config) pace() jetstream.StreamConfig {
	stream := c.register(BucketPace, "When the next call for each page may begin", jetstream.MemoryStorage)
	stream.MaxBytes = paceBytes
	return stream
}

// streamOf names the stream of a bucket.
func streamOf(bucket string) string { return "KV_" + bucket }

// register is a key-value bucket whose reads come from the leader. The buckets that nats.go makes let any replica answer,
// and one that lags would hand out what was changed a moment ago.
func (c *Config) register(bucket, description string, storage jetstream.StorageType) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              streamOf(bucket),
		Description:       description,
		Subjects:          []string{"$KV." + bucket + ".>"},
		MaxMsgsPerSubject: 1,
		Discard:           jetstream.DiscardNew,
		AllowRollup:       true,
		DenyDelete:        true,
		Storage:           storage,
		Replicas:          c.Replicas,
	}
}

// ensure finds what Open promises: streams and buckets that are as they should be. Several processes may do this at once.
func (q *Queue) ensure(ctx context.Context) error {
	found, err := q.ensureLayout(ctx)
	if err != nil {
		return err
	}
	q.repairer.note(found)
	q.jobs, q.records, q.dead = found[StreamJobs], found[StreamRecords], found[StreamDead]
	if q.pages, err = q.js.KeyValue(ctx, BucketPages); err != nil {
		return fmt.Errorf("bucket %s: %w", BucketPages, err)
	}
	return nil
}

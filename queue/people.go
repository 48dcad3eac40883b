package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// What is known of people
//
// A bucket has one entry per key of a page. Package worker knows what keys and values mean; here they are
// opaque. Each write is on the condition that the entry was not written since it was read. Any replica may answer a read: a
// write that goes by an outdated entry fails at its condition.

// Entries is a bucket with an entry per key of a page. It is safe for concurrent use. Its methods return an error that is
// [ErrNoRoadBack] where the Queue was opened without [Config.RoadBack].
type Entries struct {
	q    *Queue
	name string
}

// People is the bucket that says which user of Braze a person is.
func (q *Queue) People() *Entries { return &Entries{q, BucketPeople} }

// Sent is the bucket of the messages that people were sent lately and Facebook may still report on. An entry is gone some
// days after it was last written (Config.ReceiptsFor), and sooner where the bucket is full.
func (q *Queue) Sent() *Entries { return &Entries{q, BucketSent} }

func (b *Entries) stream() string { return streamOf(b.name) }

func (b *Entries) subject(page, key string) string { return "$KV." + b.name + "." + page + "." + key }

// Entry is what is stored under one key of a page.
type Entry struct {
	Key   string // letters, digits, - and _
	Value []byte // empty: no value is stored
	// Revision is the entry's revision in the bucket, 0 if the entry was never written. It grows with every change of
	// the bucket.
	Revision uint64
}

// Read reads entries of a page, in the order of the keys. Those that do not exist have revision 0. It repeats its
// request until ctx ends.
func (b *Entries) Read(ctx context.Context, page string, keys ...string) ([]Entry, error) {
	if b.q.beside[b.stream()] == nil {
		return nil, fmt.Errorf("queue: entries: %w", ErrNoRoadBack)
	}
	var entries []Entry
	err := b.q.retry(ctx, readsOf(b.stream()), func(ctx context.Context) (err error) {
		entries, err = b.read(ctx, page, keys)
		return b.q.reportMissing(err)
	})
	if err != nil {
		return nil, fmt.Errorf("queue: entries: %w", redact(err))
	}
	return entries, nil
}

// readEntries asks for one entry at a time. A request for several needs a subscription of its own, which costs more
// than two requests.
func (b *Entries) read(ctx context.Context, page string, keys []string) ([]Entry, error) {
	entries := make([]Entry, len(keys))
	for i, key := range keys {
		entries[i].Key = key
		if first := slices.Index(keys, key); first < i {
			entries[i] = entries[first]
			continue
		}
		msg, err := b.q.streams[b.stream()].GetLastMsgForSubject(ctx, b.subject(page, key))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, noAnswer(ctx, err)
		}
		entries[i].Value, entries[i].Revision = msg.Data, msg.Sequence
	}
	return entries, nil
}

// Set replaces an entry of a page, on the condition that its Revision is still the latest. It returns the new
// revision, and repeats its request until ctx ends. After [ErrChanged] the entry is to be read again: another process
// has written it, or this call has, and the acknowledgement was lost. An empty Value is stored as an entry without a
// value; see [Entries.Erase].
func (b *Entries) Set(ctx context.Context, page string, e Entry) (revision uint64, err error) {
	w := b.q.beside[b.stream()]
	if w == nil {
		return 0, fmt.Errorf("queue: set entry: %w", ErrNoRoadBack)
	}
	if !isPageID(page) || !isID(e.Key) {
		return 0, fmt.Errorf("queue: set entry: page must consist of digits (got %q), and key of letters, digits, - and _ (got %q)", page, e.Key)
	}
	subject := b.subject(page, e.Key)
	message := newWrite(&nats.Msg{Subject: subject, Header: nats.Header{}, Data: e.Value}, subject, e.Revision)
	err = b.q.insist(ctx, writesTo(b.stream()), func() (err error) {
		if revision, err = w.write(ctx, message); isConditionFailed(err) {
			err = backoff.Permanent(ErrChanged)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("queue: set entry: %w", redact(err))
	}
	return revision, nil
}

// Erase removes entries of a page with all their earlier values from the bucket, whatever their revision. The
// bytes stay in the server's files until it compacts them.
func (b *Entries) Erase(ctx context.Context, page string, keys ...string) error {
	stream := b.q.streams[b.stream()]
	if stream == nil {
		return fmt.Errorf("queue: erase entries: %w", ErrNoRoadBack)
	}
	for _, key := range keys {
		if !isPageID(page) || !isID(key) {
			return fmt.Errorf("queue: erase entries: page must consist of digits (got %q), and key of letters, digits, - and _ (got %q)", page, key)
		}
		err := b.q.retry(ctx, writesTo(b.stream()), func(ctx context.Context) error {
			return b.q.reportMissing(noAnswer(ctx, stream.Purge(ctx, jetstream.WithPurgeSubject(b.subject(page, key)))))
		})
		if err != nil {
			return fmt.Errorf("queue: erase entries: %w", redact(err))
		}
	}
	return nil
}

// entriesBatch and entriesBytes bound the entries and the bytes that Each reads by one request.
const entriesBatch, entriesBytes = 256, 1 << 20

// Each returns every entry of every page that was there when the iteration began and is unchanged when it is read,
// by page, in the order in which they were written. An error is the last thing that it yields.
func (b *Entries) Each(ctx context.Context) iter.Seq2[PageEntry, error] {
	return func(yield func(PageEntry, error) bool) {
		for from := uint64(1); ; {
			var found []PageEntry
			err := b.q.retry(ctx, readsOf(b.stream()), func(ctx context.Context) (err error) {
				found, err = b.from(ctx, from)
				return err
			})
			if err != nil {
				yield(PageEntry{}, fmt.Errorf("queue: entries: %w", redact(err)))
				return
			}
			if len(found) == 0 {
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
				from = e.Revision + 1
			}
		}
	}
}

// PageEntry is an entry with its page.
type PageEntry struct {
	Page string
	Entry
	Written time.Time
}

func (b *Entries) from(ctx context.Context, from uint64) (found []PageEntry, err error) {
	prefix := "$KV." + b.name + "."
	msgs, err := jetstreamext.GetBatch(ctx, b.q.js, b.stream(), entriesBatch, jetstreamext.GetBatchSeq(from),
		jetstreamext.GetBatchSubject(prefix+">"), jetstreamext.GetBatchMaxBytes(entriesBytes))
	if err != nil {
		return nil, noAnswer(ctx, err)
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, noAnswer(ctx, err)
		}
		page, key, _ := strings.Cut(strings.TrimPrefix(msg.Subject, prefix), ".")
		found = append(found, PageEntry{page, Entry{key, msg.Data, msg.Sequence}, msg.Time})
	}
	return found, ctx.Err()
}

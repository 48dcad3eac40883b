package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DeadLetterFilter selects the dead letters that match every field that is set.
type DeadLetterFilter struct {
	// IDs are job ids, as in logs and in the answers of the ingress. The first id of a replayed job stands for its
	// later ones too.
	IDs      []string
	Page     string // Facebook page id
	Class    string
	Code     int // Facebook's error code
	Campaign string
	Since    time.Time // died at this time or later
	Until    time.Time // died before this time
	MaxSeq   uint64    // stored no later than the dead letter with this number
	// Which selects among the dead letters that match the other fields. Nil selects all of them.
	Which func(*DeadLetter) bool

	ids  map[string]bool // IDs as a set, while dead letters are compared with it: there may be thousands of both
	each func()          // called with each dead letter that is read; nil: nobody counts them
}

func (f *DeadLetterFilter) check() error {
	switch {
	case f.Page != "" && !isPageID(f.Page):
		return fmt.Errorf("page must be a Facebook page id, digits only (got %q)", f.Page)
	case strings.ContainsAny(f.Class, ".*> \t\r\n"): // it becomes part of a subject
		return fmt.Errorf("class must not contain a dot, a wildcard or a space (got %q)", f.Class)
	}
	return nil
}

func (f *DeadLetterFilter) subject() string {
	return deadSubjects + cmp.Or(f.Page, "*") + "." + cmp.Or(f.Class, "*")
}

// has compares the fields by which the server does not select.
func (f *DeadLetterFilter) has(l *DeadLetter) bool {
	return (f.Code == 0 || f.Code == l.Code) &&
		(f.Campaign == "" || f.Campaign == l.Tracking.Campaign) &&
		(f.Since.IsZero() || !l.Died.Before(f.Since)) &&
		(len(f.IDs) == 0 || f.ids[l.ID] || f.ids[l.FirstID()]) &&
		(f.Which == nil || f.Which(l))
}

// DeadLetters returns the dead letters that were there when the iteration began and that the filter selects, oldest
// first. It holds a bounded number of them, however many there are. Bodies are left out unless withBody, since they are
// personal data. The iteration goes on over a reconnect of some seconds; an error is the last thing that it yields.
// Dead letters may be replayed and discarded meanwhile.
func (q *Queue) DeadLetters(ctx context.Context, f DeadLetterFilter, withBody bool) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		err := q.walk(ctx, f, withBody, func(l DeadLetter) bool { return yield(l, nil) })
		if err != nil && ctx.Err() == nil && !q.Connected() {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err != nil {
			yield(DeadLetter{}, fmt.Errorf("queue: dead letters: %w", redact(err)))
		}
	}
}

const (
	// deadLetterBuffer and deadLetterBodyBuffer are how many dead letters are on their way to the reader of
	// DeadLetters. With headers only a dead letter is under 2 KiB, with its body as large as the ingress allows.
	deadLetterBuffer, deadLetterBodyBuffer = 1000, 64
)

// walk calls visit with each dead letter until there are no more, or visit returns false.
func (q *Queue) walk(ctx context.Context, f DeadLetterFilter, withBody bool, visit func(DeadLetter) bool) error {
	if err := f.check(); err != nil {
		return err
	}
	f.ids = make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		f.ids[id] = true
	}
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := q.dead.Info(try)
	if q.reportMissing(err) != nil {
		return err
	}
	last := info.State.LastSeq
	if f.MaxSeq > 0 {
		last = min(last, f.MaxSeq)
	}
	consumer, err := q.dead.OrderedConsumer(try, f.consumer(withBody))
	if err != nil {
		return err
	}
	defer q.removeConsumer(ctx, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	buffer := deadLetterBuffer
	if withBody {
		buffer = deadLetterBodyBuffer
	}
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(buffer), jetstream.PullHeartbeat(deadLetterHeartbeat))
	if err != nil {
		return err
	}
	// Stopped here, and so not during Next: the iterator of nats.go 1.55 panics if it is stopped while it makes a lost
	// consumer again.
	defer msgs.Stop()
	return f.read(ctx, consumer, msgs, last, visit)
}

// read calls visit with the dead letters up to last.
func (f *DeadLetterFilter) read(ctx context.Context, consumer jetstream.Consumer, msgs jetstream.MessagesContext, last uint64, visit func(DeadLetter) bool) error {
	var seen uint64 // the consumer's count of what it has sent
	heard := time.Now()
	for ctx.Err() == nil {
		msg, err := msgs.Next(jetstream.NextMaxWait(3 * deadLetterHeartbeat))
		if errors.Is(err, nats.ErrTimeout) {
			// The server is away, or dead letters at the end were removed after the server had counted them.
			none, err := exhausted(ctx, consumer, seen)
			if none || (err != nil && time.Since(heard) > deadLetterTimeout) {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		seen, heard = meta.Sequence.Consumer, time.Now()
		if f.each != nil {
			f.each()
		}
		l := readDeadLetter(msg.Subject(), msg.Headers(), msg.Data(), meta.Timestamp, meta.Sequence.Stream)
		switch {
		case l.Seq > last, !f.Until.IsZero() && !l.Died.Before(f.Until):
			return nil
		case f.has(&l) && !visit(l):
			return nil
		case l.Seq == last, meta.NumPending == 0:
			return nil
		}
	}
	return ctx.Err()
}

func (f *DeadLetterFilter) consumer(withBody bool) jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects:   []string{f.subject()},
		HeadersOnly:      !withBody,
		MaxResetAttempts: deadLetterResets,
	}
	if !f.Since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
	}
	return cfg
}

// exhausted reports whether the server has nothing more for the consumer than the seen messages.
func exhausted(ctx context.Context, consumer jetstream.Consumer, seen uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := consumer.Info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil // the consumer was lost with its server; the iterator makes another
	}
	return err == nil && info.NumPending == 0 && info.Delivered.Consumer == seen, err
}

// removeConsumer removes a consumer. If it fails, the server removes the consumer after five minutes.
func (q *Queue) removeConsumer(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = q.dead.DeleteConsumer(ctx, consumer.CachedInfo().Name)
}

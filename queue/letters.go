package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Letter is a dead letter: a job that could not be delivered, whole, with the reason.
type Letter struct {
	Job
	Reason
	Died time.Time // when the letter was stored, by the server's clock
	Seq  uint64    // its number in BRAZIER_DEAD, by which it is replayed and discarded
	Size int       // bytes of the body, also where the body was not asked for
}

// LetterFilter says which dead letters are meant: those that fit every field that is set.
type LetterFilter struct {
	// IDs are job ids, as logs and the door's answers have them. The first id of a replayed job stands for all its later
	// ones.
	IDs      []string
	Page     string // Facebook page id
	Class    string
	Code     int // Facebook's error code
	Campaign string
	Since    time.Time // died at this time or later
	Until    time.Time // died before this time
	MaxSeq   uint64    // stored no later than the letter with this number
	// Which is asked about the letters that fit all of that. Nil: they are meant.
	Which func(*Letter) bool

	ids map[string]bool // IDs while letters are compared with them: there may be thousands of both
}

func (f *LetterFilter) check() error {
	switch {
	case f.Page != "" && !isPageID(f.Page):
		return fmt.Errorf("page %q is not a Facebook page id (digits only)", f.Page)
	case strings.ContainsAny(f.Class, ".*> \t\r\n"): // it becomes part of a subject
		return fmt.Errorf("class %q is no class", f.Class)
	}
	return nil
}

func (f *LetterFilter) subject() string {
	return deadSubjects + cmp.Or(f.Page, "*") + "." + cmp.Or(f.Class, "*")
}

// has compares what the server does not select by.
func (f *LetterFilter) has(l *Letter) bool {
	return (f.Code == 0 || f.Code == l.Code) &&
		(f.Campaign == "" || f.Campaign == l.Tracking.Campaign) &&
		(f.Since.IsZero() || !l.Died.Before(f.Since)) &&
		(len(f.IDs) == 0 || f.ids[l.ID] || f.ids[l.FirstID()]) &&
		(f.Which == nil || f.Which(l))
}

// Letters returns the dead letters that were there when the iteration began and fit the filter, oldest first, one by
// one: it holds a bounded number of them, however many there are. Bodies are left out unless withBody, since they are
// personal data. It goes on over a reconnect of some seconds; an error is the last thing it yields. Letters may be
// replayed and discarded meanwhile.
func (q *Queue) Letters(ctx context.Context, f LetterFilter, withBody bool) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		err := q.walk(ctx, f, withBody, func(l Letter) bool { return yield(l, nil) })
		if err != nil && ctx.Err() == nil && !q.Connected() {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err != nil {
			yield(Letter{}, fmt.Errorf("queue: dead letters: %w", redact(err)))
		}
	}
}

const (
	// letterBuffer and letterBodyBuffer are how many letters are on their way to the reader of Letters. With headers only
	// a letter is under 1 KiB, with its body as large as the door lets it be.
	letterBuffer, letterBodyBuffer = 1000, 64
	// letterHeartbeat is how often the server says that it is there and has nothing. After three without a letter the
	// reader asks whether there is one to come.
	letterHeartbeat = time.Second
	// letterResets bounds how often a lost consumer is made anew, at 1 s, 2 s, 4 s, and letterPatience how long a server
	// may be away: both longer than a new leader takes.
	letterResets   = 4
	letterPatience = 15 * time.Second
)

// walk hands letters to visit until there are no more, or visit returns false.
func (q *Queue) walk(ctx context.Context, f LetterFilter, withBody bool, visit func(Letter) bool) error {
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
	if q.missing(err) != nil {
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
	defer q.forget(ctx, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	buffer := letterBuffer
	if withBody {
		buffer = letterBodyBuffer
	}
	msgs, err := consumer.Messages(jetstream.PullMaxMessages(buffer), jetstream.PullHeartbeat(letterHeartbeat))
	if err != nil {
		return err
	}
	// Only from here, and so only after Next: stopped from elsewhere while it makes a lost consumer anew, the iterator of
	// nats.go 1.55 panics.
	defer msgs.Stop()
	return f.read(ctx, consumer, msgs, last, visit)
}

// read hands the letters up to last to visit.
func (f *LetterFilter) read(ctx context.Context, consumer jetstream.Consumer, msgs jetstream.MessagesContext, last uint64, visit func(Letter) bool) error {
	var seen uint64 // the consumer's count of what it has sent
	heard := time.Now()
	for ctx.Err() == nil {
		msg, err := msgs.Next(jetstream.NextMaxWait(3 * letterHeartbeat))
		if errors.Is(err, nats.ErrTimeout) {
			// The server is away, or letters at the end were removed after it had counted them.
			none, err := exhausted(ctx, consumer, seen)
			if none || (err != nil && time.Since(heard) > letterPatience) {
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
		l := readLetter(msg.Subject(), msg.Headers(), msg.Data(), meta.Timestamp, meta.Sequence.Stream)
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

func (f *LetterFilter) consumer(withBody bool) jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects:   []string{f.subject()},
		HeadersOnly:      !withBody,
		MaxResetAttempts: letterResets,
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
		return false, nil // lost with its server; the iterator makes another
	}
	return err == nil && info.NumPending == 0 && info.Delivered.Consumer == seen, err
}

// forget removes a consumer. If it cannot, the server does it after five minutes.
func (q *Queue) forget(ctx context.Context, consumer jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = q.dead.DeleteConsumer(ctx, consumer.CachedInfo().Name)
}

// Letter returns one dead letter with its body, or [ErrNoLetter].
func (q *Queue) Letter(ctx context.Context, seq uint64) (Letter, error) {
	l, err := q.readLetter(ctx, seq)
	if err != nil {
		return Letter{}, fmt.Errorf("queue: dead letter %d: %w", seq, redact(err))
	}
	return l, nil
}

// ErrNoLetter says that there is no dead letter with this number: it was replayed, discarded, or became too old.
var ErrNoLetter = errors.New("no such dead letter")

func (q *Queue) readLetter(ctx context.Context, seq uint64) (Letter, error) {
	var msg *jetstream.RawStreamMsg
	err := q.retry(ctx, readsOf(StreamDead), func(ctx context.Context) (err error) {
		msg, err = q.dead.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return backoff.Permanent(ErrNoLetter)
		}
		return q.missing(err)
	})
	if err != nil {
		return Letter{}, err
	}
	return readLetter(msg.Subject, msg.Header, msg.Data, msg.Time, msg.Sequence), nil
}

// Discard removes a dead letter for good. It returns [ErrNoLetter] where there is none. The letter's bytes stay in the
// stream's files until the server writes those anew.
func (q *Queue) Discard(ctx context.Context, seq uint64) error {
	if err := q.remove(ctx, seq); err != nil {
		return fmt.Errorf("queue: discard dead letter %d: %w", seq, redact(err))
	}
	return nil
}

// remove asks until the server says that the letter is gone. If it was gone before the first request it returns
// ErrNoLetter.
func (q *Queue) remove(ctx context.Context, seq uint64) error {
	asked := false
	return q.retry(ctx, writesTo(StreamDead), func(ctx context.Context) error {
		err := q.dead.DeleteMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // which does not say why
			_, gone := q.dead.GetMsg(ctx, seq)
			switch {
			case errors.Is(gone, jetstream.ErrMsgNotFound) && asked:
				return nil // by our own earlier request, whose answer was lost
			case errors.Is(gone, jetstream.ErrMsgNotFound):
				return backoff.Permanent(ErrNoLetter)
			}
		}
		asked = true
		return q.missing(err)
	})
}

func readLetter(subject string, h nats.Header, body []byte, stored time.Time, seq uint64) Letter {
	get := func(name string) string {
		if v := h[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(get(name)) // 0 where there is none
		return n
	}
	page, class, _ := strings.Cut(strings.TrimPrefix(subject, deadSubjects), ".")
	l := Letter{
		Job: readJob(get(headerID), page, cmp.Or(Lane(get(headerLane)), Bulk), h, body, stored),
		Reason: Reason{
			Class: class, Code: number(headerCode), Subcode: number(headerSubcode), TraceID: get(headerTraceID),
			Attempts: number(headerAttempts), Text: get(headerReason),
		},
		Died: stored,
		Seq:  seq,
		Size: max(len(body), number(nats.MsgSize)), // the header stands in for a body that was left out
	}
	l.ID = strings.TrimSuffix(l.ID, letterIDSuffix(l.Accepted))
	if l.ID == "" { // published by hand, without a message id
		l.ID = "UNNAMED" + strconv.FormatUint(seq, 10)
	}
	return l
}

package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// How jobs and records are written
//
// Every job and every record is one message, stored on a condition: that there is no job with its id, or that the record it
// replaces is still there. One message is atomic by itself.
//
// A message goes by itself, at once, on the goroutine of its caller. Where the server flushes each message on its own
// (a stream without replicas under sync always), that ends at a thousand a second; so when many wait, those that come while
// a batch is on its way make the next one, and an atomic batch is flushed as a whole. A batch costs the server a small file
// store of its own, about a millisecond, and pays from some ten messages up (measured on nats-server 2.15.2).
//
// A batch fails as a whole if the condition of one message does not hold. Then all conditions are looked up in one request,
// the writes that fail are answered, and the others go again. The records that must not be there are likewise looked up in
// one request for a batch, before it goes.

const (
	// plainFlushed and plainOther are how many messages may be on their way by themselves before others wait for a batch:
	// where each is known to be flushed, and where that is not known. There only a server that is slow to acknowledge lets so
	// many gather.
	plainFlushed, plainOther = 8, 1000
	// minBatch is the least number of messages for which a batch is made.
	minBatch = 6
	// maxBatch is how many messages go into one batch. The server takes 1000, and shows 1024 when the conditions of all are
	// looked up. Half of that is flushed before the first who waits is impatient.
	maxBatch = 480
	// maxBatchBytes bounds the messages of a batch together, and maxSharing one of them: what is larger goes by itself.
	maxBatchBytes, maxSharing = 4 << 20, 128 << 10
	// writeTimeout is how long the server's answer is waited for. A new leader takes longer; the write is then tried again.
	writeTimeout = 3 * time.Second
)

// write is a message on the condition that the last message under subject has the sequence seq; 0: that there is none.
// It may be written again after an error.
type write struct {
	msg     *nats.Msg
	subject string
	seq     uint64
	// record, if not empty, is the subject of the records under which there must be none when the message is about to be
	// stored. They are in another stream, of which the server takes no condition.
	record string
}

func newWrite(msg *nats.Msg, subject string, seq uint64) *write {
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(seq, 10)}
	if subject != msg.Subject {
		msg.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{subject}
	}
	return &write{msg: msg, subject: subject, seq: seq}
}

// size is what the server's limit for one message is compared with.
func (w *write) size() int { return w.msg.Size() - len(w.msg.Subject) }

type written struct {
	seq uint64 // of the message in the stream
	err error
}

// waiter is a write that waits for a batch. Its caller may have gone.
type waiter struct {
	*write
	answer chan written // has room for the one answer
}

// writer stores messages in one stream. One goroutine runs the batches.
type writer struct {
	q      *Queue
	stream string
	max    int // of messages on their way by themselves
	in     chan *waiter
	stop   chan struct{}
	done   chan struct{}

	// apart returns how far apart batches are to begin at the moment, and all messages then go in batches. Nil: not at all.
	apart func() time.Duration
	last  time.Time // when a batch last began

	mu       sync.Mutex
	plain    int       // messages on their way by themselves
	batching bool      // a batch is on its way or being made
	many     bool      // many messages are on their way in a batch
	busy     time.Time // when many messages were last on their way
}

func newWriter(q *Queue, stream string) *writer {
	w := &writer{q: q, stream: stream, max: plainOther, in: make(chan *waiter, maxBatch), stop: make(chan struct{}), done: make(chan struct{})}
	if q.cfg.Flushed {
		w.max = plainFlushed
	}
	return w
}

// write stores a message once and returns its sequence in the stream. After errTaken it is not stored; after another error
// it may be. It returns when ctx ends.
func (w *writer) write(ctx context.Context, msg *write) (uint64, error) {
	if w.alone(msg) {
		defer w.leave()
		if msg.record != "" {
			if known, err := w.q.findFingerprint(ctx, w.q.records, msg.record); err != nil || known != nil {
				return 0, cmp.Or(err, errTaken)
			}
		}
		return w.publish(ctx, msg)
	}
	waiting := &waiter{msg, make(chan written, 1)}
	select {
	case w.in <- waiting:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.stop:
		return 0, nats.ErrConnectionClosed
	}
	select {
	case got := <-waiting.answer:
		return got.seq, got.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.done:
		return 0, nats.ErrConnectionClosed
	}
}

// alone reports whether a message goes by itself, and counts it if so.
func (w *writer) alone(msg *write) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (w.batching || w.plain >= w.max || w.pause() > 0) && msg.size() <= maxSharing {
		return false
	}
	w.plain++
	if w.plain >= manyWrites {
		w.busy = time.Now()
	}
	return true
}

func (w *writer) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plain--
}

// publish stores one message by itself.
func (w *writer) publish(caller context.Context, msg *write) (uint64, error) {
	ctx, cancel := w.q.answerable(caller)
	defer cancel()
	for _, h := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
		delete(msg.msg.Header, h)
	}
	resp, err := w.q.nc.RequestMsgWithContext(ctx, msg.msg)
	if err == nil || caller.Err() == nil {
		w.q.reach.note(err == nil)
	}
	if err != nil {
		return 0, w.q.missing(unanswered(ctx, err))
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
	}
	if err := json.Unmarshal(resp.Data, &ack); err != nil {
		return 0, fmt.Errorf("acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return 0, refused(ack.Error)
	}
	return ack.Seq, nil
}

func (w *writer) run() {
	defer close(w.done)
	var left []*waiter // what did not fit the last batch
	for {
		if len(left) == 0 && !w.await(&left) {
			return
		}
		if wait := time.Until(w.last.Add(w.pause())); wait > 0 {
			select {
			case <-time.After(wait):
			case <-w.stop:
				return
			}
		}
		w.last = time.Now()
		left = w.fill(left)
		batch, rest := split(left)
		w.send(batch)
		left = rest
	}
}

// pause is how long after one batch the next one begins, at the least.
func (w *writer) pause() time.Duration {
	if w.apart == nil {
		return 0
	}
	return w.apart()
}

// await waits for a message. It returns false when the writer is to stop.
func (w *writer) await(waiting *[]*waiter) bool {
	select {
	case first := <-w.in:
		*waiting = append(*waiting, first)
		return true
	default:
	}
	w.setBatching(false)
	select {
	case first := <-w.in:
		*waiting = append(*waiting, first)
	case <-w.stop:
		return false
	}
	w.setBatching(true)
	return true
}

func (w *writer) setBatching(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batching = on
}

func (w *writer) setMany(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.many, w.busy = on, time.Now()
}

// fill adds what waits already.
func (w *writer) fill(batch []*waiter) []*waiter {
	for len(batch) < maxBatch {
		select {
		case next := <-w.in:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// split takes a batch from the front: within the limits, and no condition twice, since the second has to see what the
// first has stored.
func split(waiting []*waiter) (batch, rest []*waiter) {
	subjects := make(map[string]bool, len(waiting))
	size := 0
	for _, next := range waiting {
		if len(batch) > 0 && (len(batch) == maxBatch || size+next.size() > maxBatchBytes || subjects[next.subject]) {
			rest = append(rest, next)
			continue
		}
		subjects[next.subject] = true
		size += next.size()
		batch = append(batch, next)
	}
	return batch, rest
}

// send stores a batch and answers each of its writes.
func (w *writer) send(batch []*waiter) {
	if len(batch) >= manyWrites {
		w.setMany(true)
		defer w.setMany(false)
	}
	batch, err := w.sortKnown(batch)
	if err != nil {
		reply(batch, written{err: err})
		return
	}
	for len(batch) >= minBatch {
		last, err := w.commit(batch)
		switch {
		case err == nil:
			first := last - uint64(len(batch)-1)
			for i, next := range batch {
				next.answer <- written{seq: first + uint64(i)}
			}
			return
		case errors.Is(err, errNoAnswer), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed), isFull(err):
			reply(batch, written{err: err})
			return
		case !isTaken(err):
			w.sendAlone(batch) // one of them is refused for its own sake
			return
		}
		free, err := w.sort(batch)
		if err != nil {
			reply(free, written{err: err})
			return
		}
		if len(free) == len(batch) { // what stood in the way is gone again, or is not stored yet
			break
		}
		batch = free
	}
	w.sendAlone(batch)
}

func reply(batch []*waiter, with written) {
	for _, next := range batch {
		next.answer <- with
	}
}

// sendAlone stores each by itself.
func (w *writer) sendAlone(batch []*waiter) {
	var sending sync.WaitGroup
	for _, next := range batch {
		sending.Go(func() {
			seq, err := w.publish(context.Background(), next.write)
			next.answer <- written{seq, err}
		})
	}
	sending.Wait()
}

// commit publishes a batch and returns the sequence of its last message; those of the others come right before it. After an
// error nothing of it is stored, except where no answer came.
func (w *writer) commit(batch []*waiter) (last uint64, err error) {
	ctx, cancel := w.q.answerable(context.Background())
	defer cancel()
	msgs := make([]*nats.Msg, len(batch))
	for i, next := range batch {
		msgs[i] = next.msg
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, w.q.js, msgs, jetstreamext.BatchFlowControl{})
	var coded jetstream.JetStreamError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.As(err, &coded) && coded.APIError() != nil:
		return 0, refused(coded.APIError())
	}
	return 0, w.q.missing(unanswered(ctx, err))
}

// sortKnown answers the writes whose id has a record and returns the others. After an error it has answered none.
func (w *writer) sortKnown(batch []*waiter) (free []*waiter, err error) {
	var records []string
	for _, next := range batch {
		if next.record != "" {
			records = append(records, next.record)
		}
	}
	if len(records) == 0 {
		return batch, nil
	}
	found, err := w.q.lastSequences(StreamRecords, records)
	if err != nil {
		return batch, err
	}
	for _, next := range batch {
		if next.record == "" || found[next.record] == 0 {
			free = append(free, next)
			continue
		}
		next.answer <- written{err: errTaken}
	}
	return free, nil
}

// sort answers the writes whose conditions do not hold and returns the others. After an error it has answered none.
func (w *writer) sort(batch []*waiter) (free []*waiter, err error) {
	subjects := make([]string, len(batch))
	for i, next := range batch {
		subjects[i] = next.subject
	}
	found, err := w.q.lastSequences(w.stream, subjects)
	if err != nil {
		return batch, err
	}
	for _, next := range batch {
		if found[next.subject] == next.seq {
			free = append(free, next)
			continue
		}
		next.answer <- written{err: errTaken}
	}
	return free, nil
}

// lastSequences returns, in one request, the sequence of the last message under each subject that has one. A subject is
// that of a record, or what jobsWithID or recordsWithID returns.
func (q *Queue) lastSequences(stream string, subjects []string) (map[string]uint64, error) {
	ctx, cancel := q.answerable(context.Background())
	defer cancel()
	failed := func(err error) (map[string]uint64, error) {
		return nil, about{readsOf(stream), q.missing(fmt.Errorf("look up ids: %w", unanswered(ctx, err)))}
	}
	found := make(map[string]uint64, len(subjects))
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, q.js, stream, subjects)
	if err != nil {
		return failed(err)
	}
	for msg, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return found, nil
		}
		if err != nil {
			return failed(err)
		}
		found[msg.Subject] = msg.Sequence
		if tokens := strings.Split(msg.Subject, "."); len(tokens) == 5 {
			tokens[3] = "*"
			under := strings.Join(tokens, ".")
			found[under] = max(found[under], msg.Sequence)
		}
	}
	if err := ctx.Err(); err != nil { // the answers end without a word when they do not come in time
		return failed(err)
	}
	return found, nil
}

func (w *writer) close() {
	close(w.stop)
	<-w.done
	for { // their callers see that it is done; this is for the collector alone
		select {
		case <-w.in:
		default:
			return
		}
	}
}

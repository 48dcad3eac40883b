package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// writer stores messages in one stream. One goroutine sends the batches.
type writer struct {
	q        *Queue
	stream   string
	maxAlone int                // messages on their way by themselves
	queued   chan *pendingWrite // for a batch
	stop     chan struct{}
	done     chan struct{}

	// spacing returns how far apart batches are to begin now; all messages then go in batches. Nil: not at all.
	spacing   func() time.Duration
	lastBatch time.Time // when it began

	mu        sync.Mutex
	alone     int       // messages on their way by themselves
	batching  bool      // a batch is on its way or being made
	largeSent bool      // a batch of many messages is on its way
	busyAt    time.Time // when many messages were last on their way
}

func newWriter(q *Queue, stream string) *writer {
	w := &writer{q: q, stream: stream, maxAlone: maxAlone, queued: make(chan *pendingWrite, maxBatch), stop: make(chan struct{}), done: make(chan struct{})}
	if q.cfg.Flushed {
		w.maxAlone = maxAloneFlushed
	}
	return w
}

// write tries once to store a message and returns its sequence in the stream. After errConditionFailed the message is
// not stored; after another error it may be. It returns when ctx ends.
func (w *writer) write(ctx context.Context, msg *write) (uint64, error) {
	if w.beginAlone(msg) {
		defer w.endAlone()
		for _, p := range msg.absent {
			if known, err := w.q.findFingerprint(ctx, p); err != nil || known != nil {
				return 0, cmp.Or(err, errConditionFailed)
			}
		}
		return w.publish(ctx, msg)
	}
	pending := &pendingWrite{msg, make(chan writeResult, 1)}
	select {
	case w.queued <- pending:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.stop:
		return 0, nats.ErrConnectionClosed
	}
	select {
	case got := <-pending.result:
		return got.seq, got.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.done:
		return 0, nats.ErrConnectionClosed
	}
}

// beginAlone counts a message that is to go by itself and returns true. It returns false if the message is to go in a batch.
func (w *writer) beginAlone(msg *write) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (w.batching || w.alone >= w.maxAlone || w.spacingNow() > 0) && msg.size() <= maxSharedBytes {
		return false
	}
	w.alone++
	if w.alone >= manyWrites {
		w.busyAt = time.Now()
	}
	return true
}

func (w *writer) endAlone() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alone--
}

// publish stores one message by itself.
func (w *writer) publish(caller context.Context, msg *write) (uint64, error) {
	ctx, cancel := w.q.requestContext(caller)
	defer cancel()
	for _, h := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
		delete(msg.msg.Header, h)
	}
	resp, err := w.q.nc.RequestMsgWithContext(ctx, msg.msg)
	if err == nil || caller.Err() == nil {
		w.q.reach.observe(err == nil)
	}
	if err != nil {
		return 0, w.q.reportMissing(noAnswer(ctx, err))
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
	var left []*pendingWrite // those that did not fit the last batch
	for {
		if len(left) == 0 && !w.await(&left) {
			return
		}
		if wait := time.Until(w.lastBatch.Add(w.spacingNow())); wait > 0 {
			select {
			case <-time.After(wait):
			case <-w.stop:
				return
			}
		}
		w.lastBatch = time.Now()
		left = w.fill(left)
		batch, rest := split(left)
		w.send(batch)
		left = rest
	}
}

// spacingNow is the least time between the beginnings of two batches.
func (w *writer) spacingNow() time.Duration {
	if w.spacing == nil {
		return 0
	}
	return w.spacing()
}

// await waits for a message and appends it. It returns false when the writer is to stop.
func (w *writer) await(pending *[]*pendingWrite) bool {
	select {
	case first := <-w.queued:
		*pending = append(*pending, first)
		return true
	default:
	}
	w.setBatching(false)
	select {
	case first := <-w.queued:
		*pending = append(*pending, first)
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

func (w *writer) setLargeSent(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.largeSent, w.busyAt = on, time.Now()
}

func (w *writer) close() {
	close(w.stop)
	<-w.done
	for { // callers see that the writer is done; this frees the memory of their messages
		select {
		case <-w.queued:
		default:
			return
		}
	}
}

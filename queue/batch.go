package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// pendingWrite is a write that waits for a batch. Its caller may not wait any more.
type pendingWrite struct {
	*write
	result chan writeResult // buffers the one result
}

// fill adds messages that wait already.
func (w *writer) fill(batch []*pendingWrite) []*pendingWrite {
	for len(batch) < maxBatch {
		select {
		case next := <-w.queued:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// split takes a batch from the front: within the limits, and no condition twice, since the second write has to see what the
// first has stored.
func split(pending []*pendingWrite) (batch, rest []*pendingWrite) {
	subjects := make(map[string]bool, len(pending))
	size := 0
	for _, next := range pending {
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

// send stores a batch and sends each of its writes its result.
func (w *writer) send(batch []*pendingWrite) {
	if len(batch) >= manyWrites {
		w.setLargeSent(true)
		defer w.setLargeSent(false)
	}
	batch, err := w.dropKnown(batch)
	if err != nil {
		sendResults(batch, writeResult{err: err})
		return
	}
	for len(batch) >= minBatch {
		last, err := w.commit(batch)
		switch {
		case err == nil:
			first := last - uint64(len(batch)-1)
			for i, next := range batch {
				next.result <- writeResult{seq: first + uint64(i)}
			}
			return
		case errors.Is(err, errNoAnswer), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed), isFull(err):
			sendResults(batch, writeResult{err: err})
			return
		case !isConditionFailed(err):
			w.sendAlone(batch) // one of the messages is refused, whatever the others are
			return
		}
		free, err := w.dropFailed(batch)
		if err != nil {
			sendResults(free, writeResult{err: err})
			return
		}
		if len(free) == len(batch) { // the message that stood in the way is gone again, or is not stored yet
			break
		}
		batch = free
	}
	w.sendAlone(batch)
}

func sendResults(batch []*pendingWrite, result writeResult) {
	for _, next := range batch {
		next.result <- result
	}
}

// sendAlone stores each message by itself.
func (w *writer) sendAlone(batch []*pendingWrite) {
	var sending sync.WaitGroup
	for _, next := range batch {
		sending.Go(func() {
			seq, err := w.publish(context.Background(), next.write)
			next.result <- writeResult{seq, err}
		})
	}
	sending.Wait()
}

// commit publishes a batch and returns the sequence of its last message; the others have the sequences right before it.
// After an error nothing of the batch is stored, except where no answer came.
func (w *writer) commit(batch []*pendingWrite) (last uint64, err error) {
	ctx, cancel := w.q.requestContext(context.Background())
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
	return 0, w.q.reportMissing(noAnswer(ctx, err))
}

// dropKnown sends the writes whose id is known elsewhere their result and returns the others. After an error none has a result.
func (w *writer) dropKnown(batch []*pendingWrite) (free []*pendingWrite, err error) {
	var streams []string // in the order of the look-ups
	subjects := map[string][]string{}
	for _, next := range batch {
		for _, p := range next.absent {
			if subjects[p.name] == nil {
				streams = append(streams, p.name)
			}
			subjects[p.name] = append(subjects[p.name], p.subject)
		}
	}
	found := map[string]uint64{} // a subject is in one stream
	for _, stream := range streams {
		last, err := w.q.lastSequences(stream, subjects[stream])
		if err != nil {
			return batch, err
		}
		maps.Copy(found, last)
	}
	for _, next := range batch {
		if !slices.ContainsFunc(next.absent, func(p lookup) bool { return found[p.subject] > 0 }) {
			free = append(free, next)
			continue
		}
		next.result <- writeResult{err: errConditionFailed}
	}
	return free, nil
}

// dropFailed sends the writes whose conditions do not hold their result and returns the others. After an error none has a
// result.
func (w *writer) dropFailed(batch []*pendingWrite) (free []*pendingWrite, err error) {
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
		next.result <- writeResult{err: errConditionFailed}
	}
	return free, nil
}

// lastSequences returns, by one request, the sequence of the last message under each subject that has one. A subject is
// that of a record, or one of those of all lanes.
func (q *Queue) lastSequences(stream string, subjects []string) (map[string]uint64, error) {
	ctx, cancel := q.requestContext(context.Background())
	defer cancel()
	failed := func(err error) (map[string]uint64, error) {
		return nil, located{readsOf(stream), q.reportMissing(fmt.Errorf("look up ids: %w", noAnswer(ctx, err)))}
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
	if err := ctx.Err(); err != nil { // the iterator ends without an error when the answers come too late
		return failed(err)
	}
	return found, nil
}

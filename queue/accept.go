package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"
)

// How a job is accepted
//
// A job and the record of its id are stored by one atomic batch on one stream: brazier.keys.<page>.<id>, on the
// condition that this subject is empty, and brazier.jobs.<page>.<lane>. Both are there or neither is, whatever is killed
// and when, so there is no order of two writes to get right, and no moment in which a job is stored and its key is not.
// The record outlives the job: it goes by its time to live, which is the window, over every restart of the server.
// (Nats-Msg-Id forgets, when the server restarts, the ids whose messages were consumed from a work queue.)
//
// The acceptor puts the jobs of concurrent Publish calls into one batch: those that come while a batch is on its way make
// the next. The batch is flushed to the disk as a whole, so that the flush is shared by however many wait. A lone job goes
// at once.
//
// An error of a batch means that nothing of it was stored, except where no answer came. Then the next try meets the record
// of the first, and knows it by its nonce.

// keyRecord is what is kept of an accepted job under brazier.keys.<page>.<id>.
type keyRecord struct {
	Recipient string `json:"r"` // digest
	Body      string `json:"b"` // digest
	Nonce     string `json:"n"` // of the Publish call
}

const keySubjects = "brazier.keys."

func keySubject(page, id string) string { return keySubjects + page + "." + id }

// unkeyedWindow is how long the id of a job without a key is kept: long enough for its own Publish call to ask again.
const unkeyedWindow = 5 * time.Minute

const (
	// maxBatch is how many jobs go into one batch: two messages each, and the server takes 1000.
	maxBatch = 480
	// maxBatchBytes bounds the bodies of a batch.
	maxBatchBytes = 4 << 20
	// batchTimeout is how long the answer to a batch is waited for, which others wait behind.
	batchTimeout = 3 * time.Second
)

// Server error codes of a batch (server/errors.json of nats-server).
const (
	errCodeWrongLastSequence         jetstream.ErrorCode = 10071
	errCodeWrongLastSequenceConstant jetstream.ErrorCode = 10164 // the same, on a replicated stream
)

// request is one job on its way into a batch.
type request struct {
	job    *Job
	record keyRecord
	window time.Duration // for which the id is kept
	answer chan answer
}

type answer struct {
	prior *keyRecord // of an earlier job with this id
	err   error
}

// acceptor gathers jobs into batches. One goroutine runs it.
type acceptor struct {
	q    *Queue
	in   chan *request
	stop chan struct{}
	done chan struct{}

	began atomic.Int64 // when the batch that is on its way was sent, in nanoseconds; 0 while there is none
	crowd atomic.Int64 // when a slow or large one last ended
	// spared bounds the jobs that are handed out meanwhile.
	spared *rate.Limiter
}

func newAcceptor(q *Queue) *acceptor {
	return &acceptor{q: q, in: make(chan *request, maxBatch), stop: make(chan struct{}), done: make(chan struct{}), spared: rate.NewLimiter(yielding, yielding/20)}
}

// accept stores a job, or says which one is there under its id. After an error it is not stored, or nobody knows; asking
// again with the same request tells.
func (a *acceptor) accept(ctx context.Context, r *request) (prior *keyRecord, err error) {
	r.answer = make(chan answer, 1)
	select {
	case a.in <- r:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.stop:
		return nil, nats.ErrConnectionClosed
	}
	select {
	case got := <-r.answer:
		return got.prior, got.err
	case <-a.done:
		return nil, nats.ErrConnectionClosed
	}
}

func (a *acceptor) run() {
	defer close(a.done)
	var next []*request // what did not fit the last batch
	for {
		if len(next) == 0 {
			select {
			case r := <-a.in:
				next = append(next, r)
			case <-a.stop:
				return
			}
		}
		next = a.fill(next)
		batch, rest := split(next)
		a.send(batch)
		next = rest
	}
}

// fill adds what waits already.
func (a *acceptor) fill(batch []*request) []*request {
	for len(batch) < maxBatch {
		select {
		case r := <-a.in:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// split takes a batch from the front: within the limits, and no id twice, since the second has to meet the record of the
// first.
func split(waiting []*request) (batch, rest []*request) {
	ids := make(map[string]bool, len(waiting))
	size := 0
	for _, r := range waiting {
		id := keySubject(r.job.Page, r.job.ID)
		if len(batch) > 0 && (len(batch) == maxBatch || size+len(r.job.Body) > maxBatchBytes || ids[id]) {
			rest = append(rest, r)
			continue
		}
		ids[id] = true
		size += len(r.job.Body)
		batch = append(batch, r)
	}
	return batch, rest
}

// send stores a batch and answers each of its requests. Where some ids are taken, these are answered, and the others go
// again without them.
func (a *acceptor) send(batch []*request) {
	for len(batch) > 0 {
		err := a.commit(batch)
		switch {
		case err == nil:
			reply(batch, answer{})
			return
		case !isTaken(err):
			reply(batch, answer{err: err})
			return
		}
		free, err := a.sort(batch)
		if err == nil && len(free) == len(batch) {
			// The records that stood in the way are gone again: they have just expired.
			err = errors.New("the server refuses ids that are not taken")
		}
		if err != nil {
			reply(free, answer{err: err})
			return
		}
		batch = free
	}
}

func reply(batch []*request, with answer) {
	for _, r := range batch {
		r.answer <- with
	}
}

var errNoRoom = fmt.Errorf("%w: the last of the disk is kept for the jobs that are there", ErrFull)

const (
	// slowBatch is how long a batch takes when the server has too much to do, and largeBatch how many jobs are in one when
	// that is near.
	slowBatch  = 25 * time.Millisecond
	largeBatch = 32
	// crowdLasts is how long after such a batch the door counts as crowded.
	crowdLasts = 100 * time.Millisecond
	// yielding is how many jobs a second are handed out in any case, maxYield how long one is kept back at most.
	yielding = 500
	maxYield = 500 * time.Millisecond
)

// crowded reports whether callers of Publish wait longer than they should, or soon will.
func (a *acceptor) crowded() bool {
	now := time.Now().UnixNano()
	began := a.began.Load()
	return began != 0 && now-began > int64(slowBatch) || now-a.crowd.Load() < int64(crowdLasts)
}

// Yield waits while the door is crowded, but for some hundred jobs a second. In one process with the server both share the
// machine and its disk, where each settlement has a flush of its own; the caller of the door waits for an answer, and a
// job can wait. It returns when ctx ends, or after half a second.
func (q *Queue) Yield(ctx context.Context) {
	if !q.transient || !q.acceptor.crowded() || q.acceptor.spared.Allow() {
		return
	}
	enough := time.NewTimer(maxYield)
	defer enough.Stop()
	look := time.NewTicker(slowBatch / 5)
	defer look.Stop()
	for q.acceptor.crowded() {
		select {
		case <-look.C:
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// commit publishes a batch and waits for the server's word.
func (a *acceptor) commit(batch []*request) error {
	began := time.Now()
	a.began.Store(began.UnixNano())
	defer func() {
		a.began.Store(0)
		if ended := time.Now(); ended.Sub(began) > slowBatch || len(batch) > largeBatch {
			a.crowd.Store(ended.UnixNano())
		}
	}()
	if hasRoom := a.q.cfg.HasRoom; hasRoom != nil && !hasRoom() {
		return errNoRoom
	}
	id := NewID()
	var last *nats.Msg
	n := 0
	add := func(msg *nats.Msg) error {
		if last != nil {
			if err := a.q.nc.PublishMsg(last); err != nil {
				return err
			}
		}
		n++
		msg.Header["Nats-Batch-Id"] = []string{id}
		msg.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(n)}
		last = msg
		return nil
	}
	// The record comes after its job, so that the last message of a batch is one that stays. After a crash the server
	// judges by the last message of the stream whether a batch was stored in part, and stores the rest of it; a batch whose
	// last message had been consumed would look so, and that message would be stored again (nats-server 2.15.2,
	// jetstream.go).
	for _, r := range batch {
		if err := add(r.job.message()); err != nil {
			return err
		}
		if err := add(r.keyMessage()); err != nil {
			return err
		}
	}
	last.Header["Nats-Batch-Commit"] = []string{"1"}
	// Not longer than the connection lasts: everybody waits behind this batch.
	ctx, cancel := context.WithTimeout(a.q.connection.Load().ctx, batchTimeout)
	defer cancel()
	resp, err := a.q.nc.RequestMsgWithContext(ctx, last)
	switch {
	case errors.Is(err, context.Canceled):
		return nats.ErrDisconnected
	case err != nil:
		return err
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Count int                 `json:"count"`
	}
	switch err := json.Unmarshal(resp.Data, &ack); {
	case err != nil:
		return fmt.Errorf("answer to a batch: %w", err)
	case ack.Error != nil:
		return ack.Error
	case ack.Count != n:
		return fmt.Errorf("the server stored %d of %d messages", ack.Count, n)
	}
	return nil
}

func (r *request) keyMessage() *nats.Msg {
	data, _ := json.Marshal(r.record) // cannot fail: strings
	return &nats.Msg{Subject: keySubject(r.job.Page, r.job.ID), Data: data, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: []string{"0"},
		jetstream.MsgTTLHeader:              []string{r.window.String()},
	}}
}

// sort answers the requests whose ids are taken and returns the others. After an error it returns those it has not
// answered.
func (a *acceptor) sort(batch []*request) (free []*request, err error) {
	const lookups = 16 // at a time: one takes 16 µs in-process, and a round trip on a cluster
	found := make([]*keyRecord, len(batch))
	errs := make([]error, len(batch))
	var asking sync.WaitGroup
	slots := make(chan struct{}, lookups)
	for i, r := range batch {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			found[i], errs[i] = a.q.record(r.job)
		})
	}
	asking.Wait()
	for _, err := range errs {
		if err != nil { // one tells enough of what is wrong with all
			return batch, err
		}
	}
	for i, r := range batch {
		switch {
		case found[i] == nil:
			free = append(free, r)
		case found[i].Nonce == r.record.Nonce:
			r.answer <- answer{} // our own earlier try: it was stored
		default:
			r.answer <- answer{prior: found[i]}
		}
	}
	return free, nil
}

// record returns what is kept under a job's id, nil if nothing is.
func (q *Queue) record(job *Job) (*keyRecord, error) {
	// Not longer than the connection lasts, as with a batch.
	ctx, cancel := context.WithTimeout(q.connection.Load().ctx, batchTimeout)
	defer cancel()
	msg, err := q.jobs.GetLastMsgForSubject(ctx, keySubject(job.Page, job.ID))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil
	case errors.Is(err, context.Canceled):
		return nil, fmt.Errorf("look up an id: %w", nats.ErrDisconnected)
	case err != nil:
		return nil, fmt.Errorf("look up an id: %w", err)
	}
	var rec keyRecord
	if err := json.Unmarshal(msg.Data, &rec); err != nil {
		return nil, fmt.Errorf("look up an id: %w", err)
	}
	return &rec, nil
}

func isTaken(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == errCodeWrongLastSequence || api.ErrorCode == errCodeWrongLastSequenceConstant)
}

func recordOf(job *Job) keyRecord {
	return keyRecord{Recipient: job.RecipientDigest, Body: digest(job.Body), Nonce: NewID()}
}

// digest is long enough that nothing meets by chance: 72 bits.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}

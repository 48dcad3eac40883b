package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Delivery is one job that was delivered to this worker, to be settled by exactly one of Done, Retry, Release and DeadLetter. An
// unsettled one is delivered again, here or elsewhere, when its process ends. It belongs to one goroutine at a time.
type Delivery struct {
	Job
	// Attempts is how many attempts were counted before this delivery.
	Attempts int
	// Counts has the attempts that ended with [Delivery.Retry], by its reason. Callers must not change it.
	Counts map[string]int
	// InDoubt reports that an earlier attempt ended without a result: its worker was killed, or cut off for longer than a
	// lease, and may have sent the message. Doubt says how that is known.
	InDoubt bool
	Doubt   string
	// Lost is how many attempts ended without a result, over all deliveries of the job. They are among the attempts.
	Lost int
	// Refused is when the job was first refused in a way that may be about its page, by the server's clock, and Refusals is
	// how often it was. The caller sets them, and the next call of a method stores them with the job.
	Refused  time.Time
	Refusals int
	// Tries are the calls that did not deliver the job: see [Delivery.AddTry]. Callers must not change them.
	Tries Tries
	// StreamSeq, ConsumerSeq and Deliveries are the server's numbers of the job, of this delivery, and of how often the job
	// was delivered, as far as the server remembers.
	StreamSeq, ConsumerSeq, Deliveries uint64

	q           *Queue
	at          store
	fingerprint string        // the job's
	window      time.Duration // for which the job's id is kept, from when the job was accepted

	mu         sync.Mutex
	msg        jetstream.Msg // the latest delivery of the job to this process; nil: the job was read and not delivered
	record     *record       // the latest that is known, nil if there is none
	begun      bool          // the record says that this worker works on the job
	taken      bool          // the record says that another worker works on the job, or settled it
	streamGone bool          // the stream of the job is gone
	settled    bool
	renewedAt  time.Time // when the lease last began anew on the server

	leaseFrom atomic.Pointer[time.Time] // a time before the record that says begun was last stored
}

// delivery makes a Delivery of a message. It returns nil for a job that is not to be worked on now, and has then settled
// it, put it off or updated the Delivery that is there.
func (q *Queue) delivery(ctx context.Context, at store, page string, lane Lane, msg jetstream.Msg) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	d := &Delivery{q: q, at: at, msg: msg, renewedAt: time.Now(), StreamSeq: meta.Sequence.Stream,
		ConsumerSeq: meta.Sequence.Consumer, Deliveries: meta.NumDelivered}
	tokens := strings.Split(msg.Subject(), ".") // brazier.jobs.<page>.<lane>.<id>: see [route]
	id := tokens[len(tokens)-1]
	if page == AllPages && len(tokens) == 5 {
		page = tokens[2]
	}
	d.Job = readJob(id, page, lane, msg.Headers(), msg.Data(), meta.Timestamp)
	d.readHeaders(msg.Headers())
	if q.inFlight.adopt(d) {
		return nil, nil
	}
	// A server without replicas forgets its deliveries when it ends, so its count of them tells nothing about a job that is
	// older than the connection.
	if meta.NumDelivered == 1 && !meta.Timestamp.Before(q.reachableSince()) {
		q.inFlight.add(d)
		return d, nil
	}
	return q.redelivery(ctx, d)
}

// readHeaders reads the headers of a stored job that are about its id.
func (d *Delivery) readHeaders(h nats.Header) {
	d.fingerprint = h.Get(headerFingerprint)
	if seconds, err := strconv.ParseInt(h.Get(headerWindow), 10, 64); err == nil { // none on a job that was published by hand
		d.window = time.Duration(seconds) * time.Second
	}
}

// redelivery returns the Delivery if the job's record lets it begin. Else it settles the job or puts it off, and returns nil.
func (q *Queue) redelivery(ctx context.Context, d *Delivery) (*Delivery, error) {
	found, wait, err := d.findRecord(ctx)
	switch {
	case err != nil:
		return nil, err // the lease ends, and the job is delivered again
	case found == foundSettled:
		d.ack()
		return nil, nil
	case found == foundDelayed, found == foundLeased:
		return nil, d.nak(ctx, wait)
	}
	q.inFlight.add(d)
	return d, nil
}

// findRecord reads the job's record into d, and returns what it says about this delivery.
func (d *Delivery) findRecord(ctx context.Context) (found finding, wait time.Duration, err error) {
	q := d.q
	if err := q.clock.ready(ctx); err != nil {
		return found, 0, err
	}
	if d.record, err = q.findRecord(ctx, d.at.partition, d.recordSubject()); err != nil {
		return found, 0, err
	}
	if d.record.ofAnother(d.fingerprint) {
		d.record = &record{State: stateWaiting, seq: d.record.seq}
	}
	found, wait = d.record.judge(q.Now(), q.reachableSince(), q.cfg.lease, q.isGone)
	if found == foundInDoubt {
		d.doubt()
	}
	if r := d.record; r != nil {
		d.Attempts, d.Lost, d.Counts, d.Refusals, d.Tries = d.Attempts+r.Attempts, d.Lost+r.Lost, r.counts(), r.Refusals, r.Tries
		if r.Refused != 0 {
			d.Refused = time.UnixMilli(r.Refused)
		}
	}
	return found, wait, nil
}

// doubt marks a job whose last attempt ended without a result. That attempt is counted.
func (d *Delivery) doubt() {
	d.InDoubt, d.Doubt = true, d.record.Doubt
	if d.record.State == stateBegun {
		d.Doubt = lostDoubt(d.record.at)
		d.Attempts, d.Lost = 1, 1
	}
}

// lostDoubt says how it is known that an attempt is in doubt.
func lostDoubt(begun time.Time) string {
	return fmt.Sprintf("a worker began it at %s, and its result is not known", begun.UTC().Format(time.RFC3339))
}

func (d *Delivery) recordSubject() string { return d.at.recordSubject(d.Page, d.Lane, d.ID) }

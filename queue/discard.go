package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Discarded says what DiscardJobs did.
type Discarded struct {
	Jobs int // removed, Begun among them
	// Begun were being worked on by a worker that may still run: it may still send the message, and may make a dead letter of it.
	Begun int
}

// discardBatch and discardBytes bound the jobs and the bytes that one request reads.
const discardBatch, discardBytes = 256, 4 << 20

// DiscardJobs removes the messages and, with Config.RoadBack, the webhook events of a page that isMeant selects, and overwrites
// their bytes on disk. No worker begins a job after it was discarded, also one that has fetched the job. What is published
// meanwhile may be missed. It asks until ctx ends; after an error some jobs are removed, and it may be called again.
func (q *Queue) DiscardJobs(ctx context.Context, page string, isMeant func(*Job) bool) (did Discarded, err error) {
	err = q.eachJob(ctx, page, func(d *Delivery) error {
		if !isMeant(&d.Job) {
			return nil
		}
		begun, err := q.discardJob(ctx, d)
		if err != nil {
			return err
		}
		did.Jobs++
		if begun {
			did.Begun++
		}
		return nil
	})
	if err != nil {
		return did, fmt.Errorf("queue: discard jobs: %w", redact(err))
	}
	return did, nil
}

// CountJobs returns how many jobs DiscardJobs would remove.
func (q *Queue) CountJobs(ctx context.Context, page string, isMeant func(*Job) bool) (n int, err error) {
	err = q.eachJob(ctx, page, func(d *Delivery) error {
		if isMeant(&d.Job) {
			n++
		}
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("queue: count jobs: %w", redact(err))
	}
	return n, nil
}

// eachJob calls visit with each message and each webhook event of a page, as it is stored, until visit returns an error.
func (q *Queue) eachJob(ctx context.Context, page string, visit func(*Delivery) error) error {
	if !isPageID(page) {
		return fmt.Errorf("page must be a Facebook page id, digits only (got %q)", page)
	}
	stores := q.storesOf(page, Bulk)
	for _, lane := range []Lane{Events, Outcomes} {
		if h := q.storeOf(page, lane); q.streams[h.stream] != nil {
			stores = append(stores, h)
		}
	}
	for _, h := range stores {
		if err := q.eachOf(ctx, h, page, visit); err != nil {
			return err
		}
	}
	return nil
}

// eachOf is eachJob for the jobs of a page, or of [AllPages], in one stream.
func (q *Queue) eachOf(ctx context.Context, at store, page string, visit func(*Delivery) error) error {
	for from := uint64(1); from > 0; {
		var jobs []*Delivery
		err := q.retry(ctx, readsOf(at.stream), func(ctx context.Context) (err error) {
			jobs, err = q.jobsFrom(ctx, at, page, from)
			return q.reportMissing(err)
		})
		if err != nil {
			return err
		}
		from = 0
		for _, d := range jobs {
			if err := visit(d); err != nil {
				return err
			}
			from = d.StreamSeq + 1
		}
	}
	return nil
}

// jobsFrom reads the next jobs of a page, or of [AllPages], from a sequence on, none after the last.
func (q *Queue) jobsFrom(ctx context.Context, at store, page string, from uint64) (jobs []*Delivery, err error) {
	msgs, err := jetstreamext.GetBatch(ctx, q.js, at.stream, discardBatch, jetstreamext.GetBatchSeq(from),
		jetstreamext.GetBatchSubject(at.subjects+page+".*.*"), jetstreamext.GetBatchMaxBytes(discardBytes))
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
		jobs = append(jobs, q.readDelivery(at, laneOfJob(msg.Subject), msg))
	}
	return jobs, ctx.Err() // the answers end without an error when they do not come in time
}

// discardJob settles a job that was read, and removes it. It reports whether a worker may be working on the job: the record is then
// the worker's to write.
func (q *Queue) discardJob(ctx context.Context, d *Delivery) (begun bool, err error) {
	begun = q.inFlight.has(d)
	if !begun {
		found, _, err := d.findRecord(ctx)
		if err != nil {
			return false, err
		}
		switch found {
		case foundLeased:
			begun = true
		case foundSettled:
		default:
			// The record keeps workers that have fetched the job from beginning it, and the id from being accepted again.
			begun, err = d.discardRecord(ctx)
			if err != nil {
				return false, err
			}
		}
	}
	stream, _, err := q.jobsAt(d.at)
	if err != nil {
		return begun, err
	}
	return begun, q.erase(ctx, stream, d.StreamSeq)
}

// discardRecord writes the record of a job that is settled without having been sent. It reports whether a worker was faster.
func (d *Delivery) discardRecord(ctx context.Context) (begun bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := max(d.window-d.q.Now().Sub(d.Accepted), minDoneAge)
	err = d.writeRecord(ctx, record{State: stateDone, Attempts: d.Attempts, Lost: d.Lost, Reason: discarded}, keep)
	if errors.Is(err, ErrTaken) {
		return true, nil
	}
	if err == nil {
		d.q.counters.add(&d.Job, d.Page, countDiscarded)
	}
	return false, err
}

// discarded is the reason of the record of a job that was discarded.
const discarded = "discarded"

// EraseDeadLetter is [Queue.Discard] that overwrites the bytes of the dead letter on disk, which costs the server more. It returns nil
// if there is no such dead letter.
func (q *Queue) EraseDeadLetter(ctx context.Context, seq uint64) error {
	if err := q.erase(ctx, q.dead, seq); err != nil {
		return fmt.Errorf("queue: erase dead letter %d: %w", seq, redact(err))
	}
	return nil
}

// erase removes a message of a stream and overwrites its bytes. It repeats its request until the server confirms that the message is
// gone.
func (q *Queue) erase(ctx context.Context, stream jetstream.Stream, seq uint64) error {
	return q.retry(ctx, writesTo(stream.CachedInfo().Config.Name), func(ctx context.Context) error {
		err := stream.SecureDeleteMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // the error does not tell why
			if _, gone := stream.GetMsg(ctx, seq); errors.Is(gone, jetstream.ErrMsgNotFound) {
				return nil
			}
		}
		return q.reportMissing(err)
	})
}

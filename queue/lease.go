package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.uber.org/zap"
)

// ErrTaken says that another delivery of the job has begun or settled it. This delivery is to be released.
var ErrTaken = errors.New("another delivery of the job has begun")

// Begin records that work on the job begins: unless the job is settled, it is in doubt from now on. Begin returns when
// that is as durable as the job, and repeats the write until ctx ends. After an error the job must not be worked on,
// and is to be released.
func (d *Delivery) Begin(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.writeRecord(ctx, record{State: stateBegun, Attempts: d.Attempts, Counts: d.Counts, Lost: d.Lost, Worker: d.q.worker}, recordAge); err != nil {
		return fmt.Errorf("queue: begin: %w", redact(err))
	}
	d.begun, d.renewedAt = true, time.Now()
	return nil
}

// OwnsLease reports whether this worker alone has a job that was begun: its record was renewed within the last half of a
// lease. OwnsLease asks no server. Where it is false, [Delivery.Begin] finds out.
func (d *Delivery) OwnsLease() bool {
	sure := d.leaseFrom.Load()
	return sure != nil && time.Since(*sure) < d.q.cfg.lease/2
}

// renew begins the lease anew: on the server, so that it does not deliver the job again, and in the record, for a worker to
// which the job is delivered all the same.
func (d *Delivery) renew(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled || d.taken || d.streamGone {
		return
	}
	if err := d.msg.InProgress(); err != nil {
		return // there is no connection; the next attempt comes soon
	}
	d.renewedAt = time.Now()
	if !d.begun {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout) // the method that settles the job waits for the lock
	defer cancel()
	if err := d.writeRecord(ctx, *d.record, recordAge); errors.Is(err, ErrTaken) {
		d.q.log.Warn("job was taken by another worker while this one was cut off", zap.String("event", "lease_lost"),
			zap.String("id", d.ID), zap.Uint64("stream_seq", d.StreamSeq))
	}
}

// writeRecord replaces the job's record, and repeats the write until the server answers or ctx ends. d.mu is held.
func (d *Delivery) writeRecord(ctx context.Context, r record, keep time.Duration) error {
	r.Fingerprint, r.Write, r.Refusals, r.Tries = d.fingerprint, NewID()[:12], d.Refusals, d.Tries
	if !d.Refused.IsZero() {
		r.Refused = d.Refused.UnixMilli()
	}
	var known uint64 // the record that is to be replaced
	if d.record != nil {
		known = d.record.seq
	}
	message := r.message(d.recordSubject(), known, keep)
	return d.q.insist(ctx, writesTo(d.at.recordsName), func() (err error) {
		asked := time.Now()
		r.seq, err = d.at.recording.write(ctx, message)
		if isConditionFailed(err) {
			replace, stored, failed := d.resolveConflict(ctx, &r, known)
			switch {
			case failed != nil:
				return failed
			case !stored:
				message = r.message(d.recordSubject(), replace, keep)
				return errConditionFailed
			}
			err = nil
			asked = asked.Add(-d.q.cfg.lease) // nobody knows when that write was stored
		}
		if err == nil {
			d.record = &r
			d.leaseFrom.Store(&asked)
		}
		return err
	})
}

// resolveConflict looks at the record that stands in the way of a write of r, which was to replace the record with the
// sequence known. If r itself is stored, since only the answer to an earlier attempt was lost, it sets r.seq and returns
// stored. Else it returns the sequence that the next attempt is to replace, or ErrTaken.
func (d *Delivery) resolveConflict(ctx context.Context, r *record, known uint64) (replace uint64, stored bool, err error) {
	found, err := d.q.findRecord(ctx, d.at.partition, d.recordSubject())
	switch {
	case err != nil:
		return 0, false, err
	case found == nil:
		// The record ended with its time to live or with its stream, or a write is under way, or the replica lags.
		return 0, false, nil
	case found.Write == r.Write:
		r.seq = found.seq
		return 0, true, nil
	case found.seq <= known, d.begun && found.State == stateBegun && found.Worker == d.q.worker:
		// It is the record that is to be replaced, or one before it on a replica that lags, or a renewal whose answer was
		// lost.
		return max(found.seq, known), false, nil
	}
	d.taken = true
	return 0, false, backoff.Permanent(ErrTaken)
}

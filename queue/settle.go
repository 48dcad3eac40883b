package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// retryRecord is what BRAZIER_RETRIES keeps of a job that was put back, under the job's id.
type retryRecord struct {
	Attempts int `json:"attempts"`
	// Delivered is the server's count of deliveries when the job was put back. The next delivery counts one more; a
	// higher count means that one in between ended without a word.
	Delivered uint64 `json:"delivered"`
	// Reason says why, for people who look: a class, or "released".
	Reason string `json:"reason,omitempty"`
}

// recall reads what is known of a job that is delivered again.
func (d *Delivery) recall(ctx context.Context) {
	var rec retryRecord
	var entry jetstream.KeyValueEntry
	err := retry(ctx, func(ctx context.Context) (err error) {
		entry, err = d.q.retries.Get(ctx, d.ID)
		return err
	})
	if err == nil {
		err = json.Unmarshal(entry.Value(), &rec)
	}
	switch {
	case err == nil:
		d.recorded = true
		d.Attempts = rec.Attempts
		if d.delivered > rec.Delivered+1 {
			d.doubt(fmt.Sprintf("delivery %d, put back at %d and not heard of since", d.delivered, rec.Delivered))
		}
	case errors.Is(err, jetstream.ErrKeyNotFound):
		d.doubt(fmt.Sprintf("delivery %d, and never put back", d.delivered))
	default:
		d.doubt("the retry record cannot be read")
		d.q.log.Error("retry record cannot be read", zap.String("event", "retry_record"), zap.String("id", d.ID), zap.Error(redact(err)))
	}
}

func (d *Delivery) doubt(how string) { d.InDoubt, d.Doubt = true, how }

// put writes the record that announces the next delivery. Without one that delivery counts as in doubt, which is the
// safe side: the job is put back all the same.
func (d *Delivery) put(ctx context.Context, attempts int, reason string) {
	value, _ := json.Marshal(retryRecord{attempts, d.delivered, reason}) // cannot fail: two numbers and a string
	err := retry(ctx, func(ctx context.Context) error {
		_, err := d.q.retries.Put(ctx, d.ID, value)
		return err
	})
	if err != nil {
		d.q.log.Error("retry record cannot be written", zap.String("event", "retry_record"), zap.String("id", d.ID), zap.Error(redact(err)))
	}
}

// Done says that the job has come to its end. It returns when the server has confirmed it, and asks again until ctx
// ends; after an error the job may be delivered again.
func (d *Delivery) Done(ctx context.Context) error {
	defer d.settle()
	if err := retry(ctx, d.msg.DoubleAck); err != nil {
		return fmt.Errorf("queue: acknowledge: %w", redact(err))
	}
	if d.recorded {
		// The record is of no more use; if it cannot be removed now, its time to live does it.
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		_ = d.q.retries.Purge(ctx, d.ID)
	}
	return nil
}

// Retry puts the job back for after delay, with attempts counted so far and the reason for people who look. Both
// outlast restarts of the worker and of the server.
func (d *Delivery) Retry(ctx context.Context, attempts int, reason string, delay time.Duration) error {
	defer d.settle()
	d.put(ctx, attempts, reason)
	if err := d.putBack(ctx, delay); err != nil {
		return fmt.Errorf("queue: put back: %w", redact(err))
	}
	return nil
}

// Release puts the job back untouched and uncounted, for another worker to take at once.
func (d *Delivery) Release(ctx context.Context) error {
	defer d.settle()
	d.put(ctx, d.Attempts, "released")
	// A delay, however short, is kept over a restart of the server. Without one the server would remember only that the
	// job was handed out, and give it a whole lease.
	if err := d.putBack(ctx, time.Millisecond); err != nil {
		return fmt.Errorf("queue: release: %w", redact(err))
	}
	return nil
}

// Bury ends the job as a dead letter. The letter is stored before the job is acknowledged; after an error the job may
// be delivered again, and the letter is still stored once.
func (d *Delivery) Bury(ctx context.Context, why Reason) error {
	defer d.settle()
	msg := d.letter(why)
	err := retry(ctx, func(ctx context.Context) error {
		_, err := d.q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(d.ID), jetstream.WithRetryAttempts(0))
		return err
	})
	if err != nil {
		return fmt.Errorf("queue: store dead letter: %w", redact(err))
	}
	return d.Done(ctx)
}

// retry calls the server until it answers, an error comes that asking again cannot mend, or ctx ends. Each call gets
// apiTimeout.
func retry(ctx context.Context, call func(context.Context) error) error {
	wait := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0),
	), ctx)
	return backoff.Retry(func() error {
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		err := call(try)
		for _, final := range []error{nats.ErrConnectionClosed, jetstream.ErrMsgAlreadyAckd, jetstream.ErrKeyNotFound} {
			if errors.Is(err, final) {
				return backoff.Permanent(err)
			}
		}
		return err
	}, wait)
}

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
	// Claim is the place of the job's latest claim that is accounted for. A later one is of a delivery that ended without
	// a word, or is under way.
	Claim uint64 `json:"claim,omitempty"`
	// Lost is how many deliveries ended without a word, over the job's life.
	Lost int `json:"lost,omitempty"`
	// Doubt is that of a job that was released in doubt: nobody has acted on it yet.
	Doubt string `json:"doubt,omitempty"`
	// NotBefore is when it may be handed out again, in Unix milliseconds, where the server does not remember that.
	NotBefore int64 `json:"not_before,omitempty"`
	// Reason says why, for people who look: a class, or "released".
	Reason string `json:"reason,omitempty"`
}

// recall finds out what became of earlier deliveries. Deliveries that were lost count as attempts.
func (d *Delivery) recall(ctx context.Context) {
	latest, underWay, err := d.latestClaim(ctx, false)
	if err != nil {
		d.doubt(1, "the claims cannot be read")
		return
	}
	if d.delivered == 1 && latest == 0 && !d.forgotten {
		return
	}
	rec, err := d.record(ctx)
	last := d.delivered - 1
	if err == nil && last > rec.Delivered {
		latest, underWay, err = d.latestClaim(ctx, true)
	}
	d.Attempts, d.Lost = rec.Attempts, rec.Lost
	if d.forgotten && rec.NotBefore > 0 && latest <= rec.Claim {
		d.notBefore = max(0, time.Until(time.UnixMilli(rec.NotBefore)))
	}
	d.InDoubt, d.Doubt = rec.Doubt != "", rec.Doubt
	d.claimed, d.ahead = max(latest, rec.Claim), rec.Delivered >= d.delivered
	switch {
	case err != nil:
		d.doubt(1, "the retry record cannot be read")
		d.q.log.Error("retry record cannot be read", zap.String("event", "retry_record"), zap.String("id", d.ID), zap.Error(redact(err)))
	case latest > rec.Claim && underWay:
		d.claimed = rec.Claim // so that Begin finds it taken; if its worker is lost, it comes back a lease later
	case d.q.forgetful && last == 1 && !d.recorded && latest == 0 && d.young:
		// Nobody has claimed it or put it back, and no lease can have run out. What a server sends to a subscription that has
		// just ended it hands out again at once, and counts (nats-server 2.15.2, consumer.go, didNotDeliver). Without claims
		// that cannot be told from a job that was begun.
	case last > rec.Delivered && rec.Delivered == 0:
		d.doubt(last, fmt.Sprintf("it is delivery %d, and none before was heard of", d.delivered))
	case last > rec.Delivered:
		d.doubt(last-rec.Delivered, fmt.Sprintf("it is delivery %d, and nothing was heard since delivery %d", d.delivered, rec.Delivered))
	case latest > rec.Claim:
		d.doubt(1, "work on it had begun before the server was restarted, and nothing was heard since")
	}
}

// latestClaim asks for the job's latest claim; there is none where nothing has to be claimed.
func (d *Delivery) latestClaim(ctx context.Context, look bool) (place uint64, underWay bool, err error) {
	if d.q.forgetful {
		err = insist(ctx, func() (err error) {
			place, underWay, err = d.q.claimer.latest(ctx, d.ID, look)
			return err
		})
	}
	return place, underWay, err
}

// doubt marks the job. What was lost may have been sent, so it counts as tried.
func (d *Delivery) doubt(lost uint64, how string) {
	d.InDoubt, d.Doubt = true, how
	d.Attempts += int(lost)
	d.Lost += int(lost)
}

// record reads the job's retry record; it is zero where there is none. It asks the stream's leader. The bucket's Get takes
// any replica's word, and one that is behind would put a job in doubt that is not.
func (d *Delivery) record(ctx context.Context) (rec retryRecord, err error) {
	const stream = "KV_" + BucketRetries
	query, _ := json.Marshal(map[string]string{"last_by_subj": "$KV." + BucketRetries + "." + d.ID}) // cannot fail
	var found struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Data []byte `json:"data"`
		} `json:"message"`
	}
	err = retry(ctx, func(ctx context.Context) error {
		found.Error = nil
		resp, err := d.q.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, query)
		if err == nil {
			err = json.Unmarshal(resp.Data, &found)
		}
		switch {
		case err != nil:
			return err
		case found.Error != nil && found.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
			return jetstream.ErrKeyNotFound
		case found.Error != nil:
			return found.Error
		}
		return nil
	})
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), err == nil && len(found.Message.Data) == 0: // none, or removed
		return retryRecord{}, nil
	case err == nil:
		d.recorded = true
		err = json.Unmarshal(found.Message.Data, &rec)
	}
	return rec, err
}

// Begin says that work on the job begins: if nothing is heard of it from now on, it is in doubt. It returns when that is
// as durable as the job, and asks again until ctx ends; after an error the job must not be worked on. After [ErrStale] it
// is to be released.
func (d *Delivery) Begin(ctx context.Context) error {
	before := d.claimed
	if d.q.forgetful {
		place, err := d.q.claimer.claim(ctx, d.server, d.ID, d.claimed)
		d.claimed, d.taken = max(d.claimed, place), errors.Is(err, errTaken)
		if err != nil {
			return fmt.Errorf("queue: claim: %w", redact(err))
		}
	}
	if d.InDoubt || d.ahead {
		// The count of what was lost must not be lost with this delivery too, or a job that kills its worker would do so
		// for ever. Nor must a record that is ahead of the server's count speak for this delivery.
		_ = d.write(ctx, retryRecord{Attempts: d.Attempts, Delivered: d.delivered - 1, Claim: before, Lost: d.Lost, Reason: "begun"})
	}
	return nil
}

// put writes the record that announces the next delivery. Without one the job must not be put back: its lease is to run
// out, which tells that something went wrong.
func (d *Delivery) put(ctx context.Context, attempts int, reason string, delay time.Duration) error {
	rec := retryRecord{Attempts: attempts, Delivered: d.delivered, Claim: d.claimed, Lost: d.Lost, Reason: reason}
	if d.q.transient {
		rec.NotBefore = time.Now().Add(delay).UnixMilli()
	}
	return d.write(ctx, rec)
}

func (d *Delivery) write(ctx context.Context, rec retryRecord) error {
	d.recorded = true
	value, _ := json.Marshal(rec) // cannot fail: numbers and a string
	err := retry(ctx, func(ctx context.Context) error {
		_, err := d.q.retries.Put(ctx, d.ID, value)
		return err
	})
	if err != nil {
		d.q.log.Error("retry record cannot be written", zap.String("event", "retry_record"), zap.String("id", d.ID), zap.Error(redact(err)))
		return fmt.Errorf("retry record: %w", err)
	}
	return nil
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
		_ = d.q.retries.Purge(ctx, d.ID, d.q.markers...)
	}
	return nil
}

// Retry puts the job back for after delay, with attempts counted so far and the reason for people who look. Both
// outlast restarts of the worker and of the server.
func (d *Delivery) Retry(ctx context.Context, attempts int, reason string, delay time.Duration) error {
	defer d.settle()
	err := d.put(ctx, attempts, reason, delay)
	if err == nil {
		err = d.putBack(ctx, delay)
	}
	if err != nil {
		return fmt.Errorf("queue: put back: %w", redact(err))
	}
	return nil
}

// Release puts the job back untouched and uncounted, for another worker to take at once. If it is in doubt it stays so.
func (d *Delivery) Release(ctx context.Context) error {
	defer d.settle()
	if d.taken {
		return nil // it is another's; a word of ours would be taken for one about that delivery
	}
	err := d.write(ctx, retryRecord{Attempts: d.Attempts, Delivered: d.delivered, Claim: d.claimed, Lost: d.Lost, Doubt: d.Doubt, Reason: "released"})
	if err == nil {
		// A delay, however short, is kept over a restart of the server. Without one the server would remember only that the
		// job was handed out, and give it a whole lease.
		err = d.putBack(ctx, time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("queue: release: %w", redact(err))
	}
	return nil
}

// tooLargeDelay is how long a job waits whose dead letter the server does not take.
const tooLargeDelay = 10 * time.Minute

// Bury ends the job as a dead letter. The letter is stored before the job is acknowledged; after an error the job may
// be delivered again, and the letter is still stored once. A letter over the server's limit for one message loses the end
// of the reason's text. One that is over it all the same, of a job that was published by hand, waits in the queue for
// somebody to raise the limit.
func (d *Delivery) Bury(ctx context.Context, why Reason) error {
	defer d.settle()
	msg := d.letter(why)
	d.q.fit(msg)
	err := retry(ctx, func(ctx context.Context) error {
		_, err := d.q.js.PublishMsg(ctx, msg, jetstream.WithMsgID(d.letterID()), jetstream.WithRetryAttempts(0))
		return err
	})
	if errors.Is(err, nats.ErrMaxPayload) {
		if failed := d.put(ctx, why.Attempts, why.Class, tooLargeDelay); failed != nil {
			return fmt.Errorf("queue: store dead letter: %w", redact(errors.Join(err, failed)))
		}
		err = errors.Join(err, d.putBack(ctx, tooLargeDelay))
	}
	if err != nil {
		return fmt.Errorf("queue: store dead letter: %w", redact(err))
	}
	return d.Done(ctx)
}

// retry calls the server until it answers, an error comes that asking again cannot mend, or ctx ends. Each call gets
// apiTimeout.
func retry(ctx context.Context, call func(context.Context) error) error {
	return insist(ctx, func() error {
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		return call(try)
	})
}

// insist is retry for attempts that bound their calls themselves.
func insist(ctx context.Context, attempt func() error) error {
	if err := attempt(); err == nil || isFinal(err) { // nearly always; what repeats it is made only where it is needed
		return err
	}
	wait := backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0),
	), ctx)
	return backoff.Retry(func() error {
		err := attempt()
		if isFinal(err) {
			return backoff.Permanent(err)
		}
		return err
	}, wait)
}

func isFinal(err error) bool {
	for _, final := range []error{nats.ErrConnectionClosed, nats.ErrMaxPayload, jetstream.ErrMsgAlreadyAckd, jetstream.ErrKeyNotFound, ErrStale} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

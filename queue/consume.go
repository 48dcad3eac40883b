package queue

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Lease is how long the server waits for a word about a job before it hands it out again: how long the jobs of a killed
// worker stay away. A [Delivery] renews it by itself until it is settled.
const Lease = 30 * time.Second

// Delivery is one job in this worker's hands, to be settled by exactly one of Done, Retry, Release and Bury. An
// unsettled one is delivered again, here or elsewhere, when its process ends. It belongs to one goroutine at a time.
type Delivery struct {
	Job
	// Attempts is how many attempts were counted before this delivery.
	Attempts int
	// InDoubt reports that an earlier delivery ended without a word: its worker was killed, or lost the server, and may
	// have sent the message. Doubt says how that is known.
	InDoubt bool
	Doubt   string
	// Lost is how many deliveries ended so, over the job's life. They are among the attempts.
	Lost int

	q         *Queue
	msg       jetstream.Msg
	server    string        // the run of the server that handed it out
	delivered uint64        // the server's count of deliveries, this one included
	claimed   uint64        // place of the job's latest claim that is accounted for, 0 if there is none
	ahead     bool          // the retry record is of a delivery with this number or a later one, which the server has forgotten
	recorded  bool          // a retry record exists and goes with the job
	taken     bool          // another delivery of the job has begun
	forgotten bool          // the server may have handed it out before it last forgot everything
	young     bool          // it has not been in the queue for long enough for a lease to have run out
	notBefore time.Duration // not 0: it was put back for longer than the server remembered, by so much

	mu      sync.Mutex // between renew and the settlement
	renewal *time.Timer
	settled bool
}

func (q *Queue) delivery(ctx context.Context, page string, lane Lane, msg jetstream.Msg, server string, made time.Time) *Delivery {
	d := &Delivery{q: q, msg: msg, server: server, delivered: 1}
	var stored time.Time
	if meta, err := msg.Metadata(); err == nil {
		stored, d.delivered = meta.Timestamp, meta.NumDelivered
		d.forgotten = q.transient && d.delivered == 1 && stored.Before(made)
		if d.delivered > 1 {
			d.young = q.clock.within(stored, Lease/2)
		}
	}
	d.Job = readJob(page, lane, msg.Headers(), msg.Data(), stored)
	switch { // published by hand
	case d.ID == "":
		d.ID = "UNNAMED" + strconv.FormatInt(stored.UnixNano(), 36)
	case !isID(d.ID):
		d.ID = KeyedID(page, d.ID)
	}
	d.mu.Lock()
	d.renewal = time.AfterFunc(Lease/3, d.renew)
	d.mu.Unlock()
	d.recall(ctx)
	return d
}

// renew begins the lease anew. It runs on the timer's goroutine.
func (d *Delivery) renew() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return
	}
	if err := d.msg.InProgress(); err == nil || errors.Is(err, nats.ErrReconnectBufExceeded) {
		d.renewal.Reset(Lease / 3)
	}
}

// settle ends the renewals. A job that was put back must not be renewed any more: that would take its delay from it.
func (d *Delivery) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = true
	d.renewal.Stop()
}

// again puts the job back for what is left of its delay. Its record stays as it is.
func (d *Delivery) again(ctx context.Context) error {
	d.settle()
	return d.putBack(ctx, d.notBefore)
}

// putBack asks for the job to be handed out again after delay.
func (d *Delivery) putBack(ctx context.Context, delay time.Duration) error {
	return retry(ctx, func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.msg.NakWithDelay(delay)
	})
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Lease is how long the server waits for a word about a job before it hands it out again: how long the jobs of a killed
// worker stay away. A [Delivery] renews it by itself until it is settled.
const Lease = 30 * time.Second

const (
	// maxAckPending is far above what a page can have put back with a delay at one time: those count as pending too,
	// and at the limit a consumer gets nothing new (measured on nats-server 2.15.2, as are 80 bytes for each).
	maxAckPending = 500_000
	// pullExpiry is how long one pull request waits at the server, which is idle chatter: one request per consumer and
	// expiry, with heartbeats at half of it telling a dead server from an empty lane.
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 15 * time.Second
	// pullAnswer is how long the answer to a pull request may be under way while there are jobs.
	pullAnswer = 100 * time.Millisecond
)

// Source hands out the jobs of one page and lane. Several processes may have a Source for the same lane; each job goes
// to one of them. Next is for one goroutine at a time, Stop for any.
type Source struct {
	q    *Queue
	page string
	lane Lane
	max  int

	heartbeat time.Duration // pullHeartbeat, less in tests

	stop chan struct{} // closed by Stop

	mu      sync.Mutex
	stopped bool
	msgs    jetstream.MessagesContext // nil between two subscriptions
	epoch   uint64                    // the connection's reconnects when msgs began
	drained chan struct{}             // not nil: msgs gets no more jobs once it is closed
}

// Source returns the jobs of one page and lane. At most buffer-1 of them wait in this process for Next, out of other
// workers' reach. Nothing renews their lease: a caller that has not called Next for a third of [Lease] stops the Source,
// puts back what it still returns, and takes a new one, or a job may be handed out twice. It makes the consumer on the
// first Next.
func (q *Queue) Source(page string, lane Lane, buffer int) *Source {
	return &Source{q: q, page: page, lane: lane, max: max(buffer, 1), heartbeat: pullHeartbeat, stop: make(chan struct{})}
}

// Next returns the next job. It waits for one, over every restart of the server, until [Source.Stop]; then it returns
// what is left in the buffer, and after that [ErrStopped]. ctx bounds calls to the server, not the wait.
func (s *Source) Next(ctx context.Context) (*Delivery, error) {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		msgs, err := s.subscription(ctx)
		if err == nil {
			var msg jetstream.Msg
			if msg, err = msgs.Next(); err == nil {
				return s.q.delivery(ctx, s.page, s.lane, msg), nil
			}
		}
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			// Nobody has our request: the consumer was deleted between two of them, or its server is gone.
			s.drain()
			continue
		}
		stopped, renew := s.ended()
		switch {
		case stopped || errors.Is(err, jetstream.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionClosed):
			return nil, ErrStopped
		case renew:
			continue
		}
		// The consumer was deleted, or could not be made: make it again. An outage is told of by others.
		if s.q.Connected() {
			s.q.log.Warn("no jobs to be had, trying again", zap.String("event", "consumer_lost"),
				zap.String("page", s.page), zap.String("lane", string(s.lane)), zap.Error(redact(err)))
		}
		select {
		case <-s.stop:
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// ErrStopped is what [Source.Next] returns when it will return no job any more.
var ErrStopped = errors.New("source is stopped")

// subscription returns the running subscription, or starts one.
func (s *Source) subscription(ctx context.Context) (jetstream.MessagesContext, error) {
	epoch := s.q.nc.Stats().Reconnects
	s.mu.Lock()
	if s.msgs != nil && epoch != s.epoch {
		// After a reconnect the subscription asks for a whole buffer more, however full its buffer is, and what does not
		// fit is dropped without a word (nats.go 1.55). So it is emptied first, and replaced.
		s.drainLocked()
	}
	msgs, drained, stopped := s.msgs, s.drained, s.stopped
	s.mu.Unlock()
	switch {
	case drained != nil:
		<-drained
		return msgs, nil // what is in its buffer is still to be had
	case msgs != nil:
		return msgs, nil
	case stopped:
		return nil, ErrStopped
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	consumer, err := s.q.jobs.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       s.page + "-" + string(s.lane),
		FilterSubject: jobSubject(s.page, s.lane),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       Lease,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	msgs, err = consumer.Messages(
		jetstream.PullMaxMessages(s.max),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(s.heartbeat),
	)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		msgs.Stop() // it has asked for nothing yet
		return nil, ErrStopped
	}
	s.msgs, s.epoch = msgs, epoch
	return msgs, nil
}

// drain ends the subscription: what it has asked for still comes, and Next asks for no more.
func (s *Source) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainLocked()
}

// drainLocked waits before it unsubscribes. What the server sends to a subscription that is gone it counts as delivered
// all the same (nats-server 2.15.2), and a job on its first delivery would then come back as one in doubt.
func (s *Source) drainLocked() {
	if s.msgs == nil || s.drained != nil {
		return
	}
	msgs, drained := s.msgs, make(chan struct{})
	s.drained = drained
	time.AfterFunc(pullAnswer, func() { msgs.Drain(); close(drained) })
}

// ended notes that the subscription gives no more, and tells whether that was asked for, and by whom.
func (s *Source) ended() (stopped, renew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	renew = s.drained != nil
	s.msgs, s.drained = nil, nil
	return s.stopped, renew
}

// Stop asks for no more jobs. It does not wait; see Next for what follows.
func (s *Source) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	close(s.stop)
	s.drainLocked()
}

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

	q         *Queue
	msg       jetstream.Msg
	delivered uint64 // the server's count of deliveries, this one included
	recorded  bool   // a retry record exists and goes with the job

	mu      sync.Mutex // between renew and the settlement
	renewal *time.Timer
	settled bool
}

func (q *Queue) delivery(ctx context.Context, page string, lane Lane, msg jetstream.Msg) *Delivery {
	d := &Delivery{q: q, msg: msg, delivered: 1}
	var stored time.Time
	if meta, err := msg.Metadata(); err == nil {
		stored, d.delivered = meta.Timestamp, meta.NumDelivered
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
	if d.delivered > 1 {
		d.recall(ctx)
	}
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

// putBack asks for the job to be handed out again after delay.
func (d *Delivery) putBack(ctx context.Context, delay time.Duration) error {
	return retry(ctx, func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.msg.NakWithDelay(delay)
	})
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxAckPending is far above what a page can have put back with a delay at one time: those count as pending too,
	// and at the limit a consumer gets nothing new (measured on nats-server 2.15.2, as are 80 bytes for each).
	maxAckPending = 500_000
	// pullExpiry is how long one pull request waits at the server.
	pullExpiry = 30 * time.Second
	// pullHeartbeat is idle chatter, one message per lane and interval, and half of how long it takes to notice that
	// nobody has our request any more: the consumer was deleted, or its server was killed.
	pullHeartbeat = 10 * time.Second
	// maxMaking is how many consumers one process makes at a time. A server takes milliseconds for each; a worker with
	// hundreds of pages that asked for all at once would wait for the last longer than it waits for an answer.
	maxMaking = 16
	// pullSpare is the room in a buffer for heartbeats and other words of the server, which come at most so many before
	// the caller takes the next job or stops.
	pullSpare = 8
	// pullAnswer is how long the answer to a request may be under way while there are jobs.
	pullAnswer = 200 * time.Millisecond
)

// Source hands out the jobs of one page and lane. Several processes may have a Source for the same lane; each job goes
// to one of them. Next is for one goroutine at a time, Stop for any.
//
// Where the stream has one replica, its server keeps the state of the consumer in memory. On disk it would write that state
// to a new file ten times a second for each lane that is at work, which costs more than the jobs do (measured on
// nats-server 2.15.2), and what the state tells after a restart the jobs' records tell too.
//
// It asks for one batch after the other. The endless subscription of nats.go 1.55 does not fit a small buffer: when
// a batch is used up before its request has returned, it asks for no other until heartbeats are missed.
type Source struct {
	q    *Queue
	page string
	lane Lane
	max  int

	heartbeat time.Duration // pullHeartbeat, less in tests

	// These belong to Next.
	consumer jetstream.Consumer // nil: to be made
	waiting  retrier

	stop chan struct{} // closed by Stop

	mu      sync.Mutex
	stopped bool
	batch   jetstream.MessagesContext // nil between two of them
	epoch   uint64                    // the connection's reconnects when batch was asked for
	unwatch func() bool               // ends the watch over its connection
	drained chan struct{}             // not nil: batch is being ended, and gets no more jobs once this is closed
}

// Source returns the jobs of one page and lane. At most buffer-1 of them wait in this process for Next, out of other
// workers' reach. Nothing renews their lease: a caller that has not called Next for a third of [Lease] stops the Source,
// puts back what it still returns, and takes a new one, or a job may be handed out twice. It makes the consumer on the
// first Next.
func (q *Queue) Source(page string, lane Lane, buffer int) *Source {
	return &Source{q: q, page: page, lane: lane, max: max(buffer, 1), heartbeat: pullHeartbeat, stop: make(chan struct{}),
		waiting: retrier{waits: q.waits, what: consumerOf(page, lane)}}
}

// ErrStopped is what [Source.Next] returns when it will return no job any more.
var ErrStopped = errors.New("source is stopped")

// Next returns the next job. It waits for one, over every restart of the server, until [Source.Stop] or the end of the
// queue; then it returns what is left in the buffer, and after that [ErrStopped]. ctx bounds calls to the server, not
// the wait.
func (s *Source) Next(ctx context.Context) (*Delivery, error) {
	wait := Backoff(50*time.Millisecond, 2*time.Second)
	defer s.waiting.end(false)
	for {
		began := time.Now()
		batch, err := s.current(ctx)
		if err == nil {
			began = time.Time{} // what follows may take long and go well
			var msg jetstream.Msg
			if msg, err = s.take(batch); err == nil {
				var d *Delivery
				if d, err = s.q.delivery(ctx, s.page, s.lane, msg); d != nil {
					return d, nil
				}
			} else {
				err = s.ended(err)
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, ErrStopped):
			return nil, err
		}
		if s.waiting.since.IsZero() {
			s.waiting.since = began
		}
		if ctx.Err() == nil {
			s.waiting.failed(s.q.missing(err))
		}
		select {
		case <-s.stop:
		case <-s.q.closed:
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// take returns the next message of a batch. A consumer that was waited for is there when it gives one, or is silent for a
// while: what cannot be fetched from is mostly known at once.
func (s *Source) take(batch jetstream.MessagesContext) (msg jetstream.Msg, err error) {
	if s.waiting.since.IsZero() {
		msg, err = batch.Next()
	} else if msg, err = batch.Next(jetstream.NextMaxWait(s.q.waits.after)); errors.Is(err, nats.ErrTimeout) {
		s.waiting.end(true)
		msg, err = batch.Next()
	}
	switch {
	case err == nil:
		s.waiting.end(true)
	case errors.Is(err, nats.ErrNoResponders):
		err = fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return msg, err
}

// current returns the batch that is under way, or asks for one.
func (s *Source) current(ctx context.Context) (jetstream.MessagesContext, error) {
	connection, epoch := s.q.connection.Load(), s.q.nc.Stats().Reconnects
	s.mu.Lock()
	if epoch != s.epoch {
		s.consumer = nil // it went with a server that kept it in memory
		if s.batch != nil {
			// After a reconnect nats.go asks for the rest of the batch again, what is in the buffer included, and what does
			// not fit is dropped without a word.
			s.drain()
		}
	}
	batch, drained, stopped := s.batch, s.drained, s.stopped
	s.mu.Unlock()
	switch {
	case drained != nil:
		<-drained
		return batch, nil // what is in its buffer is still to be had
	case batch != nil:
		return batch, nil
	case stopped, s.q.nc.IsClosed():
		return nil, ErrStopped
	case !s.q.Connected(): // what is asked for now would be asked of whichever server comes
		return nil, nats.ErrDisconnected
	}
	batch, err := s.ask(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		batch.Stop() // its first Next would have sent the request
		return nil, ErrStopped
	}
	s.batch, s.epoch = batch, epoch
	s.unwatch = context.AfterFunc(connection.ctx, func() { s.lost(batch) })
	return batch, nil
}

// lost ends a batch whose connection is lost. Where the server was restarted its consumer may be gone, and a request to none is
// met with silence: without this, Next would find out after two heartbeats.
func (s *Source) lost(batch jetstream.MessagesContext) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch == batch {
		s.drain()
	}
}

func (s *Source) ask(ctx context.Context) (jetstream.MessagesContext, error) {
	if s.consumer == nil {
		s.q.making <- struct{}{}
		defer func() { <-s.q.making }()
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		// NATS does not answer a request that it does not allow.
		request := "$JS.API.CONSUMER.CREATE." + StreamJobs + "." + consumerName(s.page, s.lane) + "." + jobSubject(s.page, s.lane, "*")
		var consumer jetstream.Consumer
		err := s.q.refusals.during(ctx, request, func(ctx context.Context) (err error) {
			consumer, err = s.make(ctx)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("consumer: %w", err)
		}
		s.consumer = consumer
	}
	batch, err := s.consumer.Messages(
		jetstream.StopAfter(s.max),
		jetstream.PullMaxMessages(s.max+pullSpare),
		jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(s.heartbeat),
	)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return batch, nil
}

func consumerName(page string, lane Lane) string { return page + "-" + string(lane) }

// make makes the consumer, or finds the one that is there.
func (s *Source) make(ctx context.Context) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		Durable:       consumerName(s.page, s.lane),
		FilterSubject: jobSubject(s.page, s.lane, "*"),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.q.cfg.lease,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
		MemoryStorage: s.q.jobs.CachedInfo().Config.Replicas == 1,
	}
	consumer, err := s.q.jobs.CreateOrUpdateConsumer(ctx, config)
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return consumer, err
	}
	// Where a consumer keeps its state cannot be changed. It is of no matter to the jobs: these files were another server's
	// before, or the stream had other replicas.
	old, failed := s.q.jobs.Consumer(ctx, config.Durable)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	if got := old.CachedInfo().Config.MemoryStorage; got != config.MemoryStorage {
		config.MemoryStorage = got
		return s.q.jobs.CreateOrUpdateConsumer(ctx, config)
	}
	return nil, err
}

// drain ends a batch: what was asked for still comes, and no more is asked for. It waits before it unsubscribes. What
// the server sends to a subscription that is gone it counts as delivered all the same (nats-server 2.15.2), and a job on
// its first delivery would then come back as one in doubt. s.mu is held.
func (s *Source) drain() {
	if s.batch == nil || s.drained != nil {
		return
	}
	batch, drained := s.batch, make(chan struct{})
	s.drained = drained
	time.AfterFunc(pullAnswer, func() {
		var busy time.Duration // a server that is slow to answer gets more time
		if asked := time.Now(); s.q.Connected() && s.q.nc.FlushTimeout(apiTimeout) == nil {
			busy = 4 * time.Since(asked)
		}
		time.AfterFunc(busy, func() {
			batch.Drain()
			close(drained)
		})
	})
}

// ended notes why the batch gave no job. It returns nil if another is to be asked for at once.
func (s *Source) ended(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, jetstream.ErrNoHeartbeat) {
		s.consumer = nil
		s.drain() // what has come meanwhile is still to be had
		return nil
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	s.batch, s.drained, s.unwatch = nil, nil, nil
	switch {
	case s.stopped, s.q.nc.IsClosed():
		return ErrStopped
	case errors.Is(err, jetstream.ErrMsgIteratorClosed): // it is used up, or drained
		return nil
	}
	s.consumer = nil // it was deleted
	return err
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
	s.drain()
}

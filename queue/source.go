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
	// maxAckPending is far above the number of jobs that one page can have requeued with a delay: those count as
	// pending, and at the limit a consumer gets no new jobs (measured on nats-server 2.15.2, as are 80 bytes for each).
	maxAckPending = 500_000
	// maxCreating is how many consumers one process creates at a time. A server takes milliseconds for each; a worker with
	// hundreds of pages that asked for all at once would wait for the last longer than apiTimeout.
	maxCreating = 16
)

// Source delivers the jobs of one page and lane. Several processes may have a Source for the same lane; each job is
// delivered to one of them. One goroutine at a time may call Next, any goroutine Stop.
//
// Where the stream has one replica, its server keeps the state of the consumer in memory. On disk it would write that
// state to a new file ten times a second for each busy lane, which costs more than the jobs do (measured on nats-server
// 2.15.2), and after a restart the jobs' records tell what that state would.
//
// A Source makes one pull request after the other. The endless subscription of nats.go 1.55 does not fit a small
// buffer: when a batch is used up before its request has returned, nats.go makes no other until heartbeats are missed.
type Source struct {
	q    *Queue
	at   store
	page string
	lane Lane
	max  int // jobs of one pull request

	heartbeat time.Duration // pullHeartbeat, less in tests

	// These belong to Next.
	consumer jetstream.Consumer // nil: to be created
	waiting  retrier

	stop chan struct{} // closed by Stop

	mu      sync.Mutex
	stopped bool
	batch   jetstream.MessagesContext // of the pull request that is under way; nil: none is
	epoch   uint64                    // the connection's reconnects when that was made
	unwatch func() bool               // ends the watch over its connection
	drained chan struct{}             // not nil: batch is ending, and gets no more jobs once this is closed
}

// AllPages is the page of a [Source] that returns the jobs of a lane for every page.
const AllPages = "*"

// Source returns the jobs of one page and lane, or of [AllPages], from where new ones are stored: a page whose messages have moved
// to another partition has more (see [Queue.Sources]). At most buffer-1 of them wait in this process for Next, out of reach of
// other workers. Their leases are not renewed: a caller that has not called Next for a third of [Lease] stops the
// Source, releases the jobs that Next still returns, and takes a new Source, or a job may be delivered twice. The first
// Next creates the consumer.
func (q *Queue) Source(page string, lane Lane, buffer int) *Source {
	return q.source(q.storeOf(page, lane), page, lane, buffer)
}

// Sources returns a [Source] for each stream in which jobs of a page and lane may be: one, unless the page has moved to another
// partition. Once grown is closed there may be more of them: callers then take all anew.
func (q *Queue) Sources(page string, lane Lane, buffer int) (sources []*Source, grown <-chan struct{}) {
	grown = q.grown()
	for _, at := range q.storesOf(page, lane) {
		sources = append(sources, q.source(at, page, lane, buffer))
	}
	return sources, grown
}

func (q *Queue) source(at store, page string, lane Lane, buffer int) *Source {
	return &Source{q: q, at: at, page: page, lane: lane, max: max(buffer, 1), heartbeat: pullHeartbeat, stop: make(chan struct{}),
		waiting: retrier{waits: q.waits, what: consumerOf(at.stream, page, lane)}}
}

// ErrStopped says that [Source.Next] returns no more jobs.
var ErrStopped = errors.New("source is stopped")

// Next returns the next job. It waits for one, over restarts of the server, until [Source.Stop] or the end of the
// queue; then it returns the jobs in the buffer, and after them [ErrStopped]. ctx bounds requests to the server, not
// the wait.
func (s *Source) Next(ctx context.Context) (*Delivery, error) {
	wait := Backoff(retryFirst, retryLongest)
	defer s.waiting.end(false)
	for {
		began := time.Now()
		batch, err := s.currentBatch(ctx)
		if err == nil {
			began = time.Time{} // receiving may take long and go well
			var msg jetstream.Msg
			if msg, err = s.receive(batch); err == nil {
				var d *Delivery
				if d, err = s.q.delivery(ctx, s.at, s.page, s.lane, msg); d != nil {
					return d, nil
				}
			} else {
				err = s.batchEnded(err)
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
			s.waiting.failed(s.q.reportMissing(err))
		}
		select {
		case <-s.stop:
		case <-s.q.closed:
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// receive returns the next message of a batch. A consumer that was waited for is there once it delivers a message, or is
// silent for a while: a pull request to a missing one mostly fails at once.
func (s *Source) receive(batch jetstream.MessagesContext) (msg jetstream.Msg, err error) {
	if s.waiting.since.IsZero() {
		msg, err = batch.Next()
	} else if msg, err = batch.Next(jetstream.NextMaxWait(s.q.waits.logAfter)); errors.Is(err, nats.ErrTimeout) {
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

// currentBatch returns the batch that is under way, or makes a pull request.
func (s *Source) currentBatch(ctx context.Context) (jetstream.MessagesContext, error) {
	connection, epoch := s.q.connection.Load(), s.q.nc.Stats().Reconnects
	s.mu.Lock()
	if epoch != s.epoch {
		s.consumer = nil // the server that kept it in memory may be gone
		if s.batch != nil {
			// After a reconnect nats.go requests the whole rest of the batch again, jobs in the buffer included, and drops
			// what does not fit the buffer without an error.
			s.drain()
		}
	}
	batch, drained, stopped := s.batch, s.drained, s.stopped
	s.mu.Unlock()
	switch {
	case drained != nil:
		<-drained
		return batch, nil // Next still returns the jobs in its buffer
	case batch != nil:
		return batch, nil
	case stopped, s.q.nc.IsClosed():
		return nil, ErrStopped
	case !s.q.Connected(): // the request would go to any server that comes
		return nil, nats.ErrDisconnected
	}
	batch, err := s.pull(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		batch.Stop() // the request is sent by the first Next
		return nil, ErrStopped
	}
	s.batch, s.epoch = batch, epoch
	s.unwatch = context.AfterFunc(connection.ctx, func() { s.connectionLost(batch) })
	return batch, nil
}

// connectionLost ends a batch whose connection is lost. If the server was restarted its consumer may be gone, and a
// request to a missing consumer has no answer: without this, Next would find out after two heartbeats.
func (s *Source) connectionLost(batch jetstream.MessagesContext) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batch == batch {
		s.drain()
	}
}

func (s *Source) pull(ctx context.Context) (jetstream.MessagesContext, error) {
	if s.consumer == nil {
		s.q.creating <- struct{}{}
		defer func() { <-s.q.creating }()
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		// The server reports a request that is not allowed on the connection, and does not answer it.
		request := "$JS.API.CONSUMER.CREATE." + s.at.stream + "." + consumerName(s.page, s.lane) + "." + s.at.jobSubject(s.page, s.lane, "*")
		var consumer jetstream.Consumer
		err := s.q.refusals.during(ctx, request, func(ctx context.Context) (err error) {
			consumer, err = s.createConsumer(ctx)
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

func consumerName(page string, lane Lane) string {
	if page == AllPages {
		page = "all"
	}
	return page + "-" + string(lane)
}

// createConsumer creates the consumer, or finds the one that is there.
func (s *Source) createConsumer(ctx context.Context) (jetstream.Consumer, error) {
	stream, _, err := s.q.jobsAt(s.at)
	if err != nil {
		return nil, err
	}
	config := jetstream.ConsumerConfig{
		Durable:       consumerName(s.page, s.lane),
		FilterSubject: s.at.jobSubject(s.page, s.lane, "*"),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.q.cfg.lease,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
		MemoryStorage: stream.CachedInfo().Config.Replicas == 1,
	}
	consumer, err := stream.CreateOrUpdateConsumer(ctx, config)
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return consumer, err
	}
	// Where a consumer keeps its state cannot be changed, and does not matter to the jobs. Another server may have had these
	// files before, or the stream other replicas.
	old, failed := stream.Consumer(ctx, config.Durable)
	if failed != nil {
		return nil, errors.Join(err, failed)
	}
	if got := old.CachedInfo().Config.MemoryStorage; got != config.MemoryStorage {
		config.MemoryStorage = got
		return stream.CreateOrUpdateConsumer(ctx, config)
	}
	return nil, err
}

// drain ends a batch: jobs that were requested still come, and no more are requested. It waits before it unsubscribes,
// since the server counts what it sends to a subscription that is gone as delivered (nats-server 2.15.2): a job on its
// first delivery would come back in doubt. s.mu is held.
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

// batchEnded notes why the batch delivered no job. It returns nil if a pull request is to be made at once.
func (s *Source) batchEnded(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, jetstream.ErrNoHeartbeat) {
		s.consumer = nil
		s.drain() // Next still returns the jobs that have come
		return nil
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	s.batch, s.drained, s.unwatch = nil, nil, nil
	switch {
	case s.stopped, s.q.nc.IsClosed():
		return ErrStopped
	case errors.Is(err, jetstream.ErrMsgIteratorClosed): // the batch is used up, or drained
		return nil
	}
	s.consumer = nil // the consumer was deleted
	return err
}

// Stop ends the requests for jobs. It does not wait; see Next for what follows.
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

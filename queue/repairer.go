package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Streams that vanish while everything runs
//
// A person may remove a stream, or a server may start again without its files. Requests then fail with one of a few
// errors, which callers report through [Queue.reportMissing]. A report wakes one goroutine, which makes sure of the
// layout as Open does: once for all reports, and at most once in repairPause. It also looks at the streams every
// repairEvery, for callers that get no error, since a watch of a stream that is gone is silent. A stream that cannot be
// made again is logged once, and fails Ready until it can be made.
//
// nats.go's handles of streams are names, and stay good.

type repairer struct {
	nudge  chan struct{}   // has one element while a report is to be looked into
	ctx    context.Context // of the goroutine
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	failed   error                    // why a missing stream cannot be made again
	opened   bool                     // Open has found all streams: one that is made from now on is made again
	created  map[string]time.Time     // when each stream was made
	replaced map[string]chan struct{} // closed when another stream has replaced one
	epochs   map[string]uint64        // how often each stream was replaced
}

func newRepairer() *repairer {
	r := &repairer{nudge: make(chan struct{}, 1), done: make(chan struct{}),
		created: make(map[string]time.Time), replaced: make(map[string]chan struct{}), epochs: make(map[string]uint64)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// reportMissing returns err as it is. If err may mean that a stream or a bucket is gone, it has the repairer look.
func (q *Queue) reportMissing(err error) error {
	if err != nil && isMissing(err) && !q.cfg.Existing {
		q.repairer.wake()
	}
	return err
}

// wake has the repairer look.
func (r *repairer) wake() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

// isMissing reports whether err can mean that a stream is gone. The subjects of a stream that is gone have no
// responder; for a short while that is also so while a server starts.
func isMissing(err error) bool {
	for _, gone := range []error{jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, jetstream.ErrNoStreamResponse,
		jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, nats.ErrNoResponders, nats.ErrStreamNotFound, nats.ErrNoStreamResponse} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// broken returns why a stream that is gone cannot be made again, nil while no stream is known to be gone.
func (q *Queue) broken() error {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	return q.repairer.failed
}

// replaced returns a channel that is closed when another stream has replaced one. Requests to the old stream
// get no more answers.
func (q *Queue) replaced(stream string) <-chan struct{} {
	r := q.repairer
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.replaced[stream] == nil {
		r.replaced[stream] = make(chan struct{})
	}
	return r.replaced[stream]
}

// epoch is how often a stream was replaced.
func (q *Queue) epoch(stream string) uint64 {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	return q.repairer.epochs[stream]
}

// isOpen reports whether Open has found all streams.
func (r *repairer) isOpen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened
}

// made notes that a stream was made. If the queue was open before, the messages of the old stream are lost.
func (q *Queue) made(stream string) {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	if q.repairer.opened && stream != streamOf(BucketPace) && stream != streamOf(BucketAlive) { // these are made when they are first needed
		q.log.Error("a stream was gone while it was in use, and was made again: what it held is lost",
			zap.String("event", "stream_lost"), zap.String("stream", stream))
	}
}

// keepRepaired runs until Close.
func (q *Queue) keepRepaired() {
	r := q.repairer
	defer close(r.done)
	wait := func(d time.Duration, nudge <-chan struct{}) (stopped bool) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-nudge:
		case <-r.ctx.Done():
			return true
		}
		return false
	}
	next := func() time.Duration {
		if q.broken() != nil || q.waits.count.Load() > 0 { // another process may have made it meanwhile
			return repairPause
		}
		return time.Duration(float64(q.cfg.repairEvery) * (0.8 + 0.4*rand.Float64()))
	}
	for !wait(next(), r.nudge) {
		if q.Connected() {
			q.repair()
		}
		if wait(repairPause, nil) {
			return
		}
	}
}

// repair makes sure of the layout. It notes a wait for an outage, since processes that need the stream may be idle.
func (q *Queue) repair() {
	r := q.repairer
	ctx, cancel := context.WithTimeout(r.ctx, 2*apiTimeout)
	defer cancel()
	defer context.AfterFunc(q.connection.Load().ctx, cancel)()
	began := time.Now()
	found, err := q.ensureLayout(ctx)
	r.noteWaits(q, found, began, err)
	if errors.As(err, new(newerError)) {
		// An upgrade is under way, and whoever runs it looks after the streams. What a newer version adds does not disturb
		// this one, which goes on until it is replaced.
		err = nil
	}
	final := needsSetup(err)
	for _, stream := range r.noteReplaced(found) {
		q.inFlight.drop(stream)
		for _, p := range q.partitions() {
			if stream == p.jobsName {
				p.lanes.announceAll(ctx)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		if r.failed != nil {
			q.log.Info("the streams are there again", zap.String("event", "streams_ok"))
		}
		r.failed = nil
	case final:
		if r.failed == nil || r.failed.Error() != err.Error() {
			q.log.Error("a stream that is needed cannot be used", zap.String("event", "streams_broken"), zap.Error(redact(err)))
		}
		r.failed = err
	}
}

// noteWaits notes which streams are missing, have no leader, or are there again.
func (r *repairer) noteWaits(q *Queue, found map[string]jetstream.Stream, began time.Time, err error) {
	switch {
	case errors.Is(err, context.Canceled): // the connection was lost, or this process ends
	case err != nil && !errors.As(err, new(*StreamError)): // repair logs it as streams_broken
		q.waits.observe(dependency{}, began, err)
	}
	for name, stream := range found {
		q.waits.observe(readsOf(name), began, led(stream.CachedInfo().Cluster))
	}
}

// noteReplaced tells the watchers of a stream that another one has replaced it, and returns the names of the
// streams that were replaced.
func (r *repairer) noteReplaced(found map[string]jetstream.Stream) (others []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, stream := range found {
		created, before := stream.CachedInfo().Created, r.created[name]
		r.created[name] = created
		if before.IsZero() || before.Equal(created) {
			continue
		}
		others = append(others, name)
		r.epochs[name]++
		if watched := r.replaced[name]; watched != nil {
			close(watched)
			r.replaced[name] = nil
		}
	}
	return others
}

// start looks after the streams that Open has found, until close. With Config.Existing nothing is made.
func (r *repairer) start(q *Queue) {
	if q.cfg.Existing {
		close(r.done)
		return
	}
	r.mu.Lock()
	r.opened = true
	r.mu.Unlock()
	go q.keepRepaired()
}

func (r *repairer) close() {
	r.cancel()
	<-r.done
}

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

// Streams that go while everything runs
//
// Somebody may remove a stream, or a server may come back without its files. Calls then fail with one of a few errors,
// which go through [Queue.missing]. It wakes one goroutine, which makes sure of the layout as Open does, once for all who
// complain, and not more often than once in repairPause. So does a look every repairEvery, for those who would not notice:
// a watch of a stream that is gone is silent. What cannot be made again is logged once, and fails Ready until it can.
//
// The handles of streams are names to nats.go, and stay good.

const (
	repairPause = time.Second
	// repairEvery is how often the streams are looked at without a complaint, give or take a fifth: four requests.
	repairEvery = 15 * time.Second
)

type repairer struct {
	nudge  chan struct{}   // has one element while somebody complains
	ctx    context.Context // of the goroutine
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	failed  error                    // why something that is missing cannot be made again
	again   bool                     // the queue was open before: what is made now is made again
	created map[string]time.Time     // when each stream was made
	renewed map[string]chan struct{} // closed when a stream is another than before
	epochs  map[string]uint64        // how often each was another than before
}

func newRepairer() *repairer {
	r := &repairer{nudge: make(chan struct{}, 1), done: make(chan struct{}),
		created: make(map[string]time.Time), renewed: make(map[string]chan struct{}), epochs: make(map[string]uint64)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// missing returns err as it is. Where it may come from a stream or a bucket that is gone, it has it made again.
func (q *Queue) missing(err error) error {
	if err != nil && isMissing(err) && !q.cfg.Existing {
		select {
		case q.repairer.nudge <- struct{}{}:
		default:
		}
	}
	return err
}

// isMissing reports whether err can mean that a stream is gone. A stream's subject then has nobody who answers. So it is,
// for a moment, where a server starts.
func isMissing(err error) bool {
	for _, gone := range []error{jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, jetstream.ErrNoStreamResponse,
		jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound, nats.ErrNoResponders, nats.ErrStreamNotFound, nats.ErrNoStreamResponse} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// broken returns why a stream that is gone cannot be made again, nil while all are there as far as is known.
func (q *Queue) broken() error {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	return q.repairer.failed
}

// renewed returns a channel that is closed when a stream is another than before: what was asked of the old one is not
// answered any more.
func (q *Queue) renewed(stream string) <-chan struct{} {
	r := q.repairer
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.renewed[stream] == nil {
		r.renewed[stream] = make(chan struct{})
	}
	return r.renewed[stream]
}

// epoch is how often a stream was another than before.
func (q *Queue) epoch(stream string) uint64 {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	return q.repairer.epochs[stream]
}

// made notes that a stream was made. Where the queue was open before, what the old one held is lost.
func (q *Queue) made(stream string) {
	q.repairer.mu.Lock()
	defer q.repairer.mu.Unlock()
	if q.repairer.again && stream != streamOf(BucketPace) { // which a single server forgets
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
		if q.broken() != nil || q.waits.count.Load() > 0 { // somebody else may have made it meanwhile
			return repairPause
		}
		return time.Duration(float64(repairEvery) * (0.8 + 0.4*rand.Float64()))
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

// repair makes sure of the layout. An error that time mends is said to be waited for: who needs the stream may be idle.
func (q *Queue) repair() {
	r := q.repairer
	ctx, cancel := context.WithTimeout(r.ctx, 2*apiTimeout)
	defer cancel()
	defer context.AfterFunc(q.connection.Load().ctx, cancel)()
	began := time.Now()
	found, err := q.ensureLayout(ctx)
	r.look(q, found, began, err)
	if errors.As(err, new(newerError)) {
		// An upgrade is under way, and who runs it looks after the streams. What a newer version adds is in nobody's way: this
		// process goes on until it is replaced.
		err = nil
	}
	final := errors.As(err, new(*ConfigError)) || errors.Is(err, errNotAllowed) || hasCode(err, errCodeStorageExceeded)
	if r.note(found) {
		q.inHand.void()
		q.lanes.again(ctx)
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

// look says which streams are not there, have no leader, or are there again.
func (r *repairer) look(q *Queue, found map[string]jetstream.Stream, began time.Time, err error) {
	switch {
	case errors.Is(err, context.Canceled): // the connection was lost, or this process ends
	case err != nil && !errors.As(err, new(*ConfigError)): // that is said as streams_broken
		q.waits.note(awaited{}, began, err)
	}
	for name, stream := range found {
		q.waits.note(readsOf(name), began, led(stream.CachedInfo().Cluster))
	}
}

// note tells who holds on to a stream that it is another, and reports whether that is so of the stream of jobs.
func (r *repairer) note(found map[string]jetstream.Stream) (otherJobs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, stream := range found {
		created, before := stream.CachedInfo().Created, r.created[name]
		r.created[name] = created
		if before.IsZero() || before.Equal(created) {
			continue
		}
		otherJobs = otherJobs || name == StreamJobs
		r.epochs[name]++
		if told := r.renewed[name]; told != nil {
			close(told)
			r.renewed[name] = nil
		}
	}
	return otherJobs
}

// begin starts to look after the streams that Open has found. Who only looks into a queue makes nothing.
func (r *repairer) begin(q *Queue) {
	if q.cfg.Existing {
		close(r.done)
		return
	}
	r.mu.Lock()
	r.again = true
	r.mu.Unlock()
	go q.keepRepaired()
}

func (r *repairer) close() {
	r.cancel()
	<-r.done
}

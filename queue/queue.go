package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Queue is a connection to JetStream and to the streams and buckets of Brazier there. It is safe for concurrent use.
type Queue struct {
	cfg     Config
	log     *zap.Logger
	nc      *nats.Conn
	closed  chan struct{} // closed by nats.go once the connection is done for good
	js      jetstream.JetStream
	dead    jetstream.Stream
	streams map[string]jetstream.Stream // of the layout, as Open found it, by name
	pages   jetstream.KeyValue
	worker  string // names this process, or this Queue, in the records of jobs it has begun
	aliveID string // names this Queue among those that are alive

	first    *partition         // its records are also those of claims, replays, events, updates and outcomes
	divided  partitions         // with the first
	creating chan struct{}      // one element per consumer that is being created
	beside   map[string]*writer // of the other streams, by name; empty without Config.RoadBack
	yielding *rate.Limiter
	parts    atomic.Pointer[map[string]float64] // of the space, that pages may fill: see SetShares
	inFlight *inFlight
	clock    *clock
	reach    reach
	away     away
	waits    *waits
	counters *counters

	repairer   *repairer
	refusals   refusals
	drift      atomic.Pointer[[]Difference] // what the last look at the streams found to differ from cfg
	paceLogged sync.Once                    // that the bucket of paces differs or is on file

	connection atomic.Pointer[connection]

	closeOnce sync.Once
}

// embeddedWorker names every worker of this process on a server in it. Only one process at a time has that server's
// directory, so an embedded worker of another name has ended.
var embeddedWorker = embeddedPrefix + NewID()[:12]

const embeddedPrefix = "embedded-"

// isGone reports whether a worker is known to have ended.
func (q *Queue) isGone(worker string) bool {
	return q.cfg.Embedded && worker != q.worker && strings.HasPrefix(worker, embeddedPrefix)
}

// Open connects and makes sure of the streams. It waits for a server that is not there yet, and logs that, until ctx
// ends. An error that waiting does not repair is returned at once: a *[ConfigError], a *[StreamError] about a stream
// that breaks a promise, refused credentials. The caller owns the Queue and closes it.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	q, err := dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if cfg.Dialed != nil {
		cfg.Dialed(q)
	}
	err = q.await(ctx, q.ensure)
	for _, w := range q.writers() {
		go w.run()
	}
	q.repairer.start(q)
	if err != nil {
		q.Close()
		return nil, fmt.Errorf("queue: %w", err)
	}
	if !cfg.Existing {
		q.logDrift(*q.drift.Load())
	}
	return q, nil
}

// dial begins to connect.
func dial(cfg Config) (*Queue, error) {
	cfg = cfg.withDefaults()
	q := &Queue{cfg: cfg, log: cfg.Log, aliveID: NewID()[:12], closed: make(chan struct{}), creating: make(chan struct{}, maxCreating)}
	q.connection.Store(newConnection())
	q.waits = newWaits(q)
	q.reach.since = time.Now()
	q.away.log, q.away.every = q.log, cfg.waitLogEvery
	q.yielding = newYielding()
	q.first = newPartition(q, 1)
	q.divided.all, q.divided.division, q.divided.grown = []*partition{q.first}, division{partitions: 1}, make(chan struct{})
	q.beside = map[string]*writer{}
	if cfg.RoadBack {
		for _, stream := range []string{StreamEvents, StreamOutcomes, StreamUpdates, streamOf(BucketPeople), streamOf(BucketSent)} {
			q.beside[stream] = newWriter(q, stream)
		}
	}
	q.inFlight = newInFlight(cfg.lease)
	q.clock, q.repairer, q.counters = newClock(q), newRepairer(), newCounters(q)
	switch {
	case cfg.worker != "":
		q.worker = cfg.worker
	case cfg.Embedded:
		q.worker = embeddedWorker
	default:
		q.worker = NewID()[:12]
	}
	var err error
	var badURL *url.Error
	nkey := newNkeyFile(cfg.NkeyFile)
	switch q.nc, err = nats.Connect(cfg.URL, q.options(nkey)...); {
	case errors.As(err, &badURL): // its text has the address or a part of it, which may be the password
		return nil, errBadURL
	case err != nil:
		return nil, fmt.Errorf("connect: %w", redact(err))
	}
	nkey.connected(q.nc)
	q.js, err = jetstream.New(q.nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil { // an option above is wrong
		q.nc.Close()
		return nil, err
	}
	return q, nil
}

// writers returns every writer.
func (q *Queue) writers() []*writer {
	all := slices.Collect(maps.Values(q.beside))
	for _, p := range q.partitions() {
		all = append(all, p.accepting, p.recording)
	}
	return all
}

// jobsAt returns the stream of jobs of a store, and its writer.
func (q *Queue) jobsAt(h store) (jetstream.Stream, *writer, error) {
	if h.stream == h.jobsName {
		return h.jobs, h.accepting, nil
	}
	if q.streams[h.stream] == nil {
		return nil, nil, fmt.Errorf("stream %s: %w", h.stream, ErrNoRoadBack)
	}
	return q.streams[h.stream], q.beside[h.stream], nil
}

// ErrNoRoadBack says that the Queue was opened without Config.RoadBack.
var ErrNoRoadBack = errors.New("opened without the streams for webhooks and updates")

// ErrNoQueue says that the servers have no queue of Brazier.
var ErrNoQueue = errors.New("no queue here")

// Closed returns a channel that is closed when the connection has ended for good: by [Queue.Close], or because the
// server refused its credentials twice. The Queue cannot be used any more then.
func (q *Queue) Closed() <-chan struct{} { return q.closed }

// Close ends the connection and waits until it is closed. Unsettled deliveries are delivered again when their leases
// end. What was counted of campaigns is written, within a second or so. It may be called more than once.
func (q *Queue) Close() {
	q.closeOnce.Do(func() {
		q.counters.close()
		q.inFlight.close()
		q.repairer.close() // it adds partitions
		for _, p := range q.partitions() {
			p.shares.close()
		}
		for _, w := range q.writers() {
			w.close()
		}
		q.clock.close()
		// The buffer of the connection is sent first: an acknowledgement that is lost here is a message sent twice.
		if q.nc.IsConnected() {
			_ = q.nc.FlushTimeout(time.Second)
		}
		q.nc.Close()
		<-q.closed
		q.waits.close()
		q.connection.Load().lost()
	})
}

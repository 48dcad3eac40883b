package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Config is what a process tells its queue. The zero value works against a NATS server on this machine.
type Config struct {
	// URL is one or more addresses of NATS servers, separated by commas. Default nats://127.0.0.1:4222.
	URL string
	// InProcess, if set, is a server in this process; URL is then not used.
	InProcess interface{ InProcessConn() (net.Conn, error) }
	// Embedded says that the server ends when this process does: a worker of an earlier process is then known to be gone.
	Embedded bool
	// Flushed says that the server flushes each message before it acknowledges it (sync always, no replicas).
	Flushed bool
	// HasRoom, if set, reports whether new jobs may be stored; while it says no, [Queue.Publish] answers [ErrFull]. What
	// belongs to jobs that are stored is written in any case.
	HasRoom func() bool
	// Name is how the connection is called in the server's monitoring. Default brazier.
	Name string
	// Role says what the process does: ingress, worker or another word of lower-case letters. Answers come to inboxes under
	// _INBOX_brazier_ROLE, so that the server can forbid the users of one role to listen to another. Default admin, for
	// those who look into the queue and change what is in it.
	Role string
	// CredentialsFile is a NATS credentials file (JWT and seed). Optional.
	CredentialsFile string
	// CAFile is a PEM file with the authority that signed the servers' certificates. Optional.
	CAFile string

	// Existing is for those who look into a queue that others run: [Open] makes and changes nothing, and returns [ErrNoQueue]
	// where something is missing. Replicas, MaxBytes and DeadMaxAge then have no defaults: [Queue.Differences] compares those
	// that are set.
	Existing bool
	// Replicas of streams and buckets that are made now: 1 to 5. Default 3 on a cluster, else 1. Those that are there are
	// changed by [Setup] alone, and so are the limits below; Open logs where they differ.
	Replicas int
	// Window is how long an idempotency key is remembered. Default 2h.
	Window time.Duration
	// MaxBytes bounds the jobs on disk; beyond it [Queue.Publish] answers [ErrFull]. Default 10 GiB.
	MaxBytes int64
	// DeadMaxAge is how long dead letters are kept. Default 30 days.
	DeadMaxAge time.Duration

	// Clock is this machine's wall clock, for tests whose processes disagree about the time. Default time.Now.
	Clock func() time.Time

	// Log gets what happens to the connection. Default: nothing is logged.
	Log *zap.Logger

	// Dialed, if set, is called with the Queue before Open waits for the server, by who wants to know meanwhile what is waited for:
	// until Open has returned, [Queue.Awaited] is all that may be called.
	Dialed func(*Queue)

	lease               time.Duration // Lease, less in tests
	waitTold, waitAgain time.Duration // the constants of these names, less in tests
	worker              string        // another in tests, where one process stands for several
}

func (c *Config) setDefaults() error {
	if c.URL == "" {
		c.URL = nats.DefaultURL
	}
	if c.Name == "" {
		c.Name = "brazier"
	}
	if c.Role == "" {
		c.Role = "admin"
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.MaxBytes == 0 && !c.Existing {
		c.MaxBytes = defaultMaxBytes
	}
	if c.DeadMaxAge == 0 && !c.Existing {
		c.DeadMaxAge = defaultDeadAge
	}
	if c.lease == 0 {
		c.lease = Lease
	}
	if c.waitTold == 0 {
		c.waitTold, c.waitAgain = waitTold, waitAgain
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	switch {
	case strings.Trim(c.Role, "abcdefghijklmnopqrstuvwxyz") != "":
		return fmt.Errorf("field Role: must be lower-case letters (got %q)", c.Role)
	case c.Replicas < 0 || c.Replicas > 5:
		return fmt.Errorf("field Replicas: %d is not between 1 and 5", c.Replicas)
	case c.Window < time.Second:
		return fmt.Errorf("field Window: %v is under a second", c.Window)
	case c.MaxBytes != 0 && c.MaxBytes < 1<<20:
		return fmt.Errorf("field MaxBytes: %d is under 1 MiB", c.MaxBytes)
	case c.DeadMaxAge != 0 && c.DeadMaxAge < time.Minute:
		return fmt.Errorf("field DeadMaxAge: %v is under a minute", c.DeadMaxAge)
	}
	return nil
}

// Queue is a connection to JetStream and what Brazier keeps there. It is safe for concurrent use.
type Queue struct {
	cfg     Config
	log     *zap.Logger
	nc      *nats.Conn
	closed  chan struct{} // closed by nats.go once the connection is done for good
	js      jetstream.JetStream
	jobs    jetstream.Stream
	records jetstream.Stream
	dead    jetstream.Stream
	pages   jetstream.KeyValue
	worker  string // names this process, or this Queue, in the records of jobs it has begun

	making               chan struct{} // one element per consumer that is being made
	accepting, recording *writer       // of jobs and of records
	yielding             *rate.Limiter
	lanes                *lanes
	shares               *shares
	inHand               *inHand
	clock                *clock
	reach                reach
	waits                *waits

	repairer *repairer
	refusals refusals
	drift    atomic.Pointer[[]Difference] // what the last look found to differ from cfg
	paceTold sync.Once                    // what there is to say of the bucket of paces

	connection atomic.Pointer[connection]

	closeOnce sync.Once
}

// embeddedWorker names every worker of this process on a server in it. Only one process has that server's directory, so one
// with another name is gone.
var embeddedWorker = embeddedPrefix + NewID()[:12]

const embeddedPrefix = "embedded-"

// isGone reports whether a worker is known to have ended.
func (q *Queue) isGone(worker string) bool {
	return q.cfg.Embedded && worker != q.worker && strings.HasPrefix(worker, embeddedPrefix)
}

// Open connects and makes sure of the streams. A server that is not there yet is waited for, and that is logged, until
// ctx ends; an error that waiting cannot mend (a bad setting, refused credentials, a stream that breaks a promise) comes
// back at once. The caller owns the Queue and closes it.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	q, err := dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if cfg.Dialed != nil {
		cfg.Dialed(q)
	}
	err = q.await(ctx, q.ensure)
	go q.accepting.run()
	go q.recording.run()
	q.repairer.begin(q)
	if err != nil {
		q.Close()
		return nil, fmt.Errorf("queue: %w", err)
	}
	if !cfg.Existing {
		q.tell(*q.drift.Load())
	}
	return q, nil
}

// dial begins to connect.
func dial(cfg Config) (*Queue, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, log: cfg.Log, closed: make(chan struct{}), making: make(chan struct{}, maxMaking)}
	q.connection.Store(newConnection())
	q.waits = newWaits(q)
	q.reach.since = time.Now()
	q.yielding = newYielding()
	q.accepting, q.recording = newWriter(q, StreamJobs), newWriter(q, StreamRecords)
	q.recording.apart = q.recordsApart
	q.lanes, q.shares, q.inHand = newLanes(q), newShares(q), newInHand(cfg.lease)
	q.clock, q.repairer = newClock(q), newRepairer()
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
	switch q.nc, err = nats.Connect(cfg.URL, q.options()...); {
	case errors.As(err, &badURL): // its text is the address or a part of it, and may be the password
		return nil, errors.New("field URL: an address is not of the form nats://HOST:PORT")
	case err != nil:
		return nil, fmt.Errorf("connect: %w", redact(err))
	}
	q.js, err = jetstream.New(q.nc, jetstream.WithDefaultTimeout(apiTimeout))
	if err != nil { // an option of ours is wrong
		q.nc.Close()
		return nil, err
	}
	return q, nil
}

// ErrNoQueue says that the servers hold no queue of Brazier's.
var ErrNoQueue = errors.New("no queue here")

// apiTimeout bounds one request to the server. A new stream leader takes 4 to 9 s after the old one was killed
// (measured on nats-server 2.15.2); what is worth waiting for longer is asked again.
const apiTimeout = 5 * time.Second

const inboxPrefix = "_INBOX_brazier_"

// await returns once there is a connection and ready has no error. It calls ready until then, or until an error comes that
// waiting does not mend.
func (q *Queue) await(ctx context.Context, ready func(context.Context) error) error {
	wait := backoff.WithContext(Backoff(50*time.Millisecond, 2*time.Second), ctx)
	waiting := retrier{waits: q.waits, since: time.Now()}
	var last error // what stood in the way when ctx ended
	err := backoff.RetryNotify(func() error {
		if q.nc.IsClosed() {
			return backoff.Permanent(fmt.Errorf("NATS refused the connection: %w", redact(q.nc.LastError())))
		}
		if !q.nc.IsConnected() {
			return errNoServer
		}
		if q.cfg.Replicas == 0 && !q.cfg.Existing {
			q.cfg.Replicas = 1
			if q.nc.ConnectedClusterName() != "" {
				q.cfg.Replicas = 3
			}
		}
		try, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		err := ready(try)
		var bad *ConfigError
		if errors.As(err, &bad) || hasCode(err, errCodeStorageExceeded) {
			return backoff.Permanent(err)
		}
		if q.cfg.Existing && (errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)) {
			return backoff.Permanent(fmt.Errorf("%w: %w", ErrNoQueue, err))
		}
		return err
	}, wait, func(err error, _ time.Duration) {
		if ctx.Err() == nil {
			last = err
			waiting.failed(err)
		}
	})
	waiting.end(err == nil)
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("waiting for NATS: %w, after %w", ctx.Err(), redact(last))
	}
	return err
}

// Closed returns a channel that is closed when the connection has ended for good: by [Queue.Close], or because the
// server refused its credentials twice. Nothing works from then on.
func (q *Queue) Closed() <-chan struct{} { return q.closed }

// Close ends the connection and waits until it is closed. Unsettled deliveries are delivered again when their lease
// runs out. It may be called more than once.
func (q *Queue) Close() {
	q.closeOnce.Do(func() {
		q.inHand.close()
		q.shares.close()
		q.accepting.close()
		q.recording.close()
		q.clock.close()
		q.repairer.close()
		// What was already handed to the connection goes out first: an acknowledgement lost here is a message sent twice.
		if q.nc.IsConnected() {
			_ = q.nc.FlushTimeout(time.Second)
		}
		q.nc.Close()
		<-q.closed
		q.waits.close()
		q.connection.Load().lost()
	})
}

package queue

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// connection is one connection to a server, until it is lost.
type connection struct {
	ctx  context.Context // ends then: an answer that was to come over it will not
	lost context.CancelFunc
}

func newConnection() *connection {
	ctx, lost := context.WithCancel(context.Background())
	return &connection{ctx, lost}
}

// reach is since when this process has reached the stream of jobs without interruption.
type reach struct {
	mu    sync.Mutex
	gone  bool
	since time.Time
}

// note takes in that the stream answered, or did not.
func (r *reach) note(answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answered && r.gone {
		r.since = time.Now()
	}
	r.gone = !answered
}

// back returns since when the stream was reached without interruption, by the server's clock. Before, workers could not
// renew their leases, nor this one see that they did.
func (q *Queue) back() time.Time {
	q.reach.mu.Lock()
	defer q.reach.mu.Unlock()
	return q.clock.server(q.reach.since)
}

func (q *Queue) options() []nats.Option {
	opts := []nats.Option{
		nats.Name(q.cfg.Name),
		nats.CustomInboxPrefix(inboxPrefix + q.cfg.Role),
		nats.MaxReconnects(-1), // the default gives up after two minutes
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// Without a buffer a publish during an outage fails at once and is retried by us, under a deadline that the
		// caller knows of. With one it would be sent later, when the caller has long been told otherwise.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ClosedHandler(func(*nats.Conn) { close(q.closed) }),
		nats.ConnectHandler(func(nc *nats.Conn) {
			q.reach.note(true)
			q.connected()
			q.log.Info("connected to NATS", zap.String("event", "connected"), zap.String("address", q.server(nc)))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			q.reach.note(true)
			q.connected()
			q.clock.nudge() // it may be another server
			q.log.Info("connected to NATS again", zap.String("event", "connected"), zap.String("address", q.server(nc)))
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			q.connection.Swap(newConnection()).lost()
			q.reach.note(false)
			q.waits.up.Store(false)
			if err != nil { // nil when we closed it
				q.waits.note(theConnection, time.Now(), nats.ErrDisconnected)
				q.log.Warn("connection to NATS lost, reconnecting", zap.String("event", "disconnected"), zap.Error(redact(err)))
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { q.waits.note(theConnection, time.Now(), err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if q.refusals.heard(err) { // who waits for it tells
				return
			}
			q.log.Error("NATS reported an error", zap.String("event", "nats_error"), zap.Error(redact(err)))
		}),
	}
	if q.cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(q.cfg.InProcess))
	}
	if q.cfg.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(q.cfg.CredentialsFile))
	}
	if q.cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(q.cfg.CAFile))
	}
	return opts
}

// connected takes in that there is a connection.
func (q *Queue) connected() {
	q.waits.up.Store(true)
	q.waits.note(theConnection, time.Now(), nil)
}

// server names the server that nc is connected to.
func (q *Queue) server(nc *nats.Conn) string {
	if q.cfg.InProcess != nil {
		return "in-process"
	}
	return nc.ConnectedUrlRedacted()
}

// Connected reports whether the server is there at this moment.
func (q *Queue) Connected() bool { return q.nc.IsConnected() }

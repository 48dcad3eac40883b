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
	ctx  context.Context // ends when the connection is lost: no answer comes over it any more
	lost context.CancelFunc
}

func newConnection() *connection {
	ctx, lost := context.WithCancel(context.Background())
	return &connection{ctx, lost}
}

// reach knows since when this process has reached the stream of jobs without interruption.
type reach struct {
	mu    sync.Mutex
	gone  bool
	since time.Time
}

// observe notes whether the stream answered.
func (r *reach) observe(answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answered && r.gone {
		r.since = time.Now()
	}
	r.gone = !answered
}

// reachableSince returns since when the stream was reached without interruption, by the server's clock. Before that workers
// could not renew their leases, and this process could not see whether they did.
func (q *Queue) reachableSince() time.Time {
	q.reach.mu.Lock()
	defer q.reach.mu.Unlock()
	return q.clock.toServer(q.reach.since)
}

// options returns the options of the connection.
func (q *Queue) options(nkey *nkeyFile) []nats.Option {
	opts := append(q.handlers(),
		nats.Name(q.cfg.Name),
		nats.CustomInboxPrefix(inboxPrefix+q.cfg.Role),
		nats.MaxReconnects(-1), // by default it stops after two minutes
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, 2*reconnectJitter),
		// Without a buffer a publish during an outage fails at once and is repeated here, until the caller's deadline. With
		// a buffer it would be sent later, when the caller has long had an error.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
	)
	if q.cfg.InProcess != nil {
		return append(opts, nats.InProcessServer(q.cfg.InProcess))
	}
	return append(opts, q.cfg.Credentials.options(q.log, nkey)...)
}

// handlers returns the handlers of what happens to the connection.
func (q *Queue) handlers() []nats.Option {
	return []nats.Option{
		nats.ClosedHandler(func(*nats.Conn) {
			q.away.ended()
			close(q.closed)
		}),
		nats.ConnectHandler(func(nc *nats.Conn) {
			q.reach.observe(true)
			q.connected()
			q.logConnected(nc, "connected to NATS")
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			q.reach.observe(true)
			q.connected()
			q.clock.nudge()   // the server may be another
			q.repairer.wake() // there may be more partitions
			q.logConnected(nc, "connected to NATS again")
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			q.connection.Swap(newConnection()).lost()
			q.reach.observe(false)
			q.waits.connected.Store(false)
			if err != nil { // nil after Close
				q.waits.observe(theConnection, time.Now(), nats.ErrDisconnected)
				q.away.began(err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			q.away.failed(err)
			q.waits.observe(theConnection, time.Now(), err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if q.refusals.receive(err) { // the caller that waits logs it
				return
			}
			q.log.Error("NATS reported an error", zap.String("event", "nats_error"), zap.Error(redact(err)))
		}),
	}
}

// connected notes that there is a connection.
func (q *Queue) connected() {
	q.waits.connected.Store(true)
	q.waits.observe(theConnection, time.Now(), nil)
}

// server names the server that nc is connected to.
func (q *Queue) server(nc *nats.Conn) string {
	if q.cfg.InProcess != nil {
		return "in-process"
	}
	return nc.ConnectedUrlRedacted()
}

// Connected reports whether there is a connection to a server now.
func (q *Queue) Connected() bool { return q.nc.IsConnected() }

const inboxPrefix = "_INBOX_brazier_"

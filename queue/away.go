package queue

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// away tells in the log that this process has no connection to NATS: at once, each minute while that lasts, and when it is over.
type away struct {
	log   *zap.Logger
	every time.Duration

	mu    sync.Mutex
	since time.Time // zero: there is a connection, or was none yet
	again *time.Timer
	cause error
}

// began notes that the connection was lost.
func (a *away) began(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		a.since = time.Now()
		a.again = time.AfterFunc(a.every, a.tell)
	}
	a.cause = cause
	a.line()
}

// tell logs that the connection is still lost.
func (a *away) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		return
	}
	a.line()
	a.again.Reset(a.every)
}

// line logs for how long the connection has been lost. a.mu is held.
func (a *away) line() {
	a.log.Warn("no connection to NATS, reconnecting", append(a.fields(), zap.String("event", "disconnected"), zap.Error(redact(a.cause)))...)
}

// fields are since when and for how long there has been no connection. a.mu is held.
func (a *away) fields() []zap.Field {
	return []zap.Field{zap.Time("since", a.since), zap.Float64("for_s", time.Since(a.since).Round(100*time.Millisecond).Seconds())}
}

// failed notes why an attempt to connect failed, where there was a connection before.
func (a *away) failed(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cause != nil {
		a.cause = cause
	}
}

// ended notes that there is a connection, and returns for how long there was none; nothing at the first one.
func (a *away) ended() (fields []zap.Field) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		return nil
	}
	fields = a.fields()
	a.again.Stop()
	a.since = time.Time{}
	return fields
}

// logConnected logs that there is a connection, and for how long there was none.
func (q *Queue) logConnected(nc *nats.Conn, text string) {
	q.log.Info(text, append(q.away.ended(), zap.String("event", "connected"), zap.String("address", q.server(nc)))...)
}

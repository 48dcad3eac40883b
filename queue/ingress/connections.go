package ingress

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// minIdle is how long a connection has to be idle before it may be closed to make room for a new one. A client may send
	// its next request at the very moment at which its connection is closed, and loses it: the longer a connection was
	// idle, the less likely that is. It is also how long idle connections can keep a new one waiting.
	minIdle = 2 * time.Second
	// fullPoll is how often idle connections are looked at while a new one waits.
	fullPoll = 100 * time.Millisecond
	// fullLogged is how often the log says that as many connections are open as may be.
	fullLogged = time.Minute
)

// listener bounds the connections that are open at one time. When there are as many as may be, it closes the one that was
// idle for longest; while none was idle for minIdle, it accepts no further ones. These wait in the system's backlog.
//
// A connection that sends nothing, or too slowly, is no idle one: Config.HeaderTimeout and Config.BodyTimeout end it.
type listener struct {
	*net.TCPListener
	log *zap.Logger

	open      chan struct{} // one element per open connection
	closing   chan struct{} // closed with the listener
	closeOnce sync.Once
	logged    time.Time // when the log last said that it is full; Accept's alone

	mu   sync.Mutex
	idle list.List // of *connection, the one that was idle for longest first
}

func listen(address string, most int, log *zap.Logger) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{TCPListener: l.(*net.TCPListener), log: log, open: make(chan struct{}, most), closing: make(chan struct{})}, nil
}

// Accept returns the next connection, once there may be one more.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	select {
	case l.open <- struct{}{}:
	default:
		if !l.makeRoom() {
			_ = tcp.Close() // nothing was read from it
			return nil, net.ErrClosed
		}
	}
	return &connection{TCPConn: tcp, from: l}, nil
}

// makeRoom waits until there may be one more connection, and counts it. It returns false when the listener is closed.
func (l *listener) makeRoom() bool {
	if now := time.Now(); now.Sub(l.logged) >= fullLogged {
		l.logged = now
		l.log.Warn("as many connections are open as may be", zap.String("event", "connections_full"), zap.Int("limit", cap(l.open)))
	}
	poll := time.NewTicker(fullPoll)
	defer poll.Stop()
	for {
		l.closeIdlest()
		select {
		case l.open <- struct{}{}:
			return true
		case <-poll.C:
		case <-l.closing:
			return false
		}
	}
}

// closeIdlest closes the connection that was idle for longest, if that is minIdle.
func (l *listener) closeIdlest() {
	l.mu.Lock()
	first := l.idle.Front()
	if first == nil || time.Since(first.Value.(*connection).since) < minIdle {
		l.mu.Unlock()
		return
	}
	c := first.Value.(*connection)
	c.busyLocked()
	l.mu.Unlock()
	_ = c.Close() // its server meets the error, and is done with it
}

// track is the http.Server's ConnState.
func (l *listener) track(conn net.Conn, state http.ConnState) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c := conn.(*connection)
	l.mu.Lock()
	defer l.mu.Unlock()
	c.busyLocked()
	if state == http.StateIdle {
		c.since, c.idle = time.Now(), l.idle.PushBack(c)
	}
}

// Close ends Accept. It may be called more than once.
func (l *listener) Close() error {
	l.closeOnce.Do(func() { close(l.closing) })
	return l.TCPListener.Close()
}

// connection is an open one. It has the methods of its TCPConn: net/http closes the sending half of a connection first,
// where it can, so that the client reads the answer before a reset.
type connection struct {
	*net.TCPConn
	from   *listener
	closed sync.Once

	// Guarded by from.mu:
	idle  *list.Element // in from.idle; nil while it is in use
	since time.Time     // when it became idle
}

func (c *connection) busyLocked() {
	if c.idle != nil {
		c.from.idle.Remove(c.idle)
		c.idle = nil
	}
}

// Close closes the connection, and lets another one be opened. It may be called more than once.
func (c *connection) Close() error {
	err := c.TCPConn.Close()
	c.closed.Do(func() {
		c.from.mu.Lock()
		c.busyLocked()
		c.from.mu.Unlock()
		<-c.from.open
	})
	return err
}

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
	// minIdle is how long a connection has to be idle before it may be closed for a new one. A client that sends its next
	// request while its connection is closed loses that request; the longer a connection has been idle, the less likely
	// that is. It is also how long idle connections can keep a new one waiting.
	minIdle = 2 * time.Second
	// fullPoll is the interval between looks for an idle connection while a new one waits.
	fullPoll = 100 * time.Millisecond
	// fullLogged is the least interval between log lines that say that the limit of connections is reached.
	fullLogged = time.Minute
)

// listener bounds the connections that are open at one time. At the limit it closes the connection that has been idle
// longest for a new one. While none has been idle for minIdle, it accepts no more, and new ones wait in the system's
// backlog.
//
// A connection with an unfinished request is not idle, however slow it is: Config.HeaderTimeout and Config.BodyTimeout end
// it.
type listener struct {
	*net.TCPListener
	log *zap.Logger

	open      chan struct{} // one element per open connection
	closing   chan struct{} // closed with the listener
	closeOnce sync.Once
	logged    time.Time // when the line connections_full was last logged; only Accept uses it

	mu   sync.Mutex
	idle list.List // of *connection, the one that has been idle longest first
}

func listen(address string, most int, log *zap.Logger) (*listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{TCPListener: l.(*net.TCPListener), log: log, open: make(chan struct{}, most), closing: make(chan struct{})}, nil
}

// Accept returns the next connection, once one more may be open.
func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	select {
	case l.open <- struct{}{}:
	default:
		if !l.waitForSlot() {
			_ = tcp.Close() // nothing was read from it
			return nil, net.ErrClosed
		}
	}
	return &connection{TCPConn: tcp, from: l}, nil
}

// waitForSlot waits until one more connection may be open, and counts it. It returns false when the listener is closed.
func (l *listener) waitForSlot() bool {
	if now := time.Now(); now.Sub(l.logged) >= fullLogged {
		l.logged = now
		l.log.Warn("limit of open connections reached", zap.String("event", "connections_full"), zap.Int("limit", cap(l.open)))
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

// closeIdlest closes the connection that has been idle longest, if that is for minIdle or more.
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
	_ = c.Close() // the http.Server then fails to read from it, and forgets it
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

// connection is an open connection. It keeps the methods of its TCPConn, since net/http uses CloseWrite where there is one,
// so that the client can read the answer before a reset.
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

// Close closes the connection, so that another one may be open. It may be called more than once.
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

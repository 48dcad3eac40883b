package embedded

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// When a write fails
//
// After a failed write (the disk is full, mostly) a stream of nats-server 2.15.2 stays read-only until the server is
// started again, whatever room there is by then; a publisher gets no answer. Worse, on a stream with one replica an
// acknowledgement is confirmed although the removal of its message could not be written, so that a settled message comes
// back (stream.ackMsg does not look at the error).
//
// So a server that could not write is not to be trusted with one answer more. Its log line, which it writes before it
// goes on, cuts its clients off there and then: what it would confirm after that reaches nobody. Then it is stopped, and
// started again when there is room. Starting needs room too: the rest of a batch that was being stored is written then,
// and if that fails the server forgets it (jetstream.go, "partial batch write").

// startRoom is how much has to be free before the server is started: the rest of a batch, and what it keeps of streams
// and consumers, several times over.
const startRoom = 16 << 20

// life is one run of the NATS server, until it is stopped or cannot write.
type life struct {
	ns     *server.Server
	began  time.Time
	failed chan struct{} // closed by fail

	mu    sync.Mutex
	over  bool
	conns map[*conn]struct{} // the clients' ends
}

// begin starts a server and returns when it has read its files back.
func begin(cfg Config) (*life, error) {
	if err := removeAddress(cfg.Dir); err != nil { // of a run that was killed
		return nil, err
	}
	l := &life{began: time.Now(), failed: make(chan struct{}), conns: map[*conn]struct{}{}}
	pass := newPassword()
	opts := &server.Options{
		ServerName:                 "brazier-embedded",
		Host:                       "127.0.0.1",
		Port:                       server.RANDOM_PORT,
		CustomClientAuthentication: pass,
		JetStream:                  true,
		StoreDir:                   cfg.Dir,
		JetStreamMaxStore:          cfg.MaxStore,
		SyncAlways:                 cfg.Sync == SyncAlways,
		SyncInterval:               cfg.FlushEvery,
		MaxPayload:                 8 << 20,
		NoSigs:                     true,
	}
	var err error
	if l.ns, err = server.NewServer(opts); err != nil {
		return nil, err
	}
	l.ns.SetLoggerV2(&natsLogger{log: cfg.Log, life: l}, false, false, false)
	l.ns.Start() // returns when the store is read back, about a second per million messages (measured)
	err = errors.New("JetStream did not start; its own log lines say why")
	if l.ns.ReadyForConnections(time.Second) && l.ns.JetStreamEnabled() {
		err = writeAddress(cfg.Dir, l.ns.Addr(), pass)
	}
	if err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

// end stops the server and returns when its files are closed.
func (l *life) end() {
	// Not LameDuckShutdown: that is for a server whose clients can go elsewhere.
	l.ns.Shutdown()
	l.ns.WaitForShutdown()
}

// fail cuts the clients off. It is called from within the server, and waits for nothing.
func (l *life) fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.failed)
	for c := range l.conns {
		_ = c.Conn.Close() // a pipe's Close returns no error
	}
}

// conn is a client's end of a connection.
type conn struct {
	net.Conn
	life *life
}

func (l *life) connect() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return nil, errStopped
	}
	pipe, err := l.ns.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	c := &conn{Conn: pipe, life: l}
	l.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.life.mu.Lock()
	delete(c.life.conns, c)
	c.life.mu.Unlock()
	return c.Conn.Close()
}

// keep keeps a server running until Close.
func (s *Server) keep() {
	defer close(s.done)
	defer s.end()
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		if l := s.life.Load(); l != nil {
			select {
			case <-s.stop:
				return
			case <-l.failed:
			}
			s.cfg.Log.Error("queue stopped, since the disk did not take a write; it starts again by itself",
				append(s.space().fields(), zap.String("event", "queue_stopped"))...)
			if time.Since(l.began) > time.Minute {
				wait.Reset()
			}
		}
		for room := false; !room; room = s.canStart() {
			select {
			case <-s.stop:
				return
			case <-time.After(wait.NextBackOff()):
			}
		}
		s.end()
		s.restart()
	}
}

// end stops the server that is there. One that failed has waited for that until there was room: what it has handed out it
// knows in memory, and writes it down as it stops.
func (s *Server) end() {
	if l := s.life.Swap(nil); l != nil {
		l.end()
	}
}

// restartSaidEvery is how often it is logged that the server does not start, for the same reason.
const restartSaidEvery = time.Minute

func (s *Server) restart() {
	l, err := begin(s.cfg)
	if err != nil {
		if text := err.Error(); text != s.restartSaid || time.Since(s.restartSaidAt) >= restartSaidEvery {
			s.restartSaid, s.restartSaidAt = text, time.Now()
			s.cfg.Log.Error("queue does not start yet, trying again", zap.String("event", "queue_restart"), zap.Error(err))
		}
		return
	}
	s.restartSaid = ""
	s.life.Store(l)
	s.cfg.Log.Info("queue runs again", append(s.space().fields(), zap.String("event", "queue_started"))...)
}

// writeFailed is in each line that nats-server 2.15.2 logs when a write fails for good (filestore.go and stream.go,
// setWriteErr). There is no other word of it: the monitoring endpoints do not know of one in a message store.
const writeFailed = "critical write error"

// natsLogger passes the server's warnings and errors on. Its notices (start-up banners) are of no use here.
type natsLogger struct {
	log  *zap.Logger
	life *life
}

func (l *natsLogger) Noticef(string, ...any) {}
func (l *natsLogger) Debugf(string, ...any)  {}
func (l *natsLogger) Tracef(string, ...any)  {}

func (l *natsLogger) Warnf(format string, args ...any) {
	l.log.Warn(natsLine, zap.String("event", "nats_server"), zap.String("detail", fmt.Sprintf(format, args...)))
}

func (l *natsLogger) Errorf(format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	if strings.Contains(strings.ToLower(detail), writeFailed) {
		l.life.fail()
	}
	l.log.Error(natsLine, zap.String("event", "nats_server"), zap.String("detail", detail))
}

func (l *natsLogger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }

const natsLine = "message of the embedded NATS server"

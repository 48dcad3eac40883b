package embedded

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// When a write fails
//
// After a failed write (mostly because the disk is full) a stream of nats-server 2.15.2 stays read-only until the server
// is started again, however much space is free by then, and a publisher gets no answer. Worse, on a stream with one replica
// the server confirms an acknowledgement although it could not write the removal of the message, so that a settled message
// is delivered again (stream.ackMsg does not look at the error).
//
// So no answer of a server that could not write can be trusted. The server logs the failure before it goes on; that log
// line closes the connections of all clients, and what the server confirms after it reaches nobody. Then the instance is
// stopped, and another is started once there is space. Starting needs space too: the server then writes the rest of a batch
// that it was storing, and forgets the batch if that fails (jetstream.go, "partial batch write").
//
//	running ──a write fails──▶ cut off ──space is free──▶ stopped ──▶ running
//	                                                         └──start fails──▶ tried again

// minStartSpace is how many free bytes starting a server needs: the rest of a batch, and what the server stores of streams
// and consumers, several times over. With less, starting can lose the batch.
const minStartSpace = 16 << 20

// instance is one run of the NATS server, until it is stopped or cannot write.
type instance struct {
	ns     *server.Server
	began  time.Time
	failed chan struct{} // closed by fail
	sealed atomic.Bool   // a stream could not be decrypted

	mu    sync.Mutex
	over  bool
	conns map[*conn]struct{} // the clients' ends
}

// startInstance starts a server and returns when it has read its files.
func startInstance(cfg Config) (*instance, error) {
	if err := removeAddress(cfg.Dir); err != nil { // of an instance that was killed
		return nil, err
	}
	i := &instance{began: time.Now(), failed: make(chan struct{}), conns: map[*conn]struct{}{}}
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
		JetStreamKey:               cfg.Key,
		JetStreamCipher:            server.AES, // processors have instructions for it
	}
	var err error
	if i.ns, err = server.NewServer(opts); err != nil {
		return nil, err
	}
	i.ns.SetLoggerV2(&natsLogger{log: cfg.Log, instance: i}, false, false, false)
	i.ns.Start() // returns when the store is read, about a second per million messages (measured)
	err = errors.New("JetStream did not start; its own log lines say why")
	switch {
	case i.sealed.Load():
		err = fmt.Errorf("%s: %w", cfg.Dir, ErrWrongKey)
	case i.ns.ReadyForConnections(time.Second) && i.ns.JetStreamEnabled():
		err = writeAddress(cfg.Dir, i.ns.Addr(), pass)
	}
	if err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// stop stops the server and returns when its files are closed.
func (i *instance) stop() {
	// Not LameDuckShutdown, which is for a server whose clients can connect to another.
	i.ns.Shutdown()
	i.ns.WaitForShutdown()
}

// fail closes the connections of all clients. The server calls it in the middle of its work, so it waits for nothing.
func (i *instance) fail() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return
	}
	i.over = true
	close(i.failed)
	for c := range i.conns {
		_ = c.Conn.Close() // closing a pipe returns no error
	}
}

// conn is a client's end of a connection.
type conn struct {
	net.Conn
	instance *instance
}

func (i *instance) connect() (net.Conn, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return nil, errStopped
	}
	pipe, err := i.ns.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	c := &conn{Conn: pipe, instance: i}
	i.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) Close() error {
	c.instance.mu.Lock()
	delete(c.instance.conns, c)
	c.instance.mu.Unlock()
	return c.Conn.Close()
}

// keepRunning starts the server again whenever it has failed, until Close.
func (s *Server) keepRunning() {
	defer close(s.done)
	defer s.stopInstance()
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		if i := s.running.Load(); i != nil {
			select {
			case <-s.closing:
				return
			case <-i.failed:
			}
			s.cfg.Log.Error("queue stopped, since a write to the disk failed; it starts again by itself",
				append(s.space().fields(), zap.String("event", "queue_stopped"))...)
			if time.Since(i.began) > time.Minute {
				wait.Reset()
			}
		}
		for ready := false; !ready; ready = s.canStart() {
			select {
			case <-s.closing:
				return
			case <-time.After(wait.NextBackOff()):
			}
		}
		s.stopInstance()
		s.restart()
	}
}

// stopInstance stops the instance that is there. One that failed is stopped only once there is space: it knows in memory
// what it has delivered, and writes that as it stops.
func (s *Server) stopInstance() {
	if i := s.running.Swap(nil); i != nil {
		i.stop()
	}
}

// restartLogEvery is how often the log tells that the server does not start, for the same reason.
const restartLogEvery = time.Minute

func (s *Server) restart() {
	i, err := startInstance(s.cfg)
	if err != nil {
		if text := err.Error(); text != s.lastLogged || time.Since(s.lastLoggedAt) >= restartLogEvery {
			s.lastLogged, s.lastLoggedAt = text, time.Now()
			s.cfg.Log.Error("queue does not start yet, trying again", zap.String("event", "queue_restart"), zap.Error(err))
		}
		return
	}
	s.lastLogged = ""
	s.running.Store(i)
	s.cfg.Log.Info("queue runs again", append(s.space().fields(), zap.String("event", "queue_started"))...)
}

// writeFailed is in each line that nats-server 2.15.2 logs when a write fails for good (filestore.go and stream.go,
// setWriteErr). Only the log tells: the monitoring endpoints do not know of a failed message store.
const writeFailed = "critical write error"

// natsLogger logs the server's warnings and errors. Its notices (start-up banners) are dropped.
type natsLogger struct {
	log      *zap.Logger
	instance *instance
}

func (l *natsLogger) Noticef(string, ...any) {}
func (l *natsLogger) Debugf(string, ...any)  {}
func (l *natsLogger) Tracef(string, ...any)  {}

func (l *natsLogger) Warnf(format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	if strings.Contains(strings.ToLower(detail), notDecrypted) {
		l.instance.sealed.Store(true)
	}
	l.log.Warn(natsLine, zap.String("event", "nats_server"), zap.String("detail", detail))
}

func (l *natsLogger) Errorf(format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	if strings.Contains(strings.ToLower(detail), writeFailed) {
		l.instance.fail()
	}
	l.log.Error(natsLine, zap.String("event", "nats_server"), zap.String("detail", detail))
}

func (l *natsLogger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }

const natsLine = "message of the embedded NATS server"

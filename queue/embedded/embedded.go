// Package embedded runs JetStream inside this process, for one machine without a NATS server of its own. It is the only
// package that imports nats-server.
//
// It knows nothing of streams or jobs: package queue connects to it as to any other server. What it promises is the
// disk: with [SyncAlways] each stored message is flushed before it is acknowledged, and one directory belongs to one
// process, which JetStream itself does not watch over.
//
// Other processes of the machine reach the server through a port of the loopback interface, with a password that is
// drawn anew for each run and stands in a file that only the directory's owner can read: see [Address].
package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// Sync is when stored messages are flushed to the disk.
type Sync string

const (
	// SyncAlways flushes before each acknowledgement: an accepted message outlives a power cut.
	SyncAlways Sync = "always"
	// SyncInterval flushes every [FlushInterval]: an accepted message outlives a crash of the process, and a power cut
	// loses at most the last interval.
	SyncInterval Sync = "interval"
)

// FlushInterval is the interval of [SyncInterval].
const FlushInterval = 100 * time.Millisecond

// Config says where the server keeps its files. Dir is required.
type Config struct {
	Dir  string
	Sync Sync // default SyncAlways
	// MaxStore bounds the bytes on disk. Default: three quarters of what is free, as JetStream judges it.
	MaxStore int64
	Log      *zap.Logger // default: nothing is logged
}

// Server is a running JetStream server. It listens on a free port of 127.0.0.1, for [Address].
type Server struct {
	ns   *server.Server
	lock *flock.Flock
	dir  string
}

// Exists reports whether a server ever kept its files in dir. [Start] would make the directory.
func Exists(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, server.JetStreamStoreDir))
	return err == nil && info.IsDir()
}

// ErrInUse says that another process has the directory.
var ErrInUse = errors.New("directory is in use by another process")

// Start locks the directory, makes it if it is not there, and starts the server on it. The caller owns the Server and
// closes it.
func Start(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded: Dir is empty")
	}
	if cfg.Sync == "" {
		cfg.Sync = SyncAlways
	}
	if cfg.Sync != SyncAlways && cfg.Sync != SyncInterval {
		return nil, fmt.Errorf("embedded: Sync is %q, not always or interval", cfg.Sync)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	lock := flock.New(filepath.Join(cfg.Dir, "brazier.lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("embedded: lock %s: %w", cfg.Dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("embedded: %s: %w", cfg.Dir, ErrInUse)
	}
	ns, err := start(cfg)
	if err != nil {
		_ = lock.Unlock() // the process keeps no other claim on it
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return &Server{ns: ns, lock: lock, dir: cfg.Dir}, nil
}

func start(cfg Config) (*server.Server, error) {
	if err := removeAddress(cfg.Dir); err != nil { // of a run that was killed
		return nil, err
	}
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
		SyncInterval:               FlushInterval,
		MaxPayload:                 8 << 20,
		NoSigs:                     true,
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	ns.SetLoggerV2(&natsLogger{cfg.Log}, false, false, false)
	ns.Start() // returns when the store is read back, about a second per million messages (measured)
	err = errors.New("JetStream did not start; its own log lines say why")
	if ns.ReadyForConnections(time.Second) && ns.JetStreamEnabled() {
		err = writeAddress(cfg.Dir, ns.Addr(), pass)
	}
	if err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	return ns, nil
}

// InProcessConn returns a connection to the server that uses no socket.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// Close stops the server, waits until its files are closed and unlocks the directory. Clients are cut off: close them
// first. It may be called more than once.
func (s *Server) Close() error {
	var unlisted error
	if s.lock.Locked() { // else the directory is somebody else's by now
		unlisted = removeAddress(s.dir)
	}
	// Not LameDuckShutdown: that is for a server whose clients can go elsewhere.
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	if err := s.lock.Unlock(); err != nil {
		return fmt.Errorf("embedded: unlock: %w", err)
	}
	if unlisted != nil {
		return fmt.Errorf("embedded: %w", unlisted)
	}
	return nil
}

// natsLogger passes the server's warnings and errors on. Its notices (start-up banners) are of no use here.
type natsLogger struct{ log *zap.Logger }

func (l *natsLogger) line(format string, args []any) (string, zap.Field, zap.Field) {
	return "message of the embedded NATS server", zap.String("event", "nats_server"), zap.String("detail", fmt.Sprintf(format, args...))
}

func (l *natsLogger) Noticef(string, ...any) {}
func (l *natsLogger) Debugf(string, ...any)  {}
func (l *natsLogger) Tracef(string, ...any)  {}

func (l *natsLogger) Warnf(format string, args ...any) {
	msg, event, detail := l.line(format, args)
	l.log.Warn(msg, event, detail)
}

func (l *natsLogger) Errorf(format string, args ...any) {
	msg, event, detail := l.line(format, args)
	l.log.Error(msg, event, detail)
}

func (l *natsLogger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }

// Package embedded runs JetStream inside this process, for one machine without a NATS server of its own. It is the only
// package that imports nats-server.
//
// It knows nothing of streams or jobs: package queue connects to it as to any other server. What it promises is the
// disk:
//
//   - With [SyncAlways] each stored message is flushed before it is acknowledged.
//   - One directory belongs to one process, which JetStream itself does not watch over.
//   - The last of the disk is kept for the work that is there. [Server.HasRoom] says when nothing new is to be taken, so
//     that what was taken can still be settled: that is written too.
//   - A write that fails loses nothing, and nobody has to start the process again: see life.go.
//
// Other processes of the machine reach the server through a port of the loopback interface, with a password that is
// drawn anew for each run and stands in a file that only the directory's owner can read: see [Address].
package embedded

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	// SyncInterval flushes every [Config].FlushEvery: an accepted message outlives a crash of the process, and a power cut
	// loses at most the last interval.
	SyncInterval Sync = "interval"
)

// Config says where the server keeps its files. Dir is required.
type Config struct {
	Dir  string
	Sync Sync // default SyncAlways
	// FlushEvery is the interval of SyncInterval. Default 100 ms.
	FlushEvery time.Duration
	// MinFree is how much of the disk stays free of new messages, in bytes: see [Server.HasRoom]. Default a tenth of the
	// disk, at least 32 MiB and at most 1 GiB.
	MinFree int64
	// MaxStore bounds the bytes that the server keeps, and what its streams may be made to hold. Default: nothing but the
	// disk does.
	MaxStore int64
	Log      *zap.Logger // default: nothing is logged
}

// Server is a JetStream server in this process. It listens on a free port of 127.0.0.1, for [Address]. Where it cannot
// write, it stops, and starts again by itself as soon as it can; clients connect again through [Server.InProcessConn].
type Server struct {
	cfg  Config
	lock *flock.Flock

	life atomic.Pointer[life] // nil while JetStream is not running
	full atomic.Bool          // what HasRoom said last

	// These belong to keep.
	restartSaid   string
	restartSaidAt time.Time

	closeOnce sync.Once
	stop      chan struct{} // closed by Close
	done      chan struct{} // closed when keep has returned
}

// Exists reports whether a server ever kept its files in dir. [Start] would make the directory.
func Exists(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, server.JetStreamStoreDir))
	return err == nil && info.IsDir()
}

// ErrInUse says that another process has the directory.
var ErrInUse = errors.New("directory is in use by another process")

// Start locks the directory, makes it if it is not there, and starts the server on it. On a full disk the server starts
// later, when there is room. The caller owns the Server and closes it.
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
	if cfg.FlushEvery == 0 {
		cfg.FlushEvery = 100 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.MaxStore == 0 {
		// Left to itself, JetStream takes three quarters of what is free now, and refuses streams that may become larger.
		cfg.MaxStore = math.MaxInt64 / 2
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
	s := &Server{cfg: cfg, lock: lock, stop: make(chan struct{}), done: make(chan struct{})}
	if s.canStart() {
		first, err := begin(cfg)
		if err != nil {
			_ = lock.Unlock() // the process keeps no other claim on it
			return nil, fmt.Errorf("embedded: %w", err)
		}
		s.life.Store(first)
	}
	go s.keep()
	return s, nil
}

var errStopped = errors.New("embedded: JetStream does not run until the disk takes writes")

// InProcessConn returns a connection to the server that uses no socket. While the server does not run it fails.
func (s *Server) InProcessConn() (net.Conn, error) {
	if l := s.life.Load(); l != nil {
		return l.connect()
	}
	return nil, errStopped
}

// Close stops the server, waits until its files are closed and unlocks the directory. Clients are cut off: close them
// first. It may be called more than once.
func (s *Server) Close() error {
	var unlisted error
	s.closeOnce.Do(func() { // afterwards the directory may be somebody else's
		close(s.stop)
		<-s.done
		unlisted = removeAddress(s.cfg.Dir)
	})
	if err := s.lock.Unlock(); err != nil {
		return fmt.Errorf("embedded: unlock: %w", err)
	}
	if unlisted != nil {
		return fmt.Errorf("embedded: %w", unlisted)
	}
	return nil
}

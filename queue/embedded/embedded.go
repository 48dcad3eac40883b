// Package embedded runs JetStream inside this process, for one machine without a NATS server of its own. It is the only
// package that imports nats-server.
//
// It knows nothing of streams or jobs: package queue connects to it as to any other server. What it promises is the
// disk:
//
//   - With [SyncAlways] each stored message is flushed before it is acknowledged.
//   - One directory belongs to one process. JetStream itself does not see to that.
//   - A reserve of free disk is kept for the messages that are stored already. [Server.HasSpace] reports when new messages
//     are to be refused, so that stored ones can still be settled, which needs writes too.
//   - A failed write loses nothing, and the server starts again by itself: see instance.go.
//
// Other processes of the machine reach the server through a port of the loopback interface, with a password that is
// drawn anew for each instance and stored in a file that only the directory's owner can read: see [Address].
package embedded

import (
	"cmp"
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

// Config says where the server keeps its files, and how. Dir is required; the zero value of every other field is its
// default.
type Config struct {
	Dir  string
	Sync Sync // default SyncAlways
	// FlushEvery is the interval of SyncInterval. Default 100 ms.
	FlushEvery time.Duration
	// MinFree is the reserve in bytes: new messages are refused while less of the disk is free (see [Server.HasSpace]).
	// Default a tenth of the disk, at least 32 MiB and at most 1 GiB.
	MinFree int64
	// MaxStore bounds the bytes that the server stores, and what its streams may be configured to hold. Default: the disk
	// is the only bound.
	MaxStore int64
	// Key encrypts everything that is stored: see encryption.go, and [ReadKey]. Default: nothing is encrypted. A directory keeps
	// the key that its first files were stored with.
	Key string
	Log *zap.Logger // default: nothing is logged
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "MinFree"
	Fault string // what is allowed and what was given, such as "must not be negative (got -1)"
}

func (e *ConfigError) Error() string { return "embedded: " + e.Field + ": " + e.Fault }

// Validate returns all faults of the settings, joined, each of them a *[ConfigError], or nil. It looks at no file.
func (c Config) Validate() error {
	var faults []error
	refuse := func(field, format string, args ...any) {
		faults = append(faults, &ConfigError{field, fmt.Sprintf(format, args...)})
	}
	if c.Dir == "" {
		refuse("Dir", "is required")
	}
	if c.Sync != "" && c.Sync != SyncAlways && c.Sync != SyncInterval {
		refuse("Sync", "must be always or interval (got %q)", c.Sync)
	}
	if c.FlushEvery < 0 {
		refuse("FlushEvery", "must not be negative (got %v)", c.FlushEvery)
	}
	if c.MinFree < 0 {
		refuse("MinFree", "must not be negative (got %d)", c.MinFree)
	}
	if c.MaxStore < 0 {
		refuse("MaxStore", "must not be negative (got %d)", c.MaxStore)
	}
	if c.Key != "" {
		if err := checkKey(c.Key); err != nil {
			refuse("Key", "%v", err)
		}
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.Sync = cmp.Or(c.Sync, SyncAlways)
	c.FlushEvery = cmp.Or(c.FlushEvery, 100*time.Millisecond)
	// Left to itself, JetStream takes three quarters of what is free now, and refuses streams that may become larger.
	c.MaxStore = cmp.Or(c.MaxStore, math.MaxInt64/2)
	c.Log = cmp.Or(c.Log, zap.NewNop())
	return c
}

// Server is a JetStream server in this process. It listens on a free port of 127.0.0.1, for [Address]. Where it cannot
// write, it stops, and starts again by itself as soon as it can; clients connect again through [Server.InProcessConn].
type Server struct {
	cfg  Config
	lock *flock.Flock

	running atomic.Pointer[instance] // nil while JetStream is not running
	full    atomic.Bool              // what HasSpace logged last

	// lastLogged is why the server did not start, as it was last logged. Both belong to keepRunning.
	lastLogged   string
	lastLoggedAt time.Time

	closeOnce sync.Once
	closing   chan struct{} // closed by Close
	done      chan struct{} // closed when keepRunning has returned
}

// Exists reports whether a server ever stored its files in dir. Unlike [Start] it does not make the directory.
func Exists(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, server.JetStreamStoreDir))
	return err == nil && info.IsDir()
}

// ErrInUse says that another process uses the directory.
var ErrInUse = errors.New("directory is in use by another process")

// Start locks the directory, makes it if it is missing, and starts the server on it. On a full disk the server starts
// later, once there is space. A setting that cannot be used is a *[ConfigError], a directory that another process uses
// [ErrInUse], one whose files do not fit to the key [ErrEncrypted], [ErrNotEncrypted] or [ErrWrongKey]. The caller owns the Server and
// closes it.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
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
	if err := checkEncryption(cfg); err != nil {
		_ = lock.Unlock() // the process keeps no other claim on it
		return nil, fmt.Errorf("embedded: %w", err)
	}
	s := &Server{cfg: cfg, lock: lock, closing: make(chan struct{}), done: make(chan struct{})}
	if s.canStart() {
		first, err := startInstance(cfg)
		if err != nil {
			_ = lock.Unlock()
			return nil, fmt.Errorf("embedded: %w", err)
		}
		s.running.Store(first)
	}
	go s.keepRunning()
	return s, nil
}

var errStopped = errors.New("embedded: JetStream is stopped until writes to the disk succeed")

// InProcessConn returns a connection to the server that uses no socket. While the server does not run it fails.
func (s *Server) InProcessConn() (net.Conn, error) {
	if i := s.running.Load(); i != nil {
		return i.connect()
	}
	return nil, errStopped
}

// Close stops the server, waits until its files are closed and unlocks the directory. Close clients
// before: their connections are closed. It may be called more than once.
func (s *Server) Close() error {
	var unlisted error
	s.closeOnce.Do(func() { // after the first call the directory may be another process's
		close(s.closing)
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

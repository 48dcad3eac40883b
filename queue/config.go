package queue

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Config is the settings of a [Queue]. The zero value works against a NATS server on this machine.
type Config struct {
	// URL is one or more addresses of NATS servers, separated by commas. Default nats://127.0.0.1:4222.
	URL string
	// InProcess, if set, is a server in this process; URL is then not used.
	InProcess interface{ InProcessConn() (net.Conn, error) }
	// Embedded says that the server ends when this process does, so that every worker of an earlier process has ended.
	Embedded bool
	// Flushed says that the server flushes each message before it acknowledges it (sync always, no replicas).
	Flushed bool
	// HasSpace, if set, reports whether new jobs may be stored; while it returns false, [Queue.Publish] returns
	// [ErrFull]. Records and dead letters of stored jobs are stored in any case.
	HasSpace func() bool
	// Name is the name of the connection in the server's monitoring. Default brazier.
	Name string
	// Role is what the process does, in lower-case letters: ingress, worker or another. Answers come to inboxes under
	// _INBOX_brazier_ROLE, so that the server can forbid users of one role to listen to another. Default admin, for
	// processes that inspect the queue and change its contents.
	Role string
	// Credentials are not used with InProcess.
	Credentials

	// Existing is for inspecting a queue that other processes run: [Open] makes and changes nothing, and returns
	// [ErrNoQueue] if a stream is missing. Replicas and the limits below then have no defaults: [Queue.Differences]
	// compares those that are set.
	Existing bool
	// Replicas is the number of replicas of streams and buckets, 1 to 5. Default 3 on a cluster, else 1. It applies to
	// streams that are made now, as the limits below do: [Setup] alone changes streams that are there, and Open logs
	// where they differ.
	Replicas int
	// Partitions is how many pairs of streams the messages to people are divided among, by page: 1 to 32, and no fewer than there
	// are. It is for [Setup] alone; [Open] uses those that are there. Default what is there, 1 where nothing is.
	Partitions int
	// Window is for how long an idempotency key is remembered, at least 1s. Default 2h.
	Window time.Duration
	// MaxBytes bounds the jobs of each partition on disk, at least 1 MiB; beyond it [Queue.Publish] returns [ErrFull]. Default 10 GiB.
	MaxBytes int64
	// DeadMaxAge is for how long dead letters are kept, at least 1m. Default 30 days.
	DeadMaxAge time.Duration

	// Clock is this machine's wall clock, for tests whose processes disagree about the time. Default time.Now.
	Clock func() time.Time

	// Log is for events of the connection and the streams. Default: nothing is logged.
	Log *zap.Logger

	// RoadBack has the streams and the bucket made that the way from webhooks to Braze needs: webhook events, updates, and
	// which user a person is. Without it the lanes of these cannot be used.
	RoadBack bool
	// UpdatesMaxBytes bounds the updates for Braze on disk, and apart from them what became of messages and has not been made an
	// update yet, at least 1 MiB. Default 4 GiB.
	UpdatesMaxBytes int64
	// ReceiptsFor is for how long after a message was sent Facebook's receipts for it are recognised, at least 1m. Default 7 days.
	ReceiptsFor time.Duration

	// Dialed, if set, is called with the Queue before Open waits for the server. Until Open has returned, only
	// [Queue.WaitingFor] may be called, which tells what Open waits for.
	Dialed func(*Queue)

	lease                      time.Duration // Lease, less in tests
	repairEvery                time.Duration // the constant of the same name, less in tests
	partitionsLead             time.Duration // likewise
	waitLogAfter, waitLogEvery time.Duration // the constants of the same names, less in tests
	aliveFor, aliveEvery       time.Duration // AliveFor and aliveEvery, less in tests
	worker                     string        // set in tests in which one process acts as several
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "Replicas"
	Fault string // what is allowed and what was given, such as "must be between 1 and 5 (got 9)"; never a part of URL
}

func (e *ConfigError) Error() string { return "queue: " + e.Field + ": " + e.Fault }

// Validate returns all faults of the settings, joined, each of them a *[ConfigError], or nil. It asks no server and looks at
// no file.
func (c Config) Validate() error {
	var faults []error
	refuse := func(field, format string, args ...any) {
		faults = append(faults, &ConfigError{field, fmt.Sprintf(format, args...)})
	}
	if c.URL != "" && !areAddresses(c.URL) {
		faults = append(faults, errBadURL)
	}
	faults = append(faults, c.Credentials.faults(c.URL)...)
	if strings.Trim(c.Role, "abcdefghijklmnopqrstuvwxyz") != "" {
		refuse("Role", "must be lower-case letters (got %q)", c.Role)
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		refuse("Replicas", "must be between 1 and 5 (got %d)", c.Replicas)
	}
	if c.Partitions < 0 || c.Partitions > maxPartitions {
		refuse("Partitions", "must be between 1 and %d (got %d)", maxPartitions, c.Partitions)
	}
	if c.Window != 0 && c.Window < time.Second {
		refuse("Window", "must be at least 1s (got %v)", c.Window)
	}
	if c.MaxBytes != 0 && c.MaxBytes < 1<<20 {
		refuse("MaxBytes", "must be at least 1 MiB (got %d bytes)", c.MaxBytes)
	}
	if c.DeadMaxAge != 0 && c.DeadMaxAge < time.Minute {
		refuse("DeadMaxAge", "must be at least 1m (got %v)", c.DeadMaxAge)
	}
	if c.UpdatesMaxBytes != 0 && c.UpdatesMaxBytes < 1<<20 {
		refuse("UpdatesMaxBytes", "must be at least 1 MiB (got %d bytes)", c.UpdatesMaxBytes)
	}
	if c.ReceiptsFor != 0 && c.ReceiptsFor < time.Minute {
		refuse("ReceiptsFor", "must be at least 1m (got %v)", c.ReceiptsFor)
	}
	return errors.Join(faults...)
}

var errBadURL = &ConfigError{"URL", "must be addresses of the form nats://HOST:PORT, separated by commas"}

// areAddresses reports whether nats.go can read each of the addresses.
func areAddresses(list string) bool {
	for address := range strings.SplitSeq(list, ",") {
		if address = strings.TrimSpace(address); !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		if u, err := url.Parse(address); err != nil || u.Hostname() == "" {
			return false
		}
	}
	return true
}

func (c Config) withDefaults() Config {
	c.URL = cmp.Or(c.URL, nats.DefaultURL)
	c.Name = cmp.Or(c.Name, "brazier")
	c.Role = cmp.Or(c.Role, "admin")
	c.Window = cmp.Or(c.Window, defaultWindow)
	if !c.Existing {
		c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
		c.DeadMaxAge = cmp.Or(c.DeadMaxAge, defaultDeadAge)
		c.UpdatesMaxBytes = cmp.Or(c.UpdatesMaxBytes, defaultUpdatesMaxBytes)
		c.ReceiptsFor = cmp.Or(c.ReceiptsFor, defaultReceiptsFor)
	}
	c.lease = cmp.Or(c.lease, Lease)
	c.repairEvery, c.partitionsLead = cmp.Or(c.repairEvery, repairEvery), cmp.Or(c.partitionsLead, partitionsLead)
	c.waitLogAfter, c.waitLogEvery = cmp.Or(c.waitLogAfter, waitLogAfter), cmp.Or(c.waitLogEvery, waitLogEvery)
	c.aliveFor, c.aliveEvery = cmp.Or(c.aliveFor, AliveFor), cmp.Or(c.aliveEvery, aliveEvery)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Log = cmp.Or(c.Log, zap.NewNop())
	return c
}

// Package process runs the roles of brazier: serve, ingress and worker.
//
// A role is a list of parts: they open in order, run together, and close in reverse order; the first to end ends the
// process. This package turns flags and the page file into the settings of the packages that do the work, gives them what
// changes while they run, and answers orchestrators. It alone knows which flag belongs to which field. It knows nothing of
// a message.
//
//	serve     ops → JetStream → queue → presence → worker → ingress → page file
//	ingress   ops → queue → presence → ingress → page file
//	worker    ops → queue → presence → worker → page file
package process

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/queue"
)

// Process is what the parts of one process share. Each field below the line is set by the part that makes it, when it
// opens, and used by parts that open later.
type Process struct {
	log         *zap.Logger
	pages       []pagefile.Page
	queueConfig queue.Config
	known       cli.Variables        // of all flags; nil: variables are not checked
	hangups     <-chan struct{}      // when the files are to be read again
	files       *files               // that are read again while the process runs
	metrics     *prometheus.Registry // parts register their collectors in it when they open

	IngressAddress string // that the ingress listens on, once it is open
	jobs           *queue.Queue
	brazeInsecure  bool                          // http:// to a Braze on another machine is allowed
	reloads        *reloads                      // of the page file
	inFlight       func() int                    // messages that the worker is delivering
	credentials    []*credentials                // of the worker's pages
	onPages        []func([]pagefile.Page) error // who is told of other pages

	slowed  func() map[string]queue.RateInForce // the pages that the worker sends for at less than their rate
	current atomic.Pointer[[]pagefile.Page]     // the pages, also after the page file has changed

	readiness []func(context.Context) error // what each part needs to do its work

	opening atomic.Pointer[queue.Queue] // set once it begins to connect
	serving atomic.Pointer[queue.Queue] // set while everything is open
}

// New returns a process with these pages and no parts yet.
func New(log *zap.Logger, pages []pagefile.Page, cfg queue.Config) *Process {
	cfg.RoadBack = pagefile.HasRoadBack(pages)
	p := &Process{log: log, pages: pages, queueConfig: cfg, files: newFiles(cli.Component(log, "files")), metrics: newMetrics(), inFlight: func() int { return 0 },
		slowed: func() map[string]queue.RateInForce { return nil }, reloads: newReloads()}
	p.current.Store(&pages)
	p.metrics.MustRegister(stored{p}, p.reloads.ok, p.reloads.at)
	p.reloads.note(true)
	return p
}

// newRole returns a process for the pages of a file, unless faults is an error.
func newRole(std cli.Stdio, log cli.LogFlags, faults error, file *pageFile, cfg queue.Config) (*Process, error) {
	pages, err := file.read()
	if err := errors.Join(faults, err); err != nil {
		return nil, cli.Usage(err)
	}
	p := New(log.Logger(std.Err), pages, cfg)
	p.known, p.hangups = std.Variables, std.Signals.Hangup()
	return p, nil
}

// Run runs a role from its first to its last line of log.
func (p *Process) Run(ctx context.Context, role string, parts ...Part) error {
	log := p.log.With(zap.String("role", role), zap.String("version", cli.Version()))
	log.Info("starting", zap.String("event", "starting"), zap.Int64("memory_limit_bytes", limitMemory(os.DirFS("/"))))
	if p.known != nil {
		p.known.Warn(log, pagefile.Variables(p.pages)...)
	}
	parts = append([]Part{{Name: "files", Close: p.files.close}}, parts...)
	systemd := newSystemd(log)
	parts = append(parts, Part{Name: "announcement",
		Open: func(context.Context) error {
			p.serving.Store(p.jobs)
			log.Info("started", zap.String("event", "started"), zap.String("address", p.IngressAddress), zap.Int("pages", len(p.pages)))
			systemd.tell("READY=1")
			return nil
		},
		Run:   systemd.live,
		Close: func() error { p.serving.Store(nil); systemd.tell("STOPPING=1"); return nil },
	})
	err := RunParts(ctx, log, parts)
	log.Info("stopped", zap.String("event", "stopped"), zap.Int("left_in_flight", p.inFlight()), zap.Int("exit_code", cli.ExitCode(err)))
	return err
}

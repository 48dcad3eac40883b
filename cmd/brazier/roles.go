package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

type serveCommand struct {
	doorFlags
	pagesFlags
	graphFlags
	embeddedFlags
	streamFlags
	opsFlags `set:"ops_listen=127.0.0.1:8081"`
	logFlags
}

type ingressCommand struct {
	doorFlags
	pagesFlags
	natsFlags
	streamFlags
	opsFlags `set:"ops_listen=127.0.0.1:8081"`
	logFlags
}

type workerCommand struct {
	pagesFlags
	graphFlags
	natsFlags
	streamFlags
	opsFlags `set:"ops_listen=127.0.0.1:8082"`
	logFlags
}

func (c serveCommand) Run(ctx context.Context, std stdio) error {
	file := &pageFile{path: c.Pages, parse: readPagesToSend(c.GraphURL)}
	h, err := newRole(std, c.logFlags, file, queue.Config{Role: "serve", MaxBytes: c.MaxQueue, DeadMaxAge: c.DeadAge, Window: c.KeyWindow})
	if err != nil {
		return err
	}
	return h.live(ctx, "serve",
		h.ops(c.opsFlags),
		h.server(c.embeddedFlags),
		h.queue(),
		h.worker(&c.graphFlags),
		h.door(c.doorFlags),
		h.pageFile(file),
	)
}

func (c ingressCommand) Run(ctx context.Context, std stdio) error {
	file := &pageFile{path: c.Pages, parse: readPagesOfDoor}
	h, err := newRole(std, c.logFlags, file, c.queueConfig("ingress", c.streamFlags))
	if err != nil {
		return err
	}
	return h.live(ctx, "ingress", h.ops(c.opsFlags), h.queue(), h.door(c.doorFlags), h.pageFile(file))
}

func (c workerCommand) Run(ctx context.Context, std stdio) error {
	file := &pageFile{path: c.Pages, parse: readPagesToSend(c.GraphURL)}
	h, err := newRole(std, c.logFlags, file, c.queueConfig("worker", c.streamFlags))
	if err != nil {
		return err
	}
	return h.live(ctx, "worker", h.ops(c.opsFlags), h.queue(), h.worker(&c.graphFlags), h.pageFile(file))
}

func (f natsFlags) queueConfig(role string, s streamFlags) queue.Config {
	return queue.Config{
		URL: f.NatsURL, Name: "brazier-" + role, Role: role, CredentialsFile: f.NatsCreds, CAFile: f.NatsCA,
		Replicas: f.Replicas, MaxBytes: s.MaxQueue, DeadMaxAge: s.DeadAge, Window: s.KeyWindow,
	}
}

// house is what the parts of one process share. Each field below the line is set by the part that makes it, when it
// opens, and used by parts that open later.
type house struct {
	log         *zap.Logger
	pages       []pageConfig
	queueConfig queue.Config
	known       variables
	hangups     <-chan struct{}      // when the files are to be read again
	metrics     *prometheus.Registry // parts register their collectors in it when they open

	jobs     *queue.Queue
	doorAt   string                     // address the door listens on
	inFlight func() int                 // messages in the worker's hands
	onPages  []func([]pageConfig) error // who is told of other pages
	onHangup []func()                   // who reads files of its own again

	readiness []func(context.Context) error // what each part needs to do its work

	opening atomic.Pointer[queue.Queue] // set once it begins to connect
	serving atomic.Pointer[queue.Queue] // set while everything is open
}

func newHouse(log *zap.Logger, pages []pageConfig, cfg queue.Config) *house {
	return &house{log: log, pages: pages, queueConfig: cfg, metrics: newMetrics(), inFlight: func() int { return 0 }}
}

// newRole is a house for the pages of a file.
func newRole(std stdio, log logFlags, file *pageFile, cfg queue.Config) (*house, error) {
	pages, err := file.read()
	if err != nil {
		return nil, usageError{err}
	}
	h := newHouse(log.logger(std.err), pages, cfg)
	h.known, h.hangups = std.known, std.signals.hangup()
	return h, nil
}

// live runs a role from its first to its last line of log.
func (h *house) live(ctx context.Context, role string, parts ...part) error {
	log := h.log.With(zap.String("role", role), zap.String("version", version()))
	log.Info("starting", zap.String("event", "starting"))
	h.known.warn(log, h.pages)
	parts = append(parts, part{name: "announcement",
		open: func(context.Context) error {
			h.serving.Store(h.jobs)
			log.Info("started", zap.String("event", "started"), zap.String("address", h.doorAt), zap.Int("pages", len(h.pages)))
			return nil
		},
		close: func() error { h.serving.Store(nil); return nil },
	})
	err := runParts(ctx, log, parts)
	log.Info("stopped", zap.String("event", "stopped"), zap.Int("left_in_flight", h.inFlight()), zap.Int("exit_code", codeOf(err)))
	return err
}

// server is JetStream in this process.
func (h *house) server(f embeddedFlags) part {
	var srv *embedded.Server
	return part{
		name: "JetStream",
		open: func(context.Context) (err error) {
			srv, err = embedded.Start(embedded.Config{Dir: f.Data, Sync: embedded.Sync(f.Sync), Log: component(h.log, "nats")})
			if errors.Is(err, embedded.ErrInUse) {
				return usageError{fmt.Errorf("--data: %w: stop it, or give this one a directory of its own", err)}
			}
			if err != nil {
				return fmt.Errorf("--data: %w", err)
			}
			h.queueConfig.InProcess, h.queueConfig.Embedded, h.queueConfig.HasRoom = srv, true, srv.HasRoom
			h.queueConfig.Flushed = embedded.Sync(f.Sync) == embedded.SyncAlways
			return nil
		},
		close: func() error { return srv.Close() },
	}
}

// queue is the connection to JetStream, wherever that is.
func (h *house) queue() part {
	return part{
		name: "queue",
		open: func(ctx context.Context) (err error) {
			h.queueConfig.Log = component(h.log, "queue")
			h.queueConfig.Dialed = h.opening.Store
			h.jobs, err = queue.Open(ctx, h.queueConfig)
			if errors.As(err, new(*queue.ConfigError)) {
				err = usageError{err}
			}
			return err
		},
		close: func() error { h.jobs.Close(); return nil },
	}
}

// door takes messages.
func (h *house) door(f doorFlags) part {
	var door *ingress.Door
	return part{
		name: "door",
		open: func(context.Context) (err error) {
			log := component(h.log, "ingress")
			cfg := ingress.Config{Queue: h.jobs, Pages: doorPages(h.pages), Listen: f.Listen, MaxBody: f.MaxBody, Wait: f.StoreWait,
				MaxWaiting: f.MaxWaiting, MaxWaitingBytes: f.MaxWaitingBytes, MaxConnections: f.MaxConnections,
				AllowFrom: f.AllowFrom, TrustedProxies: f.TrustedProxy, Log: log}
			pair, err := f.certificate(log)
			if err != nil {
				return usageError{err}
			}
			if pair != nil {
				cfg.TLS = pair.config()
				h.onHangup = append(h.onHangup, pair.readAgain)
			}
			if door, err = ingress.Open(cfg); err != nil {
				return usageError{inFlags(err)}
			}
			if err := h.metrics.Register(door); err != nil {
				return errors.Join(fmt.Errorf("metrics of the door: %w", err), door.Close())
			}
			h.doorAt = door.Addr().String()
			h.readiness = append(h.readiness, h.jobs.Ready)
			h.onPages = append(h.onPages, func(pages []pageConfig) error { return door.SetPages(doorPages(pages)) })
			return nil
		},
		run:   func(ctx context.Context) error { return door.Run(ctx) },
		close: func() error { return door.Close() },
	}
}

// doorPages are the pages as the door knows them.
func doorPages(pages []pageConfig) (taken []ingress.Page) {
	for _, p := range pages {
		taken = append(taken, ingress.Page{ID: p.ID, Name: p.Name, Keys: p.Keys, Expire: p.Expire, QueueShare: p.QueueShare})
	}
	return taken
}

// worker delivers messages. f is read when the part opens.
func (h *house) worker(f *graphFlags) part {
	var client *sendapi.Client
	var w *worker.Worker
	return part{
		name: "worker",
		open: func(context.Context) (err error) {
			log := component(h.log, "worker")
			warnOfCaps(log, h.pages)
			if warning := sendapi.VersionWarning(f.GraphVersion, time.Now()); warning != "" {
				log.Warn("Graph API version", zap.String("event", "graph_version"), zap.String("reason", warning))
			}
			client, err = sendapi.NewClient(sendapi.Config{GraphURL: f.GraphURL, Version: f.GraphVersion, Timeout: f.SendTimeout, AllowPlainHTTP: f.GraphInsecure, Now: h.jobs.Now})
			if err != nil {
				return usageError{inFlags(err)}
			}
			sends := deliver.Config{Client: client, ProbeEvery: f.ProbeEvery, Log: log}
			cfg := worker.Config{Queue: h.jobs, Host: graphHost(f.GraphURL), SlowStart: max(f.SlowStart, time.Millisecond), Log: log}
			if cfg.Pages, err = workerPages(h.pages, sends); err != nil {
				return err
			}
			if w, err = worker.New(cfg); err != nil {
				return err
			}
			if err := h.metrics.Register(w); err != nil {
				return fmt.Errorf("metrics of the worker: %w", err)
			}
			h.inFlight = w.InFlight
			h.readiness = append(h.readiness, h.jobs.ReadyToWork)
			h.onPages = append(h.onPages, func(pages []pageConfig) error {
				worked, err := workerPages(pages, sends)
				if err != nil {
					return err
				}
				if err := w.SetPages(worked); err != nil {
					return err
				}
				warnOfCaps(log, pages)
				return nil
			})
			return nil
		},
		run:   func(ctx context.Context) error { return w.Run(ctx) },
		close: func() error { client.Close(); return nil },
	}
}

// warnOfCaps names the pages that cannot reach their rate.
func warnOfCaps(log *zap.Logger, pages []pageConfig) {
	for _, p := range pages {
		for _, c := range p.caps() {
			log.Warn("max_in_flight keeps a page below its rate", zap.String("event", "rate_capped"), zap.String("page", p.Name), zap.String("setting", c.setting),
				zap.Float64("rate", c.rate), zap.Int("max_in_flight", p.MaxInFlight), zap.Float64("capped_at", c.at), zap.Int("needed", c.needed))
		}
	}
}

// workerPages are the pages as the worker knows them, each with its handler.
func workerPages(pages []pageConfig, sends deliver.Config) (works []worker.Page, err error) {
	for _, p := range pages {
		cred := &watched{secrets: p.Secrets}
		handler, err := deliver.New(sends, deliver.Page{ID: p.ID, Name: p.Name, Credentials: cred.credentials, InDoubt: p.InDoubt, Repeats: p.Repeats, Metadata: p.Metadata})
		if err != nil {
			return nil, err
		}
		works = append(works, worker.Page{ID: p.ID, Name: p.Name, App: p.App, Rate: p.Rate, MediaRate: p.MediaRate, MaxInFlight: p.MaxInFlight,
			Handler: handler, Credentials: cred.fingerprint})
	}
	return works, nil
}

// version is the module's, as the Go tool stamped it into the binary.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// graphHost is the host of the Send API's URL, for the log.
func graphHost(graphURL string) string {
	u, err := url.Parse(graphURL)
	if err != nil { // a client was made of it
		return ""
	}
	return u.Host
}

package process

import (
	"context"
	"errors"
	"fmt"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// JetStream is the part that is a NATS server in this process.
func (p *Process) JetStream(f EmbeddedFlags) Part {
	var srv *embedded.Server
	return Part{
		Name: "JetStream",
		Open: func(context.Context) (err error) {
			cfg := f.config()
			cfg.Log = cli.Component(p.log, "nats")
			if cfg.Key, err = f.Key(); err != nil {
				return cli.Usage(err)
			}
			if srv, err = embedded.Start(cfg); err != nil {
				return DataInFlags(err)
			}
			p.queueConfig.InProcess, p.queueConfig.Embedded, p.queueConfig.HasSpace = srv, true, srv.HasSpace
			p.queueConfig.Flushed = embedded.Sync(f.Sync) == embedded.SyncAlways
			return nil
		},
		Close: func() error { return srv.Close() },
	}
}

// Queue is the part that is the connection to JetStream, wherever that is.
func (p *Process) Queue() Part {
	return Part{
		Name: "queue",
		Open: func(ctx context.Context) (err error) {
			p.queueConfig.Log = cli.Component(p.log, "queue")
			p.queueConfig.Dialed = p.opening.Store
			p.jobs, err = queue.Open(ctx, p.queueConfig)
			if err == nil && p.queueConfig.RoadBack {
				if err := p.metrics.Register(&backlog{p.jobs}); err != nil {
					return fmt.Errorf("metrics of webhooks: %w", err)
				}
			}
			if errors.As(err, new(*queue.StreamError)) {
				err = cli.Usage(QueueInFlags(err))
			}
			return err
		},
		Close: func() error { p.jobs.Close(); return nil },
	}
}

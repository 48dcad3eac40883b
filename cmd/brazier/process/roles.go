package process

import (
	"context"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/queue"
)

// ServeCommand runs everything in one process.
type ServeCommand struct {
	IngressFlags
	PagesFlags
	GraphFlags
	EmbeddedFlags
	StreamFlags
	OpsFlags `set:"ops_listen=127.0.0.1:8081"`
	cli.LogFlags
}

// IngressCommand runs the ingress against NATS servers.
type IngressCommand struct {
	IngressFlags
	PagesFlags
	NATSFlags
	StreamFlags
	OpsFlags `set:"ops_listen=127.0.0.1:8081"`
	cli.LogFlags
}

// WorkerCommand runs a worker against NATS servers.
type WorkerCommand struct {
	PagesFlags
	GraphFlags
	NATSFlags
	StreamFlags
	OpsFlags `set:"ops_listen=127.0.0.1:8082"`
	cli.LogFlags
}

func (c ServeCommand) Run(ctx context.Context, std cli.Stdio) error {
	file := &pageFile{path: c.Pages, options: pagefile.ForWorker(c.GraphURL)}
	p, err := newRole(std, c.LogFlags, c.faults(), file, c.In(queue.Config{Role: "serve", Window: c.KeyWindow}))
	if err != nil {
		return err
	}
	return p.Run(ctx, "serve",
		p.ops(c.OpsFlags),
		p.JetStream(c.EmbeddedFlags),
		p.Queue(),
		p.Presence(),
		p.Worker(&c.GraphFlags),
		p.Ingress(c.IngressFlags),
		p.pageFile(file),
	)
}

func (c IngressCommand) Run(ctx context.Context, std cli.Stdio) error {
	file := &pageFile{path: c.Pages, options: pagefile.ForIngress()}
	p, err := newRole(std, c.LogFlags, c.faults(), file, c.queueConfig("ingress", c.StreamFlags))
	if err != nil {
		return err
	}
	return p.Run(ctx, "ingress", p.ops(c.OpsFlags), p.Queue(), p.Presence(), p.Ingress(c.IngressFlags), p.pageFile(file))
}

func (c WorkerCommand) Run(ctx context.Context, std cli.Stdio) error {
	file := &pageFile{path: c.Pages, options: pagefile.ForWorker(c.GraphURL)}
	p, err := newRole(std, c.LogFlags, c.faults(), file, c.queueConfig("worker", c.StreamFlags))
	if err != nil {
		return err
	}
	return p.Run(ctx, "worker", p.ops(c.OpsFlags), p.Queue(), p.Presence(), p.Worker(&c.GraphFlags), p.pageFile(file))
}

func (f NATSFlags) queueConfig(role string, s StreamFlags) queue.Config {
	return s.In(queue.Config{
		URL: f.NatsURL, Name: "brazier-" + role, Role: role, Credentials: f.Credentials(),
		Replicas: f.Replicas, Window: s.KeyWindow,
	})
}

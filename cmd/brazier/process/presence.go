package process

import (
	"context"
	"os"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// Presence is the part that tells other processes, and people, that this one is alive. It stops after the parts that do the work,
// so that a process that still finishes what it holds counts as alive.
func (p *Process) Presence() Part {
	name, _ := os.Hostname() // empty where the machine has none, which is no reason not to be seen
	return Part{
		Name: "presence",
		Run: func(ctx context.Context) error {
			return p.jobs.Announce(ctx, func() queue.AliveProcess { return p.presence(ctx, name) })
		},
	}
}

func (p *Process) presence(ctx context.Context, machine string) queue.AliveProcess {
	pages := *p.current.Load()
	ids := make([]string, len(pages))
	for i, page := range pages {
		ids[i] = page.ID
	}
	v := queue.AliveProcess{Name: machine, Version: cli.Version(), Pages: len(pages), PageIDs: ids, Slowed: p.slowed()}
	if p.serving.Load() == nil || ctx.Err() != nil { // it stops, which is no fault
		return v
	}
	if err := p.ready(ctx); err != nil {
		v.Unready = err.Error()
	}
	return v
}

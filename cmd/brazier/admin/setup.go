package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
)

// SetupCommand makes the streams and buckets what the flags say.
type SetupCommand struct {
	DryRun     bool `name:"dry-run" env:"-" help:"Only print what would change."`
	Replicas   int  `name:"replicas" default:"0" group:"queue" help:"Copies of each stored message, from 1 to 5. 0: three on a cluster, one on a single server."`
	Partitions int  `name:"partitions" default:"0" group:"queue" help:"Pairs of streams that messages are divided among, by page, from 1 to 32. Can only be raised: see deploy/SIZING.md. 0: as many as there are."`
	Webhooks   bool `name:"webhooks" group:"queue" help:"Make the streams for webhooks and for updates to Braze too."`
	process.SizeFlags
	accessFlags
}

func (SetupCommand) Help() string {
	return "Give it the same flags or variables as the roles. It creates what is missing, changes what differs (roles log that as \"drift\"), " +
		"and prints a line for each change. It needs the rights of an operator (deploy/nats-users.conf), and may run while everything else " +
		"runs. Settings without a flag stay as they are if they do no harm.\n\n" +
		"Exit codes: 0 nothing differs any more; 1 it failed, and the printed changes were made; 2 it is not possible, and nothing was changed."
}

func (c SetupCommand) Run(ctx context.Context, std cli.Stdio) error {
	if err := errors.Join(process.NATSFlags{Replicas: c.Replicas}.Faults(), process.QueueInFlags(queue.Config{Partitions: c.Partitions}.Validate()), c.SizeFlags.Faults()); err != nil {
		return cli.Usage(err)
	}
	at, release, err := c.find(ctx, std, c.In(queue.Config{Replicas: c.Replicas, Partitions: c.Partitions, RoadBack: c.Webhooks}))
	if err != nil {
		return err
	}
	defer release()
	var differs []queue.Difference
	err = at.within(ctx, func(ctx context.Context) (err error) {
		differs, err = queue.Setup(ctx, at.cfg, c.DryRun)
		return err
	})
	if errors.As(err, new(*queue.StreamError)) && differs == nil {
		err = cli.Usage(process.QueueInFlags(err))
	}
	out := bufio.NewWriter(std.Out)
	for _, d := range differs {
		fmt.Fprintln(out, setupLine(d, c.DryRun))
	}
	if err == nil && len(differs) == 0 {
		fmt.Fprintln(out, "Nothing differs.")
	}
	if err != nil {
		_ = out.Flush() // the error that brought us here is the one to tell
		return err
	}
	return out.Flush()
}

func setupLine(d queue.Difference, dryRun bool) string {
	switch {
	case d.Setting == "stream" && dryRun:
		return d.Stream + " is missing, and would be created"
	case d.Setting == "stream":
		return d.Stream + " was missing, and has been created"
	case dryRun:
		return fmt.Sprintf("%s: %s is %s, and would be %s", d.Stream, d.Setting, d.Have, d.Want)
	}
	return fmt.Sprintf("%s: %s was %s, and is %s", d.Stream, d.Setting, d.Have, d.Want)
}

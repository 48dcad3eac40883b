package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

type setupCommand struct {
	DryRun   bool `name:"dry-run" env:"-" help:"Print what differs, and change nothing."`
	Replicas int  `name:"replicas" default:"0" group:"queue" help:"Copies of everything that is stored, 1 to 5; 0 stands for three on a cluster, else one."`
	sizeFlags
	accessFlags
}

func (setupCommand) Help() string {
	return "Give it the same flags or variables as the roles: where a role logs \"drift\", this makes NATS what they say. It prints a line for " +
		"each setting that differed, and nothing differs when it is run again. It needs the rights of an operator (deploy/nats-users.conf), and works " +
		"while everything runs. Settings that break nothing and that no flag is about stay as they are.\n\n" +
		"Exit codes: 0 done, or nothing was to do; 1 failed, and what is printed was changed; 2 it cannot be done, and nothing was changed."
}

func (c setupCommand) Run(ctx context.Context, std stdio) error {
	switch {
	case c.Replicas < 0 || c.Replicas > 5:
		return usageError{fmt.Errorf("--replicas: must be between 1 and 5, or 0 (got %d)", c.Replicas)}
	case c.MaxQueue < 1<<20:
		return usageError{fmt.Errorf("--max-queue: must be at least 1048576 bytes (got %d)", c.MaxQueue)}
	case c.DeadAge < time.Minute:
		return usageError{fmt.Errorf("--dead-age: must be at least a minute (got %v)", c.DeadAge)}
	}
	at, release, err := c.find(ctx, std, queue.Config{Replicas: c.Replicas, MaxBytes: c.MaxQueue, DeadMaxAge: c.DeadAge})
	if err != nil {
		return err
	}
	defer release()
	var differs []queue.Difference
	err = at.within(ctx, func(ctx context.Context) (err error) {
		differs, err = queue.Setup(ctx, at.cfg, c.DryRun)
		return err
	})
	if errors.As(err, new(*queue.ConfigError)) && differs == nil {
		err = usageError{err}
	}
	out := bufio.NewWriter(std.out)
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
		return d.Stream + " is missing, and would be made"
	case d.Setting == "stream":
		return d.Stream + " was missing, and is made"
	case dryRun:
		return fmt.Sprintf("%s: %s is %s, and would be %s", d.Stream, d.Setting, d.Have, d.Want)
	}
	return fmt.Sprintf("%s: %s was %s, and is %s", d.Stream, d.Setting, d.Have, d.Want)
}

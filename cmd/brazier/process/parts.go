package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"go.uber.org/zap"
)

// ShutdownBudget is how long a role may take to stop once it was told to: 5 s for the ingress to answer what is under way,
// 15 s and 3 s for the worker to finish and settle what it holds, and a rest for the connection and the server to
// close. It stays below the 30 s that Kubernetes gives by default before it kills.
const ShutdownBudget = 27 * time.Second

// ErrFinished is the end of a part that has done all its work. The role then ends well.
var ErrFinished = errors.New("finished")

// Part is one box of a role. A role is a list of them: they open in order, run together, and stop in reverse order, the
// last one first. All-in-one is the concatenation of the roles' lists.
type Part struct {
	Name string
	// open makes the part ready and returns its errors: listening, connecting, making streams. Optional.
	Open func(ctx context.Context) error
	// run does the work until ctx ends. A part that returns before that ends the role. Optional: without it the part
	// just is there between open and close.
	Run func(ctx context.Context) error
	// close gives back what open took. Optional.
	Close func() error
}

// RunParts runs a role: it returns when ctx has ended or a part has, and every part is closed.
func RunParts(ctx context.Context, log *zap.Logger, parts []Part) error {
	opened, err := openParts(ctx, parts)
	if err != nil {
		closeParts(opened)
		if ctx.Err() != nil {
			return nil // told to stop while it waited
		}
		return err
	}
	type ending struct {
		part Part
		err  error
	}
	endings := make(chan ending, len(parts))
	stops := make([]func(), len(parts)) // each ends a part and waits for it
	for i, p := range parts {
		if p.Run == nil {
			stops[i] = func() {}
			continue
		}
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			endings <- ending{p, p.Run(partCtx)}
		}()
		stops[i] = func() { cancel(); <-done }
	}

	var failure error
	select {
	case <-ctx.Done():
	case e := <-endings:
		if errors.Is(e.err, ErrFinished) {
			break
		}
		failure = fmt.Errorf("%s ended: %w", e.part.Name, cmp.Or(e.err, errors.New("it stopped although nobody asked it to")))
	}
	log.Info("stopping", zap.String("event", "draining"))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := len(parts) - 1; i >= 0; i-- {
			stops[i]()
			if err := closePart(parts[i]); err != nil {
				log.Error("part did not close cleanly", zap.String("event", "close_error"), zap.String("part", parts[i].Name), zap.Error(err))
			}
		}
	}()
	budget := time.NewTimer(ShutdownBudget)
	defer budget.Stop()
	select {
	case <-stopped:
	case <-budget.C: // a part hangs; the process ends without it
		return cmp.Or(failure, fmt.Errorf("%w: a part did not stop within %v", cli.ErrUndrained, ShutdownBudget))
	}
	for range len(endings) {
		switch e := <-endings; {
		case e.err == nil, errors.Is(e.err, ErrFinished):
		case failure == nil:
			failure = fmt.Errorf("%w: %s: %w", cli.ErrUndrained, e.part.Name, e.err)
		default: // the first one is told by the exit
			log.Error("part did not end cleanly", zap.String("event", "close_error"), zap.String("part", e.part.Name), zap.Error(e.err))
		}
	}
	return failure
}

// openParts opens parts in order and returns those that are open, also when one fails.
func openParts(ctx context.Context, parts []Part) ([]Part, error) {
	for i, p := range parts {
		if p.Open == nil {
			continue
		}
		if err := p.Open(ctx); err != nil {
			return parts[:i], err
		}
	}
	return parts, nil
}

func closeParts(parts []Part) {
	for i := len(parts) - 1; i >= 0; i-- {
		_ = closePart(parts[i]) // the error that brought us here is the one to tell
	}
}

func closePart(p Part) error {
	if p.Close == nil {
		return nil
	}
	return p.Close()
}

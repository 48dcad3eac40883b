package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// shutdownBudget is how long a role may take to stop once it was told to: 5 s for the door to answer what is under way,
// 15 s and 3 s for the worker to finish and settle what it holds, and a rest for the connection and the server to
// close. It stays below the 30 s that Kubernetes gives by default before it kills.
const shutdownBudget = 27 * time.Second

// errFinished is the end of a part that has done all it was there for. The role then ends well.
var errFinished = errors.New("finished")

var errUndrained = errors.New("stopped before everything was drained: what was in flight may be sent again")

// errSecondSignal is the end of a process that was told twice to stop.
var errSecondSignal = fmt.Errorf("%w: a second signal ended it at once", errUndrained)

// part is one box of a role. A role is a list of them: they open in order, run together, and stop in reverse order, the
// last one first. All-in-one is the concatenation of the roles' lists.
type part struct {
	name string
	// open makes the part ready and returns its errors: listening, connecting, making streams. Optional.
	open func(ctx context.Context) error
	// run does the work until ctx ends. A part that returns before that ends the role. Optional: without it the part
	// just is there between open and close.
	run func(ctx context.Context) error
	// close gives back what open took. Optional.
	close func() error
}

// runParts is the life of a role: it returns when ctx has ended or a part has, and every part is closed.
func runParts(ctx context.Context, log *zap.Logger, parts []part) error {
	opened, err := openParts(ctx, parts)
	if err != nil {
		closeParts(opened)
		if ctx.Err() != nil {
			return nil // told to stop while it waited
		}
		return err
	}
	type ending struct {
		part part
		err  error
	}
	endings := make(chan ending, len(parts))
	stops := make([]func(), len(parts)) // each ends a part and waits for it
	for i, p := range parts {
		if p.run == nil {
			stops[i] = func() {}
			continue
		}
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			endings <- ending{p, p.run(partCtx)}
		}()
		stops[i] = func() { cancel(); <-done }
	}

	var failure error
	select {
	case <-ctx.Done():
	case e := <-endings:
		if errors.Is(e.err, errFinished) {
			break
		}
		failure = fmt.Errorf("%s ended: %w", e.part.name, cmp.Or(e.err, errors.New("it stopped although nobody asked it to")))
	}
	log.Info("stopping", zap.String("event", "draining"))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := len(parts) - 1; i >= 0; i-- {
			stops[i]()
			if err := closePart(parts[i]); err != nil {
				log.Error("part did not close cleanly", zap.String("event", "close_error"), zap.String("part", parts[i].name), zap.Error(err))
			}
		}
	}()
	budget := time.NewTimer(shutdownBudget)
	defer budget.Stop()
	select {
	case <-stopped:
	case <-budget.C: // a part hangs; the process ends without it
		return cmp.Or(failure, fmt.Errorf("%w: a part did not stop within %v", errUndrained, shutdownBudget))
	}
	for range len(endings) {
		switch e := <-endings; {
		case e.err == nil, errors.Is(e.err, errFinished):
		case failure == nil:
			failure = fmt.Errorf("%w: %s: %w", errUndrained, e.part.name, e.err)
		default: // the first one is told by the exit
			log.Error("part did not end cleanly", zap.String("event", "close_error"), zap.String("part", e.part.name), zap.Error(e.err))
		}
	}
	return failure
}

// openParts opens parts in order and returns those that are open, also when one fails.
func openParts(ctx context.Context, parts []part) ([]part, error) {
	for i, p := range parts {
		if p.open == nil {
			continue
		}
		if err := p.open(ctx); err != nil {
			return parts[:i], err
		}
	}
	return parts, nil
}

func closeParts(parts []part) {
	for i := len(parts) - 1; i >= 0; i-- {
		_ = closePart(parts[i]) // the error that brought us here is the one to tell
	}
}

func closePart(p part) error {
	if p.close == nil {
		return nil
	}
	return p.close()
}

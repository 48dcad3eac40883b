package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	// warmUpTime bounds the wait for the first messages, and that for rest.
	warmUpTime = 30 * time.Second
	// restPeriod and restShare say when the children are at rest: in the period they used less than the share of a processor.
	restPeriod = 250 * time.Millisecond
	restShare  = 0.2
)

// warmUp sends a message through every page and waits until the children are at rest. A role makes its pages' consumers
// as it starts, at some 20 ms of processor time each, which belongs to no message.
func (b *benchmark) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmUpTime)
	defer cancel()
	c := b.Command
	c.Messages, c.Connections, c.Rate, c.Duration = len(b.Keys), 1, 0, 0
	first, err := newLoad(c)
	if err != nil {
		return err
	}
	if err := first.open(ctx); err != nil {
		return err
	}
	if err := first.run(ctx); err != nil {
		return err
	}
	rest := time.NewTicker(restPeriod)
	defer rest.Stop()
	for before := b.childrenCPU(); ; {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return fmt.Errorf("what was started is not at rest after its first messages: %w", ctx.Err())
		}
		arrived, err := b.count.now(ctx)
		if err != nil {
			return err
		}
		now := b.childrenCPU()
		if arrived >= int(first.accepted.Load()) && (now-before).Seconds() < restShare*restPeriod.Seconds() {
			return b.count.begin(ctx)
		}
		before = now
	}
}

// childrenCPU is their processor time so far; zero where the system does not say.
func (b *benchmark) childrenCPU() (sum time.Duration) {
	for _, u := range b.usage()[:len(b.children)] {
		sum += u.cpu
	}
	return sum
}

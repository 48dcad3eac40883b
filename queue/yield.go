package queue

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// In one process with the server, the ingress and the worker share the machine and its disk, where each settlement has a
// flush of its own. The callers of the ingress wait for an answer, and a job can wait. So while many jobs are being stored
// at once, no more than so many others are handed out in a second.

const (
	// manyWrites is how many jobs are on their way to the stream at one time when the ingress is busy: a campaign on a few
	// connections stays below it.
	manyWrites = 32
	// busyLasts is how long after that the ingress counts as busy: longer than a batch takes.
	busyLasts = 100 * time.Millisecond
	// yielding is how many jobs a second are handed out in any case: more than a dozen pages may send at their default rate.
	yielding = 500
)

func newYielding() *rate.Limiter { return rate.NewLimiter(yielding, yielding/20) }

// isBusy reports whether many messages are on their way, or were a moment ago.
func (w *writer) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.busy) < busyLasts
}

// Yield is called before a job is worked on that can wait. Where the server is in this process and the ingress is busy, it
// returns 500 times a second, over all callers, and else at once. It returns when ctx ends.
func (q *Queue) Yield(ctx context.Context) {
	if q.cfg.Embedded && q.accepting.isBusy() {
		_ = q.yielding.Wait(ctx) // an error says that ctx has ended
	}
}

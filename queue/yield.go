package queue

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// In one process with the server, the ingress and the worker share the machine and its disk, where each settlement has
// a flush of its own. The callers of the ingress wait for an answer, and a job can wait. So while many jobs are being
// stored at once, work begins on no more than [yieldRate] jobs a second.

// yieldRate is on how many jobs a second work begins in any case: more than a dozen pages may send at their default rate.
const yieldRate = 500

func newYielding() *rate.Limiter { return rate.NewLimiter(yieldRate, yieldRate/20) }

// isBusy reports whether many messages are on their way, or were within the last [busyLasts].
func (w *writer) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.largeSent || time.Since(w.busyAt) < busyLasts
}

// Yield is called before work on a job begins that can wait. Where the server is in this process and the ingress is
// busy, Yield returns 500 times a second, over all callers, else at once. It returns when ctx ends.
func (q *Queue) Yield(ctx context.Context) {
	if q.cfg.Embedded && q.isAccepting() {
		_ = q.yielding.Wait(ctx) // an error says that ctx has ended
	}
}

// recordSpacingNow returns how far apart batches of records are to begin now; 0: records go as they come.
func (q *Queue) recordSpacingNow() time.Duration {
	if q.cfg.Embedded && q.cfg.Flushed && q.isAccepting() {
		return recordSpacing
	}
	return 0
}

// isAccepting reports whether many jobs are being stored.
func (q *Queue) isAccepting() bool {
	return slices.ContainsFunc(q.partitions(), func(p *partition) bool { return p.accepting.isBusy() })
}

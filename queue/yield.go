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
	// busyLasts is how long after that the ingress counts as busy: longer than it takes until the next ones are on their way.
	busyLasts = 100 * time.Millisecond
	// yielding is how many jobs a second are handed out in any case: more than a dozen pages may send at their default rate.
	yielding = 500
	// recordsLate is how far apart batches of records are while the ingress is busy, so how long each of a job's two records may
	// wait. A few at a time, they would keep the disk busy with flushes for which the ingress waits (measured: 130 flushes a second
	// for those 500 jobs, and half of 8,333 requests a second answered after 460 ms rather than 20).
	recordsLate = 50 * time.Millisecond
)

func newYielding() *rate.Limiter { return rate.NewLimiter(yielding, yielding/20) }

// isBusy reports whether many messages are on their way, or were a moment ago.
func (w *writer) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.many || time.Since(w.busy) < busyLasts
}

// Yield is called before a job is worked on that can wait. Where the server is in this process and the ingress is busy, it
// returns 500 times a second, over all callers, and else at once. It returns when ctx ends.
func (q *Queue) Yield(ctx context.Context) {
	if q.cfg.Embedded && q.accepting.isBusy() {
		_ = q.yielding.Wait(ctx) // an error says that ctx has ended
	}
}

// recordsApart returns how far apart batches of records are to be now; 0: records go as they come.
func (q *Queue) recordsApart() time.Duration {
	if q.cfg.Embedded && q.cfg.Flushed && q.accepting.isBusy() {
		return recordsLate
	}
	return 0
}

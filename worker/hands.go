package worker

import (
	"sync"
	"sync/atomic"
)

// hands runs each job in a goroutine, and keeps some of these for the next ones. A call to the Send API needs more stack
// than a new goroutine has, and growing it is a sixth of the work on a job.
type hands struct {
	next chan func() // to those that wait
	idle atomic.Int32
	all  sync.WaitGroup
}

// maxIdle is how many goroutines wait for work at most, some 16 KiB each.
const maxIdle = 256

func newHands() *hands { return &hands{next: make(chan func())} }

// do runs f at once, in a goroutine of its own.
func (h *hands) do(f func()) {
	select {
	case h.next <- f:
	default:
		h.all.Go(func() { h.work(f) })
	}
}

func (h *hands) work(f func()) {
	for f != nil {
		f()
		if h.idle.Add(1) > maxIdle {
			h.idle.Add(-1)
			return
		}
		f = <-h.next // nil once it is closed
		h.idle.Add(-1)
	}
}

// close ends those that wait, and returns when all have ended. Nothing is done after it.
func (h *hands) close() {
	close(h.next)
	h.all.Wait()
}

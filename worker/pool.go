package worker

import (
	"sync"
	"sync/atomic"
)

// pool runs each job in a goroutine, and keeps some of these for the next ones. A call to the Send API needs more stack
// than a new goroutine has, and growing it is a sixth of the work on a job.
type pool struct {
	next chan func() // to those that wait
	idle atomic.Int32
	all  sync.WaitGroup
}

func newPool() *pool { return &pool{next: make(chan func())} }

// do runs f at once, in a goroutine of its own.
func (w *pool) do(f func()) {
	select {
	case w.next <- f:
	default:
		w.all.Go(func() { w.work(f) })
	}
}

func (w *pool) work(f func()) {
	for f != nil {
		f()
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return
		}
		f = <-w.next // nil once it is closed
		w.idle.Add(-1)
	}
}

// close ends those that wait, and returns when all have ended. Nothing is done after it.
func (w *pool) close() {
	close(w.next)
	w.all.Wait()
}

package worker

import (
	"context"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// Most lanes of most pages have nothing most of the time, and an open request for each of them would cost the server more than
// the jobs do: it asks all consumers of the stream about each job that is settled (nats-server 2.15.2). So a lane is fetched
// from only while it is awake:
//
//	asleep ── a marker comes, or jobs of it were found at a look ──▶ awake
//	   ▲                                                               │
//	   └── none was found at a look, and for laneIdle nothing came ────┘
//
// A marker may be lost on its way to a worker. Jobs then lie until the next look, and a lane is put to sleep by a look alone, so that
// none sleeps while there are jobs for it, those for later included.

// lane says whether a lane is fetched from.
type lane struct {
	mu    sync.Mutex
	awake bool
	used  time.Time          // when a job or a marker last came
	start func()             // begins the fetching, nil where nobody would fetch
	stop  context.CancelFunc // ends it, nil where nobody fetches
}

// whileAwake calls fetch each time the lane wakes, at once if it is awake, with a context that ends when it falls asleep or
// cancel is called. fetch returns at once. After cancel it is not called any more. One caller at a time.
func (l *lane) whileAwake(ctx context.Context, fetch func(context.Context)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = func() {
		var awake context.Context
		awake, l.stop = context.WithCancel(ctx)
		fetch(awake)
	}
	if l.awake {
		l.start()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.start = nil
		l.end()
	}
}

// end ends the fetching. l.mu is held.
func (l *lane) end() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}

// wake takes in that there is, or may be, a job.
func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = time.Now()
	if l.awake {
		return
	}
	l.awake = true
	if l.start != nil {
		l.start()
	}
}

// sleep has the lane fall asleep if nothing was heard of it for a while.
func (l *lane) sleep(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awake && time.Since(l.used) >= after {
		l.awake = false
		l.end()
	}
}

// watchLanes wakes lanes until ctx ends.
func (w *Worker) watchLanes(ctx context.Context) {
	// It fails with the connection, which ends the worker.
	_ = w.cfg.Queue.WatchLanes(ctx, func(lane queue.PageLane) {
		w.mu.Lock()
		w.known[lane] = true
		p := w.pages[lane.Page]
		w.mu.Unlock()
		if p != nil {
			p.wake(lane.Lane)
		}
	})
}

func (p *page) wake(name queue.Lane) {
	if l := p.lanes[name]; l != nil { // else somebody published by hand
		l.wake()
	}
}

// lookAtLanes wakes the lanes in which jobs were found, and has others fall asleep.
func (p *page) lookAtLanes(found map[queue.PageLane]uint64, idle time.Duration) {
	for name, l := range p.lanes {
		if found[queue.PageLane{Page: p.ID, Lane: name}] > 0 {
			l.wake()
		} else {
			l.sleep(idle)
		}
	}
}

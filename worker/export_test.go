package worker

import "time"

func init() {
	defaultBehind = 50 * time.Millisecond // see SetBehind
	asideDelays = Delays{First: 50 * time.Millisecond, Max: time.Second}
	circuitDelays = Delays{First: 50 * time.Millisecond, Max: 200 * time.Millisecond}
}

// Deadline is far beyond what a healthy run needs, also on a machine that does much else.
const Deadline = 2 * time.Minute

// Knows reports whether the worker knows by now that the page or app of a key is held.
func (w *Worker) Knows(key string) bool {
	w.mu.Lock()
	h := w.states[key]
	w.mu.Unlock()
	return h != nil && h.now().Held
}

// SetBehind is for tests in which a message must not come back before others were tried. It is called before Run.
func (w *Worker) SetBehind(d time.Duration) { w.behind = d }

// SetStillEvery has holds told again sooner. It is called before Run.
func (w *Worker) SetStillEvery(d time.Duration) { w.stillEvery = d }

// SetBacklogOld has messages that wait warned of sooner. It is called before Run.
func (w *Worker) SetBacklogOld(d time.Duration) { w.backlogOld = d }

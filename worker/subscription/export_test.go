package subscription

import "time"

// Every has w read the fields so often.
func (w *Watcher) Every(d time.Duration) *Watcher {
	w.every = d
	return w
}

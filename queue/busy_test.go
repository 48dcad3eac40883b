package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

// The ingress is busy for as long as a large batch is on its way, and for busyLasts after that.
func TestIngressIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWriter(&Queue{}, StreamJobs)
		for _, step := range []struct {
			what string
			do   func()
			busy bool
		}{
			{"at first", func() {}, false},
			{"a batch is on its way", func() { w.setLargeSent(true) }, true},
			{"and takes long", func() { <-time.After(10 * busyLasts) }, true},
			{"it is stored", func() { w.setLargeSent(false) }, true},
			{"just under busyLasts ago", func() { <-time.After(busyLasts - 1) }, true},
			{"longer ago", func() { <-time.After(2) }, false},
		} {
			if step.do(); w.isBusy() != step.busy {
				t.Errorf("%s: busy %v, want %v", step.what, w.isBusy(), step.busy)
			}
		}
	})
}

package cli

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Of two signals to stop within a second the second is the first one again; SIGHUP is never one.
func TestSignals(t *testing.T) {
	const (
		hup       = syscall.SIGHUP
		term      = syscall.SIGTERM
		interrupt = syscall.SIGINT
	)
	type sent struct {
		at  time.Duration
		sig os.Signal
	}
	for _, c := range []struct {
		name    string
		sent    []sent
		stopped bool
		forced  time.Duration // 0: not
		hangup  bool
	}{
		{name: "none"},
		{name: "hangups", sent: []sent{{0, hup}, {0, hup}, {time.Hour, hup}}, hangup: true},
		{name: "one", sent: []sent{{0, term}}, stopped: true},
		{name: "two at once", sent: []sent{{0, term}, {0, term}}, stopped: true},
		{name: "of two kinds", sent: []sent{{0, interrupt}, {time.Millisecond, term}}, stopped: true},
		{name: "at the end of the second", sent: []sent{{0, term}, {SameSignal, term}}, stopped: true},
		{name: "after it", sent: []sent{{0, term}, {SameSignal + 1, term}}, stopped: true, forced: SameSignal + 1},
		{name: "the same one does not begin the second anew", sent: []sent{{0, term}, {SameSignal - 1, term}, {SameSignal + 1, term}}, stopped: true, forced: SameSignal + 1},
		{name: "a hangup while it stops", sent: []sent{{0, term}, {2 * SameSignal, hup}}, stopped: true, hangup: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				s := newSignals(stop)
				began, received := time.Now(), make(chan os.Signal)
				var forced time.Duration
				done := make(chan struct{})
				go func() {
					defer close(done)
					s.follow(received)
					forced = time.Since(began)
				}()
				for _, signal := range c.sent {
					<-time.After(signal.at - time.Since(began))
					received <- signal.sig
				}
				if c.forced == 0 {
					synctest.Wait()
					select {
					case <-done:
						t.Errorf("forced after %v", forced)
					default:
						close(received)
					}
				}
				<-done
				if c.forced != 0 && forced != c.forced {
					t.Errorf("forced after %v, want %v", forced, c.forced)
				}
				if stopped := ctx.Err() != nil; stopped != c.stopped {
					t.Errorf("told to stop: %v, want %v", stopped, c.stopped)
				}
				if hangup := len(s.Hangup()) > 0; hangup != c.hangup {
					t.Errorf("a hangup is told: %v, want %v", hangup, c.hangup)
				}
			})
		})
	}
}

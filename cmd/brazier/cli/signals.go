package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// What signals do
//
//	SIGINT, SIGTERM   first: everything stops in order
//	                  again within SameSignal of the first: nothing, it is the same one
//	                  again later: the process ends at once, with ExitUndrained
//	SIGHUP            a role reads its files again, once it is ready; elsewhere nothing. It never kills

// SameSignal is for how long after the first SIGINT or SIGTERM another one counts as the same: timeout(1), process groups
// and shims of containers send two, microseconds apart. Too short, and these throw the drain away; too long, and a person
// who wants to force the end presses the keys in vain.
const SameSignal = time.Second

// Signals are what the system tells this process. A nil *Signals tells nothing.
type Signals struct {
	stop    context.CancelFunc
	hangups chan struct{} // has one element when the files are to be read again

	mu   sync.Mutex
	last map[*func()]bool // called before the process ends at once
}

// FollowSignals returns a context that ends when the process is told to stop, and the rest of what it is told. It is
// called once, first of all.
func FollowSignals(stderr *os.File) (context.Context, *Signals) {
	ctx, stop := context.WithCancel(context.Background())
	s := newSignals(stop)
	received := make(chan os.Signal, 8)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s.follow(received)
		fmt.Fprintln(stderr, "brazier: second signal, ending at once")
		s.runLast()
		os.Exit(ExitUndrained)
	}()
	return ctx, s
}

func newSignals(stop context.CancelFunc) *Signals {
	return &Signals{stop: stop, hangups: make(chan struct{}, 1), last: make(map[*func()]bool)}
}

// follow returns when the process is to end at once.
func (s *Signals) follow(received <-chan os.Signal) {
	var first time.Time
	for sig := range received {
		switch {
		case sig == syscall.SIGHUP:
			select {
			case s.hangups <- struct{}{}:
			default: // it is to be done already
			}
		case first.IsZero():
			first = time.Now()
			s.stop()
		case time.Since(first) > SameSignal:
			return
		}
	}
}

// Hangup has an element when the files are to be read again.
func (s *Signals) Hangup() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.hangups
}

// BeforeExit has f called before the process ends at once, from another goroutine, until the function that it returns is
// called.
func (s *Signals) BeforeExit(f func()) (forget func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[&f] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.last, &f)
	}
}

func (s *Signals) runLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.last {
		(*f)()
	}
}

// surviveOutput lets the process outlive the readers of its standard output and error: a write fails then, which would
// otherwise kill the process before it has cleaned up.
func (s *Signals) surviveOutput() (restore func()) {
	if s == nil {
		return func() {}
	}
	broken := make(chan os.Signal, 1) // nobody looks: the write itself says so
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

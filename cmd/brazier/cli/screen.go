package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Screen shows what a command does while it runs: on a terminal with a progress line at the bottom, elsewhere line by line.
// It is safe for concurrent use.
type Screen struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	lively   bool   // there is a progress line at the bottom
	gone     func() // called when nobody sees it any more; nil: nobody is to know
}

// NewScreen returns a screen that writes to w.
func NewScreen(w io.Writer) *Screen {
	return &Screen{w: w, terminal: IsTerminal(w) && os.Getenv("TERM") != "dumb"}
}

// Every returns the time between two progress lines: elsewhere than on a terminal each one stays, so they come less often.
func (s *Screen) Every(onTerminal, elsewhere time.Duration) time.Duration {
	if s.terminal {
		return onTerminal
	}
	return elsewhere
}

const clearLine = "\r\x1b[K"

// Say writes a line that stays.
func (s *Screen) Say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lively {
		s.print(clearLine)
		s.lively = false
	}
	s.print(fmt.Sprintf(format+"\n", args...))
}

// clearAll moves the cursor to the top and clears what is below it.
const clearAll = "\x1b[H\x1b[J"

// Page replaces everything on a terminal. Elsewhere, and for lines that programs read, it comes after what was there.
func (s *Screen) Page(text string, lines bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case lines:
	case s.terminal:
		text = clearAll + text
	default:
		text += "\n"
	}
	s.print(text)
}

// Live replaces the progress line.
func (s *Screen) Live(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		s.print("  " + text + "\n")
		return
	}
	s.print(clearLine + "  " + text)
	s.lively = true
}

// Clear removes the progress line.
func (s *Screen) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lively {
		s.print(clearLine)
		s.lively = false
	}
}

// print writes. s.mu is held.
func (s *Screen) print(text string) {
	if _, err := io.WriteString(s.w, text); err != nil && s.gone != nil {
		s.gone()
	}
}

// Attended returns a context that ends with ctx, and when nobody sees the screen any more: its terminal was closed, or who
// read it from a pipe has ended. It is for commands that are there to be looked at, and is called before the screen is
// used.
func (s *Screen) Attended(ctx context.Context, told *Signals) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.gone = cancel
	restore := told.surviveOutput()
	onTerminal, watched := IsTerminal(s.w), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-told.Hangup():
				if onTerminal && !IsTerminal(s.w) {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(); <-watched; restore() }
}

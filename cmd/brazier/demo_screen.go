package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// screen is where the demo shows itself: on a terminal with a live line at the bottom, elsewhere line by line.
type screen struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	lively   bool   // a live line stands at the bottom
	gone     func() // called when nobody sees it any more; nil: nobody is to know
}

func newScreen(w io.Writer) *screen {
	return &screen{w: w, terminal: isTerminal(w) && os.Getenv("TERM") != "dumb"}
}

// every is the time between two live lines: without a terminal each one stays.
func (s *screen) every() time.Duration {
	if s.terminal {
		return 100 * time.Millisecond
	}
	return time.Second
}

const clearLine = "\r\x1b[K"

func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lively {
		s.print(clearLine)
		s.lively = false
	}
	s.print(fmt.Sprintf(format+"\n", args...))
}

// live replaces the live line.
func (s *screen) live(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		s.print("  " + text + "\n")
		return
	}
	s.print(clearLine + "  " + text)
	s.lively = true
}

func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lively {
		s.print(clearLine)
		s.lively = false
	}
}

// print writes. s.mu is held.
func (s *screen) print(text string) {
	if _, err := io.WriteString(s.w, text); err != nil && s.gone != nil {
		s.gone()
	}
}

// attended returns a context that ends with ctx, and when nobody sees the screen any more: its terminal was closed, or who
// read it from a pipe has ended. It is for commands that are there to be looked at, and is called before the screen is
// used.
func (s *screen) attended(ctx context.Context, told *signals) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.gone = cancel
	restore := told.surviveOutput()
	onTerminal, watched := isTerminal(s.w), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-told.hangup():
				if onTerminal && !isTerminal(s.w) {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(); <-watched; restore() }
}

const barWidth = 12

// progress is the live line.
func (c counts) progress(total int) string {
	done := min((c.delivered+c.dead+c.rejected)*barWidth/total, barWidth)
	return fmt.Sprintf("%s%s %5.1fs  accepted %d, delivered %d, waiting %d, dead %d",
		strings.Repeat("█", done), strings.Repeat("░", barWidth-done), c.elapsed.Seconds(),
		c.accepted, c.delivered, c.accepted-c.delivered-c.dead, c.dead)
}

// report is the table at the end of the campaign.
func (d *demo) report() {
	c := d.tally.now()
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name string, n int, kind string) {
		reasons := d.tally.why(kind)
		first := ""
		if len(reasons) > 0 {
			first = reasons[0]
		}
		fmt.Fprintf(t, "  %s\t%5d\t%s\n", name, n, first)
		for _, r := range reasons[min(1, len(reasons)):] {
			fmt.Fprintf(t, "  \t\t%s\n", r)
		}
	}
	fmt.Fprintf(t, "\nWhat became of %d requests, after %.1f s:\n\n", c.accepted+c.duplicate+c.rejected+c.unanswered, c.elapsed.Seconds())
	fmt.Fprintf(t, "  accepted\t%5d\tanswered 202 once it was on the disk\n", c.accepted)
	fmt.Fprintf(t, "  duplicate\t%5d\tposted twice, kept once\n", c.duplicate)
	row("rejected", c.rejected, "rejected")
	if c.unanswered > 0 {
		fmt.Fprintf(t, "  unanswered\t%5d\tthe door did not answer\n", c.unanswered)
	}
	fmt.Fprintf(t, "\n  delivered\t%5d\tfrom accepted to delivered: p50 %s, p99 %s\n", c.delivered, seconds(d.tally.quantile(.5)), seconds(d.tally.quantile(.99)))
	row("retried", c.retried, "retried")
	row("in doubt", c.inDoubt, "in doubt")
	row("held", c.throttled, "held")
	row("dead", c.dead, "dead")
	lost := c.accepted - c.delivered - c.dead
	fmt.Fprintf(t, "  lost\t%5d\n", lost)
	_ = t.Flush() // into memory
	d.screen.say("%s", strings.TrimRight(b.String(), "\n"))
	summary := d.sandbox.Summary()
	d.screen.say("\nFacebook's side: %d calls, %d messages handed over, %d of them twice (its lost answer, sent again).",
		summary.Calls, summary.Accepted, len(d.sandbox.Duplicates()))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// invite tells the reader how to go on.
func (d *demo) invite() {
	page := d.pages[0]
	d.screen.say(`
Now yours. Send a message to %s:

  curl -i %s/v25.0/me/messages \
    -H 'Authorization: Bearer %s' \
    -H 'Content-Type: application/json' \
    -d '{"recipient":{"id":"1234567890123456"},"message":{"text":"Hello"}}'

Empty the id, or begin it with 9000000551, and see what happens.

  log          %s
  Facebook     %s

Everything stays up until Ctrl-C.
`, page.Name, d.door, d.keys[page.Name], d.logFile, d.sandbox.ControlURL())
}

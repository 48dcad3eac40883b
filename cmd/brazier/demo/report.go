package demo

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

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
		fmt.Fprintf(t, "  unanswered\t%5d\tthe ingress did not answer\n", c.unanswered)
	}
	fmt.Fprintf(t, "\n  delivered\t%5d\tfrom accepted to delivered: p50 %s, p99 %s\n", c.delivered, seconds(d.tally.quantile(.5)), seconds(d.tally.quantile(.99)))
	row("retried", c.retried, "retried")
	row("in doubt", c.inDoubt, "in doubt")
	row("held", c.throttled, "held")
	row("dead", c.dead, "dead")
	lost := c.accepted - c.delivered - c.dead
	fmt.Fprintf(t, "  lost\t%5d\n", lost)
	_ = t.Flush() // into memory
	d.screen.Say("%s", strings.TrimRight(b.String(), "\n"))
	summary := d.sandbox.Summary()
	d.screen.Say("\nFacebook's side: %d calls, %d messages delivered, %d of them twice (its lost answer, sent again).",
		summary.Calls, summary.Accepted, len(d.sandbox.Duplicates()))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// invite tells the reader how to go on.
func (d *demo) invite() {
	page := d.pages[0]
	d.screen.Say(`
Now yours. Send a message to %s:

  curl -i %s/v25.0/me/messages \
    -H 'Authorization: Bearer %s' \
    -H 'Content-Type: application/json' \
    -d '{"recipient":{"id":"1234567890123456"},"message":{"text":"Hello"}}'

Empty the id, or begin it with 9000000551, and see what happens. Ask what became of the campaign, and of the message to the person who
cannot be reached:

  brazier campaign %s --data %s
  brazier trace %s --data %s

  log          %s
  Facebook     %s
  Braze        %s/control/

Everything stays up until Ctrl-C.
`, page.Name, d.ingressURL, d.keys[page.Name], campaign, d.data, d.tally.unreachable(), d.data, d.logFile, d.sandbox.ControlURL(), d.braze.workspace.URL)
}

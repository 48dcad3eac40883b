package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
	"github.com/brazier-relay/brazier/worker/capture"
)

// userOf is the braze_id of the user for whom message n of the campaign is.
func userOf(n int) string { return fmt.Sprintf("5d1f2a3b4c5d6e7f%08d", n) }

// people are the users that the campaign is for, as Braze has them before: with a PSID, and inside the window as far as Braze knows.
func (d *demo) people() (profiles []brazesandbox.Profile) {
	until := time.Now().Add(20 * time.Hour).UTC().Truncate(time.Second)
	for n := range d.Messages {
		p := brazesandbox.Profile{BrazeID: userOf(n), Attributes: map[string]any{windowUntil: until}}
		if psid := psidOf(n); psid != "" {
			p.Attributes[messengerID] = psid
		}
		profiles = append(profiles, p)
	}
	return profiles
}

// truth is what Braze has been told of the campaign.
type truth struct {
	sent, failed int
	reasons      map[string]int // of failures
}

func (d *demo) truth() truth {
	t := truth{reasons: map[string]int{}}
	for n := range d.Messages {
		profile, err := d.braze.sandbox.Profile(userOf(n))
		if err != nil {
			continue // nobody removes one
		}
		for _, e := range profile.Events {
			switch e.Name {
			case capture.DefaultEventPrefix + string(capture.EventSent):
				t.sent++
			case capture.DefaultEventPrefix + string(capture.EventFailed):
				t.failed++
				t.reasons[fmt.Sprint(e.Properties["reason"])]++
			}
		}
	}
	return t
}

// tellTruth waits until Braze knows what became of each message, and shows it beside what Braze would have shown.
func (d *demo) tellTruth(ctx context.Context) error {
	c := d.tally.now()
	var t truth
	err := d.await(ctx, "Braze to know what became of the campaign", func() bool {
		t = d.truth()
		return t.sent+t.failed >= c.accepted
	})
	if err != nil {
		return unless(ctx, err)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nWhat Braze knows of the %d that were accepted, by the answer 202 alone and by Brazier's events:\n\n", c.accepted)
	fmt.Fprintf(w, "  \tby 202\tby events\t\n")
	fmt.Fprintf(w, "  sent\t%6d\t%9d\tmessenger_sent\n", c.accepted, t.sent)
	fmt.Fprintf(w, "  failed\t%6d\t%9d\tmessenger_failed\n", 0, t.failed)
	_ = w.Flush() // into memory
	d.screen.Say("%s", strings.TrimRight(b.String(), "\n"))
	for _, reason := range slices.Sorted(maps.Keys(t.reasons)) {
		d.screen.Say("    %d × %s", t.reasons[reason], reason)
	}
	before, now, gone := d.segment()
	d.screen.Say("\n  The next campaign's segment, people who can be reached now: %d users, %d before. Missing are\n  %s.", now, before, strings.Join(gone, "\n  and "))
	return nil
}

// segment counts the users of the campaign whom the next one would be for, by what Braze knows now and by what it knew before, and says
// who is missing.
func (d *demo) segment() (before, now int, gone []string) {
	for n := range d.Messages {
		profile, err := d.braze.sandbox.Profile(userOf(n))
		if err != nil || profile.Attributes[messengerID] == nil {
			continue
		}
		before++
		until, _ := time.Parse(time.RFC3339, fmt.Sprint(profile.Attributes[windowUntil]))
		switch {
		case profile.Attributes[reachable] == false:
			gone = append(gone, fmt.Sprintf("the person who cannot be reached (%s is false)", reachable))
		case !until.After(time.Now()):
			gone = append(gone, fmt.Sprintf("the person who wrote last more than a day ago (%s has passed)", windowUntil))
		default:
			now++
		}
	}
	return before, now, gone
}

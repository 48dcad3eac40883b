package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// report gathers the figures of the modes, which run at the same time.
type report struct {
	mu   sync.Mutex
	runs []*figures
}

func (r *report) add(f *figures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, f)
}

// String is a table with a column for each mode, and below it what was in flight at each kill, cut and pause.
func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.runs, func(a, b *figures) int { return strings.Compare(a.mode, b.mode) })
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(f *figures) any) {
		fmt.Fprintf(w, "%-52s\t", name)
		for _, f := range r.runs {
			fmt.Fprintf(w, "%v\t", value(f))
		}
		fmt.Fprintln(w)
	}
	row("", func(f *figures) any { return f.mode })
	row("accepted", func(f *figures) any { return f.accepted })
	row("delivered", func(f *figures) any { return f.delivered })
	row("dead", func(f *figures) any { return f.dead })
	row("lost", func(f *figures) any { return f.lost })
	row("logged in doubt", func(f *figures) any { return f.inDoubt })
	row("duplicates", func(f *figures) any { return f.duplicates })
	row("duplicates not logged in doubt", func(f *figures) any { return f.notInDoubt })
	row("duplicates whose worker lived and whose call was whole", func(f *figures) any { return f.unexplained })
	row("in flight where a worker or its calls were cut off", func(f *figures) any { return f.inFlightCalls })
	row("in flight at faults of NATS and orderly restarts", func(f *figures) any { return f.inFlightElse })
	row("  of both, accepted more than a lease before", func(f *figures) any { return f.aged })
	row("refused by the ingress (503)", func(f *figures) any { return f.busy })
	row("longest wait of an accepted request", func(f *figures) any { return f.longestWait.Round(time.Millisecond) })
	row("longest until accepted, all requests of a message", func(f *figures) any { return f.longestUntil.Round(time.Millisecond) })
	row("connections refused or lost, and the other ingress asked", func(f *figures) any { return f.failovers })
	row("refused for good, or never answered", func(f *figures) any { return f.refused + f.unanswered })
	row("posted again after a restart of everything", func(f *figures) any { return f.repeated })
	row("  and not answered as the duplicate it is", func(f *figures) any { return f.answeredOtherwise })
	row("  and sent again", func(f *figures) any { return f.sentAgain })
	kinds := map[string]bool{}
	for _, f := range r.runs {
		for kind := range f.times {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		row("times: "+kind, func(f *figures) any { return f.times[kind] })
	}
	w.Flush()
	b.WriteString("in flight at each:\n")
	for _, f := range r.runs {
		for _, kind := range slices.Sorted(maps.Keys(f.inFlight)) {
			fmt.Fprintf(&b, "  %s, %s: %v\n", f.mode, kind, f.inFlight[kind])
		}
	}
	return b.String()
}

// promises are what a mode asks beyond what all do.
type promises struct {
	wait    bool // no request is refused: it waits until the queue is there
	orderly bool // nothing fails: no request is refused, nothing is in doubt, and nothing arrives twice
}

// complaint is something that must not happen, and how often it did.
type complaint struct {
	what  string
	times int
}

// judge fails the test for every promise that the figures do not keep.
func (f *figures) judge(t *testing.T, must promises) {
	t.Helper()
	wrong := []complaint{
		{"messages lost", f.lost},
		{"duplicates not logged in doubt", f.notInDoubt},
		{"duplicates of messages whose worker lived and whose call was whole", f.unexplained},
		{"messages refused for good", f.refused},
		{"messages never answered", f.unanswered},
		{"repeated keys not answered as duplicates", f.answeredOtherwise},
		{"messages sent again after all was settled", f.sentAgain},
	}
	if must.wait {
		wrong = append(wrong, complaint{"requests refused with 503, which ought to have waited", f.busy})
	}
	if must.orderly {
		wrong = append(wrong, complaint{"answers other than 202", f.busy + f.notTaken}, complaint{"messages in doubt", f.inDoubt},
			complaint{"messages delivered twice", f.duplicates})
	}
	for _, c := range wrong {
		if c.times > 0 {
			t.Errorf("%d %s", c.times, c.what)
		}
	}
	if f.accepted == 0 {
		t.Error("nothing was accepted")
	}
	if t.Failed() {
		t.Log(strings.Join(f.evidence, "\n"))
	}
}

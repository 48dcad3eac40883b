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
	row("duplicates", func(f *figures) any { return f.duplicates })
	row("duplicates not logged in doubt", func(f *figures) any { return f.notInDoubt })
	row("duplicates that were not in flight when it happened", func(f *figures) any { return f.notUnderWay })
	row("in flight at the kills", func(f *figures) any { return f.inFlightAtKills })
	row("in flight at cuts, pauses and orderly restarts", func(f *figures) any { return f.inFlightElse })
	row("refused by the door (503)", func(f *figures) any { return f.busy })
	row("longest wait of an accepted request", func(f *figures) any { return f.longestWait.Round(time.Millisecond) })
	row("longest until accepted, all requests of a message", func(f *figures) any { return f.longestUntil.Round(time.Millisecond) })
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

// judge fails the test for every promise that the figures do not keep.
func (f *figures) judge(t *testing.T, waits bool) {
	t.Helper()
	for _, must := range []struct {
		what string
		none int
	}{
		{"messages lost", f.lost},
		{"duplicates not logged in doubt", f.notInDoubt},
		{"duplicates of messages that were settled", f.notUnderWay},
		{"messages refused for good", f.refused},
		{"messages never answered", f.unanswered},
		{"repeated keys not answered as duplicates", f.answeredOtherwise},
		{"messages sent again after all was settled", f.sentAgain},
	} {
		if must.none > 0 {
			t.Errorf("%d %s", must.none, must.what)
		}
	}
	if most := f.inFlightAtKills + f.inFlightElse; f.duplicates > most {
		t.Errorf("%d duplicates, and only %d messages were in flight when it happened", f.duplicates, most)
	}
	if waits && f.busy > 0 {
		t.Errorf("the door refused %d requests; they ought to have waited", f.busy)
	}
	if f.accepted == 0 {
		t.Error("nothing was accepted")
	}
	if t.Failed() {
		t.Log(strings.Join(f.evidence, "\n"))
	}
}

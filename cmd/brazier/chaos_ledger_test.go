package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// fault is something that was done to the fleet.
type fault struct {
	kind string // what was done, and the kind of process it was done to
	kill bool
	// aside says that no delivery passes through what it hit: nothing is in doubt because of it.
	aside    bool
	from, to time.Time
	inFlight int // deliveries that were under way, each counted at the first fault that met it
}

// account is all that is known of one message.
type account struct {
	*posted
	calls []sandbox.Call // to Facebook, oldest first
	lines []logLine      // of all logs
}

// ledger compares what was accepted with what became of it.
type ledger struct {
	accounts []account // of every message posted
	faults   []fault
	letters  map[string]bool // ids of the dead letters
}

// openLedger makes the ledger as things stand now. The messages must have their answers already.
func openLedger(messages []*posted, j *journal, facebook *sandbox.Sandbox, faults []fault) *ledger {
	l := &ledger{faults: slices.Clone(faults)}
	calls := map[string][]sandbox.Call{}
	for _, c := range facebook.Calls() {
		calls[c.Recipient] = append(calls[c.Recipient], c)
	}
	for _, m := range messages {
		a := account{posted: m, calls: calls[m.psid]}
		if m.id != "" {
			a.lines = j.about(m.id)
		}
		l.accounts = append(l.accounts, a)
	}
	return l
}

func (a *account) delivered() (times int) {
	for _, c := range a.calls {
		if c.Accepted {
			times++
		}
	}
	return times
}

func (a *account) logged(event string) bool {
	return slices.ContainsFunc(a.lines, func(l logLine) bool { return l.event == event })
}

// missing reports whether no log says what became of a message that was accepted. It may be a dead letter all the same:
// its worker can be killed after the settlement and before it has logged it.
func (a *account) missing() bool { return a.id != "" && a.delivered() == 0 && !a.logged("dead") }

// closed is when a worker wrote what came of a call; zero if none did.
func (a *account) closed(c sandbox.Call) time.Time {
	for _, l := range a.lines {
		if l.final() && l.at.After(c.At) {
			return l.at
		}
	}
	return time.Time{}
}

// underWay reports whether a call or its settlement was not over when f came: called before the end of it, and the line
// that says what came of it is missing or younger. late is how long after it a call may arrive that was sent before.
func (a *account) underWay(c sandbox.Call, f fault, late time.Duration) bool {
	closed := a.closed(c)
	return !f.aside && c.At.Before(f.to.Add(late)) && (closed.IsZero() || closed.After(f.from))
}

// open reports whether a call was made of which no worker has written what came of it.
func (a *account) open() bool {
	return len(a.calls) > 0 && a.closed(a.calls[len(a.calls)-1]).IsZero()
}

// figures are what a run comes to.
type figures struct {
	mode string

	accepted, delivered, dead, lost int
	refused, unanswered             int           // refused for good, and given up without an answer
	busy                            int           // answers of 503
	longestWait                     time.Duration // of a request that was answered 202
	longestUntil                    time.Duration // from a message's first request to its 202

	duplicates      int // messages delivered more than once
	notInDoubt      int // of these: never logged in doubt
	notUnderWay     int // of these: settled when nothing was done to the fleet
	inFlightAtKills int
	inFlightElse    int              // at cuts, pauses and orderly restarts
	times           map[string]int   // how often each thing was done
	inFlight        map[string][]int // and what was in flight, each time

	repeated, answeredOtherwise, sentAgain int // of the keys posted again after a restart

	evidence []string
	shown    map[string]int // how much of it, by what is wrong
}

// sum adds the ledger up.
func (l *ledger) sum(mode string) *figures {
	f := &figures{mode: mode, times: map[string]int{}, inFlight: map[string][]int{}, shown: map[string]int{}}
	for i := range l.accounts {
		a := &l.accounts[i]
		f.door(l, a)
		if a.id == "" {
			continue
		}
		f.accepted++
		times := a.delivered()
		switch {
		case times > 0:
			f.delivered++
		case l.letters[a.id]:
			f.dead++
		default:
			f.lost++
			f.show("lost", l, a)
		}
		for _, c := range a.calls {
			l.meet(a, c, 0)
		}
		if times > 1 {
			f.twice(l, a)
		}
	}
	for _, done := range l.faults {
		f.times[done.kind]++
		switch {
		case done.aside:
			continue
		case done.kill:
			f.inFlightAtKills += done.inFlight
		default:
			f.inFlightElse += done.inFlight
		}
		f.inFlight[done.kind] = append(f.inFlight[done.kind], done.inFlight)
	}
	return f
}

// door adds up what the door said of a message.
func (f *figures) door(l *ledger, a *account) {
	for _, ans := range a.answers {
		if ans.status == http.StatusServiceUnavailable {
			f.busy++
		}
	}
	last := a.answers[len(a.answers)-1]
	switch {
	case a.id != "":
		f.longestWait = max(f.longestWait, last.took)
		f.longestUntil = max(f.longestUntil, last.at.Add(last.took).Sub(a.answers[0].at))
	case last.status == 0 || last.status >= 500:
		f.unanswered++
		f.show("given up without an answer", l, a)
	default:
		f.refused++
		f.show("refused for good", l, a)
	}
}

// meet counts a call at the first fault that found it under way, and reports whether there was one.
func (l *ledger) meet(a *account, c sandbox.Call, late time.Duration) bool {
	i := slices.IndexFunc(l.faults, func(f fault) bool { return a.underWay(c, f, late) })
	if i >= 0 {
		l.faults[i].inFlight++
	}
	return i >= 0
}

// arrival is how long what a process has sent may take to be read by the sandbox, when the process or its connection is
// gone already.
const arrival = 250 * time.Millisecond

// twice adds a message up that was delivered more than once.
func (f *figures) twice(l *ledger, a *account) {
	f.duplicates++
	if !a.logged("in_doubt") {
		f.notInDoubt++
		f.show("delivered twice and never in doubt", l, a)
	}
	// Each delivery but the last must have been under way when something was done to it. Else it was settled, and its
	// settlement was forgotten.
	delivered := slices.DeleteFunc(slices.Clone(a.calls), func(c sandbox.Call) bool { return !c.Accepted })
	for _, c := range delivered[:len(delivered)-1] {
		met := slices.ContainsFunc(l.faults, func(done fault) bool { return a.underWay(c, done, 0) })
		if !met && !l.meet(a, c, arrival) {
			f.notUnderWay++
			f.show("sent again although it was settled", l, a)
			return
		}
	}
}

// maxEvidence bounds how many messages are told in full, for each thing that can be wrong with one.
const maxEvidence = 3

// show keeps all that is known of a message, in the order of time. The test tells it when it has failed.
func (f *figures) show(what string, l *ledger, a *account) {
	if f.shown[what]++; f.shown[what] > maxEvidence {
		return
	}
	type entry struct {
		at   time.Time
		text string
	}
	byTime := func(a, b entry) int { return a.at.Compare(b.at) }
	var story []entry
	for _, ans := range a.answers {
		story = append(story, entry{ans.at, fmt.Sprintf("asked, answered after %v: %d %s", ans.took.Round(time.Millisecond), ans.status, ans.text)})
	}
	for _, c := range a.calls {
		story = append(story, entry{c.At, fmt.Sprintf("call %d at Facebook: status %d, code %d/%d, delivered %t, answer lost %t", c.Seq, c.Status, c.Code, c.Subcode, c.Accepted, c.Lost)})
	}
	for _, ln := range a.lines {
		story = append(story, entry{ln.at, ln.process + ": " + ln.text})
	}
	slices.SortStableFunc(story, byTime)
	from, to := story[0].at.Add(-time.Second), story[len(story)-1].at.Add(5*time.Second)
	for _, done := range l.faults {
		if done.to.Before(from) || done.from.After(to) {
			continue
		}
		story = append(story, entry{done.from, fmt.Sprintf("-- %s, %v", done.kind, done.to.Sub(done.from).Round(time.Millisecond))})
	}
	slices.SortStableFunc(story, byTime)
	var text strings.Builder
	fmt.Fprintf(&text, "%s: id %s, key %s, page %s, person %s\n", what, a.id, a.key, a.page.name, a.psid)
	for _, e := range story {
		fmt.Fprintf(&text, "    %s %s\n", e.at.Format("15:04:05.000"), e.text)
	}
	f.evidence = append(f.evidence, text.String())
}

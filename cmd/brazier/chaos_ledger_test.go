package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// fault is something that was done to the fleet.
type fault struct {
	kind     string // what was done, and the kind of process it was done to
	hits     hit
	nats     bool // it lasts until every consumer has a leader again
	late     bool // the network may carry what it cut off when it is over, since TCP sends again what its peer has not confirmed
	from, to time.Time
	inFlight int // deliveries that were under way, each counted at the first fault of its sort that met it
	aged     int // of these, of messages that were accepted more than a lease before
}

// hit is what a fault can do to deliveries.
type hit int

const (
	// hitNothing: no delivery passes through what it hit.
	hitNothing hit = iota
	// hitTime: deliveries take longer, since NATS is away, or a worker ends in good order. Each ends with its worker, who
	// knows what became of it, so nothing is in doubt.
	hitTime
	// hitCalls: nobody may know whether Facebook took a message, since its worker was killed, or its connection cut. No
	// other fault explains that a message is delivered twice.
	hitCalls
)

// account is all that is known of one message.
type account struct {
	*posted
	calls []sandbox.Call // to Facebook, oldest first
	lines []logLine      // of all logs
}

// ledger compares what was accepted with what became of it.
type ledger struct {
	accounts    []account // of every message posted
	faults      []fault
	deadLetters map[string]bool // ids of the dead letters
}

// openLedger makes the ledger as things stand now. The messages must have their answers already.
func (c *chaos) openLedger() *ledger { return c.ledgerOf(c.facebook.Calls()) }

// ledgerOf makes the ledger with these calls to Facebook.
func (c *chaos) ledgerOf(all []sandbox.Call) *ledger {
	l := &ledger{}
	for _, f := range c.faults {
		l.faults = append(l.faults, *f)
	}
	calls := map[string][]sandbox.Call{}
	for _, call := range all {
		calls[call.Recipient] = append(calls[call.Recipient], call)
	}
	for _, m := range c.load.messages {
		a := account{posted: m, calls: calls[m.psid]}
		if m.id != "" {
			a.lines = c.fleet.journal.about(m.id)
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

// doubted reports whether a log says that the message may have been sent: again, or to be parked.
func (a *account) doubted() bool {
	return slices.ContainsFunc(a.lines, func(l logLine) bool {
		return l.event == "in_doubt" || l.event == "dead" && strings.Contains(l.text, `"class":"in_doubt"`)
	})
}

// missing reports whether no log says what became of a message that was accepted. It may be a dead letter all the same:
// its worker can be killed after the settlement and before it has logged it.
func (a *account) missing() bool { return a.id != "" && a.delivered() == 0 && !a.logged("dead") }

// settled is when a worker wrote that a delivery is settled; zero if none did. Workers write it once NATS has confirmed it.
func (a *account) settled(c sandbox.Call) time.Time {
	for _, l := range a.lines {
		if l.event == "delivered" && l.mid == c.MessageID {
			return l.at
		}
	}
	return time.Time{}
}

// closed is when a worker wrote what came of a call; zero if none did.
func (a *account) closed(c sandbox.Call) time.Time {
	if at := a.settled(c); c.Accepted && !at.IsZero() {
		return at
	}
	for _, l := range a.lines {
		if (l.event == "retry" || l.event == "in_doubt" || l.event == "dead") && l.at.After(c.At) {
			return l.at
		}
	}
	return time.Time{}
}

// underWay reports whether a call or its settlement was not over when f came: called before the end of it, and the line
// that says what came of it is missing or younger. late is how long after it a call may arrive that was sent before.
func (a *account) underWay(c sandbox.Call, f fault, late time.Duration) bool {
	closed := a.closed(c)
	return c.At.Before(f.to.Add(late)) && (closed.IsZero() || closed.After(f.from))
}

// open reports whether a call was made of which no worker has written what came of it.
func (a *account) open() bool {
	return len(a.calls) > 0 && a.closed(a.calls[len(a.calls)-1]).IsZero()
}

// figures are what a run comes to.
type figures struct {
	mode string

	accepted, delivered, dead, lost int
	refused, unanswered             int           // refused for good, and abandoned without an answer
	busy                            int           // answers of 503
	notTaken                        int           // answers of any other status but 202
	failovers                       int           // connections refused or lost before an answer, and the other ingress asked
	longestWait                     time.Duration // of a request that was answered 202
	longestUntil                    time.Duration // from a message's first request to its 202

	inDoubt       int              // messages logged in doubt
	duplicates    int              // messages delivered more than once
	notInDoubt    int              // of these: never logged in doubt
	unexplained   int              // of these: no fault cut off the call, nor the worker that made it
	inFlightCalls int              // at faults that cut off calls or workers
	inFlightElse  int              // at other faults of NATS and of workers
	aged          int              // of both, older than a lease
	times         map[string]int   // how often each thing was done
	inFlight      map[string][]int // and what was in flight, each time

	repeated, answeredOtherwise, sentAgain int // of the keys posted again after a restart

	evidence []string
	shown    map[string]int // how much of it, by what is wrong
}

// sum adds the ledger up.
func (l *ledger) sum(mode string) *figures {
	f := &figures{mode: mode, times: map[string]int{}, inFlight: map[string][]int{}, shown: map[string]int{}}
	for i := range l.accounts {
		a := &l.accounts[i]
		f.addAnswers(l, a)
		if a.id == "" {
			continue
		}
		f.accepted++
		times := a.delivered()
		switch {
		case times > 0:
			f.delivered++
		case l.deadLetters[a.id]:
			f.dead++
		default:
			f.lost++
			f.show("lost", l, a)
		}
		for _, c := range a.calls {
			l.meet(a, c)
		}
		if a.doubted() {
			f.inDoubt++
		}
		if times > 1 {
			f.twice(l, a)
		}
	}
	for _, done := range l.faults {
		f.times[done.kind]++
		switch done.hits {
		case hitNothing:
			continue
		case hitCalls:
			f.inFlightCalls += done.inFlight
		case hitTime:
			f.inFlightElse += done.inFlight
		}
		f.aged += done.aged
		f.inFlight[done.kind] = append(f.inFlight[done.kind], done.inFlight)
	}
	return f
}

// addAnswers adds up what the ingress answered to a message.
func (f *figures) addAnswers(l *ledger, a *account) {
	for _, ans := range a.answers {
		switch {
		case ans.status == http.StatusServiceUnavailable:
			f.busy++
		case ans.status != 0 && ans.status != http.StatusAccepted:
			f.notTaken++
		case ans.failedOver:
			f.failovers++
		}
	}
	last := a.answers[len(a.answers)-1]
	switch {
	case a.id != "":
		f.longestWait = max(f.longestWait, last.took)
		f.longestUntil = max(f.longestUntil, last.at.Add(last.took).Sub(a.answers[0].at))
	case last.status == 0 || last.status >= 500:
		f.unanswered++
		f.show("abandoned without an answer", l, a)
	default:
		f.refused++
		f.show("refused for good", l, a)
	}
}

// meet counts a call at the first fault of each sort that found it under way.
func (l *ledger) meet(a *account, c sandbox.Call) {
	for _, sort := range []hit{hitTime, hitCalls} {
		i := slices.IndexFunc(l.faults, func(f fault) bool { return f.hits == sort && a.underWay(c, f, 0) })
		if i < 0 {
			continue
		}
		l.faults[i].inFlight++
		if l.faults[i].from.Sub(a.accepted()) > queue.Lease {
			l.faults[i].aged++
		}
	}
}

// accepted is when the message was answered 202.
func (a *account) accepted() time.Time {
	last := a.answers[len(a.answers)-1]
	return last.at.Add(last.took)
}

// arrival is how long what a process has sent may take to be read by the sandbox, when the process or its connection is
// gone already. Where all tests run at once on two processors it was seen to take 450 ms.
const arrival = time.Second

// twice adds a message up that was delivered more than once.
func (f *figures) twice(l *ledger, a *account) {
	f.duplicates++
	if !a.doubted() {
		f.notInDoubt++
		f.show("delivered twice and never in doubt", l, a)
	}
	delivered := slices.DeleteFunc(slices.Clone(a.calls), func(c sandbox.Call) bool { return !c.Accepted })
	for i, c := range delivered[:len(delivered)-1] {
		switch next := delivered[i+1]; {
		case l.late(a, c, next):
		case !a.settled(c).IsZero():
			f.unexplained++
			f.show("sent again although it was settled", l, a)
			return
		case !l.cutOff(a, c, next):
			f.unexplained++
			f.show("sent again although neither its worker nor its call was cut off", l, a)
			return
		}
	}
}

// cutOff reports whether a fault cut off a call or the worker that made it, before the next call for the message. Which
// worker made a call is not known, but one that runs on writes what came of it.
func (l *ledger) cutOff(a *account, c, next sandbox.Call) bool {
	cuts := func(f fault, late time.Duration) bool {
		return f.hits == hitCalls && f.from.Before(next.At) && a.underWay(c, f, late)
	}
	if slices.ContainsFunc(l.faults, func(f fault) bool { return cuts(f, 0) }) {
		return true
	}
	if i := slices.IndexFunc(l.faults, func(f fault) bool { return cuts(f, arrival) }); i >= 0 {
		l.faults[i].inFlight++
		return true
	}
	return false
}

// late reports whether a call is one that a fault cut off before another call for the message was made, and that arrived after it:
// a worker said in doubt before it made the other call, and none wrote what came of the late one.
func (l *ledger) late(a *account, other, late sandbox.Call) bool {
	doubted := slices.ContainsFunc(a.lines, func(ln logLine) bool { return ln.event == "in_doubt" && ln.at.Before(other.At.Add(arrival)) })
	return doubted && a.settled(late).IsZero() && slices.ContainsFunc(l.faults, func(f fault) bool {
		return f.late && a.accepted().Before(f.to) && f.from.Before(other.At)
	})
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

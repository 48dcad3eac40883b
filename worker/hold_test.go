package worker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// The lifecycle of a hold, arrow by arrow.
func TestNext(t *testing.T) {
	t.Parallel()
	const me, other = "worker-1", "worker-2"
	at := func(s int) time.Time { return time.Unix(1_800_000_000+int64(s), 0) }
	now := at(0)
	throttle := Verdict{Class: sendapi.ClassThrottle, Code: 613, Text: "too fast", Delays: Delays{First: 10 * time.Second, Max: time.Minute}}
	withEnd := throttle
	withEnd.HoldFor = time.Second
	page := Verdict{Class: sendapi.ClassPage, Code: 10, Text: "may not", Delays: Delays{First: 30 * time.Minute, Max: 30 * time.Minute}}
	auth := Verdict{Class: sendapi.ClassAuth, Code: 190, Text: "dead", Credentials: "A", Delays: Delays{First: 30 * time.Minute, Max: 30 * time.Minute}}
	refusedBy := func(v Verdict, made call) event {
		if made.begun.IsZero() {
			made.begun = now
		}
		return event{kind: eventRefused, worker: me, call: made, verdict: v}
	}
	heldBy := func(v Verdict, until time.Time, holds int) queue.PageState {
		return queue.PageState{Held: true, Class: string(v.Class), Code: v.Code, Reason: v.Text, Since: at(-60), Until: until, Holds: holds}
	}
	probing := func(s queue.PageState, worker string) queue.PageState {
		s.Prober, s.ProbeUntil = worker, at(10)
		return s
	}
	rowHeld := heldBy(page, at(1800), 1)
	rowHeld.FirstRefused = at(-10)
	dead := queue.PageState{DeadToken: "A", DeadUntil: at(-1), Resumed: at(-3600)}

	for _, c := range []struct {
		name   string
		state  queue.PageState
		event  event
		want   queue.PageState
		change effect
	}{
		{"open, throttled", queue.PageState{}, refusedBy(throttle, call{}),
			queue.PageState{Held: true, Class: "throttle", Code: 613, Reason: "too fast", Since: now, Until: at(10), Holds: 1}, effectHeld},
		{"open, throttled for as long as Facebook says", queue.PageState{}, refusedBy(withEnd, call{}),
			queue.PageState{Held: true, Class: "throttle", Code: 613, Reason: "too fast", Since: now, Until: at(1), Holds: 1}, effectHeld},
		{"the second time that is not enough", queue.PageState{Holds: 1, Resumed: at(-5)}, refusedBy(withEnd, call{}),
			queue.PageState{Held: true, Class: "throttle", Code: 613, Reason: "too fast", Since: now, Until: at(20), Holds: 2}, effectHeld},
		{"after it went well for a while it is the first time", queue.PageState{Holds: 5, Resumed: at(-120)}, refusedBy(throttle, call{}),
			queue.PageState{Held: true, Class: "throttle", Code: 613, Reason: "too fast", Since: now, Until: at(10), Holds: 1}, effectHeld},
		{"refusal of a call from before the page resumed", queue.PageState{Resumed: at(-5)}, refusedBy(throttle, call{begun: at(-6)}),
			queue.PageState{Resumed: at(-5)}, effectNone},
		{"held, another refusal", heldBy(throttle, at(20), 1), refusedBy(throttle, call{}), heldBy(throttle, at(20), 1), effectNone},
		{"held, and Facebook says longer", heldBy(throttle, at(20), 1), refusedBy(Verdict{Class: sendapi.ClassThrottle, HoldFor: time.Minute}, call{}),
			heldBy(throttle, at(60), 1), effectNoted},
		{"held, and Facebook says hardly longer", heldBy(throttle, at(60), 1), refusedBy(Verdict{Class: sendapi.ClassThrottle, HoldFor: 61 * time.Second}, call{}),
			heldBy(throttle, at(60), 1), effectNone},
		{"held by hand, a refusal", heldBy(throttle, time.Time{}, 1), refusedBy(withEnd, call{}), heldBy(throttle, time.Time{}, 1), effectNone},
		{"a row led to it", queue.PageState{}, event{kind: eventRefused, verdict: page, first: at(-3)},
			queue.PageState{Held: true, Class: "page", Code: 10, Reason: "may not", Since: now, FirstRefused: at(-3), Until: at(1800), Holds: 1}, effectHeld},

		{"claimed before its time", heldBy(throttle, at(1), 1), event{kind: eventClaimed, worker: me}, heldBy(throttle, at(1), 1), effectNone},
		{"claimed", heldBy(throttle, at(-1), 1), event{kind: eventClaimed, worker: me},
			func() queue.PageState {
				s := heldBy(throttle, at(-1), 1)
				s.Prober, s.ProbeUntil = me, now.Add(probeLease)
				return s
			}(), effectTried},
		{"claimed by another", probing(heldBy(throttle, at(-1), 1), other), event{kind: eventClaimed, worker: me}, probing(heldBy(throttle, at(-1), 1), other), effectNone},
		{"claimed while open", queue.PageState{}, event{kind: eventClaimed, worker: me}, queue.PageState{}, effectNone},
		{"claimed while held by hand", heldBy(throttle, time.Time{}, 1), event{kind: eventClaimed, worker: me}, heldBy(throttle, time.Time{}, 1), effectNone},
		{"renewed", probing(heldBy(throttle, at(-1), 1), me), event{kind: eventRenewed, worker: me},
			func() queue.PageState {
				s := heldBy(throttle, at(-1), 1)
				s.Prober, s.ProbeUntil = me, now.Add(probeLease)
				return s
			}(), effectNoted},
		{"renewed though another has it", probing(heldBy(throttle, at(-1), 1), other), event{kind: eventRenewed, worker: me}, probing(heldBy(throttle, at(-1), 1), other), effectNone},

		{"the probe is refused", probing(heldBy(throttle, at(-1), 2), me), refusedBy(throttle, call{probe: true}),
			queue.PageState{Held: true, Class: "throttle", Code: 613, Reason: "too fast", Since: now, FirstRefused: at(-60), Until: at(40), Holds: 3}, effectHeld},
		{"the probe meets another refusal", probing(heldBy(throttle, at(-1), 1), me), refusedBy(page, call{probe: true}),
			queue.PageState{Held: true, Class: "page", Code: 10, Reason: "may not", Since: now, Until: at(1800), Holds: 2}, effectHeld},
		{"the probe is taken", probing(heldBy(throttle, at(-1), 2), me), event{kind: eventTaken, worker: me, call: call{probe: true}},
			queue.PageState{Class: "throttle", Holds: 2, Resumed: now}, effectResumed},
		{"another message is taken", probing(heldBy(throttle, at(-1), 2), me), event{kind: eventTaken, worker: me}, probing(heldBy(throttle, at(-1), 2), me), effectNone},
		{"a probe is taken, and another worker has claimed since", probing(heldBy(throttle, at(-1), 2), other),
			event{kind: eventTaken, worker: me, call: call{probe: true}}, probing(heldBy(throttle, at(-1), 2), other), effectNone},

		{"a message of a row's time is taken", rowHeld, event{kind: eventTaken, worker: me, call: call{begun: at(-9)}},
			queue.PageState{Class: "page", FirstRefused: at(-10), Holds: 1, Resumed: now}, effectResumed},
		{"a message from before the row is taken", rowHeld, event{kind: eventTaken, worker: me, call: call{begun: at(-11)}}, rowHeld, effectNone},

		{"a dead token", queue.PageState{}, refusedBy(auth, call{}), queue.PageState{Held: true, Class: "auth", Code: 190, Reason: "dead",
			Since: now, Until: at(1800), Holds: 1, DeadToken: "A", DeadUntil: at(1800)}, effectHeld},
		{"resumed with another", func() queue.PageState {
			s := probing(heldBy(auth, at(1800), 1), me)
			s.DeadToken, s.DeadUntil = "A", at(1800)
			return s
		}(), event{kind: eventTaken, worker: me, call: call{probe: true, credentials: "B"}},
			queue.PageState{Class: "auth", Holds: 1, Resumed: now, DeadToken: "A", DeadUntil: at(1800)}, effectResumed},
		{"the dead one is tried again", dead, event{kind: eventClaimed, worker: me, call: call{credentials: "A"}},
			func() queue.PageState { s := dead; s.Prober, s.ProbeUntil = me, now.Add(probeLease); return s }(), effectTried},
		{"and is still dead", probing(dead, me), refusedBy(auth, call{probe: true, credentials: "A"}),
			queue.PageState{DeadToken: "A", DeadUntil: at(1800), Resumed: at(-3600)}, effectNoted},
		{"and is valid again", probing(dead, me), event{kind: eventTaken, worker: me, call: call{probe: true, credentials: "A"}},
			queue.PageState{Resumed: at(-3600)}, effectNoted},
	} {
		got, change := next(c.state, c.event, now, time.Minute)
		ignore := cmp.Options{cmpopts.IgnoreUnexported(queue.PageState{}), cmpopts.IgnoreFields(queue.PageState{}, "Code", "Reason", "Since")}
		if c.want.Held {
			ignore = cmp.Options{cmpopts.IgnoreUnexported(queue.PageState{})}
		}
		if diff := cmp.Diff(c.want, got, ignore); diff != "" || change != c.change {
			t.Errorf("%s: change %d, want %d; state (-want +got):\n%s", c.name, change, c.change, diff)
		}
	}
}

// Whether a page may be fetched for, by its state and the worker's credentials.
func TestGateOf(t *testing.T) {
	t.Parallel()
	const me = "worker-1"
	now := time.Unix(1_800_000_000, 0)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	for _, c := range []struct {
		name  string
		state queue.PageState
		gate  gate
		wake  time.Duration
	}{
		{"never held", queue.PageState{}, gateOpen, 0},
		{"held for a time", queue.PageState{Held: true, Class: "throttle", Until: in(time.Minute)}, gateClosed, time.Minute},
		{"its time is over", queue.PageState{Held: true, Class: "throttle", Until: in(-1)}, gateDue, 0},
		{"tried by this worker", queue.PageState{Held: true, Class: "throttle", Until: in(-1), Prober: me, ProbeUntil: in(time.Second)}, gateTrying, 0},
		{"tried by another", queue.PageState{Held: true, Class: "throttle", Until: in(-1), Prober: "x", ProbeUntil: in(time.Second)}, gateClosed, time.Second},
		{"whose claim has run out", queue.PageState{Held: true, Class: "throttle", Until: in(-1), Prober: "x", ProbeUntil: in(-1)}, gateDue, 0},
		{"held by hand", queue.PageState{Held: true, Class: "manual"}, gateClosed, 0},
		{"the token that this worker has is dead", queue.PageState{Held: true, Class: "auth", DeadToken: "mine", Until: in(time.Hour)}, gateClosed, lookEvery},
		{"it is tried again at times", queue.PageState{Held: true, Class: "auth", DeadToken: "mine", Until: in(-1)}, gateDue, 0},
		{"another one is dead", queue.PageState{Held: true, Class: "auth", DeadToken: "old", Until: in(time.Hour)}, gateDue, 0},
		{"others go on with another one", queue.PageState{DeadToken: "mine", DeadUntil: in(time.Hour)}, gateClosed, lookEvery},
		{"and this one is tried at times", queue.PageState{DeadToken: "mine", DeadUntil: in(-1)}, gateDue, 0},
	} {
		if g, wake := gateOf(c.state, me, "mine", now); g != c.gate || wake != c.wake {
			t.Errorf("%s: %s for %v, want %s for %v", c.name, g, wake, c.gate, c.wake)
		}
	}
}

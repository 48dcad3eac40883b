package braze

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// track is one [Client.Track] under way. One goroutine owns it.
type track struct {
	client  *Client
	results []Result
	verdict Verdict
	given   int       // objects that were worth sending
	took    bool      // a call was taken, or refused by the name of an object
	alone   []refused // objects that were refused alone and without a name
	whole   *whole    // the first call that was halved
}

// refused is an object that was refused alone.
type refused struct {
	item
	cause  Cause
	reason string
}

// ownFault is the size in bytes from which an object that is refused as too large is at fault itself, whatever Braze takes beside it:
// Braze's limit for the properties of an event (event object: 100 KB). Below, something before Braze may have a limit of its own.
const ownFault = 100_000

// whole is a call that was refused although none of its objects may be at fault.
type whole struct {
	objects int
	text    string
}

// run sends the items in order, call by call.
func (t *track) run(ctx context.Context, items []item) {
	t.given = len(items)
	groups := [][]item{items}
	for len(groups) > 0 {
		group := groups[0]
		groups = groups[1:]
		if len(group) == 0 {
			continue
		}
		if n := t.client.limit().fit(group); n < len(group) {
			groups = append([][]item{group[n:]}, groups...)
			group = group[:n:n]
		}
		again, goOn := t.call(ctx, group)
		groups = append(again, groups...)
		if !goOn {
			t.stop(groups)
			break
		}
	}
	t.settleAlone()
}

// call sends one group. again are the groups to send in its stead; goOn is false if the answer is about the workspace.
func (t *track) call(ctx context.Context, group []item) (again [][]item, goOn bool) {
	if err := ctx.Err(); err != nil {
		t.verdict.Meaning, t.verdict.Status, t.verdict.Text, t.verdict.Wait = Unsent, 0, cause(err), Wait{}
		t.each(group, func(item) Result { return Result{Again, NotTaken, t.verdict.Text} })
		return nil, false
	}
	body, positions := encode(group)
	start := time.Now()
	r := t.client.post(ctx, body)
	a := decodeAnswer(r.body)
	if !a.taken || len(a.named)+len(a.unattributed) > 0 {
		a.hide(secretsOf(group, r.key))
	}
	v, refused := judge(ctx, &r, &a, t.client.now())
	t.note(v, &r, time.Since(start))
	switch {
	case refused:
		return t.refused(group, positions, &r, &a), true
	case v.Meaning == Taken:
		t.taken(group, positions, &a)
		return nil, true
	case v.Meaning == Failed || v.Meaning == NoAnswer:
		t.each(group, func(it item) Result { return t.client.doubt(it.object, v.Text) })
	default:
		t.each(group, func(item) Result { return Result{Again, NotTaken, v.Text} })
	}
	return nil, false
}

// note takes a call into the verdict.
func (t *track) note(v Verdict, r *reply, took time.Duration) {
	v.Calls, v.Took, v.Unattributed = t.verdict.Calls+1, t.verdict.Took+took, t.verdict.Unattributed
	if usable(r.key) {
		v.Key = Fingerprint(r.key)
	} else {
		v.Calls-- // there was none
	}
	if v.Meaning == "" { // refused: the objects answer for it
		v.Meaning, v.Wait = Taken, Wait{}
	}
	t.verdict = v
}

// each settles items.
func (t *track) each(items []item, result func(item) Result) {
	for _, it := range items {
		t.results[it.at] = result(it)
	}
}

// stop leaves what was not sent to be sent again.
func (t *track) stop(groups [][]item) {
	for _, group := range groups {
		t.each(group, func(item) Result { return Result{Again, NotTaken, t.verdict.Text} })
	}
}

// taken settles a call that Braze took: everything in it is done but for the objects that an error names.
func (t *track) taken(group []item, positions []position, a *answer) {
	t.took = true
	for i, it := range group {
		t.results[it.at] = Result{Outcome: Done}
		if named := a.named[positions[i]]; named != nil {
			t.results[it.at] = Result{Dead, Refused, reasons(named)}
		}
	}
	t.noteUnattributed(positions, a)
}

// noteUnattributed keeps what an answer says and no object of the call answers for: errors without a position or with one that was not
// sent, and counts that do not add up.
func (t *track) noteUnattributed(positions []position, a *answer) {
	sent, named := map[string]int{}, map[string]int{}
	for _, p := range positions {
		sent[p.array]++
		if a.named[p] != nil {
			named[p.array]++
		}
	}
	var unattributed []string
	for p, list := range a.named {
		if p.index >= sent[p.array] {
			unattributed = append(unattributed, fmt.Sprintf("%s (of %s %d, which was not sent)", reasons(list), p.array, p.index))
		}
	}
	for array, n := range map[string]int{"attributes": a.attributes, "events": a.events} {
		if want := sent[array] - named[array]; n >= 0 && n < want {
			unattributed = append(unattributed, fmt.Sprintf("Braze processed %d of %d %s", n, want, array))
		}
	}
	slices.Sort(unattributed)
	for _, reason := range append(a.unattributed, unattributed...) {
		t.addUnattributed(reason)
	}
}

// maxUnattributed bounds what is kept of errors that say nothing about objects.
const maxUnattributed = 10

func (t *track) addUnattributed(s string) {
	if len(t.verdict.Unattributed) < maxUnattributed {
		t.verdict.Unattributed = append(t.verdict.Unattributed, s)
	}
}

// refused returns what to send instead of a call of which nothing was processed. What Braze named is dead.
func (t *track) refused(group []item, positions []position, r *reply, a *answer) [][]item {
	var rest []item
	for i, it := range group {
		if named := a.named[positions[i]]; named != nil {
			t.results[it.at] = Result{Dead, Refused, reasons(named)}
			continue
		}
		rest = append(rest, it)
	}
	tooLarge := r.status == http.StatusRequestEntityTooLarge
	switch {
	case len(rest) < len(group): // Braze named every object as bad; where some are not named they have not been judged
		t.took = true
		return [][]item{rest}
	case tooLarge && len(group) == 1 && len(group[0].body) > ownFault:
		t.results[group[0].at] = Result{Dead, TooLarge, refusal(r, a)}
		return nil
	case len(group) == 1:
		cause := Refused
		if tooLarge {
			cause = TooLarge
		}
		t.alone = append(t.alone, refused{group[0], cause, refusal(r, a)})
		return nil
	case tooLarge:
		t.client.learn(limits{objects: MaxObjects, bytes: size(group) / 2})
	case t.whole == nil:
		t.whole = &whole{objects: len(group), text: refusal(r, a)}
	}
	first, second := halve(group)
	return [][]item{first, second}
}

// settleAlone says who is at fault for objects that were refused alone, once it is known whether Braze takes others.
func (t *track) settleAlone() {
	c := t.client
	c.mu.Lock()
	took := t.took || t.given == 1 && c.took
	c.took = t.took || c.took && len(t.alone) == 0
	c.mu.Unlock()
	for _, it := range t.alone {
		outcome := Again
		if took {
			outcome = Dead
		}
		t.results[it.at] = Result{outcome, it.cause, it.reason}
	}
	switch {
	case len(t.alone) > 0 && !took && t.verdict.Meaning == Taken:
		c.unlearn() // nothing is known of how much Braze takes while it takes nothing
		t.verdict.Meaning, t.verdict.Wait = Rejected, limitedWait
		t.verdict.Text = "Braze refuses every call and names no object: " + t.alone[0].reason
	case t.whole != nil && len(t.alone) == 0 && t.verdict.Meaning == Taken:
		c.learn(limits{objects: t.whole.objects / 2, bytes: MaxBytes})
		t.addUnattributed(fmt.Sprintf("a call with %d objects was refused and taken in halves: %s", t.whole.objects, t.whole.text))
	}
}

// secretsOf returns what must not be repeated of a call, longest first, so that what is left of one is not taken for another.
func secretsOf(group []item, key string) []string {
	found := []string{key}
	for _, it := range group {
		found = append(found, it.object.secrets()...)
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return found
}

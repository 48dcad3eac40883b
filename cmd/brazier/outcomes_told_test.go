package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/worker/braze"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// told is what became of the events about one user: where each is, by its name and properties.
type told struct {
	braze map[string][]int64 // the calls that wrote it
	dead  map[string]int     // dead letters with it
}

// deadEnds are the dead letters: of messages the class by id, of updates the events by user.
type deadEnds struct {
	messages map[string]string
	events   map[string]map[string]int
}

func eventKey(name string, properties map[string]any) string { return fmt.Sprint(name, properties) }

func (c *outcomes) deadEnds() deadEnds {
	found := deadEnds{map[string]string{}, map[string]map[string]int{}}
	for l, err := range c.q.DeadLetters(c.t.Context(), queue.DeadLetterFilter{}, true) {
		if err != nil {
			c.t.Fatal(err)
		}
		if l.Class != braze.ClassUpdate {
			found.messages[l.ID] = l.Class
			continue
		}
		var update struct {
			Event *struct {
				Kind       string            `json:"k"`
				User       map[string]string `json:"u"`
				Properties map[string]any    `json:"p"`
			} `json:"t"`
		}
		d := json.NewDecoder(bytes.NewReader(l.Body))
		d.UseNumber()
		if err := d.Decode(&update); err != nil {
			c.t.Fatal(err)
		}
		e := update.Event
		if e == nil {
			c.t.Errorf("a dead update has no event: %s", l.Text)
			continue
		}
		user := e.User["b"] + e.User["x"]
		if found.events[user] == nil {
			found.events[user] = map[string]int{}
		}
		found.events[user][eventKey("messenger_"+e.Kind, e.Properties)]++
	}
	return found
}

func (c *outcomes) told(a *addressee, dead deadEnds) told {
	p, err := c.braze.Profile(a.user)
	if err != nil {
		c.t.Fatal(err)
	}
	found := told{map[string][]int64{}, dead.events[a.user]}
	for _, e := range p.Events {
		key := eventKey(e.Name, e.Properties)
		found.braze[key] = append(found.braze[key], e.Call)
	}
	return found
}

func (f told) has(key string) bool { return len(f.braze[key]) > 0 || f.dead[key] > 0 }

// about are the properties of every event about a person's message.
func (a *addressee) about(more ...any) map[string]any {
	p := map[string]any{"page_id": roadBackPage, "brazier_id": a.id, "campaign_id": "spring"}
	for i := 0; i+1 < len(more); i += 2 {
		if v := fmt.Sprint(more[i+1]); v != "" && v != "0" {
			p[fmt.Sprint(more[i])] = more[i+1]
		}
	}
	return p
}

func (a *addressee) failed(class string, code, subcode int) string {
	return eventKey("messenger_failed", a.about("class", class, "reason", sendapi.Class(class).Sentence(), "code", code, "subcode", subcode))
}

// expected returns the events that Facebook's record implies about a person, and the class of the message's failure. A message whose
// worker was killed may end as a dead letter in doubt, whatever Facebook answered; the event says which of the two was stored first.
func (c *outcomes) expected(a *addressee, f told, dead deadEnds) (want []string, class string) {
	var last sandbox.Call
	if calls := c.facebook.Find(sandbox.Query{Page: roadBackPage, Recipient: a.psid}); len(calls) > 0 {
		last = calls[len(calls)-1]
	}
	switch a.class {
	case "":
		mid := last.MessageID
		if a.noMID {
			mid = ""
		}
		for _, name := range []string{"messenger_sent", "messenger_delivered", "messenger_read"} {
			want = append(want, eventKey(name, a.about("mid", mid)))
		}
	case "expired", "in_doubt":
		want = []string{a.failed(a.class, 0, 0)}
	default:
		want = []string{a.failed(a.class, last.Code, last.Subcode)}
	}
	class = a.class
	if dead.messages[a.id] == "in_doubt" && !f.has(want[0]) {
		class = "in_doubt"
		want = []string{a.failed(class, 0, 0)}
	}
	if a.known == byReference {
		want = append(want, eventKey("messenger_linked", map[string]any{"page_id": roadBackPage, "how": "braze_id"}),
			eventKey("messenger_inbound", map[string]any{"page_id": roadBackPage, "kind": "referral"}))
	}
	if a.wrote {
		want = append(want, eventKey("messenger_inbound", map[string]any{"page_id": roadBackPage, "kind": "message"}))
	}
	return want, class
}

// wrong returns what is not as Facebook's record implies.
func (c *outcomes) wrong() (found []string) {
	dead := c.deadEnds()
	calls := map[int64]brazesandbox.Call{}
	for _, call := range c.braze.Calls() {
		calls[call.Seq] = call
	}
	for _, a := range c.people {
		if class := dead.messages[a.id]; class != a.class && class != "in_doubt" {
			found = append(found, fmt.Sprintf("the message to %s has the dead letter %q, want %q", a.psid, class, a.class))
		}
		if a.user == "" {
			continue
		}
		f := c.told(a, dead)
		want, class := c.expected(a, f, dead)
		for _, key := range want {
			if fault := c.wrongEvent(f, key, calls); fault != "" {
				found = append(found, fmt.Sprintf("%s: %s: %s", a.psid, fault, key))
			}
		}
		for key := range f.braze {
			if !slices.Contains(want, key) {
				found = append(found, fmt.Sprintf("%s: unexpected: %s", a.psid, key))
			}
		}
		if fault := c.wrongAttributes(a, class); fault != "" {
			found = append(found, a.psid+": "+fault)
		}
	}
	return found
}

// wrongEvent returns what is wrong with an event that is to be told once.
func (c *outcomes) wrongEvent(f told, key string, calls map[int64]brazesandbox.Call) string {
	written := f.braze[key]
	inDoubt := len(written) > 0 && c.isAmbiguous(calls[written[0]])
	switch {
	case !f.has(key):
		return "lost"
	case f.dead[key] > 1:
		return fmt.Sprintf("%d dead letters", f.dead[key])
	case len(written) > 1 && !(c.repeats && inDoubt):
		return fmt.Sprintf("told %d times, by the calls %v", len(written), written)
	case len(written) > 0 && f.dead[key] > 0 && !inDoubt:
		return "told, and a dead letter"
	}
	return ""
}

// isAmbiguous reports whether Brazier cannot know that Braze wrote what was in a call: the answer was lost, or the process was killed.
func (c *outcomes) isAmbiguous(call brazesandbox.Call) bool {
	return call.Lost || slices.ContainsFunc(c.kills, func(at time.Time) bool { return call.At.Before(at) && at.Sub(call.At) < time.Second })
}

// wrongAttributes returns what is wrong with a user's attributes, given the class of the message's failure.
func (c *outcomes) wrongAttributes(a *addressee, class string) string {
	p, err := c.braze.Profile(a.user)
	if err != nil {
		c.t.Fatal(err)
	}
	var id, reachable any
	if a.known == byReference {
		id = a.psid
	}
	if class == "recipient" {
		reachable = a.wrote
	}
	if got := p.Attributes["messenger_id"]; got != id {
		return fmt.Sprintf("messenger_id is %v, want %v", got, id)
	}
	if got := p.Attributes["messenger_reachable"]; got != reachable {
		return fmt.Sprintf("messenger_reachable is %v, want %v", got, reachable)
	}
	until, _ := time.Parse(time.RFC3339, fmt.Sprint(p.Attributes["messenger_window_until"]))
	switch now := time.Now(); {
	case a.wrote || a.known == byReference && class != "window":
		if left := until.Sub(now); left < 23*time.Hour || left > 24*time.Hour {
			return fmt.Sprintf("the window is open for %v, want a day", left)
		}
	case class == "window":
		if until.Before(c.began) || until.After(now) {
			return fmt.Sprintf("the window is open until %v, want the time of the refusal", until)
		}
	case !until.IsZero():
		return fmt.Sprintf("the window is open until %v, want none", until)
	}
	return ""
}

// settled waits until Braze has what Facebook's record implies.
func (c *outcomes) settled() {
	c.t.Helper()
	var wrong []string
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%d wrong:\n%s", len(wrong), strings.Join(wrong[:min(len(wrong), 30)], "\n"))
		}
	}()
	poll := time.Now()
	eventually(c.t, "Braze has what Facebook's record implies", func() bool {
		if time.Since(poll) < 0 { // each look takes a while
			return false
		}
		poll = time.Now().Add(500 * time.Millisecond)
		wrong = c.wrong()
		return len(wrong) == 0
	})
}

// contacts has everybody write who was refused for a reason of their own: that opens the window, and they can be reached again.
func (c *outcomes) contacts() {
	c.t.Helper()
	dead := c.deadEnds()
	for _, a := range c.people {
		if a.user == "" {
			continue
		}
		if _, class := c.expected(a, c.told(a, dead), dead); class != "recipient" && class != "window" {
			continue
		}
		if _, err := c.facebook.Write(a.psid, sandbox.Write{Text: "this is private"}); err != nil {
			c.t.Fatal(err)
		}
		a.wrote = true
	}
	c.settled()
}

// end ends all processes in order, and looks at what they logged and at all that Braze was told.
func (c *outcomes) end() {
	c.t.Helper()
	for _, name := range []string{"ingress", "worker 1", "worker 2"} {
		if code := c.running[name].terminate(); code != 0 {
			c.t.Errorf("%s ended with the code %d", name, code)
		}
	}
	if wrong := c.wrong(); len(wrong) > 0 {
		c.t.Errorf("after the end:\n%s", strings.Join(wrong, "\n"))
	}
	secrets := []string{appSecret, verifyToken, refSecret, brazeKey, "this is private"}
	for _, a := range c.people {
		secrets = append(secrets, a.psid)
	}
	for _, p := range c.logs {
		keepsSecrets(c.t, p.log.String(), secrets...)
	}
	s, dead := c.braze.Summary(), c.deadEnds()
	if s.Overlaps > 0 || s.Created > 0 || s.TypeConflicts > 0 {
		c.t.Errorf("%d calls overlapped, %d profiles were made, %d types in conflict", s.Overlaps, s.Created, s.TypeConflicts)
	}
	unsure, repeated, buried := 0, 0, 0
	for _, class := range dead.messages {
		if class == "in_doubt" {
			unsure++
		}
	}
	for _, events := range dead.events {
		buried += len(slices.Collect(maps.Keys(events)))
	}
	for _, a := range c.people {
		if a.user == "" {
			continue
		}
		for _, by := range c.told(a, dead).braze {
			repeated += len(by) - 1
		}
	}
	c.t.Logf("%d messages (%d in doubt), %d webhooks: %d events and %d attributes in %d calls to Braze; events in dead letters %d, told again %d, lost 0",
		len(c.people), unsure, c.facebook.WebhookCounts().DeliveredEvents, s.Events, s.Attributes, s.Calls, buried, repeated)
	if c.repeats && buried > 1 { // the one that Braze refused by its position
		c.t.Errorf("%d events are dead letters although events are repeated", buried)
	}
}

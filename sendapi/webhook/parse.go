package webhook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Parse reads a body. Received is the time of receipt, which stands in for times that are absent or impossible.
//
// It fails only where the body is not one JSON object, which Facebook never sends. The error holds nothing of the body.
// What is in the object is read as far as it goes, and what cannot be used is in Batch.Skipped. The result shares no memory
// with body.
func Parse(body []byte, received time.Time) (Batch, error) {
	if jsontext.Value(body).Kind() != '{' {
		return Batch{}, errors.New("webhook body must be a JSON object")
	}
	var w wireBody
	if err := json.Unmarshal(body, &w, lax); err != nil {
		var syntax *jsontext.SyntacticError
		if errors.As(err, &syntax) {
			return Batch{}, fmt.Errorf("webhook body must be one JSON object (wrong at byte %d of %d)", syntax.ByteOffset, len(body))
		}
		return Batch{}, errors.New("webhook body must be one JSON object")
	}
	p := parser{received: received}
	p.body(&w)
	return p.batch, nil
}

// A parser collects the events of one body.
type parser struct {
	received time.Time
	batch    Batch
	keys     map[string]bool // of the events so far

	// of the current list
	page    string
	sent    stamp // the entry's time
	standby bool
}

func (p *parser) body(w *wireBody) {
	isPage := w.Object == "page"
	if len(w.Entry.v) == 0 && !isPage {
		p.skip(Skipped{Kind: KindOtherObject, Why: WhyObject})
	}
	if w.Entry.broken {
		p.skip(Skipped{Kind: KindUnknown, Why: WhyMalformed})
	}
	for i := range w.Entry.v {
		entry := &w.Entry.v[i]
		switch {
		case entry.v.ID == "0": // old bodies of the test button name no object (launch-vehicle-fbm#73)
			p.skip(Skipped{Page: "0", Kind: KindTest, Why: WhyTest})
		case !isPage:
			p.skip(Skipped{Kind: KindOtherObject, Why: WhyObject})
		case entry.v.ID == "":
			p.skip(Skipped{Kind: KindUnknown, Why: WhyMalformed})
		default:
			p.entry(&entry.v)
		}
	}
}

func (p *parser) entry(entry *wireEntry) {
	p.page, p.sent = string(entry.ID), entry.Time
	if !entry.Messaging.present && !entry.Standby.present && !entry.Changes.present {
		p.skip(Skipped{Page: p.page, Kind: KindUnknown, Why: WhyUnknown})
	}
	p.standby = false
	p.list(&entry.Messaging)
	p.standby = true
	p.list(&entry.Standby)
	p.standby = false
	if entry.Changes.broken {
		p.skip(Skipped{Page: p.page, Kind: KindChange, Why: WhyMalformed})
	}
	for i := range entry.Changes.v {
		change := &entry.Changes.v[i].v
		// The fields of Messenger have the shape of events (messaging_postbacks page). Others have ids that are no PSIDs.
		if strings.HasPrefix(string(change.Field), "messag") && change.Value.v.Recipient.present {
			p.event(&change.Value)
			continue
		}
		p.skip(Skipped{Page: p.page, Kind: KindChange, Why: WhyNothingInIt, Name: name(string(change.Field))})
	}
}

func (p *parser) list(events *maybe[[]maybe[wireEvent]]) {
	if events.broken {
		p.skip(Skipped{Page: p.page, Kind: KindUnknown, Why: WhyMalformed})
	}
	for i := range events.v {
		p.event(&events.v[i])
	}
}

func (p *parser) skip(s Skipped) { p.batch.Skipped = append(p.batch.Skipped, s) }

// event makes an Event, or says why not.
func (p *parser) event(m *maybe[wireEvent]) {
	w := &m.v
	kind, named, broken := w.kind()
	psid, why := p.person(w, kind)
	if m.broken || broken || !m.present {
		why = WhyMalformed
	}
	if why != "" {
		p.skip(Skipped{Page: p.page, PSID: psid, Kind: kind, Why: why, Name: named})
		return
	}
	e := Event{Kind: kind, Page: p.page, PSID: psid, Standby: p.standby, At: p.received.UTC().Truncate(time.Millisecond)}
	when := p.sane(w.Timestamp)
	if when == 0 {
		when = p.sane(p.sent)
	}
	if when != 0 {
		e.At = when.utc()
	}
	e.Key = p.fill(&e, w).in(&e, when)
	if p.isRepeated(e.Key) {
		p.skip(Skipped{Page: p.page, PSID: psid, Kind: kind, Why: WhyDuplicate})
		return
	}
	p.batch.Events = append(p.batch.Events, e)
}

// person returns the PSID of the event's person, as far as there is one, and why no Event is made of it, if so.
func (p *parser) person(w *wireEvent, kind Kind) (psid string, why Why) {
	from, to := string(w.Sender.v.ID), string(w.Recipient.v.ID)
	if kind == KindEcho && from == p.page { // some have the person as the sender (nyaruka/courier)
		from, to = to, from
	}
	if from != p.page {
		psid = from
	}
	switch {
	case kind == KindUnknown:
		return psid, WhyUnknown
	case kind != KindPolicy && !kind.ByPerson() && !kind.IsReceipt():
		return psid, WhyNothingInIt
	case to != p.page:
		return "", WhyNotForPage
	case kind == KindPolicy:
		return "", ""
	case from == "":
		return "", WhyNoPSID
	case from == to:
		return "", WhyFromPage
	case w.isGuest():
		return "", WhyGuest
	case kind == KindReaction && w.Reaction.v.Action != "react":
		return psid, WhyNothingInIt
	}
	return psid, ""
}

func (p *parser) isRepeated(key string) bool {
	if p.keys == nil {
		p.keys = make(map[string]bool)
	}
	seen := p.keys[key]
	p.keys[key] = true
	return seen
}

// Bounds of a time that is believed. Messenger's webhooks exist since April 2016. The hour is for clocks that differ: a time
// far ahead would leave a window open for as long and outlast every later event of the person.
const (
	earliest = 1451606400000 // 2016-01-01, in milliseconds
	ahead    = time.Hour
)

func (p *parser) sane(t stamp) stamp {
	if t < earliest || int64(t) > p.received.Add(ahead).UnixMilli() {
		return 0
	}
	return t
}

func (t stamp) utc() time.Time { return time.UnixMilli(int64(t)).UTC() }

// others are the members that tell a kind of which no event is made.
var others = map[string]Kind{
	"message_edit":           KindEdit,
	"pass_thread_control":    KindHandover,
	"take_thread_control":    KindHandover,
	"request_thread_control": KindHandover,
	"app_roles":              KindHandover,
	"response_feedback":      KindFeedback,
	"messaging_feedback":     KindFeedback,
}

// kind returns the kind of the event, the name of a member that makes it unknown, and whether the member that makes its kind
// is of another type than it has to be.
func (w *wireEvent) kind() (kind Kind, named string, broken bool) {
	switch {
	case bool(w.Message.v.IsEcho):
		return KindEcho, "", false
	case bool(w.Message.v.IsDeleted):
		return KindUnsend, "", false
	case w.Message.present:
		return KindMessage, "", w.Message.broken
	case w.Postback.present:
		return KindPostback, "", w.Postback.broken
	case w.Referral.present:
		return KindReferral, "", w.Referral.broken
	case w.Optin.present:
		return KindOptin, "", w.Optin.broken
	case w.Reaction.present:
		return KindReaction, "", w.Reaction.broken
	case w.AccountLinking.present:
		return KindAccountLinking, "", w.AccountLinking.broken
	case w.Order.present:
		return KindOrder, "", w.Order.broken
	case w.Delivery.present:
		return KindDelivery, "", w.Delivery.broken
	case w.Read.present:
		return KindRead, "", w.Read.broken
	case w.Policy.present, w.OldPolicy.present:
		return KindPolicy, "", w.Policy.broken || w.OldPolicy.broken
	}
	for _, member := range slices.Sorted(maps.Keys(w.Others)) {
		if kind, ok := others[member]; ok {
			return kind, "", false
		}
		if named == "" {
			named = name(member)
		}
	}
	return KindUnknown, named, false
}

func (w *wireEvent) isGuest() bool {
	return bool(w.Referral.v.IsGuest || w.Postback.v.Referral.v.IsGuest || w.Message.v.Referral.v.IsGuest)
}

package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of Write.
const (
	KindMessage        = "message"         // writes a text; with Ref it is the first message after an ad
	KindQuickReply     = "quick_reply"     // presses a quick reply
	KindPostback       = "postback"        // presses a button
	KindGetStarted     = "get_started"     // presses Get Started, which begins a thread
	KindReferral       = "referral"        // follows an m.me link; in a new thread that becomes KindGetStarted
	KindOptin          = "optin"           // opts in: with Ref through a plugin, otherwise to marketing messages
	KindReaction       = "reaction"        // reacts to a message of the page
	KindAccountLinking = "account_linking" // logs in to the page's site; Ref is the authorization code
	KindDelivery       = "delivery"        // gets what was sent until At
	KindRead           = "read"            // reads what was sent until At
)

// fieldOf is the field that a page must be subscribed to for a kind (webhook events pages).
var fieldOf = map[string]string{
	KindMessage: "messages", KindQuickReply: "messages", KindPostback: "messaging_postbacks", KindGetStarted: "messaging_postbacks",
	KindReferral: "messaging_referrals", KindOptin: "messaging_optins", KindReaction: "message_reactions",
	KindAccountLinking: "messaging_account_linking", KindDelivery: "message_deliveries", KindRead: "message_reads",
}

// Write is what a person does on a page's thread. The zero value writes "Hello" to the only page.
type Write struct {
	// Page is the id of the page. Default: the only page there is.
	Page string
	// Kind is one of the kinds above. Default: message if there is a Text, else postback for a Payload, else referral for a Ref,
	// else message.
	Kind string
	// Text is that of a message, or the title of what the person presses. Default: one that fits the kind.
	Text string
	// Ref is the reference. It goes where Facebook puts it: into referral.ref of an existing thread and postback.referral.ref of a
	// new one, into message.referral.ref after an ad, or into the payload of a button, plain or as JSON.
	Ref string
	// Payload is that of a button, a quick reply or an opt-in. A button with both a Payload and a Ref has the Ref in
	// postback.referral.ref; elsewhere the Payload replaces the Ref.
	Payload string
	// New says that the thread is new.
	New bool
	// MID is the id of the message, or of the one that the person reacts to or got. Default: one of its own for each event; none for
	// a receipt. An old postback has none, which happens here by chance.
	MID string
	// At is when the first event happened; each further event is a millisecond later. Default: now.
	At time.Time
	// Times is how many different events the person causes. Default: 1.
	Times int
	// Repeat is how many times Facebook sends each event again.
	Repeat int
	// Persons is how many people do the same: the PSID is that of the first, each further one is greater by 1. Default: 1.
	Persons int
}

// maxWritten bounds the events of one Write, which are kept in memory until they are delivered.
const maxWritten = 1_000_000

// maxMIDs is how many ids Written lists.
const maxMIDs = 100

// Written is what a Write caused.
type Written struct {
	// Events is how many events wait to be sent, repetitions included.
	Events int `json:"events"`
	// Unsubscribed is how many were not sent, since the page is not subscribed to their field.
	Unsubscribed int `json:"unsubscribed"`
	// MIDs are the ids of the first 100 messages and postbacks that have one.
	MIDs []string `json:"mids,omitempty"`
}

// Write makes a person write to a page, or do something else there: a signed webhook is sent to Webhook.URL soon after. It does
// not wait for the delivery; WebhookCounts and Deliveries tell what became of it. Errors name the field at fault.
func (s *Sandbox) Write(psid string, w Write) (Written, error) {
	first, err := w.resolve(psid)
	if err != nil {
		return Written{}, fmt.Errorf("sandbox: write: %w", err)
	}
	job, err := s.beginWriting(w)
	if err != nil {
		return Written{}, err
	}
	total := w.Persons * w.Times * (w.Repeat + 1)
	if !job.subscribed[fieldOf[w.Kind]] {
		return Written{Unsubscribed: total}, nil
	}
	out := Written{Events: total}
	events := make([]hookEvent, 0, total)
	for i := range w.Persons {
		if i > 0 {
			psid = strconv.FormatUint(first+uint64(i), 10)
		}
		for j := range w.Times {
			n := i*w.Times + j
			o := occurrence{rnd: s.eventRand(job.seq + uint64(n)), page: job.pageID, psid: psid, at: w.At.Add(time.Duration(j) * time.Millisecond)}
			json, mid := w.event(&o, job.seq+uint64(n), job.subscribed["messaging_referrals"])
			if mid != "" && len(out.MIDs) < maxMIDs {
				out.MIDs = append(out.MIDs, mid)
			}
			for range w.Repeat + 1 {
				events = append(events, hookEvent{page: job.page, pageID: job.pageID, psid: psid, json: json})
			}
		}
	}
	s.enqueue(events...)
	return out, nil
}

// resolve fills in defaults. It returns the PSID as a number if several people write.
func (w *Write) resolve(psid string) (first uint64, err error) {
	w.Times, w.Persons = cmp.Or(w.Times, 1), cmp.Or(w.Persons, 1)
	switch {
	case w.Kind != "":
	case w.Text == "" && w.Payload != "":
		w.Kind = KindPostback
	case w.Text == "" && w.Ref != "":
		w.Kind = KindReferral
	default:
		w.Kind = KindMessage
	}
	if w.Kind == KindReferral && w.New {
		w.Kind = KindGetStarted
	}
	if w.At.IsZero() {
		w.At = time.Now()
	}
	if err := w.check(psid); err != nil {
		return 0, err
	}
	if w.Persons > 1 {
		first, err = strconv.ParseUint(psid, 10, 63)
		if err != nil {
			return 0, FieldError{"PSID", fmt.Sprintf("must be a number below 2^63 for several people to write (got %q)", clip(psid, 40))}
		}
	}
	return first, nil
}

func (w *Write) check(psid string) error {
	between := func(field string, n, low int) error {
		if n < low || n > maxWritten {
			return FieldError{field, fmt.Sprintf("must be between %d and %d (got %d)", low, maxWritten, n)}
		}
		return nil
	}
	if err := cmp.Or(between("Times", w.Times, 1), between("Repeat", w.Repeat, 0), between("Persons", w.Persons, 1)); err != nil {
		return err
	}
	switch {
	case psid == "" || len(psid) > 32 || !digits(psid):
		return FieldError{"PSID", fmt.Sprintf("must be 1 to 32 digits (got %q)", clip(psid, 40))}
	case fieldOf[w.Kind] == "":
		return FieldError{"Kind", fmt.Sprintf("must be one of %s (got %q)", strings.Join(writeKinds(), ", "), clip(w.Kind, 40))}
	case w.Times > maxWritten/w.Persons/(w.Repeat+1):
		return FieldError{"Times", fmt.Sprintf("must make at most %d events with persons and repeat", maxWritten)}
	case w.MID != "" && w.Times*w.Persons > 1:
		return FieldError{"MID", "must not be given for several events: each has an id of its own"}
	case w.At.UnixMilli() < 0:
		return FieldError{"At", "must not be before 1970"}
	}
	return nil
}

func writeKinds() []string {
	list := make([]string, 0, len(fieldOf))
	for k := range fieldOf {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// writing is what Write has to know of the sandbox.
type writing struct {
	page       *page
	pageID     string
	subscribed map[string]bool
	seq        uint64 // of the first event
}

// beginWriting looks up the page and reserves the numbers of the events.
func (s *Sandbox) beginWriting(w Write) (writing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hooks.URL == "" {
		return writing{}, errNoWebhook
	}
	p, err := s.pageOrOnly(w.Page)
	if err != nil {
		return writing{}, err
	}
	job := writing{page: p, pageID: p.ID, seq: s.hooks.events + 1, subscribed: map[string]bool{}}
	for _, f := range p.fields {
		job.subscribed[f] = true
	}
	s.hooks.events += uint64(w.Times * w.Persons)
	if !job.subscribed[fieldOf[w.Kind]] {
		s.hooks.counts.Unsubscribed += w.Times * w.Persons * (w.Repeat + 1)
	}
	return job, nil
}

var errNoWebhook = errors.New("sandbox: write: there is no webhook: set its URL first")

// pageOrOnly returns a page, or the only one for an empty id. The caller holds mu.
func (s *Sandbox) pageOrOnly(id string) (*page, error) {
	if p := s.pages[id]; p != nil {
		return p, nil
	}
	if id != "" {
		return nil, fmt.Errorf("%w: %q", errNoPage, clip(id, 40))
	}
	if len(s.pages) != 1 {
		return nil, fmt.Errorf("sandbox: page: must be given, since there are %d pages (one exists once it is configured or has sent a message)", len(s.pages))
	}
	for _, p := range s.pages {
		return p, nil
	}
	return nil, errNoPage // not reached
}

// event writes the event as JSON and returns the id of the message or postback, if it has one. Without a subscription to referrals
// a message comes without that of the ad (messages page).
func (w *Write) event(o *occurrence, seq uint64, referrals bool) (json, mid string) {
	mid = cmp.Or(w.MID, fmt.Sprintf("m_sandbox_in_%012x_%d", o.rnd.Uint64()>>16, seq))
	kind, value := w.Kind, ""
	switch w.Kind {
	case KindMessage:
		ad := ""
		if w.Ref != "" && referrals {
			ad = o.adReferral(w.Ref)
		}
		value = object(o.rnd, "mid", quoted(mid), "text", quoted(cmp.Or(w.Text, "Hello")), "referral", ad)
	case KindQuickReply:
		reply := object(o.rnd, "payload", cmp.Or(o.payload(w.Payload, w.Ref), `"YES"`))
		kind, value = "message", object(o.rnd, "mid", quoted(mid), "text", quoted(cmp.Or(w.Text, "Yes")), "quick_reply", reply)
	case KindPostback, KindGetStarted:
		if w.MID == "" && o.rnd.IntN(4) == 0 {
			mid = ""
		}
		kind, value = "postback", w.postback(o, mid)
	case KindReferral:
		return o.event(o.millis(), kind, o.referral(w.Ref)), ""
	case KindOptin:
		return o.event(o.millis(), kind, w.optin(o)), ""
	case KindReaction:
		value = object(o.rnd, "reaction", `"love"`, "emoji", `"❤️"`, "action", `"react"`, "mid", quoted(mid))
		return o.event(o.millis(), kind, value), ""
	case KindAccountLinking:
		value = object(o.rnd, "status", `"linked"`, "authorization_code", quoted(w.Ref))
		return o.event(o.millis(), kind, value), ""
	case KindDelivery:
		return o.delivery(w.MID, o.at), ""
	case KindRead:
		return o.read(o.at), ""
	}
	return o.event(o.millis(), kind, value), mid
}

func (w *Write) postback(o *occurrence, mid string) string {
	title, payload, referral := "Sandbox", "", ""
	begins := w.New || w.Kind == KindGetStarted
	switch {
	case w.Ref == "":
		payload = quoted(w.Payload)
	case begins || w.Payload != "":
		payload, referral = quoted(w.Payload), o.referral(w.Ref)
	default:
		payload = o.payload("", w.Ref)
	}
	if w.Kind == KindGetStarted {
		title, payload = "Get Started", cmp.Or(payload, `"GET_STARTED"`)
	}
	return object(o.rnd, "mid", quoted(mid), "title", quoted(cmp.Or(w.Text, title)), "payload", cmp.Or(payload, `"SANDBOX"`), "referral", referral)
}

func (w *Write) optin(o *occurrence) string {
	if w.Ref != "" && w.Payload == "" {
		return object(o.rnd, "ref", quoted(w.Ref))
	}
	return object(o.rnd, "type", `"notification_messages"`, "title", quoted(cmp.Or(w.Text, "Sandbox")), "payload", cmp.Or(quoted(w.Payload), `"NEWS"`),
		"notification_messages_token", quoted("sandbox-"+strconv.FormatUint(o.rnd.Uint64(), 36)),
		"notification_messages_timezone", `"Europe/Berlin"`, "user_token_status", `"NOT_REFRESHED"`)
}

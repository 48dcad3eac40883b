package capture

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/brazier-relay/brazier/queue"
)

// EventKind is what a custom event tells Braze of a user, in the words that Braze uses for its own channels.
type EventKind string

// The kinds of events.
const (
	EventSent      EventKind = "sent"      // Facebook took a message
	EventFailed    EventKind = "failed"    // a message is a dead letter
	EventDelivered EventKind = "delivered" // a message reached the person's device, by Facebook's receipt
	EventRead      EventKind = "read"      // the person read a message, by Facebook's receipt
	EventLinked    EventKind = "linked"    // a reference linked the person with the user
	EventInbound   EventKind = "inbound"   // the person did something on the page that opens the window
)

// EventKinds returns every kind.
func EventKinds() []EventKind {
	return []EventKind{EventSent, EventFailed, EventDelivered, EventRead, EventLinked, EventInbound}
}

// DefaultEventPrefix begins the names of events: messenger_sent, and so on.
const DefaultEventPrefix = "messenger_"

// Event is a custom event that is to be written.
type Event struct {
	Name       string
	Time       time.Time
	Properties map[string]any // strings and numbers
}

// event is an event as an update stores it. Its name is looked up when it is sent.
type event struct {
	Kind       EventKind      `json:"k"`
	User       User           `json:"u"`
	At         int64          `json:"t"` // Unix milliseconds
	Properties map[string]any `json:"p,omitempty"`
	// Ref is the reference of an [EventLinked], which is not told if the two are not linked by it when it is to be sent.
	Ref string `json:"r,omitempty"`
}

// about says what an event tells of a message: the job's id in Brazier and where the message comes from.
func about(page string, id string, from queue.Tracking, mid string) map[string]any {
	p := map[string]any{}
	for name, value := range map[string]string{"page_id": page, "brazier_id": id, "campaign_id": from.Campaign, "canvas_id": from.Canvas,
		"dispatch_id": from.Dispatch, "message_id": from.Message, "mid": mid} {
		if value != "" {
			p[name] = short(value)
		}
	}
	return p
}

// maxText is how many characters Braze takes of a text (event object).
const maxText = 255

func short(s string) string {
	if utf8.RuneCountInString(s) <= maxText {
		return s
	}
	return string([]rune(s)[:maxText])
}

// publishEvent stores an update with an event, once for each kind and what it is about: of two workers that find out at the same time,
// each with another time, the first is told. Of more updates than the queue holds it drops those with events, counts them and returns
// no error: messages are not to wait for Braze.
func (h *Handler) publishEvent(ctx context.Context, page *Page, e event, about string) error {
	return h.publishEventAs(ctx, page, update{Event: &e}, about)
}

func (h *Handler) publishEventAs(ctx context.Context, page *Page, u update, about string) error {
	kind := u.Event.Kind
	if page.Events[kind] == "" || u.Event.User == (User{}) {
		return nil
	}
	return h.unlessFull(page, kind, u.publishAs(ctx, h.q, page, "event "+string(kind)+" "+about))
}

// publishLinked tells Braze of a link once the entries say it, and writes the PSID before that once more: campaigns that the event sets
// off send to it, and the update of the attributes may be sent later.
func (h *Handler) publishLinked(ctx context.Context, page *Page, psid string, e event) error {
	key := e.User.key()
	return h.publishEventAs(ctx, page, update{Event: &e, Changes: []change{{User: key, PSID: true}}, After: key}, e.Ref+" "+psid)
}

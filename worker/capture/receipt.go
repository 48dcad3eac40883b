package capture

import (
	"context"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// Receipts
//
// Facebook says by a watermark up to when everything that was sent to a person was delivered or read; receipts of deliveries mostly name
// messages too, those of reads never do (message-deliveries and message-reads pages). A receipt may come before its message is known here,
// since both are on their way at the same time, and any number of times, in any order. So the entry of a person has the latest
// watermarks and the latest messages, and whichever comes second finds the other.

// sent is the entry of a PSID among those that messages were sent to.
type sent struct {
	Delivered int64     `json:"d,omitempty"` // the latest watermarks, Unix milliseconds
	Read      int64     `json:"r,omitempty"`
	Messages  []message `json:"m,omitempty"` // the latest, in the order in which they became known
}

// message is one that Facebook took.
type message struct {
	ID   string         `json:"id"`
	MID  string         `json:"mid,omitempty"`
	At   int64          `json:"at"` // when its call began, Unix milliseconds: Facebook took it later
	User User           `json:"u"`
	From queue.Tracking `json:"f"`
	// What Braze has been told, or is about to be.
	Delivered bool `json:"d,omitempty"`
	Read      bool `json:"r,omitempty"`
}

// maxMessages is of how many messages to one person receipts are recognised at a time.
const maxMessages = 20

// clockSlack is how far Facebook's clock may be behind that of the NATS server: a watermark is compared with the time of a call by the
// other clock. With less, a message that was delivered within milliseconds is never told as delivered or read; with more, one that
// follows another that closely may be told so before it is.
const clockSlack = 2 * time.Second

// remember adds a message that was delivered, where receipts are told to Braze.
func (h *Handler) remember(ctx context.Context, page *Page, o *outcome, who User, from queue.Tracking) error {
	if !page.Receipts() || who == (User{}) {
		return nil
	}
	from.User, from.ExternalID = "", "" // who says that
	return h.changeSent(ctx, page, o.PSID, time.UnixMilli(o.At), func(s *sent) {
		for _, m := range s.Messages {
			if m.ID == o.ID {
				return
			}
		}
		s.Messages = append(s.Messages, message{ID: o.ID, MID: o.MID, At: o.Begun, User: who, From: from})
		s.Messages = s.Messages[max(len(s.Messages)-maxMessages, 0):]
	}, nil)
}

// receipt takes in what Facebook says of the messages to a person.
func (h *Handler) receipt(ctx context.Context, page *Page, e *webhook.Event) (result string, err error) {
	if !page.Receipts() {
		return "ignored", nil
	}
	err = h.changeSent(ctx, page, e.PSID, e.At, func(s *sent) {
		to := &s.Delivered
		if e.Kind == webhook.KindRead {
			to = &s.Read
		}
		if !e.Watermark.IsZero() {
			*to = max(*to, e.Watermark.UnixMilli())
		}
	}, e.MIDs)
	return "receipt", err
}

// changeSent changes the entry of a person, and tells Braze of what follows from it, as of a time. named are messages that a receipt
// names.
func (h *Handler) changeSent(ctx context.Context, page *Page, psid string, at time.Time, change func(*sent), named []string) error {
	return h.untilUnchanged(ctx, func() error {
		found, err := h.q.Sent().Read(ctx, page.ID, psid)
		if err != nil {
			return err
		}
		var s sent
		if err := decode("what was sent to a person", found[0].Value, &s); err != nil {
			return err
		}
		before := encode(s)
		change(&s)
		for _, e := range s.follow(page, named, at) {
			if err := h.publishEvent(ctx, page, e.event, e.id); err != nil {
				return err
			}
		}
		after := encode(s)
		if string(after) == string(before) {
			return nil
		}
		_, err = h.q.Sent().Set(ctx, page.ID, queue.Entry{Key: psid, Value: after, Revision: found[0].Revision})
		return err
	})
}

// told is an event about a message, and the message's id.
type told struct {
	event
	id string
}

// follow marks the messages that were delivered or read, and returns what Braze is to know of that.
func (s *sent) follow(page *Page, named []string, at time.Time) (events []told) {
	isNamed := map[string]bool{}
	for _, mid := range named {
		isNamed[mid] = true
	}
	slack := clockSlack.Milliseconds()
	for i := range s.Messages {
		m := &s.Messages[i]
		for _, k := range []struct {
			kind EventKind
			mark *bool
			is   bool
		}{
			{EventDelivered, &m.Delivered, m.At <= s.Delivered+slack || m.MID != "" && isNamed[m.MID]},
			{EventRead, &m.Read, m.At <= s.Read+slack},
		} {
			if k.is && !*k.mark {
				*k.mark = true
				events = append(events, told{event{Kind: k.kind, User: m.User, At: at.UnixMilli(), Properties: about(page.ID, m.ID, m.From, m.MID)}, m.ID})
			}
		}
	}
	return events
}

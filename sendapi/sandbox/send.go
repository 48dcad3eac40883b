package sandbox

import (
	"slices"
	"strings"
)

// send is what a valid call asks for.
type send struct {
	recipient string // PSID, or key:value for other forms
	person    bool   // recipient is a PSID
	anonymous bool   // the answer has no recipient_id
	action    uint8  // index into senderActions; 0: a message
	message   map[string]any
	body      Digest // of message
	media     bool   // audio or video
	reusable  bool   // the answer has an attachment_id
	template  string // template_type of the attachment, if it is a template
}

// senderActions are those of the Send API reference and its enumeration; index 0 is a message.
var senderActions = [...]string{"", "typing_on", "typing_off", "mark_seen", "react", "unreact"}

// recipientKeys are the forms of recipient of the Send API reference, with whether the answer has a recipient_id.
var recipientKeys = []struct {
	key       string
	anonymous bool
}{
	{"id", false}, {"user_ref", true}, {"comment_id", false}, {"post_id", false}, {"notification_messages_token", false},
	{"one_time_notif_token", false}, {"phone_number", true},
}

// check judges a request as Facebook would. It returns what it could read with an error too, for the record.
func (p params) check() (send, *graphError) {
	var s send
	var r rules
	r.recipient(&s, p)
	_, message := p["message"]
	_, acting := p["sender_action"]
	switch {
	case message && acting:
		r.fail(100, 2018014, "Cannot send message and sender action together.")
	case acting:
		r.senderAction(&s, p)
	case message:
		r.message(&s, p)
		r.messagingType(&s, p)
	default:
		r.missing("message")
	}
	r.rest(p)
	return s, r.err
}

func (r *rules) recipient(s *send, p params) {
	if p["recipient"] == "" {
		r.missing("recipient")
		return
	}
	m, err := p.object("recipient")
	if err != nil {
		r.fail(100, 0, "Param recipient must be a JSON object.")
		return
	}
	n, found := node{"recipient", m}, 0
	for _, k := range recipientKeys {
		if !n.has(k.key) {
			continue
		}
		found++
		id, ok := asText(m[k.key])
		switch person := k.key == "id"; {
		case person && (!ok || !isID(id)):
			r.notID(n.path(k.key), 0)
		case !ok || blank(id) || len(id) > 1000:
			r.fail(100, 0, "Param %s must be a non-empty string.", n.path(k.key))
		default:
			s.person, s.anonymous, s.recipient = person, k.anonymous, id
			if !person {
				s.recipient = k.key + ":" + id
			}
		}
	}
	r.object(n, "name")
	if found != 1 {
		r.fail(100, 0, "Param recipient must name exactly one recipient.")
	}
}

func (r *rules) senderAction(s *send, p params) {
	i := slices.Index(senderActions[1:], strings.ToLower(p["sender_action"]))
	if i < 0 {
		r.fail(100, 0, "Param sender_action must be one of {TYPING_ON, TYPING_OFF, MARK_SEEN, REACT, UNREACT}")
		return
	}
	s.action = uint8(i + 1)
	action := senderActions[s.action]
	if action != "react" && action != "unreact" {
		return
	}
	m, err := p.object("payload")
	if err != nil {
		r.missing("payload")
		return
	}
	n := node{"payload", m}
	r.need(n, "message_id", 0)
	if action == "react" {
		r.need(n, "reaction", 0)
	}
}

// The tags of the Send API reference. The retired ones of 2026-04-27 have a subcode of their own (chatwoot/chatwoot#14669); those of
// March 2020 are as unknown as any other value.
var (
	tags        = []string{"CUSTOMER_FEEDBACK", "HUMAN_AGENT"}
	retiredTags = []string{"CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE"}
)

// messagingType checks messaging_type and tag.
func (r *rules) messagingType(s *send, p params) {
	n := node{"message", s.message}
	kind, tag := strings.ToUpper(p["messaging_type"]), strings.ToUpper(p["tag"])
	switch kind {
	case "", "RESPONSE", "UPDATE", "MESSAGE_TAG":
	case "UTILITY":
		if !n.has("template") {
			r.missing(n.path("template"))
		}
	default:
		r.fail(100, 0, "Param messaging_type must be one of {RESPONSE, UPDATE, MESSAGE_TAG, UTILITY}")
	}
	switch {
	case slices.Contains(retiredTags, tag):
		if r.err == nil {
			r.err = invalid(100, 1893061, "Invalid parameter")
		}
	case tag != "" && !slices.Contains(tags, tag):
		r.fail(100, 0, "Param tag must be one of {%s}", strings.Join(tags, ", "))
	case tag != "" && kind != "" && kind != "MESSAGE_TAG": // ker0x/messenger#106
		r.fail(100, 0, "Messaging type should be MESSAGE_TAG for tagged messages.")
	case tag == "CUSTOMER_FEEDBACK" && s.template != "customer_feedback":
		r.fail(100, 0, "Tag CUSTOMER_FEEDBACK goes only with the customer feedback template.")
	case kind == "MESSAGE_TAG" && tag == "":
		r.missing("tag")
	}
}

// rest checks the parameters other than recipient and message. Graph ignores parameters that it does not know.
func (r *rules) rest(p params) {
	switch strings.ToUpper(p["notification_type"]) {
	case "", "REGULAR", "SILENT_PUSH", "NO_PUSH":
	default:
		r.fail(100, 0, "Param notification_type must be one of {REGULAR, SILENT_PUSH, NO_PUSH}")
	}
	if id, given := p["persona_id"]; given && !isID(id) {
		r.notID("persona_id", 0)
	}
	if strings.HasPrefix(p["reply_to"], "{") { // the Page messages reference once called it a string
		m, err := p.object("reply_to")
		if err != nil {
			r.fail(100, 0, "Param reply_to must be a JSON object.")
			return
		}
		r.need(node{"reply_to", m}, "mid", 0)
	}
}

package sendapi

import "strings"

// A Request is one call of the Send API: a message, or a sender action, for one recipient.
//
// There is no body for several recipients or several messages; the Broadcast API that had one was removed in 2020.
type Request struct {
	// Body is nested JSON, ready to be stored and sent. Where the caller sent nested JSON it is the caller's own bytes,
	// with every unknown field, digit and escape, and it may alias what Parse was given.
	Body []byte

	Recipient        Recipient
	MessagingType    MessagingType    // empty if the caller named none
	Tag              Tag              // empty if the caller named none
	SenderAction     SenderAction     // empty for a message
	NotificationType NotificationType // empty if the caller named none

	media bool
}

// Media reports whether the request sends audio or video, which have a limit of their own: 10 calls per second and page,
// against 300 for everything else (Messenger rate limits guide).
//
// A media template with a video counts, to be safe: the guide does not say.
func (r *Request) Media() bool { return r.media }

// String names what is sent and to whom, shortened.
func (r *Request) String() string {
	if r.SenderAction != "" {
		return "sender action to " + r.Recipient.Short()
	}
	return "message to " + r.Recipient.Short()
}

// A MessagingType says on what ground a message is sent.
//
// The Send API reference calls it required. The oldest published Braze template has none, and whether Facebook still
// takes a request without is not known. So a request without one is accepted and sent as it is: putting UPDATE in would
// claim something in the caller's name.
type MessagingType string

// The messaging types (Send API reference, Page messages reference). Letters of either case are taken. An unknown type is
// accepted, for Facebook to judge.
const (
	// Response answers a message, Update does not; both only within 24 hours of the person's last message to the page.
	// Later they fail with code 10, subcode 2018278.
	Response MessagingType = "RESPONSE"
	Update   MessagingType = "UPDATE"

	// MessageTag is for outside the 24 hours, on the ground that Request.Tag names.
	MessageTag MessagingType = "MESSAGE_TAG"

	// Utility sends a template of the page that Facebook approved beforehand; the 24 hours do not matter. It stands in
	// message.template, not in an attachment (Utility messages guide, Page messages reference):
	//
	//	{"name":"order_shipped","language":{"code":"en_US"},"components":[
	//	  {"type":"body","parameters":[{"type":"text","text":"Ann"}]},
	//	  {"type":"buttons","parameters":[{"type":"POSTBACK","payload":"…"}]}]}
	//
	// A component is a header, body, title or buttons; a parameter has text, payload or url. Parameters that do not fit the
	// template fail with code 100, subcodes 1893029, 1893043, 2018416, 2388051. The permission is page_utility_messaging
	// to the guide and pages_utility_messaging to others.
	Utility MessagingType = "UTILITY"
)

// A Tag is the ground of a MessageTag message.
type Tag string

// The tags that live (Send API reference). An unknown tag is accepted, for Facebook to judge.
const (
	// HumanAgent is for a person's answer within 7 days, never an automated one. The app needs a review for it.
	HumanAgent Tag = "HUMAN_AGENT"

	// CustomerFeedback is for a survey within 7 days, and only with the feedback template.
	CustomerFeedback Tag = "CUSTOMER_FEEDBACK"
)

// When Facebook retired tags and a messaging type, and what takes their place.
const (
	retired2020   = "2020-03-04"
	retired2026   = "2026-04-27"
	retiredRemedy = "use messaging_type UTILITY with an approved template"
)

// subscription is the messaging type of 2018 for what is now a Utility message or none.
const subscription MessagingType = "NON_PROMOTIONAL_SUBSCRIPTION"

// retiredTags is when a tag was retired. Those of 2026 fail with code 100, seen with subcode 1893061 (Send API reference;
// chatwoot/chatwoot#14669). Those of 2020 stand in no reference any more, and fail as no tag at all
// (theopenconversationkit/tock#701, ker0x/messenger#142).
var retiredTags = map[string]string{
	"CONFIRMED_EVENT_UPDATE":       retired2026,
	"ACCOUNT_UPDATE":               retired2026,
	"POST_PURCHASE_UPDATE":         retired2026,
	"APPLICATION_UPDATE":           retired2020,
	"APPOINTMENT_UPDATE":           retired2020,
	"BUSINESS_PRODUCTIVITY":        retired2020,
	"COMMUNITY_ALERT":              retired2020,
	"CONFIRMED_EVENT_REMINDER":     retired2020,
	"FEATURE_FUNCTIONALITY_UPDATE": retired2020,
	"GAME_EVENT":                   retired2020,
	"ISSUE_RESOLUTION":             retired2020,
	"NON_PROMOTIONAL_SUBSCRIPTION": retired2020,
	"PAIRING_UPDATE":               retired2020,
	"PAYMENT_UPDATE":               retired2020,
	"PERSONAL_FINANCE_UPDATE":      retired2020,
	"RESERVATION_UPDATE":           retired2020,
	"SHIPPING_UPDATE":              retired2020,
	"TICKET_UPDATE":                retired2020,
	"TRANSPORTATION_UPDATE":        retired2020,
}

// A NotificationType is how the person's device announces a message.
type NotificationType string

// The notification types (Send API reference). An unknown one is accepted, for Facebook to judge.
const (
	Regular    NotificationType = "REGULAR"     // with sound or vibration; the default
	SilentPush NotificationType = "SILENT_PUSH" // on the screen only
	NoPush     NotificationType = "NO_PUSH"     // not at all
)

// A SenderAction is a sign of life in place of a message. It goes alone with the recipient: together with a message it
// fails with code 100, subcode 2018014. The answer to it has a recipient_id and no message_id.
type SenderAction string

// The sender actions (Sender actions guide, 2026-01-21). Letters of either case are taken: the guide has small ones, the
// Page messages reference has capitals. An unknown action is accepted, for Facebook to judge.
const (
	TypingOn  SenderAction = "typing_on"
	TypingOff SenderAction = "typing_off"
	MarkSeen  SenderAction = "mark_seen"

	// React and Unreact need a payload beside them: {"message_id":"…","reaction":"😊"}, without reaction for Unreact.
	React   SenderAction = "react"
	Unreact SenderAction = "unreact"
)

// Parse reads what a caller posted, in any of the three encodings, checks it, and returns it ready to store.
// The error is always an *InvalidError. The Request may alias body.
//
// The encodings are nested JSON; flat JSON, whose values are JSON in strings, as the key-value composer of Braze makes it;
// and a form whose values are JSON. The body decides which, since a Content-Type is often missing or wrong; only
// multipart/form-data is refused by it, since files cannot be sent through here.
//
// What Facebook would certainly refuse is refused here, where the caller still listens. So are a body with Liquid that
// was never rendered, one whose recipient or text came out empty, and one that carries a token. What is not known to be
// wrong passes untouched: unknown fields, and unknown values of a field that has a list of them.
func Parse(contentType string, body []byte) (*Request, error) {
	t, invalid := decode(contentType, body)
	if invalid != nil {
		return nil, invalid
	}
	c := checker{tree: t}
	r := c.request()
	if c.err != nil {
		return nil, c.err
	}
	r.Body = c.body()
	return r, nil
}

// request checks the whole and returns it without its body.
func (c *checker) request() *Request {
	c.secrets()
	c.liquid()
	sound := c.err == nil
	recipient := c.recipient()
	if sound && c.err != nil && c.err.Cause != CauseUnsupported {
		c.err.Cause = CauseRecipient
	}
	r := &Request{
		Recipient:        recipient,
		MessagingType:    enum(c, c.optional(0, "messaging_type", 0), Response, Update, MessageTag, Utility, subscription),
		Tag:              enum(c, c.optional(0, "tag", 0), HumanAgent, CustomerFeedback),
		NotificationType: enum(c, c.optional(0, "notification_type", 0), Regular, SilentPush, NoPush),
	}
	message := c.object(0, "message")
	c.misplaced(message)
	action := c.optional(0, "sender_action", 0)
	r.SenderAction = enum(c, action, TypingOn, TypingOff, MarkSeen, React, Unreact)
	switch {
	case message != 0 && action != 0:
		c.fail(action, CauseConflict, "cannot go together with a message", "send it in a request of its own")
	case message != 0:
		c.message(message)
		c.messagingType(r, message)
	case action != 0:
		c.senderAction(r.SenderAction)
	default:
		c.failMember(0, "message", CauseMissing, "is missing", `write "message":{"text":"…"}`)
	}
	c.tag(r)
	c.replyTo()
	c.optional(0, "persona_id", 0) // the numeric string of a persona of the page
	r.media = c.media
	return r
}

// secrets refuses a token in the body: it would lie in the queue and be sent on.
func (c *checker) secrets() {
	for n := range c.children(0) {
		switch string(c.name(n)) {
		case "access_token", "appsecret_proof", "appsecret_time":
			c.fail(n, CauseToken, "does not belong in the body", "put the key into the header Authorization: Bearer …")
		}
	}
}

// misplaced refuses a name that this package knows and Facebook does not look for at its level. Beside message Facebook
// ignores it, and the message would go out without it. In message it answers "(#100) Invalid keys … were found in param
// "message"" (botpress/botpress#2227); names not known here are left to it all the same.
func (c *checker) misplaced(message int32) {
	for n := range c.children(0) {
		switch string(c.name(n)) {
		case "text", "attachment", "attachments", "template", "sticker_id", "dynamic_text", "quick_replies", "quickReplies":
			if c.says(n) {
				c.fail(n, CauseMisplaced, "is beside message", "put it into message")
			}
		}
	}
	if message == 0 {
		return
	}
	for n := range c.children(message) {
		switch string(c.name(n)) {
		case "recipient", "messaging_type", "tag", "notification_type", "sender_action", "persona_id", "reply_to", "thread_control":
			if c.says(n) {
				c.fail(n, CauseMisplaced, "is inside message", "put it beside message")
			}
		case "quickReplies":
			c.fail(n, CauseMisplaced, "is not how Facebook spells it", "write quick_replies")
		}
	}
}

func (c *checker) messagingType(r *Request, message int32) {
	if r.MessagingType == subscription {
		c.failMember(0, "messaging_type", CauseRetired, string(subscription)+" was retired on "+retired2020, retiredRemedy)
	}
	if r.MessagingType == Utility && c.member(message, "template") == 0 {
		c.failMember(message, "template", CauseMissing, "is missing", "messaging_type UTILITY needs the name of an approved template there")
	}
}

func (c *checker) tag(r *Request) {
	if r.Tag != "" {
		tag := strings.ToUpper(string(r.Tag))
		if retired := retiredTags[tag]; retired != "" {
			c.failMember(0, "tag", CauseRetired, tag+" was retired on "+retired, retiredRemedy)
		}
	}
	switch r.Tag {
	case CustomerFeedback:
		// "Use in any other form is prohibited and will fail" (Customer feedback template page).
		if c.template != FeedbackTemplate && !c.opaque {
			c.failMember(0, "tag", CauseConflict, "CUSTOMER_FEEDBACK goes only with the feedback template", "send template_type customer_feedback")
		}
	case "":
		if r.MessagingType == MessageTag {
			c.failMember(0, "tag", CauseMissing, "is missing", "messaging_type MESSAGE_TAG needs one, HUMAN_AGENT or CUSTOMER_FEEDBACK")
		}
		return
	}
	// "(#100) Messaging type should be MESSAGE_TAG for tagged messages." (ker0x/messenger#106, 2018). Whether a tag
	// without any messaging_type passes is not known.
	switch r.MessagingType {
	case Response, Update, Utility:
		c.failMember(0, "tag", CauseConflict, "goes only with messaging_type MESSAGE_TAG", "change the type or remove the tag")
	}
}

// senderAction checks the payload of the actions that have one. The Page messages reference calls it a string, the guide
// shows an object; a string is left to Facebook.
func (c *checker) senderAction(action SenderAction) {
	if action != React && action != Unreact {
		return
	}
	payload := c.member(0, "payload")
	switch {
	case payload == 0:
		c.failMember(0, "payload", CauseMissing, "is missing", "name the message in its message_id")
	case c.kind(payload) == '{':
		c.required(payload, "message_id", 0)
		if action == React {
			c.required(payload, "reaction", 0)
		}
	}
}

// replyTo checks the message a request answers to, {"mid":"…"}. The Page messages reference once called it a string.
func (c *checker) replyTo() {
	if n := c.member(0, "reply_to"); n != 0 && c.kind(n) == '{' {
		c.required(n, "mid", 0)
	}
}

// body is the request as it will be sent.
func (c *checker) body() []byte {
	whole := c.nodes[0].val
	body := c.src[whole.start:whole.end]
	if c.quote == 0 {
		return body
	}
	number := c.nodes[c.quote].val
	quoted := make([]byte, 0, len(body)+2)
	quoted = append(quoted, c.src[whole.start:number.start]...)
	quoted = append(quoted, '"')
	quoted = append(quoted, c.src[number.start:number.end]...)
	quoted = append(quoted, '"')
	return append(quoted, c.src[number.end:whole.end]...)
}

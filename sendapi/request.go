package sendapi

// A Request is one call of the Send API: a message, or a sender action, for one recipient.
//
// No request has several recipients or several messages; the Broadcast API, which had such requests, was removed in 2020.
type Request struct {
	// Body is nested JSON, ready to be stored and sent. If the caller sent nested JSON, Body has the caller's own bytes, with
	// every unknown field, digit and escape, and may alias the argument of Parse.
	Body []byte

	Recipient     Recipient
	messagingType messagingType // empty if the caller named none
	tag           messageTag    // empty if the caller named none
	action        senderAction  // empty for a message
	media         bool
}

// Media reports whether the request sends audio or video, which are limited to 10 calls per second and page, everything else to
// 300 (Messenger rate limits guide).
//
// A media template with a video counts as video, to be safe: the guide does not say.
func (r *Request) Media() bool { return r.media }

// IsMessage reports whether the request sends a message, and not a sender action such as typing_on.
func (r *Request) IsMessage() bool { return r.action == "" }

// String returns what is sent and the shortened recipient.
func (r *Request) String() string {
	if r.action != "" {
		return "sender action to " + r.Recipient.Short()
	}
	return "message to " + r.Recipient.Short()
}

// Parse reads what a caller posted, in any of the three encodings, checks it, and returns it ready to store.
// The error is always an *InvalidError. The Request may alias body.
//
// The encodings are
//
//   - nested JSON;
//   - flat JSON, whose values are JSON in strings, as the key-value composer of Braze makes it;
//   - a form whose values are JSON.
//
// The body decides which one it is, since a Content-Type is often missing or wrong. Only multipart/form-data is recognised by
// its Content-Type, and refused, since Brazier takes no uploads.
//
// Parse refuses what Facebook would certainly refuse, so that the caller learns of it at once. It also refuses a body with
// unrendered Liquid, with a blank recipient or text, or with a token. Everything else passes unchanged, such as unknown fields
// and unknown values of an enumeration.
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

// request checks the whole request and returns it without its body.
func (c *checker) request() *Request {
	c.secrets()
	c.liquid()
	sound := c.err == nil
	recipient := c.recipient()
	if sound && c.err != nil && c.err.Cause != causeUnsupported {
		c.err.Cause = causeRecipient
	}
	r := &Request{
		Recipient:     recipient,
		messagingType: enum(c, c.optional(0, "messaging_type", 0), responseType, updateType, taggedType, utilityType, subscriptionType),
		tag:           enum(c, c.optional(0, "tag", 0), humanAgent, customerFeedback),
	}
	c.optional(0, "notification_type", 0)
	message := c.object(0, "message")
	c.misplaced(message)
	action := c.optional(0, "sender_action", 0)
	r.action = enum(c, action, typingOn, typingOff, markSeen, react, unreact)
	switch {
	case message != 0 && action != 0:
		c.fail(action, causeConflict, "cannot go together with a message", "send it in a request of its own")
	case message != 0:
		c.message(message)
		c.checkMessagingType(r, message)
	case action != 0:
		c.checkSenderAction(r.action)
	default:
		c.failMember(0, "message", causeMissing, "is missing", `write "message":{"text":"…"}`)
	}
	c.checkTag(r)
	c.checkReplyTo()
	c.optional(0, "persona_id", 0) // the numeric string of a persona of the page
	r.media = c.media
	return r
}

// secrets refuses a token in the body, which would be stored in the queue and sent to Facebook.
func (c *checker) secrets() {
	for n := range c.children(0) {
		switch string(c.name(n)) {
		case "access_token", "appsecret_proof", "appsecret_time":
			c.fail(n, CauseToken, "does not belong in the body", "put the key into the header Authorization: Bearer …")
		}
	}
}

// misplaced refuses a known name at a level where Facebook does not look for it. Next to message Facebook ignores such a
// member, and would send the message without it. Inside message Facebook answers "(#100) Invalid keys … were found in param
// "message"" (botpress/botpress#2227). Names that this package does not know are left to Facebook.
func (c *checker) misplaced(message int32) {
	for n := range c.children(0) {
		switch string(c.name(n)) {
		case "text", "attachment", "attachments", "template", "sticker_id", "dynamic_text", "quick_replies", "quickReplies":
			if c.hasContent(n) {
				c.fail(n, CauseMisplaced, "is next to message", "put it inside message")
			}
		}
	}
	if message == 0 {
		return
	}
	for n := range c.children(message) {
		switch string(c.name(n)) {
		case "recipient", "messaging_type", "tag", "notification_type", "sender_action", "persona_id", "reply_to", "thread_control":
			if c.hasContent(n) {
				c.fail(n, CauseMisplaced, "is inside message", "put it next to message")
			}
		case "quickReplies":
			c.fail(n, CauseMisplaced, "is not Facebook's spelling", "write quick_replies")
		}
	}
}

// body returns the request as it will be sent.
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

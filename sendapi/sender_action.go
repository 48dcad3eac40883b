package sendapi

// A senderAction tells the person something other than a message, such as that the page is typing. It goes alone with the
// recipient: together with a message it
// fails with code 100, subcode 2018014. The answer to it has a recipient_id and no message_id.
type senderAction string

// The sender actions (Sender actions guide, 2026-01-21). Upper and lower case are taken: the guide has lower case, the
// Page messages reference has capitals. An unknown action is accepted, for Facebook to judge.
const (
	typingOn  senderAction = "typing_on"
	typingOff senderAction = "typing_off"
	markSeen  senderAction = "mark_seen"

	// React and Unreact need a payload beside them: {"message_id":"…","reaction":"😊"}, without reaction for Unreact.
	react   senderAction = "react"
	unreact senderAction = "unreact"
)

// checkSenderAction checks the payload of the actions that have one. The Page messages reference calls it a string, the guide
// shows an object; a string is left to Facebook.
func (c *checker) checkSenderAction(action senderAction) {
	if action != react && action != unreact {
		return
	}
	payload := c.member(0, "payload")
	switch {
	case payload == 0:
		c.failMember(0, "payload", causeMissing, "is missing", "name the message in its message_id")
	case c.kind(payload) == '{':
		c.required(payload, "message_id", 0)
		if action == react {
			c.required(payload, "reaction", 0)
		}
	}
}

// checkReplyTo checks the message a request answers to, {"mid":"…"}. The Page messages reference once called it a string.
func (c *checker) checkReplyTo() {
	if n := c.member(0, "reply_to"); n != 0 && c.kind(n) == '{' {
		c.required(n, "mid", 0)
	}
}

package sendapi

import "strconv"

// Receipt is Facebook's answer that it carried a request out.
type Receipt struct {
	// RecipientID is the person's PSID. It is empty for a message to a user_ref or a
	// phone number (Send API reference). For a private reply to a comment or post it is
	// expected to be the PSID, which was not verified. String and GoString leave it out.
	RecipientID string

	// MessageID is the id that webhooks have for the message. It is opaque, in forms
	// such as mid.$cAAJ…, m_… and AG5Hz2U…. It is empty for a sender action, which makes
	// no message.
	MessageID string

	// Usage is from the headers of the answer.
	Usage Usage
}

// Unnamed reports that the answer was HTTP 2xx and a JSON object with neither an id
// nor an error. The message counts as sent, but webhooks cannot be matched with it.
// Meta documents no such answer, so it is worth a warning.
func (r Receipt) Unnamed() bool { return r.RecipientID == "" && r.MessageID == "" }

// String names the message and not the person.
func (r Receipt) String() string { return "message " + strconv.Quote(r.MessageID) }

// GoString is String, so that %#v shows no PSID.
func (r Receipt) GoString() string { return r.String() }

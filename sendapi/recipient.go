package sendapi

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// RecipientKind is the form in which a request names its recipient. The value is the name of the field.
type RecipientKind string

// The forms of a recipient. A request has exactly one of them (Send API reference).
//
// The Page messages reference lists two more without a word of explanation, player_id and login_id. Nothing else is known
// of them and they are not accepted.
const (
	// ByPSID is the page-scoped id of a person who has written to the page: a numeric string of its own for every page.
	// The answer carries it back as recipient_id.
	ByPSID RecipientKind = "id"

	// ByUserRef is the user_ref of the checkbox plugin. The answer has no recipient_id.
	ByUserRef RecipientKind = "user_ref"

	// ByCommentID and ByPostID are a private reply to a comment or to a visitor's post: one for each, within 7 days. It
	// opens no 24-hour window until the person answers (Private replies guide). That the answer's recipient_id is the
	// person's PSID is likely, and not verified.
	ByCommentID RecipientKind = "comment_id"
	ByPostID    RecipientKind = "post_id"

	// ByNotificationToken is the token of an opt-in to marketing messages, formerly recurring notifications. These were
	// retired on 2026-02-10; a third party says that they live on in Australia, the EU, Japan, Korea and the UK.
	ByNotificationToken RecipientKind = "notification_messages_token"

	// ByOneTimeToken is the token of a one-time notification, legacy. Whether it still works is not known.
	ByOneTimeToken RecipientKind = "one_time_notif_token"

	// ByPhoneNumber is a phone number such as +1(212)555-2368, with an optional name object (first_name, last_name)
	// beside it: customer matching, a closed beta and legacy. The answer has no recipient_id.
	ByPhoneNumber RecipientKind = "phone_number"
)

var recipientKinds = [...]RecipientKind{
	ByPSID, ByUserRef, ByCommentID, ByPostID, ByNotificationToken, ByOneTimeToken, ByPhoneNumber,
}

// A Recipient is whom a request goes to.
type Recipient struct {
	Kind  RecipientKind
	Value string // in full, for comparing; logs and errors take Short
}

// Short is the value shortened for logs: its last four characters, and nothing of a value too short to hide the rest.
func (r Recipient) Short() string {
	const shown, hidden = 4, 4
	if utf8.RuneCountInString(r.Value) < shown+hidden {
		return "…"
	}
	cut := len(r.Value)
	for range shown {
		_, size := utf8.DecodeLastRuneInString(r.Value[:cut])
		cut -= size
	}
	return "…" + r.Value[cut:]
}

// String is Short, so that nothing prints the full value by accident.
func (r Recipient) String() string { return r.Short() }

// GoString is Short too.
func (r Recipient) GoString() string { return r.Short() }

const recipientRemedy = `write "recipient":{"id":"…"} with the PSID`

func (c *checker) recipient() Recipient {
	obj := c.object(0, "recipient")
	if obj == 0 {
		if batch := c.member(0, "batch"); batch != 0 {
			c.fail(batch, CauseUnsupported, "is there, and batches are not supported here", "send one request for each message")
		}
		c.failMember(0, "recipient", CauseMissing, "is missing", recipientRemedy)
		return Recipient{}
	}
	var kind RecipientKind
	var value int32
	for _, k := range recipientKinds {
		switch n := c.member(obj, string(k)); {
		case n == 0:
		case value != 0:
			c.fail(obj, CauseRecipient, "names "+string(kind)+" and "+string(k), "keep one of them")
		default:
			kind, value = k, n
		}
	}
	if value == 0 {
		c.fail(obj, CauseRecipient, "names nobody", recipientRemedy)
		return Recipient{}
	}
	if kind == ByPhoneNumber {
		c.object(obj, "name")
	}
	return Recipient{Kind: kind, Value: c.recipientValue(kind, value)}
}

// recipientValue is the value of the recipient, which goes to Facebook as a string. A template without quotes round its
// tag makes a number of it; then quotes are put round its digits, which pass through no float.
func (c *checker) recipientValue(kind RecipientKind, n int32) string {
	const (
		notWhole, notWholeRemedy = "is not a whole number", "keep it as a string attribute and put quotes round its tag"
		notPSID, notPSIDRemedy   = "is not a PSID", "check which attribute its tag names; a PSID is digits"
	)
	switch c.kind(n) {
	case '"':
	case '0':
		val := c.nodes[n].val
		digits := string(c.src[val.start:val.end])
		if !isDigits(digits) {
			c.fail(n, CauseRecipient, notWhole, notWholeRemedy)
		}
		if kind == ByPSID && digits == "0" {
			c.fail(n, CauseRecipient, notPSID, notPSIDRemedy)
		}
		c.quote = n
		return digits
	default:
		c.fail(n, CauseType, "must be text", "put it in quotes")
		return ""
	}
	text := c.text(n)
	if isBlank(text) {
		c.fail(n, CauseEmpty, "is empty", emptyRecipientRemedy(kind))
		return ""
	}
	value, ok := c.string(n)
	if !ok {
		c.fail(n, CauseEncoding, "is not UTF-8", "send it as UTF-8")
	}
	if kind == ByPSID && !isPSID(value) {
		switch {
		case isRounded(value) && !isDigits(value):
			c.fail(n, CauseRecipient, notWhole, notWholeRemedy)
		case isPSID(strings.TrimSpace(value)):
			c.fail(n, CauseRecipient, "has spaces round it", "use the Liquid filter strip")
		default:
			c.fail(n, CauseRecipient, notPSID, notPSIDRemedy)
		}
	}
	return value
}

func emptyRecipientRemedy(kind RecipientKind) string {
	if kind == ByPSID {
		return `add a filter "messenger_id is not blank" to the campaign`
	}
	return "add a filter to the campaign that its attribute is not blank"
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// isRounded reports whether s, which is not all digits, is how a large number looks after it was a float: 1.2345e15 or 1234567890123456.0.
func isRounded(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && isDigit(s[0])
}

// isPSID reports whether s could be a PSID: digits, not all of them 0.
//
// The Page messages reference says "numeric string", and Facebook answers anything else with "(#100) Param recipient[id]
// must be a valid ID string (e.g., "123")" (botpress/botpress#559). What comes in its place is a placeholder left in the
// template, "undefined" or "null" from a program, an e-mail address, or an id of something else.
func isPSID(s string) bool { return isDigits(s) && strings.Trim(s, "0") != "" }

package sendapi

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"
)

// RecipientKind is the form in which a request names its recipient: the name of the field of recipient that holds it, which
// is id (a PSID), user_ref, comment_id, post_id, notification_messages_token, one_time_notif_token or phone_number.
type RecipientKind string

// The forms of a recipient. A request has exactly one of them (Send API reference).
//
// The Page messages reference lists two more without explanation, player_id and login_id. Nothing else is known
// of them and they are not accepted.
const (
	// byPSID is the page-scoped id of a person who has written to the page: a numeric string of its own for every page.
	// The answer carries it back as recipient_id.
	byPSID RecipientKind = "id"

	// byUserRef is the user_ref of the checkbox plugin. The answer has no recipient_id.
	byUserRef RecipientKind = "user_ref"

	// byCommentID and byPostID are for a private reply to a comment or to a visitor's post: one reply for each, within 7
	// days. A reply opens no 24-hour window until the person answers (Private replies guide). The answer's recipient_id is
	// probably the person's PSID, which was not verified.
	byCommentID RecipientKind = "comment_id"
	byPostID    RecipientKind = "post_id"

	// byNotificationToken is the token of an opt-in to marketing messages, formerly recurring notifications. These were
	// retired on 2026-02-10; a third party says that they still work in Australia, the EU, Japan, Korea and the UK.
	byNotificationToken RecipientKind = "notification_messages_token"

	// byOneTimeToken is the token of a one-time notification, legacy. Whether it still works is not known.
	byOneTimeToken RecipientKind = "one_time_notif_token"

	// byPhoneNumber is a phone number such as +1(212)555-2368, with an optional name object (first_name, last_name)
	// beside it: customer matching, a closed beta and legacy. The answer has no recipient_id.
	byPhoneNumber RecipientKind = "phone_number"
)

var recipientKinds = [...]RecipientKind{
	byPSID, byUserRef, byCommentID, byPostID, byNotificationToken, byOneTimeToken, byPhoneNumber,
}

// A Recipient is the person a request goes to.
type Recipient struct {
	Kind  RecipientKind
	Value string // in full, for comparisons; logs and errors use Short
}

// PSID returns the recipient of messages to a page-scoped id.
func PSID(psid string) Recipient { return Recipient{byPSID, psid} }

// PSID returns the PSID in full, and false where the recipient is named otherwise.
func (r Recipient) PSID() (psid string, ok bool) {
	if r.Kind != byPSID {
		return "", false
	}
	return r.Value, true
}

// Digest distinguishes recipients without naming them: 12 characters of base64. It has 72 bits, so two recipients with the same
// digest are not to be expected. It is stored with messages, so it is never computed in another way.
func (r Recipient) Digest() string {
	sum := sha256.Sum256([]byte(string(r.Kind) + "\x00" + r.Value))
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}

// Short returns the value shortened for logs: its last four characters, or none if the value has fewer than eight.
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

// String returns Short, so that nothing prints the full value by accident.
func (r Recipient) String() string { return r.Short() }

// GoString returns Short too.
func (r Recipient) GoString() string { return r.Short() }

const recipientRemedy = `write "recipient":{"id":"…"} with the PSID`

func (c *checker) recipient() Recipient {
	obj := c.object(0, "recipient")
	if obj == 0 {
		if batch := c.member(0, "batch"); batch != 0 {
			c.fail(batch, causeUnsupported, "is not supported", "send one request for each message")
		}
		c.failMember(0, "recipient", causeMissing, "is missing", recipientRemedy)
		return Recipient{}
	}
	var kind RecipientKind
	var value int32
	for _, k := range recipientKinds {
		switch n := c.member(obj, string(k)); {
		case n == 0:
		case value != 0:
			c.fail(obj, causeRecipient, "must name one recipient (got "+string(kind)+" and "+string(k)+")", "keep one of them")
		default:
			kind, value = k, n
		}
	}
	if value == 0 {
		c.fail(obj, causeRecipient, "names no recipient", recipientRemedy)
		return Recipient{}
	}
	if kind == byPhoneNumber {
		c.object(obj, "name")
	}
	return Recipient{Kind: kind, Value: c.recipientValue(kind, value)}
}

// recipientValue returns the value of the recipient, which goes to Facebook as a string. A template without quotes around its
// tag makes a number of the value; then checker.body puts quotes around its digits, so that no float rounds them.
func (c *checker) recipientValue(kind RecipientKind, n int32) string {
	const (
		notWhole, notWholeRemedy = "is not a whole number", "keep it as a string attribute and put quotes around its tag"
		notPSID, notPSIDRemedy   = "is not a PSID", "check which attribute its tag names; a PSID consists of digits"
	)
	switch c.kind(n) {
	case '"':
	case '0':
		val := c.nodes[n].val
		digits := string(c.src[val.start:val.end])
		if !isDigits(digits) {
			c.fail(n, causeRecipient, notWhole, notWholeRemedy)
		}
		if kind == byPSID && digits == "0" {
			c.fail(n, causeRecipient, notPSID, notPSIDRemedy)
		}
		c.quote = n
		return digits
	default:
		c.fail(n, causeType, "must be text", "put it in quotes")
		return ""
	}
	if c.blank(n) {
		c.fail(n, causeEmpty, "is empty", emptyRecipientRemedy(kind))
		return ""
	}
	value := string(c.text(n))
	if c.nodes[n].text.halfPair {
		c.fail(n, causeEncoding, "is not UTF-8", "send it as UTF-8")
	}
	if kind == byPSID && !isPSID(value) {
		switch {
		case isRounded(value) && !isDigits(value):
			c.fail(n, causeRecipient, notWhole, notWholeRemedy)
		case isPSID(strings.TrimSpace(value)):
			c.fail(n, causeRecipient, "has spaces around it", "use the Liquid filter strip")
		default:
			c.fail(n, causeRecipient, notPSID, notPSIDRemedy)
		}
	}
	return value
}

func emptyRecipientRemedy(kind RecipientKind) string {
	if kind == byPSID {
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

// isRounded reports whether s, which is not all digits, looks like a large number that was converted to a float, such as
// 1.2345e15 or 1234567890123456.0.
func isRounded(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && isDigit(s[0])
}

// isPSID reports whether s could be a PSID: digits, not all of them 0. Common wrong values are a placeholder left in the
// template, "undefined" or "null" from a program, an e-mail address, or an id of something else.
//
// The Page messages reference says "numeric string", and Facebook answers anything else with "(#100) Param recipient[id]
// must be a valid ID string (e.g., "123")" (botpress/botpress#559).
func isPSID(s string) bool { return isDigits(s) && strings.Trim(s, "0") != "" }

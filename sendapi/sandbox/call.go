package sandbox

import (
	"encoding/hex"
	"time"
)

// Digest is the SHA-256 of a message's content in canonical form. See MessageDigest.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText makes a digest hexadecimal in JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a digest in hexadecimal.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return hex.ErrLength
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// Call is one call that the sandbox received. It holds the recipient's id in full, and neither message text nor token.
type Call struct {
	Seq int64     `json:"seq"` // position among all calls, from 1
	At  time.Time `json:"at"`  // when the request had been read
	// Page is the id of the page that the token belongs to; empty if it belongs to none.
	Page string `json:"page,omitempty"`
	// Recipient is the PSID; other forms of recipient have their key before them, as in user_ref:1234.
	Recipient string `json:"recipient,omitempty"`
	// Action is the sender action; empty for a message.
	Action string `json:"action,omitempty"`
	// Body identifies the message's content; zero if there was none that could be read.
	Body Digest `json:"body,omitzero"`
	// Status is the HTTP status answered, 0 if there was no whole answer. Code and Subcode are those of the Graph error in it.
	Status  int `json:"status"`
	Code    int `json:"code,omitempty"`
	Subcode int `json:"subcode,omitempty"`
	// Accepted says that the message reached the person, or the sender action was carried out, whatever the answer was.
	Accepted bool `json:"accepted"`
	// Lost says that the call was accepted and its answer did not say so or did not arrive.
	Lost bool `json:"lost,omitempty"`
	// MessageID is the id of an accepted message, whether it was answered or not.
	MessageID string `json:"message_id,omitempty"`
	// Auth is how the token was sent: bearer, query, form or json; empty without a token.
	Auth string `json:"auth,omitempty"`
}

// Counts count calls. Calls = Accepted + Actions + Refused + Dropped.
type Counts struct {
	Calls    int `json:"calls"`
	Accepted int `json:"accepted"` // messages that reached a person
	Actions  int `json:"actions"`  // sender actions carried out
	Refused  int `json:"refused"`  // answered with an error, the message not delivered
	Dropped  int `json:"dropped"`  // no answer, half a one or an empty one, the message not delivered
	// Duplicates are accepted messages that repeat an earlier one: same page, recipient and content.
	Duplicates int `json:"duplicates"`
	// Lost are accepted messages whose answer did not say so or did not arrive.
	Lost int `json:"lost"`
}

// Distinct is the number of different messages delivered.
func (c Counts) distinct() int { return c.Accepted - c.Duplicates }

// PageSummary counts the calls of one page.
type PageSummary struct {
	Counts
	// RefusedBy counts refusals by code or code/subcode, as in 10/2018278, or by HTTP status where there was no code, as in
	// http 502.
	RefusedBy map[string]int `json:"refused_by"`
	// MaxInSecond is the highest number of calls in any sliding second.
	MaxInSecond int       `json:"max_in_second"`
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`
}

// Summary counts all calls since the start or the last reset of the record. Its MaxInSecond is that of the busiest page.
type Summary struct {
	PageSummary
	Pages map[string]PageSummary `json:"pages"`
	// Forgotten is how many calls have left the record because of Config.RecordLimit. They are still counted.
	Forgotten int `json:"forgotten"`
}

// Duplicate is a message that was delivered more than once.
type Duplicate struct {
	Page      string `json:"page"`
	Recipient string `json:"recipient"`
	Body      Digest `json:"body"`
	Times     int    `json:"times"`
}

// Query chooses calls; zero fields match all.
type Query struct {
	Page      string
	Recipient string    // in full
	Since     time.Time // at or after
	Limit     int       // at most this many, the newest
}

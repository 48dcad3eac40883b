package queue

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const deadSubjects = "brazier.dead."

// Reason is why a job cannot be delivered.
type Reason struct {
	Class    string // one of package sendapi's classes; part of the subject
	Code     int    // Facebook's error code, 0 if there was none
	Subcode  int
	TraceID  string // Facebook's fbtrace_id
	Attempts int    // counted attempts, the last one included
	Text     string // for people; holds no message text, no token and no full PSID
}

// The headers of a dead letter, beside those of its job.
const (
	headerClass    = "Brazier-Class"
	headerCode     = "Brazier-Code"
	headerSubcode  = "Brazier-Subcode"
	headerTraceID  = "Brazier-Trace-Id"
	headerAttempts = "Brazier-Attempts"
	headerReason   = "Brazier-Reason"
	headerLane     = "Brazier-Lane"
	headerDied     = "Brazier-Died" // Unix milliseconds
)

// letter is the whole job with the reason in its headers: what is replayed later is what was accepted.
func (d *Delivery) letter(why Reason) *nats.Msg {
	msg := &nats.Msg{Subject: deadSubjects + d.Page + "." + why.Class, Header: make(nats.Header, 18), Data: d.Body}
	d.writeHeaders(msg.Header)
	msg.Header[headerID] = []string{d.ID}
	if d.fingerprint != "" { // a replay needs the recipient's digest
		msg.Header[headerFingerprint] = []string{d.fingerprint}
	}
	set := func(name, value string) {
		if value != "" {
			msg.Header[name] = []string{value}
		}
	}
	set(headerLane, string(d.Lane))
	set(headerClass, why.Class)
	if why.Code != 0 {
		set(headerCode, strconv.Itoa(why.Code))
	}
	if why.Subcode != 0 {
		set(headerSubcode, strconv.Itoa(why.Subcode))
	}
	set(headerTraceID, why.TraceID)
	set(headerAttempts, strconv.Itoa(why.Attempts))
	set(headerReason, why.Text)
	set(headerDied, strconv.FormatInt(d.q.Now().UnixMilli(), 10))
	return msg
}

// fit makes a letter small enough for the server. The job as it was accepted is smaller by what a letter adds: the text
// of the reason is cut, and then the oldest of earlier deaths go. Body and tracking stay.
func (q *Queue) fit(msg *nats.Msg) {
	const messageID = 128 // room for the header that publishing adds
	over := func() int {
		if q.nc.MaxPayload() <= 0 { // not connected yet
			return 0
		}
		return msg.Size() - len(msg.Subject) + messageID - int(q.nc.MaxPayload())
	}
	if text := msg.Header.Get(headerReason); over() > 0 && text != "" {
		text = text[:max(len(text)-over(), 0)]
		msg.Header[headerReason] = []string{strings.ToValidUTF8(text, "")}
	}
	for over() > 0 && len(msg.Header[headerDeath]) > 0 {
		msg.Header[headerDeath] = msg.Header[headerDeath][1:]
	}
}

// letterID is the letter's message id: the same however often one job is buried, another for the job that comes under
// the same idempotency key after its window, and dies while the stream still knows the first one's letter.
func (d *Delivery) letterID() string {
	return d.ID + letterIDSuffix(d.Accepted)
}

func letterIDSuffix(accepted time.Time) string {
	return "." + strconv.FormatInt(accepted.UnixMilli(), 10)
}

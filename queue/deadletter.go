package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const deadSubjects = "brazier.dead."

// Reason tells why a job cannot be delivered.
type Reason struct {
	Class    string // a class of package sendapi; part of the subject
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
	headerDied     = "Brazier-Died"  // Unix milliseconds
	headerTries    = "Brazier-Tries" // JSON
)

// DeadLetter is a whole job that could not be delivered, with the reason.
type DeadLetter struct {
	Job
	Reason
	Tries Tries     // the calls to Facebook, as far as they are kept
	Died  time.Time // when the dead letter was stored, by the server's clock
	Seq   uint64    // its number in BRAZIER_DEAD, by which it is replayed and discarded
	Size  int       // bytes of the body, also where the body was not asked for
}

// deadLetterMessage is the whole job with the reason in its headers: what is replayed later is what was accepted.
func (d *Delivery) deadLetterMessage(why Reason) *nats.Msg {
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
	if len(d.Tries.Kept) > 0 {
		tries, _ := json.Marshal(d.Tries) // cannot fail: strings and numbers
		set(headerTries, string(tries))
	}
	return msg
}

func readDeadLetter(subject string, h nats.Header, body []byte, stored time.Time, seq uint64) DeadLetter {
	get := func(name string) string {
		if v := h[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(get(name)) // 0 if there is none
		return n
	}
	page, class, _ := strings.Cut(strings.TrimPrefix(subject, deadSubjects), ".")
	l := DeadLetter{
		Job: readJob(get(headerID), page, cmp.Or(Lane(get(headerLane)), Bulk), h, body, stored),
		Reason: Reason{
			Class: class, Code: number(headerCode), Subcode: number(headerSubcode), TraceID: get(headerTraceID),
			Attempts: number(headerAttempts), Text: get(headerReason),
		},
		Died: stored,
		Seq:  seq,
		Size: max(len(body), number(nats.MsgSize)), // the header stands in for a body that was left out
	}
	_ = json.Unmarshal([]byte(get(headerTries)), &l.Tries) // none where another program wrote the header
	l.ID = strings.TrimSuffix(l.ID, deadLetterIDSuffix(l.Accepted))
	if l.ID == "" { // published by hand, without a message id
		l.ID = "UNNAMED" + strconv.FormatUint(seq, 10)
	}
	return l
}

// fit makes a dead letter small enough for the server. The job itself was small enough; the dead letter adds headers.
// The tries are removed, then the text of the reason is cut, and then the oldest of earlier deaths are removed. Body and tracking
// stay.
func (q *Queue) fit(msg *nats.Msg) {
	const messageID = 128 // bytes for the header that publishing adds
	over := func() int {
		if q.nc.MaxPayload() <= 0 { // not connected yet
			return 0
		}
		return msg.Size() - len(msg.Subject) + messageID - int(q.nc.MaxPayload())
	}
	if over() > 0 {
		delete(msg.Header, headerTries)
	}
	if text := msg.Header.Get(headerReason); over() > 0 && text != "" {
		text = text[:max(len(text)-over(), 0)]
		msg.Header[headerReason] = []string{strings.ToValidUTF8(text, "")}
	}
	for over() > 0 && len(msg.Header[headerDeath]) > 0 {
		msg.Header[headerDeath] = msg.Header[headerDeath][1:]
	}
}

// deadLetterID is the message id of the dead letter. It is the same however often one job is made one. It is another
// for a job that has the same idempotency key after its window, and dies while the stream still remembers the first
// one's id.
func (d *Delivery) deadLetterID() string {
	return d.ID + deadLetterIDSuffix(d.Accepted)
}

func deadLetterIDSuffix(accepted time.Time) string {
	return "." + strconv.FormatInt(accepted.UnixMilli(), 10)
}

// ErrNoDeadLetter says that there is no dead letter with this number: it was replayed, discarded, or became too old.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DeadLetter returns one dead letter with its body, or [ErrNoDeadLetter].
func (q *Queue) DeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	l, err := q.readDeadLetter(ctx, seq)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("queue: dead letter %d: %w", seq, redact(err))
	}
	return l, nil
}

func (q *Queue) readDeadLetter(ctx context.Context, seq uint64) (DeadLetter, error) {
	var msg *jetstream.RawStreamMsg
	err := q.retry(ctx, readsOf(StreamDead), func(ctx context.Context) (err error) {
		msg, err = q.dead.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return backoff.Permanent(ErrNoDeadLetter)
		}
		return q.reportMissing(err)
	})
	if err != nil {
		return DeadLetter{}, err
	}
	return readDeadLetter(msg.Subject, msg.Header, msg.Data, msg.Time, msg.Sequence), nil
}

// Discard removes a dead letter for good. It returns [ErrNoDeadLetter] if there is none. The bytes of the dead letter
// stay in the stream's files until the server rewrites those.
func (q *Queue) Discard(ctx context.Context, seq uint64) error {
	if err := q.remove(ctx, seq); err != nil {
		return fmt.Errorf("queue: discard dead letter %d: %w", seq, redact(err))
	}
	return nil
}

// remove repeats its request until the server confirms that the dead letter is gone. If it was gone before the first request
// remove returns ErrNoDeadLetter.
func (q *Queue) remove(ctx context.Context, seq uint64) error {
	asked := false
	return q.retry(ctx, writesTo(StreamDead), func(ctx context.Context) error {
		err := q.dead.DeleteMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) { // the error does not tell why
			_, gone := q.dead.GetMsg(ctx, seq)
			switch {
			case errors.Is(gone, jetstream.ErrMsgNotFound) && asked:
				return nil // removed by an earlier request, whose answer was lost
			case errors.Is(gone, jetstream.ErrMsgNotFound):
				return backoff.Permanent(ErrNoDeadLetter)
			}
		}
		asked = true
		return q.reportMissing(err)
	})
}

package queue

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Job is one message on its way to one page.
type Job struct {
	// ID names the job in logs, answers and dead letters. It is unique: see [NewID] and [KeyedID].
	ID string
	// Page is the Facebook page id, digits only.
	Page string
	Lane Lane
	// Key is the caller's idempotency key, empty if it gave none.
	Key string
	// Recipient is shortened for logs. Body alone has the whole recipient.
	Recipient string
	// RecipientDigest is a digest of the whole recipient.
	RecipientDigest string
	Tracking        Tracking
	Accepted        time.Time // when the ingress accepted the job, to the millisecond
	Expire          time.Time // not sent after this, to the millisecond
	// Deaths are the earlier ends of a job that was replayed, oldest first.
	Deaths []Death
	Body   []byte
}

// Tracking is what the caller tells about the origin of the message. Logs and dead letters have it as it was given.
type Tracking struct {
	Campaign, Canvas, Dispatch, Message, User, ExternalID string
}

// idEncoding keeps ids to digits and capital letters, so that they survive subjects, file names and being read aloud.
var idEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

const idBytes = 15 // 120 bits, 24 characters

// NewID returns the id of a job without an idempotency key.
func NewID() string {
	var b [idBytes]byte
	rand.Read(b[:]) // never fails, see its documentation
	return idEncoding.EncodeToString(b[:])
}

// KeyedID returns the id of the job of an idempotency key. It is always the same for the same page and key, so that the
// answer to a duplicate has the first job's id without a look-up.
func KeyedID(page, key string) string {
	sum := sha256.Sum256([]byte(page + "\x00" + key))
	return idEncoding.EncodeToString(sum[:idBytes])
}

// The headers of a stored job. Values are omitted when empty.
const (
	headerID         = "Brazier-Id"
	headerKey        = "Brazier-Key"
	headerRecipient  = "Brazier-Recipient"
	headerCampaign   = "Brazier-Campaign"
	headerCanvas     = "Brazier-Canvas"
	headerDispatch   = "Brazier-Dispatch"
	headerMessage    = "Brazier-Message"
	headerUser       = "Brazier-User"
	headerExternalID = "Brazier-External-Id"
	headerAccepted   = "Brazier-Accepted" // Unix milliseconds
	headerExpire     = "Brazier-Expire"   // Unix milliseconds

	headerFingerprint = "Brazier-Fingerprint"
	headerWindow      = "Brazier-Window" // seconds
)

const jobSubjects = "brazier.jobs."

// check refuses a job that could not be stored under a subject of its own, or not be found again.
func (j *Job) check() error {
	switch {
	case !isID(j.ID):
		return fmt.Errorf("job id must consist of letters, digits, - and _ (got %q)", j.ID)
	case !isPageID(j.Page):
		return fmt.Errorf("page must be a Facebook page id, digits only (got %q)", j.Page)
	case !j.Lane.isKnown():
		return fmt.Errorf("lane must be urgent, bulk, media, events, outcomes or braze-WORKSPACE (got %q)", j.Lane)
	}
	return nil
}

func (l Lane) isKnown() bool {
	workspace, ok := l.Workspace()
	return l == Urgent || l == Bulk || l == Media || l == Events || l == Outcomes || ok && isID(workspace)
}

// isID reports whether s can be a part of a subject, and survives file names.
func isID(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
	}) < 0
}

func isPageID(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// message returns the job as it is stored. Its id is part of the subject.
func (j *Job) message(at store, f fingerprint, window time.Duration) *nats.Msg {
	msg := &nats.Msg{Subject: at.jobSubject(j.Page, j.Lane, j.ID), Header: make(nats.Header, 16), Data: j.Body}
	j.writeHeaders(msg.Header)
	msg.Header[headerFingerprint] = []string{f.String()}
	msg.Header[headerWindow] = []string{strconv.FormatInt(int64(window/time.Second), 10)}
	return msg
}

func (j *Job) writeHeaders(h nats.Header) {
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(headerKey, j.Key)
	set(headerRecipient, j.Recipient)
	set(headerCampaign, j.Tracking.Campaign)
	set(headerCanvas, j.Tracking.Canvas)
	set(headerDispatch, j.Tracking.Dispatch)
	set(headerMessage, j.Tracking.Message)
	set(headerUser, j.Tracking.User)
	set(headerExternalID, j.Tracking.ExternalID)
	set(headerAccepted, strconv.FormatInt(j.Accepted.UnixMilli(), 10))
	set(headerExpire, strconv.FormatInt(j.Expire.UnixMilli(), 10))
	writeDeaths(h, j.Deaths)
}

// readJob is the inverse of message, also for the job of a dead letter. A stored job whose times cannot be read is kept and
// delivered rather than lost: it counts as accepted when the stream stored it, and as never expiring.
func readJob(id, page string, lane Lane, h nats.Header, body []byte, stored time.Time) Job {
	get := func(name string) string {
		if v := h[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	return Job{
		ID:              id,
		Page:            page,
		Lane:            lane,
		Key:             get(headerKey),
		Recipient:       get(headerRecipient),
		RecipientDigest: parseFingerprint(get(headerFingerprint)).Recipient,
		Tracking: Tracking{
			Campaign:   get(headerCampaign),
			Canvas:     get(headerCanvas),
			Dispatch:   get(headerDispatch),
			Message:    get(headerMessage),
			User:       get(headerUser),
			ExternalID: get(headerExternalID),
		},
		Accepted: millis(get(headerAccepted), stored),
		Expire:   millis(get(headerExpire), time.Time{}),
		Deaths:   readDeaths(h),
		Body:     body,
	}
}

func millis(s string, otherwise time.Time) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return otherwise
	}
	return time.UnixMilli(ms)
}

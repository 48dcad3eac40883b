package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What became of a job
//
// A job has at most one record, under brazier.records.<page>.<lane>.<id>. The stream keeps one message per subject, so a new
// record replaces the old one, and every write is on the condition that the one it replaces is still there. Of two workers
// that were handed the same job, one can therefore begin it.
//
//	          Begin                    Retry, Release
//	(none) ──────────▶ begun ────────────────────────────▶ waiting
//	   │                │ ▲ └─ renewed while work goes on     │
//	   │                │ └───────────── Begin ───────────────┘
//	   │ Bury           │ Done, Bury
//	   └────────────────┴──────▶ done ── the key's window ends ──▶ (none)
//
// What a delivery finds decides what is done with it (see record.judge):
//
//	no record                            nobody ever began it: it may be begun
//	waiting                              it may be begun, once its delay is over
//	begun, by a worker that may live     it is left alone until that worker's lease is over
//	begun, by a worker that is gone      it is in doubt: it may have been sent
//	done                                 it is acknowledged, and nobody works on it
//
// Nothing else counts: not the server's count of deliveries, which a single server forgets when it is killed, nor which
// server or which run of it handed the job out.

// state is that of a job that was begun at least once.
type state string

const (
	begun   state = "begun"
	waiting state = "waiting"
	done    state = "done"
)

type record struct {
	State state `json:"state"`
	// Attempts counts the attempts before this one (begun) or so far (waiting, done), lost ones included.
	Attempts int `json:"attempts,omitempty"`
	// Counts has the attempts that ended with a retry, by its reason. Records of older versions have none.
	Counts map[string]int `json:"counts,omitempty"`
	// Lost counts the attempts whose worker was lost, over the job's life.
	Lost int `json:"lost,omitempty"`
	// Worker is who began it: see [Queue.worker].
	Worker string `json:"worker,omitempty"`
	// Doubt is set on a job that was released while in doubt: nobody has acted on that yet.
	Doubt string `json:"doubt,omitempty"`
	// NotBefore is when a waiting job may be begun, in Unix milliseconds by the server's clock.
	NotBefore int64 `json:"not_before,omitempty"`
	// Reason is why the job waits, or how it ended: an error class, or [released].
	Reason string `json:"reason,omitempty"`
	// Refused is when it was first refused for its page's sake, in Unix milliseconds, and Refusals is how often it was.
	Refused  int64 `json:"refused,omitempty"`
	Refusals int   `json:"refusals,omitempty"`
	// Fingerprint is the job's: see [fingerprint].
	Fingerprint string `json:"fingerprint,omitempty"`
	// Write differs in every record ever written. By it a process knows a record of its own whose acknowledgement was lost.
	Write string `json:"write"`

	seq uint64    // in the stream
	at  time.Time // when it was stored, by the server's clock
}

// finding is what a record says about a delivery of its job.
type finding int

const (
	free     finding = iota // it may be begun
	lost                    // it may be begun, and may have been sent
	tooEarly                // it may be begun later
	foreign                 // another worker may be at it
	ended                   // it is settled
)

// judge returns what the record says at a moment of the server's clock, and for tooEarly and foreign how long that is so.
// r is nil where there is none. A worker whose lease ran out while this process had no connection could not renew it, so
// the lease counts from back, when the connection was last made, if that is later. isGone reports workers that are known
// to have ended.
func (r *record) judge(now, back time.Time, lease time.Duration, isGone func(worker string) bool) (finding, time.Duration) {
	switch {
	case r == nil:
		return free, 0
	case r.State == done:
		return ended, 0
	case r.State == waiting:
		if wait := time.UnixMilli(r.NotBefore).Sub(now); r.NotBefore != 0 && wait > 0 {
			return tooEarly, wait
		}
		if r.Doubt != "" {
			return lost, 0
		}
		return free, 0
	case isGone(r.Worker):
		return lost, 0
	}
	renewed := r.at
	if back.After(renewed) {
		renewed = back
	}
	if left := lease - now.Sub(renewed); left > 0 {
		return foreign, min(left, lease) // a clock that was set back makes nobody wait longer
	}
	return lost, 0
}

// counts returns the attempts by reason. Where an older version counted all together, they count for the reason of the last.
func (r *record) counts() map[string]int {
	if n := r.Attempts - r.Lost; r.Counts == nil && r.State == waiting && n > 0 && r.Reason != "" && r.Reason != released {
		return map[string]int{r.Reason: n}
	}
	return r.Counts
}

// released is the reason of a record whose job was put back uncounted.
const released = "released"

// ofAnother reports whether the record is that of a settled job with the same id and another recipient: the two were accepted
// in one moment, before either could be told that its key was used. Both are to be delivered.
func (r *record) ofAnother(mine string) bool {
	if r == nil || r.State != done {
		return false
	}
	theirs, ours := parseFingerprint(r.Fingerprint), parseFingerprint(mine)
	return theirs.Nonce != ours.Nonce && theirs.Recipient != ours.Recipient
}

const recordSubjects = "brazier.records."

func recordSubject(page string, lane Lane, id string) string {
	return recordSubjects + page + "." + string(lane) + "." + id
}

// recordsWithID is the subject of a record with this id, whatever the lane of its job.
func recordsWithID(page, id string) string { return recordSubject(page, "*", id) }

// recordAge bounds the life of the record of a job that is not settled: longer than a job may be delayed and a NATS
// cluster be away. A record that is gone makes its job look as if nobody had begun it.
const recordAge = 30 * 24 * time.Hour

// minDoneAge is how long a done record is kept at the least, also where the key's window has ended meanwhile: the job may
// not be acknowledged yet, and its publisher, whose answer was lost, may ask again.
const minDoneAge = 10 * time.Minute

// message makes a conditional write of the record. seq is that of the record it replaces, 0 if there must be none.
func (r *record) message(subject string, seq uint64, keep time.Duration) *write {
	data, _ := json.Marshal(r) // cannot fail: numbers and strings
	return newWrite(&nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{keep.Round(time.Second).String()},
	}}, subject, seq)
}

// readRecord reads a record. One that cannot be read, since somebody else wrote it, puts its job in doubt.
func readRecord(msg *jetstream.RawStreamMsg) *record {
	r := &record{}
	if err := json.Unmarshal(msg.Data, r); err != nil || (r.State != begun && r.State != waiting && r.State != done) {
		r = &record{State: begun}
	}
	r.seq, r.at = msg.Sequence, msg.Time
	return r
}

// findRecord returns the record of a job, nil if there is none. Any replica may answer: who acts on an old answer fails at
// the condition of its write.
func (q *Queue) findRecord(ctx context.Context, subject string) (*record, error) {
	var found *record
	err := q.retry(ctx, readsOf(StreamRecords), func(ctx context.Context) error {
		msg, err := q.records.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			found = nil
			return nil
		}
		if err != nil {
			return unanswered(ctx, err)
		}
		found = readRecord(msg)
		return nil
	})
	return found, err
}

// fingerprint tells a job from others that are published under its id. Recipient and Body are digests, Nonce is that of
// one call of Publish. It goes with the job as a header and with the record as a field.
type fingerprint struct{ Recipient, Body, Nonce string }

func (f fingerprint) String() string { return f.Recipient + "." + f.Body + "." + f.Nonce }

func parseFingerprint(s string) (f fingerprint) {
	f.Recipient, s, _ = strings.Cut(s, ".")
	f.Body, f.Nonce, _ = strings.Cut(s, ".")
	return f
}

func (j *Job) newFingerprint() fingerprint {
	return fingerprint{Recipient: j.RecipientDigest, Body: digest(j.Body), Nonce: NewID()[:12]}
}

// digest is long enough that nothing meets by chance: 72 bits.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawStdEncoding.EncodeToString(sum[:9])
}

package queue

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What became of a job
//
// A job has at most one record, under brazier.records.<page>.<lane>.<id>, in the partition of the job. The stream keeps one
// message per subject, so a new record replaces the old one, and each write is on the condition that the record that it replaces
// is still there. If a job was delivered to two workers, only one of them can begin it.
//
//	          Begin                    Retry, Release
//	(none) ──────────▶ begun ────────────────────────────▶ waiting
//	   │                │ ▲ └─ renewed while work goes on     │
//	   │                │ └───────────── Begin ───────────────┘
//	   │ DeadLetter     │ Done, DeadLetter
//	   └────────────────┴──────▶ done ── the key's window ends ──▶ (none)
//
// The record that a delivery finds decides what is done with the job (see record.judge):
//
//	record                            finding    what is done
//	none                              free       nobody ever began the job: it may be begun
//	waiting, its delay is over        free       the job may be begun
//	waiting, its delay is not over    delayed    the job is put off until then
//	waiting, released in doubt        in doubt   the job may have been sent: the caller decides
//	begun, the worker may still run   leased     the job is put off until that worker's lease ends
//	begun, the worker is gone         in doubt   the job may have been sent: the caller decides
//	done                              settled    the delivery is acknowledged
//
// Nothing else counts: neither the server's count of deliveries, which a single server forgets when it is killed, nor
// which server, or which run of it, delivered the job.

// state is that of a job that was begun at least once.
type state string

const (
	stateBegun   state = "begun"
	stateWaiting state = "waiting"
	stateDone    state = "done"
)

type record struct {
	State state `json:"state"`
	// Attempts counts the attempts before this one (begun) or so far (waiting, done), lost ones included.
	Attempts int `json:"attempts,omitempty"`
	// Counts has the attempts that ended with a retry, by its reason. Records of older versions have none.
	Counts map[string]int `json:"counts,omitempty"`
	// Lost counts the attempts whose worker was lost, over all deliveries of the job.
	Lost int `json:"lost,omitempty"`
	// Worker is who began it: see [Queue.worker].
	Worker string `json:"worker,omitempty"`
	// Doubt is set on a job that was released while in doubt: nobody has decided about that yet.
	Doubt string `json:"doubt,omitempty"`
	// NotBefore is when a waiting job may be begun, in Unix milliseconds by the server's clock.
	NotBefore int64 `json:"not_before,omitempty"`
	// Reason is why the job waits, or how it ended: an error class, or [released].
	Reason string `json:"reason,omitempty"`
	// Refused is when the job was first refused in a way that may be about its page, in Unix milliseconds, and Refusals is
	// how often it was.
	Refused  int64 `json:"refused,omitempty"`
	Refusals int   `json:"refusals,omitempty"`
	// Tries are the calls that did not deliver the job. A job that is delivered at once has none, so its record stays small.
	Tries Tries `json:"tries,omitzero"`
	// Fingerprint is the job's: see [fingerprint].
	Fingerprint string `json:"fingerprint,omitempty"`
	// Write is another in every record that is ever written. By it a process recognises a record of its own whose
	// acknowledgement was lost.
	Write string `json:"write"`

	seq uint64    // in the stream
	at  time.Time // when it was stored, by the server's clock
}

// finding is what a record says about a delivery of its job.
type finding int

const (
	foundFree    finding = iota // the job may be begun
	foundInDoubt                // it may be begun, and may have been sent
	foundDelayed                // it may be begun later
	foundLeased                 // another worker may be working on it
	foundSettled                // it is settled
)

// judge returns what the record says at a time of the server's clock, and for foundDelayed and foundLeased how long that is
// so. r is nil where there is no record. A worker could not renew its lease while this process had no connection, so a lease
// counts from back, when the connection was last made, if that is later. isGone reports workers that are known to have
// ended.
func (r *record) judge(now, back time.Time, lease time.Duration, isGone func(worker string) bool) (finding, time.Duration) {
	switch {
	case r == nil:
		return foundFree, 0
	case r.State == stateDone:
		return foundSettled, 0
	case r.State == stateWaiting:
		if wait := time.UnixMilli(r.NotBefore).Sub(now); r.NotBefore != 0 && wait > 0 {
			return foundDelayed, wait
		}
		if r.Doubt != "" {
			return foundInDoubt, 0
		}
		return foundFree, 0
	case isGone(r.Worker):
		return foundInDoubt, 0
	}
	renewed := r.at
	if back.After(renewed) {
		renewed = back
	}
	if left := lease - now.Sub(renewed); left > 0 {
		return foundLeased, min(left, lease) // no longer where the server's clock was set back
	}
	return foundInDoubt, 0
}

// counts returns the attempts by reason. An older version counted all of them together: those count for the last reason.
func (r *record) counts() map[string]int {
	if n := r.Attempts - r.Lost; r.Counts == nil && r.State == stateWaiting && n > 0 && r.Reason != "" && r.Reason != released {
		return map[string]int{r.Reason: n}
	}
	return r.Counts
}

// released is the reason of a record whose job was requeued without being counted.
const released = "released"

// ofAnother reports whether the record is that of a settled job with the same id and another recipient. The two were
// accepted at the same time, before Publish could refuse either of them. Both are to be delivered.
func (r *record) ofAnother(mine string) bool {
	if r == nil || r.State != stateDone {
		return false
	}
	theirs, ours := parseFingerprint(r.Fingerprint), parseFingerprint(mine)
	return theirs.Nonce != ours.Nonce && theirs.Recipient != ours.Recipient
}

const recordSubjects = "brazier.records."

// pagelessSubject is that of a message that belongs to no page and is stored among the records of the first partition, since
// records have a time to live. No page has the id 0.
func pagelessSubject(kind, name string) string { return recordSubjects + "0." + kind + "." + name }

// message makes a conditional write of the record. seq is that of the record it replaces, 0 if there must be none.
func (r *record) message(subject string, seq uint64, keep time.Duration) *write {
	data, _ := json.Marshal(r) // cannot fail: numbers and strings
	return newWrite(&nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{keep.Round(time.Second).String()},
	}}, subject, seq)
}

// readRecord reads a record. A record that cannot be read, since another program wrote it, puts its job in doubt.
func readRecord(msg *jetstream.RawStreamMsg) *record {
	r := &record{}
	if err := json.Unmarshal(msg.Data, r); err != nil || (r.State != stateBegun && r.State != stateWaiting && r.State != stateDone) {
		r = &record{State: stateBegun}
	}
	r.seq, r.at = msg.Sequence, msg.Time
	return r
}

// findRecord returns the record of a job, nil if there is none. Any replica may answer, also one that lags: whoever acts on
// an outdated record fails at the condition of its write.
func (q *Queue) findRecord(ctx context.Context, p *partition, subject string) (*record, error) {
	var found *record
	err := q.retry(ctx, readsOf(p.recordsName), func(ctx context.Context) error {
		msg, err := p.records.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			found = nil
			return nil
		}
		if err != nil {
			return noAnswer(ctx, err)
		}
		found = readRecord(msg)
		return nil
	})
	return found, err
}

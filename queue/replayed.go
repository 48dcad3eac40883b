package queue

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a replay leaves
//
// A replayed message goes on under another id, and its dead letter is removed. So that the id that Braze was given still leads to the
// message, a replay leaves a pointer from the earlier id to the later one, with what the dead letter told, for as long as a dead letter is
// kept. It is not in the record of the job: that record keeps the id from being accepted again, and an idempotency key is to count
// for its window and no longer.

// pointer leads from a replayed dead letter to the job that it became.
type pointer struct {
	Death
	Page  string `json:"page"`
	Lane  Lane   `json:"lane"`
	Next  string `json:"next"` // the id of the job
	Tries Tries  `json:"tries,omitzero"`
}

func pointerSubject(id string) string { return pagelessSubject("replayed", id) }

// leavePointer tries once to store the pointer from a dead letter to its job. Without one [Queue.Trace] of the earlier id knows
// less, and nothing else does. If there is one, it is left: an earlier replay ended before it removed the dead letter.
func (q *Queue) leavePointer(ctx context.Context, l *DeadLetter, to *Job) {
	if !isID(l.ID) { // another program published the job
		return
	}
	p := pointer{Death: to.Deaths[len(to.Deaths)-1], Page: l.Page, Lane: l.Lane, Next: to.ID, Tries: l.Tries}
	data, _ := json.Marshal(p) // cannot fail: strings, numbers and times
	subject := pointerSubject(l.ID)
	keep := q.deadLetterAge().Round(time.Second)
	_, _ = q.first.recording.write(ctx, newWrite(&nats.Msg{Subject: subject, Data: data, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{keep.String()},
	}}, subject, 0))
}

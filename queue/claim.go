package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Claim is a right that at most one process has at a time, such as the right to send the updates for a workspace. It
// belongs to one goroutine. A claim is stored as a message among the records, which the server removes when its time to
// live is over. Each renewal replaces the message, on the condition that no other process has.
type Claim struct {
	q       *Queue
	subject string
	owner   string // names this Claim in its message
	seq     uint64 // of our message, 0 if there is none
	unknown bool   // a call had no answer, so seq may be that of an earlier message
	note    []byte
}

// headerOwner names the Claim that stored a message.
const headerOwner = "Brazier-Owner"

// Note has a text stored with the claim from the next call of Hold on, for everybody to read by [Queue.ClaimNote].
func (c *Claim) Note(text []byte) { c.note = text }

// ClaimNote returns the text that is stored with the claim of a name, nil where nobody has it or there is none. It asks until ctx ends.
func (q *Queue) ClaimNote(ctx context.Context, name string) (text []byte, err error) {
	err = q.retry(ctx, readsOf(StreamRecords), func(ctx context.Context) error {
		msg, err := q.first.records.GetLastMsgForSubject(ctx, pagelessSubject("claim", name))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return q.reportMissing(noAnswer(ctx, err))
		}
		text = msg.Data
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("queue: note of a claim: %w", redact(err))
	}
	return text, nil
}

// NewClaim returns the claim of a name, which consists of letters, digits, - and _. It does not take the claim.
func (q *Queue) NewClaim(name string) *Claim {
	return &Claim{q: q, subject: pagelessSubject("claim", name), owner: rand.Text()}
}

// Hold takes the claim or renews it, for whole seconds, at least one. It returns until when this process has the claim
// for certain, by this machine's monotonic clock, or the zero time if another process has it. After an error it is not
// known which process has the claim; the next call finds out.
func (c *Claim) Hold(ctx context.Context, length time.Duration) (until time.Time, err error) {
	ctx, cancel := c.q.requestContext(ctx)
	defer cancel()
	until, err = c.store(ctx, length)
	if isConditionFailed(err) && c.unknown { // by what an earlier call stored, maybe
		if err = c.find(ctx); err == nil {
			until, err = c.store(ctx, length)
		}
	}
	if isConditionFailed(err) { // another process has the claim, or the time to live of this one is over: the next call takes a claim that is free
		c.seq = 0 // and where it is unknown it stays so: find may have asked a replica that lags
		return time.Time{}, nil
	}
	if err != nil {
		c.unknown = true
		return time.Time{}, fmt.Errorf("queue: claim: %w", redact(c.q.reportMissing(noAnswer(ctx, err))))
	}
	return until, nil
}

func (c *Claim) store(ctx context.Context, length time.Duration) (until time.Time, err error) {
	length = max(length.Truncate(time.Second), time.Second)
	asked := time.Now() // the server counts from later on
	msg := &nats.Msg{Subject: c.subject, Data: c.note, Header: nats.Header{
		jetstream.MsgTTLHeader: []string{length.String()}, headerOwner: []string{c.owner}}}
	ack, err := c.q.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(c.seq), jetstream.WithRetryAttempts(0))
	if err != nil {
		return time.Time{}, err
	}
	c.seq, c.unknown = ack.Sequence, false
	return asked.Add(length), nil
}

// find reads which message is ours.
func (c *Claim) find(ctx context.Context) error {
	msg, err := c.q.first.records.GetLastMsgForSubject(ctx, c.subject)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return err
	}
	c.seq = 0
	if err == nil && msg.Header.Get(headerOwner) == c.owner {
		c.seq = msg.Sequence
	}
	return nil
}

// Release ends the claim, so that another process can have it at once. If that fails, it ends with its time.
func (c *Claim) Release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if c.unknown { // the server stores this one after the earlier ones, which may still be on their way
		_, _ = c.Hold(ctx, time.Second)
	}
	if c.seq == 0 {
		return
	}
	_ = c.q.first.records.DeleteMsg(ctx, c.seq)
	c.seq = 0
}

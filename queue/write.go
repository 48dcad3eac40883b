package queue

import (
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How jobs and records are written
//
// Every job and every record is one message, stored on a condition: that there is no job with its id, or that the record it
// replaces is still there. A single message is stored as a whole or not at all.
//
// A message goes by itself, at once, on the goroutine of its caller. Where the server flushes each message by itself (a
// stream without replicas under sync always), that ends at a thousand a second. So when many messages wait, those that
// come while a batch is on its way make the next batch, and the server flushes an atomic batch as a whole. A batch
// costs the server a small file store of its own, about a millisecond, and pays from some ten messages on (measured on
// nats-server 2.15.2).
//
// A batch fails as a whole if the condition of one message does not hold. Then one request looks up all conditions, the
// writes whose condition does not hold get their result, and the others go again. Whether there are records that must not
// exist is likewise looked up in one request for a batch and stream, before the batch goes.
//
//	write ──few on their way──▶ beginAlone ─▶ publish ─▶ endAlone ─────────────────────────────▶ result
//	      └─many──────────────▶ queued ─▶ fill, split ─▶ dropKnown ────▶ commit ──stored──────▶ results
//	                                                            dropFailed ◀──condition fails──┘

// write is a message on the condition that the last message under subject has the sequence seq; 0: that there is none.
// After an error it may be written again.
type write struct {
	msg     *nats.Msg
	subject string
	seq     uint64
	// absent are subjects in other streams, about which a write cannot have a condition: there must be no message under them
	// when this one is about to be stored. They are looked up in this order.
	absent []lookup
}

// lookup is a subject in a stream.
type lookup struct {
	stream        jetstream.Stream
	name, subject string // the stream's, and in it
}

func newWrite(msg *nats.Msg, subject string, seq uint64) *write {
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(seq, 10)}
	if subject != msg.Subject {
		msg.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{subject}
	}
	return &write{msg: msg, subject: subject, seq: seq}
}

// size is the size that the server compares with its limit for one message.
func (w *write) size() int { return w.msg.Size() - len(w.msg.Subject) }

type writeResult struct {
	seq uint64 // of the message in the stream
	err error
}

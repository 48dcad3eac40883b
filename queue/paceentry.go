package queue

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// paceEntry is the value of <page>.<name> in BRAZIER_PACE. Times are in nanoseconds of Unix time.
type paceEntry struct {
	Next int64 `json:"next,omitempty"` // when the next free slot begins
	// Born is set until the first reservation: when a worker found that the pace was missing.
	Born int64 `json:"born,omitempty"`
}

// load makes sure that p.entry is the server's, as far as this process knows, and that there is one.
func (p *Pace) load(ctx context.Context) error {
	server, asked := p.q.nc.ConnectedServerId(), time.Now()
	p.askedAt = asked
	if p.server != "" && p.server == server && time.Since(p.readAt) < paceMemory {
		return nil
	}
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	bucket := p.q.clock.bucket.Load()
	if bucket == nil { // the clock has not asked for it yet
		p.q.clock.nudge()
		return errMoved
	}
	msg, err := (*bucket).GetLastMsgForSubject(try, p.subject)
	var found paceEntry
	var revision uint64
	switch {
	case err == nil:
		revision = msg.Sequence
		_ = json.Unmarshal(msg.Data, &found) // an entry that another program wrote or removed counts as missing
	case errors.Is(err, jetstream.ErrStreamNotFound):
		p.forget()
		if _, err := p.q.ensurePace(try); err != nil {
			return err
		}
		return errMoved
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		p.forget()
		return err
	}
	if p.revision != 0 && p.revision != revision {
		p.noteContention()
	}
	p.entry, p.revision, p.server, p.readAt = found, revision, server, asked
	if found == (paceEntry{}) {
		return p.store(ctx, paceEntry{Born: p.q.clock.toServer(time.Now()).UnixNano()})
	}
	return nil
}

// store replaces the entry that was loaded, if the server still has that one.
func (p *Pace) store(ctx context.Context, e paceEntry) error {
	server, sent := p.server, time.Now()
	p.askedAt = sent
	p.forget()
	if server != p.q.nc.ConnectedServerId() {
		return errMoved
	}
	data, _ := json.Marshal(e) // cannot fail: numbers
	try, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := p.q.js.PublishMsg(try, &nats.Msg{Subject: p.subject, Data: data},
		jetstream.WithExpectLastSequencePerSubject(p.revision), jetstream.WithRetryAttempts(0))
	if isConditionFailed(err) {
		p.noteContention()
		return errReserved
	}
	if err != nil {
		return err
	}
	if server != p.q.nc.ConnectedServerId() {
		return errMoved // the next run of the server may have stored it, for the same revision of another entry
	}
	took := time.Since(sent)
	p.roundTrip = max(took, (3*p.roundTrip+took)/4)
	p.entry, p.revision, p.server, p.readAt = e, ack.Sequence, server, sent
	return nil
}

// forget makes the next load read. The revision is kept, to see whether another worker wrote meanwhile.
func (p *Pace) forget() { p.server = "" }

package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// TraceState is where a message is.
type TraceState string

const (
	// TraceWaiting: it is in the queue and may be sent, or may be sent later.
	TraceWaiting TraceState = "waiting"
	// TraceBegun: a worker is sending it.
	TraceBegun TraceState = "begun"
	// TraceInDoubt: it is in the queue, and its last attempt ended without a result, so that it may have been sent.
	TraceInDoubt TraceState = "in_doubt"
	// TraceMissing: its record says that it is in the queue, and it is not: a person removed it.
	TraceMissing TraceState = "missing"
	// TraceDelivered: Facebook took it.
	TraceDelivered TraceState = "delivered"
	// TraceDead: it cannot be delivered.
	TraceDead TraceState = "dead"
	// TraceDiscarded: a person had it removed unsent.
	TraceDiscarded TraceState = "discarded"
	// TraceReplayed: it was dead, and goes on under another id.
	TraceReplayed TraceState = "replayed"
)

// Traced is what is known of a message under one of its ids.
type Traced struct {
	// Job has no Body. Where there is neither a job nor a dead letter, only ID, Page and Lane are set.
	Job
	State TraceState
	// At is when that became so, by the server's clock; of a message that no worker began, when it was accepted or replayed.
	At time.Time
	// Attempts is how many attempts were counted, of a message that was delivered the last one included, and Lost is how many of
	// them ended without a result.
	Attempts, Lost int
	// Tries are the calls that did not deliver it. A dead letter has them, and what is in the queue.
	Tries Tries
	// Reason is why it waits for another attempt, or died: a class of package sendapi, or [Released].
	Reason    string
	NotBefore time.Time // when it may be tried again; zero: as soon as its page allows
	Worker    string    // that works on it, as records name it
	Doubt     string    // why it is in doubt
	// Dead is the dead letter, without its body. Nil where a dead message's was discarded or became too old.
	Dead *DeadLetter
	// Death is how it ended before it was replayed, and Next is the id that the replay gave it.
	Death Death
	Next  string
}

// Released is the [Traced.Reason] of a message that a worker took and gave back unsent.
const Released = released

// Trace returns what is known of the message with an id, whatever its page and lane: one element for each id that it has had, since a
// replay gives it another, in the order of time, so that the last one is where the message is now. It returns none where nothing is
// known: the message ended before the window of its idempotency key, or was never accepted. Trace reads every dead letter of the page,
// and calls reading, unless it is nil, with the number of those read so far. Requests are repeated until ctx ends.
func (q *Queue) Trace(ctx context.Context, id string, reading func(n int)) ([]Traced, error) {
	t := tracer{q: q, ids: []string{id}}
	err := t.pointers(ctx, id)
	if err == nil {
		err = t.live(ctx)
	}
	if err == nil {
		err = t.deadLetters(ctx, reading)
	}
	if err != nil {
		return nil, fmt.Errorf("queue: trace: %w", redact(err))
	}
	t.earlier()
	slices.SortStableFunc(t.found, func(a, b Traced) int { return cmp.Or(a.order()-b.order(), a.At.Compare(b.At)) })
	return t.found, nil
}

// order is 0 for what is over since the message has another id, and 1 for all else. Times alone do not tell that: a replay has its
// time from this process, and a record from the server.
func (t *Traced) order() int {
	if t.State == TraceReplayed {
		return 0
	}
	return 1
}

// tracer collects what is known of a message.
type tracer struct {
	q     *Queue
	ids   []string // that the message has had, as far as they are known
	found []Traced
}

// replayID is the form of the id of a replayed job: see [replayedID].
var replayID = regexp.MustCompile(`^(.+)-[0-9]+$`)

// pointers follows the replays of an id, from its first id on if that is known to lead to it.
func (t *tracer) pointers(ctx context.Context, id string) error {
	if m := replayID.FindStringSubmatch(id); m != nil {
		if err := t.follow(ctx, m[1]); err != nil || slices.Contains(t.ids, id) && len(t.found) > 0 {
			return err
		}
		t.found = nil
	}
	return t.follow(ctx, id)
}

// follow collects the pointers from one id on.
func (t *tracer) follow(ctx context.Context, id string) error {
	for t.ids = []string{id}; ; t.ids = append(t.ids, id) {
		p, err := t.q.findPointer(ctx, id)
		if err != nil || p == nil || slices.Contains(t.ids, p.Next) {
			return err
		}
		t.found = append(t.found, Traced{Job: Job{ID: id, Page: p.Page, Lane: p.Lane}, State: TraceReplayed, At: p.Replayed,
			Attempts: p.Attempts, Tries: p.Tries, Reason: p.Class, Death: p.Death, Next: p.Next})
		id = p.Next
	}
}

// findPointer returns the pointer from an id, nil if there is none.
func (q *Queue) findPointer(ctx context.Context, id string) (p *pointer, err error) {
	if !isID(id) {
		return nil, nil
	}
	err = q.retry(ctx, readsOf(StreamRecords), func(ctx context.Context) error {
		msg, err := q.first.records.GetLastMsgForSubject(ctx, pointerSubject(id))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return q.reportMissing(noAnswer(ctx, err))
		}
		p = &pointer{}
		if json.Unmarshal(msg.Data, p) != nil || p.Next == "" { // another program wrote it
			p = nil
		}
		return nil
	})
	return p, err
}

// live collects what stored jobs and records say.
func (t *tracer) live(ctx context.Context) error {
	for _, p := range t.q.partitions() {
		if err := t.liveIn(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *tracer) liveIn(ctx context.Context, p *partition) error {
	at := p.store()
	var jobs, records []string
	for _, id := range t.ids {
		if isID(id) {
			jobs = append(jobs, at.jobSubject("*", "*", id))
			records = append(records, p.recordSubject("*", "*", id))
		}
	}
	stored, err := t.q.lastMessages(ctx, p.jobsName, jobs)
	if err != nil {
		return err
	}
	var traced []*Delivery
	for _, msg := range stored {
		traced = append(traced, t.q.readDelivery(at, laneOfJob(msg.Subject), msg))
	}
	found, err := t.q.traceJobs(ctx, p, traced, records)
	for _, f := range found {
		if f.State != TraceDead || !t.wasReplayed(&f) {
			t.found = append(t.found, f)
		}
	}
	return err
}

// wasReplayed reports whether the dead letter of a dead message was replayed: its record does not say so.
func (t *tracer) wasReplayed(f *Traced) bool {
	return slices.ContainsFunc(t.found, func(r Traced) bool { return r.State == TraceReplayed && r.ID == f.ID && r.Reason == f.Reason })
}

// deadLetters collects the dead letters under the ids, also where a pointer to an id is missing.
func (t *tracer) deadLetters(ctx context.Context, reading func(n int)) error {
	f := DeadLetterFilter{IDs: t.ids, Which: func(l *DeadLetter) bool { return l.Lane.isMessage() }}
	if len(t.found) > 0 {
		f.Page = t.found[0].Page
	}
	read := 0
	f.each = func() {
		if read++; reading != nil {
			reading(read)
		}
	}
	return t.q.walk(ctx, f, false, func(l DeadLetter) bool {
		dead := tracedDeadLetter(&l)
		i := slices.IndexFunc(t.found, func(f Traced) bool {
			return f.State == TraceDead && f.ID == l.ID && f.Dead == nil && f.Reason == l.Class
		})
		if i >= 0 {
			t.found[i] = dead
		} else {
			t.found = append(t.found, dead)
		}
		return true
	})
}

func tracedDeadLetter(l *DeadLetter) Traced {
	l.Body = nil
	return Traced{Job: l.Job, State: TraceDead, At: l.Died, Attempts: l.Attempts, Tries: l.Tries, Reason: l.Class, Dead: l}
}

// earlier collects what jobs and dead letters tell of earlier ids to which no pointer was found.
func (t *tracer) earlier() {
	for _, f := range t.found {
		for _, d := range f.Deaths {
			r := Traced{Job: Job{ID: d.ID, Page: f.Page, Lane: f.Lane}, State: TraceReplayed, At: d.Replayed, Attempts: d.Attempts, Reason: d.Class,
				Death: d, Next: replayedID(f.FirstID(), d.Seq)}
			if !slices.ContainsFunc(t.found, func(f Traced) bool { return f.State == TraceReplayed && f.ID == d.ID && f.Death.Seq == d.Seq }) {
				t.found = append(t.found, r)
			}
		}
	}
}

// lastMessages returns the last messages of a stream under each subject that matches one of the filters. Any replica may answer.
func (q *Queue) lastMessages(ctx context.Context, stream string, filters []string) (found []*jetstream.RawStreamMsg, err error) {
	if len(filters) == 0 {
		return nil, nil
	}
	err = q.retry(ctx, readsOf(stream), func(ctx context.Context) error {
		found = nil
		msgs, err := jetstreamext.GetLastMsgsFor(ctx, q.js, stream, filters)
		if err != nil {
			return q.reportMissing(noAnswer(ctx, err))
		}
		for msg, err := range msgs {
			switch {
			case errors.Is(err, jetstreamext.ErrNoMessages):
				return nil
			case err != nil:
				return q.reportMissing(noAnswer(ctx, err))
			}
			found = append(found, msg)
		}
		return ctx.Err() // the iterator ends without an error when the answers come too late
	})
	return found, err
}

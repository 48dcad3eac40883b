package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Death is one earlier end of a replayed job: what its dead letter told before the replay removed that.
type Death struct {
	ID       string    `json:"id"`  // the job's id at the time
	Seq      uint64    `json:"seq"` // the dead letter's number in BRAZIER_DEAD
	Died     time.Time `json:"died"`
	Replayed time.Time `json:"replayed"`
	Class    string    `json:"class"`
	Code     int       `json:"code,omitempty"`
	Subcode  int       `json:"subcode,omitempty"`
	Attempts int       `json:"attempts"`
}

// FirstID is the id under which the ingress accepted the job: its own, or the one before its first replay.
func (j *Job) FirstID() string {
	if len(j.Deaths) > 0 {
		return j.Deaths[0].ID
	}
	return j.ID
}

// headerDeath is set once for each death, to a JSON object.
const headerDeath = "Brazier-Death"

// maxDeaths bounds the history of a job that is replayed every day.
const maxDeaths = 10

func writeDeaths(h nats.Header, deaths []Death) {
	for _, d := range deaths {
		value, _ := json.Marshal(d) // cannot fail: strings, numbers and times
		h[headerDeath] = append(h[headerDeath], string(value))
	}
}

func readDeaths(h nats.Header) []Death {
	var deaths []Death
	for _, value := range h[headerDeath] {
		var d Death
		if json.Unmarshal([]byte(value), &d) == nil { // other texts were not written by Brazier
			deaths = append(deaths, d)
		}
	}
	return deaths
}

// Replayed tells what became of a dead letter.
type Replayed struct {
	// ID is the id of the job that is now in the queue: the job's first id, a hyphen, the number of the dead letter.
	ID string
	// AlreadyQueued reports that the job was in the queue already: an earlier replay ended before it removed the dead
	// letter.
	AlreadyQueued bool
}

// Replay requeues the job of a dead letter for its page and removes the dead letter. Body, lane, recipient, idempotency
// key and tracking stay as they are, and so does Accepted: the job's age is the message's. Attempts are counted from
// none, and the job has as long until it expires as it had when the ingress accepted it.
//
// The job is stored before the dead letter is removed, under an id that is derived from the dead letter's number. A
// replay that ends in between leaves both, and the next replay, whenever that is, finds the job and only removes the
// dead letter: one dead letter becomes one job. A job that dies again leaves another dead letter, with its Deaths.
//
// Replay repeats its requests until ctx ends. It returns [ErrNoDeadLetter] if there is none, and the errors of
// [Queue.Publish], after which the dead letter is still there.
func (q *Queue) Replay(ctx context.Context, seq uint64) (Replayed, error) {
	l, err := q.readDeadLetter(ctx, seq)
	if err != nil {
		return Replayed{}, fmt.Errorf("queue: replay dead letter %d: %w", seq, redact(err))
	}
	job := l.revived(q.Now())
	prior, err := q.publish(ctx, job, job.newFingerprint(), q.deadLetterAge())
	if err != nil {
		return Replayed{}, fmt.Errorf("queue: replay dead letter %d: %w", seq, err)
	}
	if prior == nil {
		q.countReplayed(&l)
	}
	q.leavePointer(ctx, &l, job)
	if err := q.remove(ctx, seq); err != nil && !errors.Is(err, ErrNoDeadLetter) {
		return Replayed{}, fmt.Errorf("queue: remove replayed dead letter %d: %w", seq, redact(err))
	}
	return Replayed{ID: job.ID, AlreadyQueued: prior != nil}, nil
}

// deadLetterAge is for how long a dead letter can exist, and for how long its replay has to be remembered.
func (q *Queue) deadLetterAge() time.Duration {
	if age := q.dead.CachedInfo().Config.MaxAge; age > 0 {
		return age
	}
	return 10 * 365 * 24 * time.Hour // the operator keeps dead letters forever
}

// revived returns the job that a replay at the given time requeues.
func (l *DeadLetter) revived(now time.Time) *Job {
	job := l.Job
	job.ID = replayedID(l.FirstID(), l.Seq)
	job.Expire = l.renewedExpiry(now)
	job.Deaths = append(job.Deaths[:len(job.Deaths):len(job.Deaths)], Death{
		ID: l.ID, Seq: l.Seq, Died: l.Died.UTC(), Replayed: now.UTC(),
		Class: l.Class, Code: l.Code, Subcode: l.Subcode, Attempts: l.Attempts,
	})
	if over := len(job.Deaths) - maxDeaths; over > 0 { // the first stays, since it has the first id
		job.Deaths = append(job.Deaths[:1:1], job.Deaths[1+over:]...)
	}
	return &job
}

// replayedID is the id of the job that a replay of a dead letter with a number makes.
func replayedID(first string, seq uint64) string {
	return plainID(first) + "-" + strconv.FormatUint(seq, 10)
}

// renewedExpiry returns when the job expires, with as much time as it had before.
func (l *DeadLetter) renewedExpiry(now time.Time) time.Time {
	if l.Expire.IsZero() {
		return time.Time{}
	}
	began := l.Accepted
	if n := len(l.Deaths); n > 0 {
		began = l.Deaths[n-1].Replayed
	}
	lifetime := l.Expire.Sub(began)
	if lifetime <= 0 || lifetime > maxExpire { // another program wrote these times
		lifetime = maxExpire
	}
	return now.Add(lifetime)
}

// plainID replaces the characters of an id that no id of Brazier has, since another program may have published the job.
func plainID(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '-', r == '_':
			return r
		}
		return '_'
	}, id)
}

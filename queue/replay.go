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

// Death is one earlier end of a job that was replayed: what its dead letter said before the replay removed it.
type Death struct {
	ID       string    `json:"id"`  // the job's id at the time
	Seq      uint64    `json:"seq"` // the letter's number in BRAZIER_DEAD
	Died     time.Time `json:"died"`
	Replayed time.Time `json:"replayed"`
	Class    string    `json:"class"`
	Code     int       `json:"code,omitempty"`
	Subcode  int       `json:"subcode,omitempty"`
	Attempts int       `json:"attempts"`
}

// FirstID is the id under which the door took the job: its own, or that before its first replay.
func (j *Job) FirstID() string {
	if len(j.Deaths) > 0 {
		return j.Deaths[0].ID
	}
	return j.ID
}

// headerDeath stands once for each death, a JSON object.
const headerDeath = "Brazier-Death"

// maxDeaths bounds what a job that is replayed every day carries with it.
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
		if json.Unmarshal([]byte(value), &d) == nil { // what somebody else wrote there is no history of ours
			deaths = append(deaths, d)
		}
	}
	return deaths
}

// Replayed says what became of a dead letter.
type Replayed struct {
	// ID is the id of the job that now stands in the queue: the job's first id, a hyphen, the letter's number.
	ID string
	// Before reports that the job was in the queue already: an earlier replay was cut off before it removed the letter.
	Before bool
}

// Replay puts the job of a dead letter back into its page's queue and removes the letter. Body, lane, recipient,
// idempotency key and tracking stay as they are, and so does Accepted: the job's age is the message's. Attempts are
// counted from none, and the job has as long until it expires as it had when the door took it.
//
// The job is stored before the letter is removed, under an id that is the letter's own. A replay that was cut off in
// between leaves both, and the next one, whenever that is, finds the job known and only removes the letter: one letter
// becomes one job. A job that dies again leaves a letter of its own, with its Deaths.
//
// It asks until ctx ends. It returns [ErrNoLetter] where there is none, and the errors of [Queue.Publish], after which
// the letter is still there.
func (q *Queue) Replay(ctx context.Context, seq uint64) (Replayed, error) {
	l, err := q.readLetter(ctx, seq)
	if err != nil {
		return Replayed{}, fmt.Errorf("queue: replay dead letter %d: %w", seq, redact(err))
	}
	job := l.revived(q.Now())
	prior, err := q.publish(ctx, job, job.newFingerprint(), q.letterAge())
	if err != nil {
		return Replayed{}, fmt.Errorf("queue: replay dead letter %d: %w", seq, err)
	}
	if err := q.remove(ctx, seq); err != nil && !errors.Is(err, ErrNoLetter) {
		return Replayed{}, fmt.Errorf("queue: remove replayed dead letter %d: %w", seq, redact(err))
	}
	return Replayed{ID: job.ID, Before: prior != nil}, nil
}

// letterAge is how long a letter, and with it the need to know that it was replayed, can last.
func (q *Queue) letterAge() time.Duration {
	if age := q.dead.CachedInfo().Config.MaxAge; age > 0 {
		return age
	}
	return 10 * 365 * 24 * time.Hour // the operator keeps letters for ever
}

// revived is the job that a replay at the given time puts into the queue.
func (l *Letter) revived(now time.Time) *Job {
	job := l.Job
	job.ID = plainID(l.FirstID()) + "-" + strconv.FormatUint(l.Seq, 10)
	job.Expire = l.renewedExpiry(now)
	job.Deaths = append(job.Deaths[:len(job.Deaths):len(job.Deaths)], Death{
		ID: l.ID, Seq: l.Seq, Died: l.Died.UTC(), Replayed: now.UTC(),
		Class: l.Class, Code: l.Code, Subcode: l.Subcode, Attempts: l.Attempts,
	})
	if over := len(job.Deaths) - maxDeaths; over > 0 { // the first stays: it holds the first id
		job.Deaths = append(job.Deaths[:1:1], job.Deaths[1+over:]...)
	}
	return &job
}

// renewedExpiry gives the job as long as it had.
func (l *Letter) renewedExpiry(now time.Time) time.Time {
	if l.Expire.IsZero() {
		return time.Time{}
	}
	began := l.Accepted
	if n := len(l.Deaths); n > 0 {
		began = l.Deaths[n-1].Replayed
	}
	life := l.Expire.Sub(began)
	if life <= 0 || life > maxExpire { // times that were not written by us
		life = maxExpire
	}
	return now.Add(life)
}

// plainID keeps an id that a stranger published to what ids are made of.
func plainID(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r == '-', r == '_':
			return r
		}
		return '_'
	}, id)
}

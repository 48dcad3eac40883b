package queue

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// waiting returns how many jobs are in the queue.
func (q *Queue) waiting(t testing.TB) uint64 {
	t.Helper()
	info, err := q.first.jobs.Info(t.Context(), jetstream.WithSubjectFilter(jobSubjects+">"))
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	for _, jobs := range info.State.Subjects {
		n += jobs
	}
	return n
}

// take returns the next job of a page's urgent lane.
func (q *Queue) take(t testing.TB, page string) *Delivery {
	t.Helper()
	source := q.Source(page, Urgent, 1)
	defer source.Stop()
	d, err := source.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReplay(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	dead := testDeadJob("A", "11", "window", 10, "spring")
	dead.Accepted, dead.Expire = dead.Accepted.Add(-50*time.Hour), dead.Accepted.Add(-44*time.Hour) // 6h, and long over
	q.store(t, dead)
	deadLetter := q.list(t, DeadLetterFilter{}, false)[0]

	began := time.Now()
	got, err := q.Replay(t.Context(), 1)
	if err != nil || got != (Replayed{ID: "A-1"}) {
		t.Fatalf("%+v, error %v", got, err)
	}
	for range 2 { // again is nothing
		if _, err := q.Replay(t.Context(), 1); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("replayed again: %v", err)
		}
	}
	if n := q.waiting(t); n != 1 {
		t.Fatalf("%d jobs, want 1", n)
	}
	if left := q.list(t, DeadLetterFilter{}, false); len(left) != 0 {
		t.Errorf("dead letters left: %v", names(left))
	}

	d := q.take(t, "11")
	want := dead.Job
	want.ID = "A-1"
	if lifetime := d.Expire.Sub(began); lifetime < 6*time.Hour-time.Second || lifetime > 6*time.Hour+time.Minute {
		t.Errorf("it expires after %v, want the 6h it had", lifetime)
	}
	want.Expire = d.Expire
	want.Deaths = []Death{{ID: "A", Seq: 1, Died: deadLetter.Died, Replayed: d.Deaths[0].Replayed, Class: "window", Code: 10, Subcode: 7, Attempts: 3}}
	if diff := cmp.Diff(want, d.Job, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("the job (-want +got):\n%s", diff)
	}
	if d.FirstID() != "A" {
		t.Errorf("first id %s", d.FirstID())
	}
	if d.Attempts != 0 || d.InDoubt {
		t.Errorf("attempts %d, in doubt %v", d.Attempts, d.InDoubt)
	}
	if err := d.Done(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReplayDiesAgain replays a message twice, each time into another death.
func TestReplayDiesAgain(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	job := testDeadJob("A", "11", "", 0, "").Job
	if _, err := q.Publish(t.Context(), &job); err != nil {
		t.Fatal(err)
	}
	id := "A"
	for i, class := range []string{"window", "recipient", "message"} {
		d := q.take(t, "11")
		if d.ID != id || d.FirstID() != "A" || len(d.Deaths) != i {
			t.Fatalf("job %s of %s after %d deaths, want %s", d.ID, d.FirstID(), len(d.Deaths), id)
		}
		if err := d.DeadLetter(t.Context(), Reason{Class: class, Attempts: i + 1}); err != nil {
			t.Fatal(err)
		}
		deadLetters := q.list(t, DeadLetterFilter{IDs: []string{"A"}}, false)
		if len(deadLetters) != 1 || deadLetters[0].ID != id || deadLetters[0].Class != class {
			t.Fatalf("dead letters of A: %+v", deadLetters)
		}
		if lifetime := time.Until(deadLetters[0].Expire); i > 0 && (lifetime < 5*time.Hour || lifetime > 6*time.Hour) {
			t.Errorf("it would have expired after %v, want the 6h it had", lifetime)
		}
		got, err := q.Replay(t.Context(), deadLetters[0].Seq)
		if err != nil {
			t.Fatal(err)
		}
		id = fmt.Sprintf("A-%d", deadLetters[0].Seq)
		if got.ID != id {
			t.Errorf("replayed as %s, want %s", got.ID, id)
		}
	}
	d := q.take(t, "11")
	var history string
	for _, death := range d.Deaths {
		history += fmt.Sprintf("%s %s %d; ", death.ID, death.Class, death.Attempts)
	}
	if want := "A window 1; A-1 recipient 2; A-2 message 3; "; history != want {
		t.Errorf("history %q, want %q", history, want)
	}
}

// TestReplayCutOff leaves a replay between its two steps, and runs it again.
func TestReplayCutOff(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	q.store(t, testDeadJob("A", "11", "window", 10, ""))
	l, err := q.DeadLetter(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	job := l.revived(time.Now().Add(-time.Hour))
	if prior, err := q.publish(t.Context(), job, job.newFingerprint(), q.deadLetterAge()); prior != nil || err != nil {
		t.Fatalf("prior %v, error %v", prior, err)
	}
	// The job is delivered and gone before the replay runs again.
	if err := q.take(t, "11").Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := q.Replay(t.Context(), 1)
	if err != nil || got != (Replayed{ID: "A-1", AlreadyQueued: true}) {
		t.Errorf("%+v, error %v", got, err)
	}
	if n := q.waiting(t); n != 0 {
		t.Errorf("%d jobs, want none", n)
	}
	if left := q.list(t, DeadLetterFilter{}, false); len(left) != 0 {
		t.Errorf("dead letters left: %v", names(left))
	}
}

// TestReplayAtOnce has several replays of the same dead letters at one time.
func TestReplayAtOnce(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	const deadLetters, rivals = 20, 8
	for i := range deadLetters {
		q.store(t, testDeadJob(fmt.Sprint("L", i), "11", "window", 10, ""))
	}
	var all sync.WaitGroup
	for range rivals {
		all.Go(func() {
			for seq := range uint64(deadLetters) {
				if _, err := q.Replay(t.Context(), seq+1); err != nil && !errors.Is(err, ErrNoDeadLetter) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := q.waiting(t); n != deadLetters {
		t.Errorf("%d jobs, want %d", n, deadLetters)
	}
	if left := q.list(t, DeadLetterFilter{}, false); len(left) != 0 {
		t.Errorf("dead letters left: %v", names(left))
	}
}

// TestDeadLettersOfOneKey makes dead letters of two jobs that had the same idempotency key, the second after the key was forgotten.
func TestDeadLettersOfOneKey(t *testing.T) {
	t.Parallel()
	q := deadLetterQueue(t)
	one := testDeadJob("A", "11", "window", 10, "")
	two := one
	two.Accepted = two.Accepted.Add(2 * time.Hour)
	q.store(t, one, one, two) // the first twice: its acknowledgement was lost
	if got := names(q.list(t, DeadLetterFilter{}, false)); got != "A A" {
		t.Errorf("dead letters %q, want two of A", got)
	}
}

// TestRevive is about dead letters that another program wrote.
func TestRevive(t *testing.T) {
	now := time.UnixMilli(1_900_000_000_000)
	h := nats.Header{headerDeath: {"no JSON", `{"id":"OLD","seq":3}`, ""}}
	l := readDeadLetter("brazier.dead.11.odd.class", h, []byte("{}"), now, 7)
	if l.Page != "11" || l.Class != "odd.class" || l.ID != "UNNAMED7" || l.Lane != Bulk || l.FirstID() != "OLD" || l.Size != 2 {
		t.Errorf("%+v", l)
	}
	for name, test := range map[string]struct {
		deadLetter DeadLetter
		id         string
		expire     time.Time
	}{
		"no expiry":            {DeadLetter{Job: Job{ID: "A", Accepted: now}, Seq: 1}, "A-1", time.Time{}},
		"expiry before":        {DeadLetter{Job: Job{ID: "A", Accepted: now, Expire: now.Add(-time.Hour)}, Seq: 1}, "A-1", now.Add(maxExpire)},
		"expiry far off":       {DeadLetter{Job: Job{ID: "A", Accepted: now, Expire: now.Add(1000 * time.Hour)}, Seq: 1}, "A-1", now.Add(maxExpire)},
		"id of another kind":   {DeadLetter{Job: Job{ID: "order/5.é *>", Accepted: now}, Seq: 12}, "order_5_____-12", time.Time{}},
		"replayed before":      {DeadLetter{Job: Job{ID: "A-1", Accepted: now.Add(-time.Hour), Expire: now.Add(time.Hour), Deaths: []Death{{ID: "A", Replayed: now}}}, Seq: 2}, "A-2", now.Add(time.Hour)},
		"replayed every night": {DeadLetter{Job: Job{ID: "A-99", Accepted: now, Deaths: append([]Death{{ID: "A"}}, make([]Death, 50)...)}, Seq: 100}, "A-100", time.Time{}},
	} {
		job := test.deadLetter.revived(now)
		if job.ID != test.id || !job.Expire.Equal(test.expire) {
			t.Errorf("%s: id %q, expires %v; want %q, %v", name, job.ID, job.Expire, test.id, test.expire)
		}
		if len(job.Deaths) > maxDeaths || job.Deaths[len(job.Deaths)-1].ID != test.deadLetter.ID {
			t.Errorf("%s: deaths %v", name, job.Deaths)
		}
		if again := job.FirstID(); again != test.deadLetter.FirstID() {
			t.Errorf("%s: first id %s, want %s", name, again, test.deadLetter.FirstID())
		}
	}
}

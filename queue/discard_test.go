package queue_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// to returns a predicate for the jobs to a recipient.
func to(recipient string) func(*queue.Job) bool {
	return func(j *queue.Job) bool { return j.RecipientDigest == recipient }
}

// jobTo is a job to a recipient.
func jobTo(page string, lane queue.Lane, recipient string) *queue.Job {
	j := job(page, lane)
	j.RecipientDigest = recipient
	return j
}

// Of more jobs than one request reads, those of a person are removed in every lane, and the others stay in order.
func TestDiscardJobs(t *testing.T) {
	t.Parallel()
	q := withRoadBack(t)
	var jobs []*queue.Job
	const n = 600
	for i := range n {
		recipient := "other"
		if i%3 == 0 {
			recipient = "ada"
		}
		jobs = append(jobs, jobTo(acme, queue.Bulk, recipient))
	}
	elsewhere := jobTo(nordwind, queue.Bulk, "ada")
	e := event(acme, "m_1")
	e.RecipientDigest = "ada"
	publish(t, q, append(jobs, jobTo(acme, queue.Urgent, "ada"), jobTo(acme, queue.Media, "ada"), e, elsewhere)...)

	if found, err := q.CountJobs(within(t, testTimeout), acme, to("ada")); err != nil || found != n/3+3 {
		t.Errorf("counted %d, %v; want %d", found, err, n/3+3)
	}
	did, err := q.DiscardJobs(within(t, testTimeout), acme, to("ada"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "discarded", did, queue.Discarded{Jobs: n/3 + 3})
	equal(t, "the record", q.State(t, acme, queue.Bulk, jobs[0].ID), "done")
	did, err = q.DiscardJobs(within(t, testTimeout), acme, to("ada"))
	equal(t, "discarded again", did, queue.Discarded{})
	if err != nil {
		t.Error(err)
	}
	s := source(t, q, acme, queue.Bulk, 64)
	for i, j := range jobs {
		if i%3 == 0 {
			continue
		}
		d := next(t, s)
		if d.ID != j.ID {
			t.Fatalf("job %d is %s, want %s", i, d.ID, j.ID)
		}
		done(t, d)
	}
	isEmpty(t, q, acme)
	if d := next(t, source(t, q, nordwind, queue.Bulk, 1)); d.ID != elsewhere.ID {
		t.Errorf("the other page's job is %s, want %s", d.ID, elsewhere.ID)
	}
}

// A worker that has fetched a job does not begin it once it was discarded. A job that was begun is told of, and its worker settles it.
func TestDiscardFetched(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	other := open(t, queue.Config{InProcess: srv})
	publish(t, q, jobTo(acme, queue.Bulk, "ada"), jobTo(acme, queue.Bulk, "ada"), jobTo(acme, queue.Bulk, "ada"))
	s := source(t, q, acme, queue.Bulk, 3)
	fetched, begun, waiting := next(t, s), next(t, s), next(t, s)
	if err := begun.Begin(within(t, testTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Begin(within(t, testTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Retry(within(t, testTimeout), 1, "transient", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}

	did, err := other.DiscardJobs(within(t, testTimeout), acme, to("ada"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "discarded", did, queue.Discarded{Jobs: 3, Begun: 1})
	if err := fetched.Begin(within(t, testTimeout)); !errors.Is(err, queue.ErrTaken) {
		t.Errorf("begin a discarded job: %v, want ErrTaken", err)
	}
	if err := fetched.Release(within(t, testTimeout)); err != nil {
		t.Errorf("release it: %v", err)
	}
	done(t, begun)
	equal(t, "the record of the begun job", q.State(t, acme, queue.Bulk, begun.ID), "done")
	last := jobTo(acme, queue.Bulk, "other")
	publish(t, q, last)
	if d := next(t, s); d.ID != last.ID {
		t.Errorf("next is %s, want %s: a discarded job was delivered again", d.ID, last.ID)
	} else {
		done(t, d)
	}
	isEmpty(t, q, acme)
}

// What was discarded is not on disk any more, but for a job that was settled before, whose bytes the server frees later. And what was accepted under its key is not accepted again.
func TestDiscardOverwrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := queuetest.On(t, queuetest.Server(t, dir))
	const waits, died = "this text waits for Ada", "this text died for Ada"
	texts := func() (found string) {
		t.Helper()
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(name)
			if bytes.Contains(b, []byte(waits)) || strings.Contains(name, queue.StreamDead) && bytes.Contains(b, []byte(died)) {
				found += name + "\n"
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	j := keyed(acme, "order-17", "ada")
	j.Body = []byte(died)
	publish(t, q, j)
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	if err := d.DeadLetter(within(t, testTimeout), queue.Reason{Class: "window"}); err != nil {
		t.Fatal(err)
	}
	again := keyed(acme, "order-18", "ada")
	again.Body = []byte(waits)
	publish(t, q, again)
	if found := texts(); strings.Count(found, "\n") != 2 {
		t.Fatalf("the texts are in %q, want two files", found)
	}
	if _, err := q.DiscardJobs(within(t, testTimeout), acme, to("ada")); err != nil {
		t.Fatal(err)
	}
	for l, err := range q.DeadLetters(within(t, testTimeout), queue.DeadLetterFilter{Page: acme, Which: func(l *queue.DeadLetter) bool { return l.RecipientDigest == "ada" }}, false) {
		if err == nil {
			err = q.EraseDeadLetter(within(t, testTimeout), l.Seq)
		}
		if err == nil {
			err = q.EraseDeadLetter(within(t, testTimeout), l.Seq) // gone already
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "what the files hold", texts(), "")
	if stored, err := q.Publish(within(t, testTimeout), again); err != nil || !stored.Duplicate {
		t.Errorf("published again: %+v, %v; want a duplicate", stored, err)
	}
}

func TestDiscardJobsOfNoPage(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	for _, page := range []string{"", "*", ">", "acme", queue.AllPages} {
		if _, err := q.DiscardJobs(t.Context(), page, to("ada")); err == nil {
			t.Errorf("page %q: no error", page)
		}
	}
}

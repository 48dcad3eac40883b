package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Every field comes back as it was given, and a settled job is gone.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	now := time.Now().Truncate(time.Millisecond)
	jobs := map[string]*queue.Job{
		"full": {
			ID: queue.KeyedID(acme, "order 17"), Page: acme, Lane: queue.Urgent, Key: "order 17",
			Recipient: "…0001",
			Tracking: queue.Tracking{
				Campaign: "Sommer ☀ 夏季", Canvas: "Zustellung à l’étage", Dispatch: "d1spatch", Message: "m:1, \"quoted\"",
				User: "braze-user", ExternalID: "Łódź/42=%20",
			},
			Accepted: now, Expire: now.Add(90 * time.Minute),
			Body: []byte("{\"message\":{\"text\":\"Grüße\\n\"}}\r\n\x00"),
		},
		"bare":       {ID: queue.NewID(), Page: acme, Lane: queue.Bulk, Body: []byte("{}")},
		"empty body": {ID: queue.NewID(), Page: nordwind, Lane: queue.Media, Accepted: now, Expire: now},
		"big body":   {ID: queue.NewID(), Page: nordwind, Lane: queue.Urgent, Accepted: now, Expire: now, Body: bytes.Repeat([]byte("x"), 1<<20)},
	}
	for name, want := range jobs {
		t.Run(name, func(t *testing.T) {
			publish(t, q, want)
			d := next(t, source(t, q, want.Page, want.Lane, 1))
			got := d.Job
			// A time that was not given is the zero time again, in whatever zone.
			if want.Accepted.IsZero() && got.Accepted.IsZero() && got.Expire.IsZero() {
				got.Accepted, got.Expire = want.Accepted, want.Expire
			}
			if want.Body == nil && len(got.Body) == 0 {
				got.Body = nil
			}
			equal(t, "job", got, *want)
			if d.Attempts != 0 || d.InDoubt || d.Doubt != "" {
				t.Errorf("a first delivery has attempts %d, in doubt %v %q", d.Attempts, d.InDoubt, d.Doubt)
			}
			done(t, d)
			isEmpty(t, q, want.Page)
		})
	}
}

// A job that the stream got from elsewhere is delivered rather than lost.
func TestForeignJob(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	for name, id := range map[string]string{"plain": "by-hand", "with an id that Publish refuses": "order17/ü"} {
		t.Run(name, func(t *testing.T) {
			if _, err := js.Publish(within(t, 2*testTimeout), "brazier.jobs."+acme+".bulk."+id, []byte("{}")); err != nil {
				t.Fatal(err)
			}
			s := source(t, q, acme, queue.Bulk, 1)
			d := next(t, s)
			if d.ID != id || string(d.Body) != "{}" || !d.Expire.IsZero() || time.Since(d.Accepted) > time.Hour {
				t.Errorf("got %+v", d.Job)
			}
			// Its attempts are counted as every other's.
			if err := d.Retry(within(t, 10*time.Second), 1, "transient", time.Millisecond); err != nil {
				t.Fatal(err)
			}
			again := next(t, s)
			if again.ID != d.ID || again.Attempts != 1 || again.InDoubt {
				t.Errorf("again %s with attempts %d, in doubt %v %q; want %s with 1, not in doubt", again.ID, again.Attempts, again.InDoubt, again.Doubt, d.ID)
			}
			done(t, again)
		})
	}
}

func TestJobRefused(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	for name, change := range map[string]func(*queue.Job){
		"no id":               func(j *queue.Job) { j.ID = "" },
		"id with a dot":       func(j *queue.Job) { j.ID = "a.b" },
		"no page":             func(j *queue.Job) { j.Page = "" },
		"page with a name":    func(j *queue.Job) { j.Page = "acme" },
		"page with wildcards": func(j *queue.Job) { j.Page = "1.>" },
		"no lane":             func(j *queue.Job) { j.Lane = "" },
		"other lane":          func(j *queue.Job) { j.Lane = "express" },
	} {
		t.Run(name, func(t *testing.T) {
			j := job(acme, queue.Bulk)
			change(j)
			if _, err := q.Publish(within(t, 2*testTimeout), j); err == nil || errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("publish: %v", err)
			}
		})
	}
	isEmpty(t, q, acme)
}

func TestIDs(t *testing.T) {
	t.Parallel()
	id := queue.KeyedID(acme, "k")
	if again := queue.KeyedID(acme, "k"); again != id {
		t.Errorf("the same page and key have ids %s and %s", id, again)
	}
	seen := map[string]string{id: "first"}
	for _, other := range [][2]string{{acme, "K"}, {acme, "k "}, {acme, ""}, {nordwind, "k"}, {acme + "1", "k"}, {acme[:9], acme[9:] + "k"}} {
		id := queue.KeyedID(other[0], other[1])
		if was, taken := seen[id]; taken {
			t.Errorf("%q has the id of %s", other, was)
		}
		seen[id] = fmt.Sprint(other)
	}
	for range 1000 {
		id := queue.NewID()
		if _, taken := seen[id]; taken {
			t.Fatal("a new id is taken")
		}
		seen[id] = "new"
		if len(id) != 24 || strings.Trim(id, "0123456789ABCDEFGHIJKLMNOPQRSTUV") != "" {
			t.Fatalf("id %q is not 24 digits and capitals", id)
		}
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	keyed := func(page, key string) *queue.Job {
		j := job(page, queue.Bulk)
		j.ID, j.Key = queue.KeyedID(page, key), key
		return j
	}
	publish(t, q, keyed(acme, "a"), keyed(acme, "b"), keyed(nordwind, "a"))

	again := func(may bool) {
		if stored, err := q.Publish(within(t, 2*testTimeout), keyed(acme, "a")); err != nil || !stored.Duplicate && !may {
			t.Errorf("the same key again: %+v, %v", stored, err)
		}
	}
	// Many at once, while the first waits, and while it is settled: then one may be stored a second time, and is never
	// begun.
	s := source(t, q, acme, queue.Bulk, 1)
	var posting sync.WaitGroup
	for range 8 {
		posting.Go(func() { again(false) })
	}
	posting.Wait()
	first := next(t, s)
	for range 8 {
		posting.Go(func() { again(true) })
	}
	done(t, first)
	posting.Wait()
	if stored, err := q.Publish(within(t, 2*testTimeout), keyed(acme, "a")); err != nil || !stored.Duplicate {
		t.Errorf("the key of a settled job: %+v, %v", stored, err)
	}
	second := next(t, s)
	done(t, second)
	equal(t, "keys of the page", []string{first.Key, second.Key}, []string{"a", "b"})
	go func() { // no more jobs are delivered, until the test ends
		for {
			d, err := s.Next(context.Background())
			if err != nil {
				return
			}
			if err := d.Begin(context.Background()); err == nil {
				t.Errorf("%s is begun a second time", d.Key)
			}
			_ = d.Release(context.Background())
		}
	}()
	isEmpty(t, q, acme)

	other := next(t, source(t, q, nordwind, queue.Bulk, 1))
	done(t, other)
	if other.Key != "a" || other.ID == first.ID {
		t.Errorf("the other page's job has key %q and id %s", other.Key, other.ID)
	}
	isEmpty(t, q, nordwind)
}

// Of each stream that is full the remedy is its own.
func TestRemedyOfFull(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	for stream, want := range map[string]string{queue.StreamJobs: "--max-queue", queue.StreamUpdates: "--max-updates",
		queue.StreamOutcomes: "--max-updates", queue.StreamEvents: "start workers"} {
		if got := q.RemedyOfFull(stream); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %s", stream, got, want)
		}
	}
}

// A full queue refuses, keeps what it has, and accepts jobs again once there is space.
func TestFull(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q := open(t, queue.Config{InProcess: srv, MaxBytes: 1 << 20})
	q.SetShares(map[string]float64{acme: 1})
	body := bytes.Repeat([]byte("x"), 100<<10)
	var stored []string
	for {
		j := job(acme, queue.Bulk)
		j.Body = body
		_, err := q.Publish(within(t, 2*testTimeout), j)
		if errors.Is(err, queue.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if stored = append(stored, j.ID); len(stored) > 20 {
			t.Fatal("2 MiB went into a queue of 1 MiB")
		}
	}
	if len(stored) < 5 {
		t.Fatalf("full after %d jobs of 100 KiB", len(stored))
	}
	s := source(t, q, acme, queue.Bulk, 4)
	d := next(t, s)
	done(t, d)
	if d.ID != stored[0] {
		t.Errorf("the first job is %s, want %s", d.ID, stored[0])
	}
	after := job(acme, queue.Bulk)
	after.Body = body
	eventually(t, "there is space again", func() bool {
		_, err := q.Publish(within(t, 2*testTimeout), after)
		return err == nil
	})
	for _, want := range append(stored[1:], after.ID) {
		d := next(t, s)
		done(t, d)
		if d.ID != want {
			t.Fatalf("next is %s, want %s", d.ID, want)
		}
	}
	isEmpty(t, q, acme)
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	j := job(acme, queue.Bulk)
	j.Body = make([]byte, 9<<20)
	if _, err := q.Publish(within(t, 2*testTimeout), j); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("publish of 9 MiB: %v", err)
	}
	publish(t, q, job(acme, queue.Bulk)) // the connection is still well
}

// Publish tries until its context ends, and no longer.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.start()
	q := m.open()
	m.stop()
	eventually(t, "the connection is lost", func() bool { return !q.Connected() })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Publish(ctx, job(acme, queue.Bulk)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("publish under an ended context: %v", err)
	}
	began := time.Now()
	if _, err := q.Publish(within(t, 300*time.Millisecond), job(acme, queue.Bulk)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("publish without a server: %v", err)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %v to end after 300ms", took)
	}

	// The server comes back in the middle of a call.
	answer := make(chan error, 1)
	j := job(acme, queue.Bulk)
	go func() {
		stored, err := q.Publish(within(t, testTimeout), j)
		if stored.Duplicate {
			err = errors.New("its own retry is called a duplicate")
		}
		answer <- err
	}()
	m.start()
	if err := <-answer; err != nil {
		t.Errorf("publish over a restart: %v", err)
	}
	d := next(t, source(t, q, acme, queue.Bulk, 1))
	done(t, d)
	if d.ID != j.ID {
		t.Errorf("stored is %s, want %s", d.ID, j.ID)
	}
	isEmpty(t, q, acme)
}

// A try whose answer was lost is repeated, and the job that it stored is no duplicate.
func TestOwnRetryIsNoDuplicate(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	w := &wire{server: srv}
	q := open(t, queue.Config{InProcess: w})
	first := job(acme, queue.Bulk)
	publish(t, q, first) // the lane is known
	done(t, next(t, source(t, q, acme, queue.Bulk, 1)))
	cut := w.mute()
	j := job(acme, queue.Bulk)
	type answer struct {
		stored queue.Stored
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		stored, err := q.Publish(within(t, testTimeout), j)
		answers <- answer{stored, err}
	}()
	other := queuetest.On(t, srv)
	js := raw(t, srv)
	eventually(t, "the job is stored", func() bool {
		stream, err := js.Stream(t.Context(), queue.StreamJobs)
		if err != nil {
			return false
		}
		_, err = stream.GetLastMsgForSubject(t.Context(), "brazier.jobs."+acme+".bulk."+j.ID)
		return err == nil
	})
	cut()
	equal(t, "answer", <-answers, answer{}, cmp.AllowUnexported(answer{}))
	done(t, next(t, source(t, other, acme, queue.Bulk, 1)))
	isEmpty(t, other, acme)
}

// Publish returns when its context ends, also while the answer to others is waited for.
func TestPublishObeysItsContext(t *testing.T) {
	t.Parallel()
	w := &wire{server: queuetest.Server(t, "")}
	q := open(t, queue.Config{InProcess: w, Flushed: true})
	publish(t, q, job(acme, queue.Bulk))
	defer w.mute()()
	var together sync.WaitGroup
	for range 40 { // more than go by themselves
		together.Go(func() {
			began := time.Now()
			_, err := q.Publish(within(t, 200*time.Millisecond), job(acme, queue.Bulk))
			if took := time.Since(began); !errors.Is(err, queue.ErrUnavailable) || took > 2*time.Second {
				t.Errorf("publish returned after %v: %v", took, err)
			}
		})
	}
	together.Wait()
}

// A message as large as the server takes goes by itself, and one that is larger is refused by its real size, headers
// included. Neither harms those beside it.
func TestLargeBesideSmall(t *testing.T) {
	t.Parallel()
	q := open(t, queue.Config{InProcess: queuetest.Server(t, ""), Flushed: true})
	const limit = 8 << 20 // of the embedded server
	long := strings.Repeat("x", 256)
	var together sync.WaitGroup
	for i := range 64 {
		together.Go(func() {
			j := job(acme, queue.Bulk)
			var want error
			switch i % 32 {
			case 0:
				j.Body = make([]byte, limit-100) // its headers do not fit
				j.Tracking = queue.Tracking{Campaign: long, Canvas: long, Dispatch: long, Message: long, User: long, ExternalID: long}
				want = queue.ErrTooLarge
			case 1:
				j.Body = make([]byte, limit-1000)
			}
			if _, err := q.Publish(within(t, testTimeout), j); !errors.Is(err, want) {
				t.Errorf("%d bytes: %v, want %v", len(j.Body), err, want)
			}
		})
	}
	together.Wait()
}

// A message that the stream refuses is distinguished from a stream that cannot be reached.
func TestStreamRefusesSize(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	stream, err := js.Stream(t.Context(), queue.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = 2000 // behind our back
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	j := job(acme, queue.Bulk)
	j.Body = make([]byte, 4000)
	if _, err := q.Publish(within(t, testTimeout), j); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("publish: %v", err)
	}
	publish(t, q, job(acme, queue.Bulk))
}

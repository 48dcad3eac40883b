package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	a, b := queuetest.On(t, srv).NewClaim("eu"), queuetest.On(t, srv).NewClaim("eu")
	hold := func(c *queue.Claim, length time.Duration) bool {
		t.Helper()
		until, err := c.Hold(t.Context(), length)
		if err != nil {
			t.Fatal(err)
		}
		return time.Now().Before(until)
	}
	equal(t, "first", hold(a, time.Minute), true)
	equal(t, "another meanwhile", hold(b, time.Minute), false)
	equal(t, "renewed", hold(a, time.Minute), true)
	a.Release(t.Context())
	equal(t, "another after the release", hold(b, time.Second), true)
	equal(t, "the first meanwhile", hold(a, time.Minute), false)
	eventually(t, "the claim ends by its time", func() bool { return hold(a, time.Minute) })
	equal(t, "the one that lost it", hold(b, time.Minute), false)
	if other := queuetest.On(t, srv).NewClaim("us"); !hold(other, time.Minute) {
		t.Error("a claim of another name is taken")
	}
}

// A claim that was stored, while its process waited for the answer in vain, is still that process's to renew and to release.
func TestClaimWithoutAnswer(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	nc := raw(t, srv).Conn()
	q, other := queuetest.On(t, srv), queuetest.On(t, srv)
	unanswered := 0
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := nc.Subscribe("brazier.records.0.claim.eu", func(*nats.Msg) { cancel() }) // the server has it by then
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		c := q.NewClaim("eu")
		_, err = c.Hold(ctx, time.Hour)
		if err != nil {
			unanswered++
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if i%2 == 0 {
			until, err := c.Hold(within(t, testTimeout), time.Hour)
			if err != nil || until.IsZero() {
				t.Fatalf("renewed: %v, %v", until, err)
			}
		}
		c.Release(within(t, testTimeout))
		next := other.NewClaim("eu")
		until, err := next.Hold(within(t, testTimeout), time.Hour)
		if err != nil || until.IsZero() {
			t.Fatalf("another after the release: %v, %v", until, err)
		}
		next.Release(within(t, testTimeout))
	}
	t.Logf("%d of 100 calls had no answer", unanswered)
}

// Everybody can read what is noted with a claim, for as long as somebody has it.
func TestClaimNote(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	q, c := queuetest.On(t, srv), queuetest.On(t, srv).NewClaim("webhook-10")
	note := func(what, want string) {
		t.Helper()
		text, err := q.ClaimNote(within(t, testTimeout), "webhook-10")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, what, string(text), want)
	}
	hold := func() {
		t.Helper()
		if until, err := c.Hold(within(t, testTimeout), time.Minute); err != nil || until.IsZero() {
			t.Fatal(until, err)
		}
	}
	note("before anybody has it", "")
	hold()
	note("without a note", "")
	c.Note([]byte("lost"))
	hold()
	note("with a note", "lost")
	c.Note(nil)
	hold()
	note("without one again", "")
	c.Note([]byte("lost"))
	hold()
	c.Release(within(t, testTimeout))
	note("after the release", "")
}

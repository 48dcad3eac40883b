package worker

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
)

// These tests are inside the package for the sake of a time that is too long to wait for.

func awaitDead(t *testing.T, logs *observer.ObservedLogs, class sendapi.Class, n int) {
	t.Helper()
	deadline := time.Now().Add(Deadline)
	dead := func() int {
		return logs.FilterField(zap.String("event", "dead")).FilterField(zap.String("class", string(class))).Len()
	}
	for poll := time.NewTicker(10 * time.Millisecond); dead() < n; <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are dead, want %d", dead(), n)
		}
	}
}

// Messages that have expired take no slots from one that has not: at four calls a second, 400 of them would hold it up for 100
// seconds.
func TestExpiredTakeNoSlots(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	const expired = 400
	publishExpiring(t, q, expiringPage, queue.Bulk, expired, -time.Minute)
	publishExpiring(t, q, expiringPage, queue.Bulk, 1, time.Hour)
	sent := make(chan struct{}, 1)
	logs := runWorker(t, Config{Queue: q, Pages: []Page{{ID: expiringPage, Rate: 4, MaxInFlight: 1,
		Handler: handlerFunc(func(context.Context, *queue.Delivery) Verdict {
			sent <- struct{}{}
			return Verdict{Outcome: Delivered}
		})}}})
	began := time.Now()
	select {
	case <-sent:
		t.Logf("it is sent after %v", time.Since(began).Round(time.Millisecond))
	case <-time.After(Deadline):
		t.Fatal("the message that has not expired is held up")
	}
	awaitDead(t, logs, sendapi.ClassExpired, expired)
	if b, err := q.Backlog(t.Context(), expiringPage); err != nil || b.Dead != expired {
		t.Errorf("backlog %+v, error %v", b, err)
	}
}

// Messages expire also where nobody fetches them: of a page that is held, and of one that no worker has. What has not expired
// stays, in every lane.
func TestExpireWhereNobodyFetches(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	const nobodys, each = "5647382910", 20
	state, err := q.PageState(t.Context(), expiringPage)
	if err != nil {
		t.Fatal(err)
	}
	state.Hold(queue.PageState{Class: "manual", Reason: "for a test", Since: time.Now()})
	if _, err := q.SetPageState(t.Context(), expiringPage, state); err != nil {
		t.Fatal(err)
	}
	lanes := []queue.Lane{queue.Urgent, queue.Bulk}
	for _, page := range []string{expiringPage, nobodys} {
		for _, lane := range lanes {
			publishExpiring(t, q, page, lane, each, -time.Minute)
			publishExpiring(t, q, page, lane, 1, time.Hour)
			publishExpiring(t, q, page, lane, each, 3*time.Second)
		}
	}
	pages := []Page{{ID: expiringPage, Rate: 1000, Handler: handlerFunc(func(context.Context, *queue.Delivery) Verdict {
		t.Error("a message of a held page was sent")
		return Verdict{Outcome: Delivered}
	})}}
	logs := []*observer.ObservedLogs{runWorker(t, Config{Queue: q, Pages: pages}), runWorker(t, Config{Queue: q, Pages: pages})}
	for _, page := range []string{expiringPage, nobodys} {
		deadline := time.Now().Add(Deadline)
		for poll := time.NewTicker(20 * time.Millisecond); ; <-poll.C {
			b, err := q.Backlog(t.Context(), page)
			if err == nil && b.Pending == 2 && b.Dead == 4*each {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("page %s: backlog %+v, error %v", page, b, err)
			}
		}
	}
	lines := map[string]int{}
	for _, l := range logs {
		for _, e := range l.FilterField(zap.String("event", "dead")).All() {
			line := e.ContextMap()
			lines[fmt.Sprint(cmp.Or(line["page"], line["page_id"]))]++
		}
		if n := l.FilterField(zap.String("event", "unsettled")).Len(); n > 0 {
			t.Errorf("%d unsettled lines", n)
		}
	}
	if lines[expiringPage] != 4*each || lines[nobodys] != 4*each {
		t.Errorf("lines of dead messages: %v, want %d for each page", lines, 4*each)
	}
}

// Pages come and go while a worker looks for expired messages of pages that it does not have.
func TestExpireWhilePagesChange(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	for i := range 10 {
		publishExpiring(t, q, fmt.Sprintf("400000000%d", i), queue.Bulk, 1, -time.Minute)
	}
	w, err := New(Config{Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.buryOverdue(t.Context(), t.Context(), q.NewSweeper()) }()
	never := handlerFunc(func(context.Context, *queue.Delivery) Verdict { return Verdict{Outcome: Release} })
	for i := 0; ; i++ {
		if err := w.SetPages([]Page{{ID: fmt.Sprintf("5%09d", i), Handler: never}}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

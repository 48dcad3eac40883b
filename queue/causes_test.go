package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// Every error that is known has a reason and a remedy for people, in texts that no library has written, and none hides
// another.
func TestCauses(t *testing.T) {
	for i, want := range causes {
		var errs []error
		errs = append(errs, want.errs...)
		for _, code := range want.codes {
			errs = append(errs, &jetstream.APIError{ErrorCode: code, Description: "the server's text"})
		}
		if len(errs)+len(want.types) == 0 {
			t.Errorf("cause %d, %q, has no errors", i, want.reason)
		}
		for _, err := range errs {
			got := causeOf(fmt.Errorf("consumer: %w", err))
			if got.reason != want.reason || got.at != want.at {
				t.Errorf("%v: got %q, want %q", err, got.reason, want.reason)
			}
			if got.remedy == "" {
				t.Errorf("%v has no remedy", err)
			}
		}
		for _, inner := range []string{"nats:", "context", "buffer", "EOF", "responder", "error code"} {
			if strings.Contains(want.reason, inner) {
				t.Errorf("%q has %q", want.reason, inner)
			}
		}
		if strings.HasSuffix(want.reason, ".") || strings.HasSuffix(want.remedy, ".") {
			t.Errorf("%q; %q: no full stops", want.reason, want.remedy)
		}
	}
	for err, want := range map[error]string{
		nats.ErrReconnectBufExceeded:                                          "no NATS server answers",
		errors.Join(errNoAnswer, nats.ErrNoResponders):                        "{it} does not answer",
		nats.ErrNoResponders:                                                  "JetStream is not enabled on this server",
		fmt.Errorf("%w: 1 of 3", errNoLeader):                                 "no leader for {it}",
		&jetstream.APIError{ErrorCode: 10999, Description: "something new"}:   "NATS refuses it: something new",
		errors.New("dial nats://user:secret@host: something that nobody saw"): "an error that Brazier does not know: dial nats://xxxxx@host: something that nobody saw",
		fmt.Errorf("%w: start a worker", errMayNotMake):                       "it does not exist, and this user may not create it",
		errNoSpace: "the queue is full, or the disk or the account under it",
	} {
		if got := causeOf(err); got.reason != want || got.remedy == "" {
			t.Errorf("%v: got %q, want %q", err, got.reason, want)
		}
	}
}

// newTestWaits returns waits without a queue, whose errors are all about the dependency that was asked for.
func newTestWaits() (*waits, func(event string) []map[string]any) {
	core, lines := observer.New(zap.DebugLevel)
	s := &waits{logAfter: waitLogAfter, logEvery: waitLogEvery, log: zap.New(core), all: map[dependency]*wait{}, stop: make(chan struct{}),
		explain: func(what dependency, err error) diagnosis {
			if errors.Is(err, nats.ErrDisconnected) {
				what = theConnection
			}
			return diagnosis{what: what.key(), reason: err.Error(), remedy: "repair it", vague: errors.Is(err, errNoAnswer)}
		}}
	return s, func(event string) (found []map[string]any) {
		for _, line := range lines.FilterField(zap.String("event", event)).All() {
			found = append(found, line.ContextMap())
		}
		return found
	}
}

// A thousand waiters make one line after 5 s and one each minute, and one line when the first of them succeeds.
func TestWaitsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lines := newTestWaits()
		defer s.close()
		jobs := writesTo(StreamJobs)
		began := time.Now()
		time.Sleep(time.Second)
		var all []*retrier
		for range 1000 {
			all = append(all, s.begin(jobs, began, errNoAnswer))
		}
		expect := func(at time.Duration, waiting, waited int) {
			t.Helper()
			time.Sleep(time.Until(began.Add(at)))
			for _, w := range all {
				w.failed(errNoAnswer)
			}
			if got := len(lines("waiting")); got != waiting {
				t.Errorf("after %v: %d lines, want %d: %v", at, got, waiting, lines("waiting"))
			}
			if got := len(lines("waited")); got != waited {
				t.Errorf("after %v: %d ends, want %d: %v", at, got, waited, lines("waited"))
			}
		}
		expect(4900*time.Millisecond, 0, 0)
		if err := s.longest(s.logAfter, func(dependency) bool { return true }); err != nil {
			t.Errorf("after 4.9 s: %v", err)
		}
		expect(6500*time.Millisecond, 1, 0)
		if err := s.longest(s.logAfter, func(dependency) bool { return true }); err == nil {
			t.Error("after 6.5 s nothing is waited for")
		}
		expect(time.Minute, 1, 0)
		expect(67*time.Second, 2, 0)
		last := lines("waiting")[1]
		if last["what"] != "stream BRAZIER_JOBS" || last["waiters"] != int64(1000) || last["since"] != began || last["for_s"].(float64) < 65 {
			t.Errorf("line %v", last)
		}

		// One waiter succeeds. The others fail once more, and have waited since then.
		s.succeeded(jobs)
		expect(69*time.Second, 2, 1)
		if end := lines("waited")[0]; end["given_up"] != false || end["for_s"].(float64) != 67 {
			t.Errorf("end %v", end)
		}
		for _, w := range all[1:] {
			w.end(true)
		}
		all = all[:1]
		expect(71*time.Second, 2, 1) // the first one began with the end of the first wait, and is over with the others
	})
}

// Callers that abandon the same wait one after the other make one wait. The end of the wait is logged as abandoned once no further caller comes.
func TestAbandonedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lines := newTestWaits()
		defer s.close()
		for range 20 {
			w := s.begin(writesTo(StreamJobs), time.Now().Add(-3*time.Second), errNoAnswer)
			time.Sleep(time.Second)
			w.failed(errNoAnswer)
			w.end(false)
		}
		if got := lines("waiting"); len(got) != 1 {
			t.Errorf("lines %v", got)
		}
		time.Sleep(waitKept + 2*time.Second)
		if got := lines("waited"); len(got) != 1 || got[0]["given_up"] != true {
			t.Errorf("ends %v", got)
		}
		if s.count.Load() != 0 {
			t.Errorf("%d waits are left", s.count.Load())
		}
	})
}

// A caller that needs a stream while the connection is lost waits for the connection.
func TestWaitsFollowTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lines := newTestWaits()
		defer s.close()
		s.observe(theConnection, time.Now(), nats.ErrDisconnected)
		w := s.begin(writesTo(StreamJobs), time.Now().Add(-time.Second), nats.ErrDisconnected)
		time.Sleep(7 * time.Second)
		w.failed(nats.ErrDisconnected)
		if got := lines("waiting"); len(got) != 1 || got[0]["what"] != "connection to NATS" {
			t.Fatalf("lines %v", got)
		}
		s.connected.Store(true)
		s.observe(theConnection, time.Now(), nil)
		time.Sleep(3 * time.Second)
		w.failed(errNoLeader) // since the connection is back
		w.failed(errNoAnswer) // which tells less
		time.Sleep(3500 * time.Millisecond)
		got := lines("waiting")
		if len(got) != 2 || got[1]["what"] != "stream BRAZIER_JOBS" || got[1]["reason"] != errNoLeader.Error() || got[1]["for_s"].(float64) > 7 {
			t.Errorf("lines %v", got)
		}
		if got := lines("waited"); len(got) != 1 {
			t.Errorf("ends %v", got)
		}
		w.end(true)
		time.Sleep(2 * time.Second)
		if got := lines("waited"); len(got) != 2 || s.count.Load() != 0 {
			t.Errorf("ends %v, %d left", got, s.count.Load())
		}
	})
}

// Hundreds of consumers that cannot be made for one reason are one line.
func TestWaitsForManyConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lines := newTestWaits()
		defer s.close()
		var all []*retrier
		for i := range 300 {
			all = append(all, s.begin(consumerOf(StreamJobs, fmt.Sprint(i), Bulk), time.Now().Add(-time.Second), errNotAllowed))
		}
		time.Sleep(7*time.Second + time.Millisecond)
		if got := lines("waiting"); len(got) != 1 || got[0]["others"] != int64(299) || got[0]["waiters"] != int64(300) {
			t.Errorf("lines %v", got)
		}
		for _, w := range all {
			w.end(true)
		}
		time.Sleep(2 * time.Second)
		if got := lines("waited"); len(got) != 1 || got[0]["others"] != int64(299) {
			t.Errorf("ends %v", got)
		}
	})
}

// Where nothing fails nothing is locked or allocated.
func TestWaitsCostNothing(t *testing.T) {
	q := &Queue{}
	q.waits = &waits{logAfter: waitLogAfter, logEvery: waitLogEvery, all: map[dependency]*wait{}}
	q.waits.mu.Lock() // whoever takes it hangs
	attempt := func() error { return nil }
	w := retrier{waits: q.waits, what: consumerOf(StreamJobs, "1", Bulk)}
	n := testing.AllocsPerRun(100, func() {
		_ = q.insist(context.Background(), writesTo(StreamRecords), attempt)
		w.end(true)
		q.waits.observe(readsOf(StreamJobs), time.Time{}, nil)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

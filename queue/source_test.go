package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// What is in the buffer when a source is stopped is still returned, whoever stops it and whenever.
func TestStop(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	var want []string
	for range 5 {
		j := job(acme, queue.Bulk)
		publish(t, q, j)
		want = append(want, j.ID)
	}
	s := source(t, q, acme, queue.Bulk, 4)
	got := []string{next(t, s).ID}
	// Four were asked for with the first, so three more are on their way.
	js := raw(t, srv)
	eventually(t, "the buffer is full", func() bool {
		consumer, err := js.Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
		return err == nil && consumer.CachedInfo().NumAckPending == 4
	})
	for _, d := range rest(t, s) {
		got = append(got, d.ID)
		if d.InDoubt {
			t.Errorf("%s is in doubt: %s", d.ID, d.Doubt)
		}
	}
	equal(t, "jobs of the stopped source", got, want[:4])
	s.Stop() // once more is well
	if _, err := s.Next(within(t, 2*testTimeout)); !errors.Is(err, queue.ErrStopped) {
		t.Errorf("next of an empty stopped source: %v", err)
	}
	// The fifth was left for others.
	if d := next(t, source(t, q, acme, queue.Bulk, 1)); d.ID != want[4] || d.InDoubt {
		t.Errorf("another source got %s, in doubt %v; want %s", d.ID, d.InDoubt, want[4])
	}
}

func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	for _, when := range []string{"before the first call", "during a call"} {
		t.Run(when, func(t *testing.T) {
			s := q.Source(acme, queue.Media, 2)
			ended := make(chan error, 1)
			if when == "before the first call" {
				s.Stop()
			}
			go func() {
				_, err := s.Next(within(t, 2*testTimeout))
				ended <- err
			}()
			s.Stop()
			if err := <-ended; !errors.Is(err, queue.ErrStopped) {
				t.Errorf("next: %v", err)
			}
		})
	}
}

// A source may be stopped at any time, also during a pull request: no job is put in doubt by that, and none is lost.
func TestStopPutsNothingInDoubt(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	var stopping sync.WaitGroup
	defer stopping.Wait()
	for n := range 8 {
		stopping.Go(func() {
			if err := stopAgainAndAgain(t.Context(), q, strconv.Itoa(1000+n)); err != nil {
				t.Error(err)
			}
		})
	}
}

func stopAgainAndAgain(ctx context.Context, q *queue.Queue, page string) error {
	const stops, backlog = 6, 40
	waiting := map[string]bool{}
	for n := range stops + 1 {
		for len(waiting) < backlog {
			j := job(page, queue.Bulk)
			if _, err := q.Publish(ctx, j); err != nil {
				return err
			}
			waiting[j.ID] = true
		}
		s := q.Source(page, queue.Bulk, 8)
		stopAfter := 1 + rand.IntN(backlog/2)
		if n == stops {
			stopAfter = backlog
		}
		var taken []*queue.Delivery
		for {
			d, err := s.Next(ctx)
			if errors.Is(err, queue.ErrStopped) {
				break
			}
			if err != nil {
				return err
			}
			if taken = append(taken, d); len(taken) == stopAfter {
				go s.Stop() // Next goes on meanwhile
			}
		}
		for _, d := range taken {
			if d.InDoubt || !waiting[d.ID] {
				return fmt.Errorf("%s was waited for: %v; is in doubt: %v %s", d.ID, waiting[d.ID], d.InDoubt, d.Doubt)
			}
			delete(waiting, d.ID)
			if err := d.Done(ctx); err != nil {
				return err
			}
		}
	}
	if len(waiting) != 0 {
		return fmt.Errorf("%d jobs did not come", len(waiting))
	}
	return nil
}

// Several sources share a lane: each job goes to one of them.
func TestSharedLane(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	queues := []*queue.Queue{q, queuetest.On(t, srv), queuetest.On(t, srv)}
	const jobs = 60
	var want []string
	for range jobs {
		j := job(acme, queue.Bulk)
		publish(t, q, j)
		want = append(want, j.ID)
	}
	got := make(chan string, jobs)
	var sources []*queue.Source
	var taking sync.WaitGroup
	for _, q := range queues {
		s := source(t, q, acme, queue.Bulk, 4)
		sources = append(sources, s)
		taking.Go(func() {
			for {
				d, err := s.Next(within(t, 2*testTimeout))
				if err != nil {
					return
				}
				if d.InDoubt {
					t.Errorf("%s is in doubt: %s", d.ID, d.Doubt)
				}
				if err := d.Done(within(t, 2*testTimeout)); err != nil {
					t.Error(err)
				}
				got <- d.ID
			}
		})
	}
	var all []string
	for range jobs {
		all = append(all, <-got)
	}
	for _, s := range sources {
		s.Stop()
	}
	taking.Wait()
	slices.Sort(want)
	slices.Sort(all)
	equal(t, "jobs", all, want)
	isEmpty(t, q, acme)
}

// A lane sees its own jobs only.
func TestLanesAreApart(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	want := map[string]string{}
	for _, page := range []string{acme, nordwind} {
		for _, lane := range queue.Lanes() {
			j := job(page, lane)
			publish(t, q, j)
			want[page+" "+string(lane)] = j.ID
		}
	}
	got := map[string]string{}
	for _, page := range []string{nordwind, acme} {
		for _, lane := range queue.Lanes() {
			s := source(t, q, page, lane, 8)
			d := next(t, s)
			got[d.Page+" "+string(d.Lane)] = d.ID
			done(t, d)
			if left := rest(t, s); len(left) != 0 {
				t.Errorf("%s %s holds %d jobs more", page, lane, len(left))
			}
		}
	}
	equal(t, "jobs by lane", got, want)
}

// A source whose consumer is deleted creates it again and goes on. The deliveries of the jobs that were
// delivered are forgotten, so those jobs are delivered again.
func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	core, lines := observer.New(zap.InfoLevel)
	q := open(t, queue.Config{InProcess: srv, Log: zap.New(core)})
	js := raw(t, srv)
	s := source(t, q, acme, queue.Bulk, 1)
	publish(t, q, job(acme, queue.Bulk))
	done(t, next(t, s))

	waiting := make(chan *queue.Delivery)
	go func() {
		d, err := s.Next(context.Background())
		if err != nil {
			t.Error(err)
		}
		waiting <- d
	}()
	eventually(t, "the source waits", func() bool {
		consumer, err := js.Consumer(t.Context(), queue.StreamJobs, acme+"-bulk")
		return err == nil && consumer.CachedInfo().NumWaiting == 1
	})
	if err := js.DeleteConsumer(t.Context(), queue.StreamJobs, acme+"-bulk"); err != nil {
		t.Fatal(err)
	}
	j := job(acme, queue.Bulk)
	publish(t, q, j)
	d := <-waiting
	done(t, d)
	if d.ID != j.ID || d.InDoubt {
		t.Errorf("got %s, in doubt %v; want %s", d.ID, d.InDoubt, j.ID)
	}
	isEmpty(t, q, acme)
	if lines := lines.FilterLevelExact(zap.WarnLevel).All(); len(lines) > 0 {
		t.Errorf("it was there again at once, and is talked about: %v", lines)
	}
}

// A queue that is closed ends its sources, those that wait and those that do not.
func TestSourceOfClosedQueue(t *testing.T) {
	t.Parallel()
	q, _ := fresh(t)
	waiting, later := source(t, q, acme, queue.Bulk, 2), source(t, q, acme, queue.Urgent, 2)
	ended := make(chan error, 1)
	publish(t, q, job(acme, queue.Bulk))
	done(t, next(t, waiting))
	go func() {
		_, err := waiting.Next(context.Background())
		ended <- err
	}()
	q.Close()
	if err := <-ended; !errors.Is(err, queue.ErrStopped) {
		t.Errorf("a source that waits: %v", err)
	}
	if _, err := later.Next(within(t, 2*testTimeout)); !errors.Is(err, queue.ErrStopped) {
		t.Errorf("a source that begins: %v", err)
	}
	select {
	case <-q.Closed():
	default:
		t.Error("Closed is not closed")
	}
	q.Close() // once more is well
	if _, err := q.Publish(within(t, 5*time.Second), job(acme, queue.Bulk)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("publish on a closed queue: %v", err)
	}
}

// A job that is not settled is delivered again when its lease has ended, and is in doubt then if it was begun.
func TestLeaseRunsOut(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	cfg := queue.Config{InProcess: srv}.WithLease(lease)
	q, lost := open(t, cfg), open(t, cfg)
	theirs, ours := source(t, lost, acme, queue.Bulk, 2), source(t, q, acme, queue.Bulk, 2)
	begun, fetched := job(acme, queue.Bulk), job(acme, queue.Bulk)
	publish(t, q, begun, fetched)
	for range 2 {
		if d := next(t, theirs); d.ID == begun.ID {
			if err := d.Begin(within(t, 2*testTimeout)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ended := time.Now()
	lost.Close() // without settling the jobs
	for range 2 {
		d := next(t, ours)
		if d.InDoubt != (d.ID == begun.ID) || (d.Doubt != "") != d.InDoubt {
			t.Errorf("%s, of which %s was begun: in doubt %v %q", d.ID, begun.ID, d.InDoubt, d.Doubt)
		}
		if waited := time.Since(ended); d.InDoubt && waited < lease/2 {
			t.Errorf("a job that was begun is taken over after %v", waited)
		}
		done(t, d)
	}
	isEmpty(t, q, acme)
}

// A worker of its own beside a process that has the server in it.
func TestWorkerBesideServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	serve := open(t, queue.Config{InProcess: srv, Embedded: true})
	publish(t, serve, job(acme, queue.Bulk))
	done(t, next(t, source(t, serve, acme, queue.Bulk, 1)))
	address, err := embedded.Address(dir)
	if err != nil {
		t.Fatal(err)
	}
	beside := open(t, queue.Config{URL: address})
	theirs := source(t, beside, acme, queue.Bulk, 1)
	publish(t, serve, job(acme, queue.Bulk))
	done(t, next(t, theirs))
	theirs.Stop()
	publish(t, beside, job(acme, queue.Bulk))
	done(t, next(t, source(t, serve, acme, queue.Bulk, 1)))
	isEmpty(t, serve, acme)
}

// However much was delivered before, a worker that starts gets its first job at once.
func TestLateWorker(t *testing.T) {
	t.Parallel()
	q, srv := fresh(t)
	js := raw(t, srv)
	const earlier = 20_000
	for i := range earlier {
		record := fmt.Sprintf("brazier.records.%s.bulk.EARLIER%d", acme, i)
		if _, err := js.PublishAsync(record, []byte(`{"state":"done"}`), jetstream.WithStallWait(testTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	publish(t, q, job(acme, queue.Bulk))
	began := time.Now()
	late := queuetest.On(t, srv)
	done(t, next(t, source(t, late, acme, queue.Bulk, 1)))
	if took := time.Since(began); took > 10*time.Second { // tens of milliseconds on an idle machine
		t.Errorf("the first job came after %v", took)
	}
}

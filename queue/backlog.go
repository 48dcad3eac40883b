package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog is what waits for one page, over all workers.
type Backlog struct {
	Pending  uint64    // stored and not settled, those in a worker's hands included
	Retrying uint64    // of these, delivered before
	Dead     uint64    // dead letters kept
	Oldest   time.Time // when the oldest job was stored; zero if there is none
}

// Backlog counts what waits for a page.
func (q *Queue) Backlog(ctx context.Context, page string) (Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var b Backlog
	jobs, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(jobSubjects+page+".>"))
	if err != nil {
		return Backlog{}, fmt.Errorf("queue: backlog: %w", redact(err))
	}
	for _, lane := range Lanes() {
		stored := jobs.State.Subjects[jobSubject(page, lane)]
		if stored == 0 {
			continue
		}
		b.Pending += stored
		consumer, err := q.jobs.Consumer(ctx, page+"-"+string(lane)) // asks for its info
		switch {
		case err == nil:
			b.Retrying += uint64(consumer.CachedInfo().NumRedelivered)
		case !errors.Is(err, jetstream.ErrConsumerNotFound): // no worker has come yet
			return Backlog{}, fmt.Errorf("queue: backlog: %w", redact(err))
		}
		// The first message of the subject, from the start of the stream.
		first, err := q.jobs.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(jobSubject(page, lane)))
		if err == nil && (b.Oldest.IsZero() || first.Time.Before(b.Oldest)) {
			b.Oldest = first.Time
		}
	}
	dead, err := q.dead.Info(ctx, jetstream.WithSubjectFilter(deadSubjects+page+".>"))
	if err != nil {
		return Backlog{}, fmt.Errorf("queue: backlog: %w", redact(err))
	}
	for _, n := range dead.State.Subjects {
		b.Dead += n
	}
	return b, nil
}

// PageLane is a lane of a page, by the page's Facebook id.
type PageLane struct {
	Page string
	Lane Lane
}

// Waiting counts the jobs that are stored and not settled, by page and lane, in one question to the server. Lanes without
// any are not there.
func (q *Queue) Waiting(ctx context.Context) (map[PageLane]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(jobSubjects+">"))
	if err != nil {
		return nil, fmt.Errorf("queue: waiting: %w", redact(err))
	}
	waiting := make(map[PageLane]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		page, lane, _ := strings.Cut(strings.TrimPrefix(subject, jobSubjects), ".")
		waiting[PageLane{page, Lane(lane)}] = n
	}
	return waiting, nil
}

// Totals is what the queue holds, over all pages.
type Totals struct {
	Jobs, Dead StreamTotals
}

// StreamTotals is what one stream holds.
type StreamTotals struct {
	ByPage   map[string]uint64 // messages
	Bytes    uint64            // on disk; among the jobs' are the ids that are remembered
	MaxBytes int64             // -1: no limit
	Replicas int
	Leader   string // the server that has it; empty while none has
}

// Totals counts the jobs and the dead letters.
func (q *Queue) Totals(ctx context.Context) (t Totals, err error) {
	if t.Jobs, err = count(ctx, q.jobs, jobSubjects); err == nil {
		t.Dead, err = count(ctx, q.dead, deadSubjects)
	}
	if err != nil {
		return Totals{}, fmt.Errorf("queue: totals: %w", redact(err))
	}
	return t, nil
}

func count(ctx context.Context, stream jetstream.Stream, subjects string) (StreamTotals, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjects+">"))
	if err != nil {
		return StreamTotals{}, err
	}
	t := StreamTotals{ByPage: map[string]uint64{}, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, Replicas: info.Config.Replicas}
	if info.Cluster != nil {
		t.Leader = info.Cluster.Leader
	}
	for subject, n := range info.State.Subjects {
		page, _, _ := strings.Cut(strings.TrimPrefix(subject, subjects), ".")
		t.ByPage[page] += n
	}
	return t, nil
}

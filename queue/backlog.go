package queue

import (
	"context"
	"errors"
	"fmt"
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

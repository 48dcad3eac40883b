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
	Retrying uint64    // of these, handed out before
	Dead     uint64    // dead letters kept
	Oldest   time.Time // when the oldest job was stored; zero if there is none
}

// Backlog counts what waits for a page.
func (q *Queue) Backlog(ctx context.Context, page string) (Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var b Backlog
	for _, lane := range Lanes() {
		l, err := q.laneBacklog(ctx, PageLane{page, lane})
		if err != nil {
			return Backlog{}, fmt.Errorf("queue: backlog: %w", redact(err))
		}
		b.Pending += l.Pending
		b.Retrying += l.Retrying
		if b.Oldest.IsZero() || (!l.Oldest.IsZero() && l.Oldest.Before(b.Oldest)) {
			b.Oldest = l.Oldest
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

// laneBacklog asks the lane's consumer, which counts as it goes.
func (q *Queue) laneBacklog(ctx context.Context, lane PageLane) (b Backlog, err error) {
	from := uint64(1) // the oldest job is looked for from here
	filter := jobSubject(lane.Page, lane.Lane, "*")
	consumer, err := q.jobs.Consumer(ctx, consumerName(lane.Page, lane.Lane)) // asks for its info
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // no worker has come yet
		if b.Pending, err = q.countSubjects(ctx, filter); err != nil {
			return b, err
		}
	case err != nil:
		return b, err
	default:
		info := consumer.CachedInfo()
		if info.Cluster != nil && info.Cluster.Leader == "" { // then the answer is a member's, and says 0 of everything
			return b, fmt.Errorf("consumer %s has no leader", info.Name)
		}
		b.Pending = info.NumPending + uint64(info.NumAckPending)
		b.Retrying = uint64(info.NumRedelivered)
		from = info.AckFloor.Stream + 1
	}
	if b.Pending == 0 {
		return b, nil
	}
	first, err := q.jobs.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	if errors.Is(err, jetstream.ErrMsgNotFound) { // settled meanwhile
		return b, nil
	}
	if err == nil {
		b.Oldest = first.Time
	}
	return b, err
}

// countSubjects lists what it counts, and is for where there is no other way.
func (q *Queue) countSubjects(ctx context.Context, filter string) (uint64, error) {
	info, err := q.jobs.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, err
	}
	return uint64(len(info.State.Subjects)), nil
}

// Waiting counts the jobs that are stored and not settled, by page and lane. Lanes without any are not there.
func (q *Queue) Waiting(ctx context.Context) (map[PageLane]uint64, error) {
	waiting, err := q.waitingJobs(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[PageLane]uint64, len(waiting))
	for lane, w := range waiting {
		found[lane] = w.jobs
	}
	return found, nil
}

// laneJobs are the jobs of a lane that are stored and not settled.
type laneJobs struct {
	jobs    uint64
	fetched bool // a worker waits for them
}

func (q *Queue) waitingJobs(ctx context.Context) (map[PageLane]laneJobs, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	all, err := q.Lanes(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]*jetstream.ConsumerInfo{}
	list := q.jobs.ListConsumers(ctx)
	for info := range list.Info() {
		known[info.Name] = info
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("queue: waiting: %w", redact(err))
	}
	found := make(map[PageLane]laneJobs, len(all))
	for _, lane := range all {
		var w laneJobs
		if info := known[consumerName(lane.Page, lane.Lane)]; info != nil {
			w = laneJobs{info.NumPending + uint64(info.NumAckPending), info.NumWaiting > 0}
		} else if w.jobs, err = q.countSubjects(ctx, jobSubject(lane.Page, lane.Lane, "*")); err != nil {
			return nil, fmt.Errorf("queue: waiting: %w", redact(err))
		}
		if w.jobs > 0 {
			found[lane] = w
		}
	}
	return found, nil
}

// Totals is what the queue holds, over all pages.
type Totals struct {
	Jobs, Dead StreamTotals
}

// StreamTotals is what one stream holds.
type StreamTotals struct {
	ByPage   map[string]uint64 // messages
	Bytes    uint64            // on disk; among the jobs' are the records of those that are settled
	MaxBytes int64             // -1: no limit
	Replicas int
	Leader   string // the server that has it; empty while none has
}

// Totals counts the jobs and the dead letters.
func (q *Queue) Totals(ctx context.Context) (t Totals, err error) {
	if t.Jobs, err = totals(ctx, q.jobs, ""); err != nil {
		return Totals{}, fmt.Errorf("queue: totals: %w", redact(err))
	}
	waiting, err := q.Waiting(ctx)
	if err != nil {
		return Totals{}, err
	}
	for lane, n := range waiting {
		t.Jobs.ByPage[lane.Page] += n
	}
	if t.Dead, err = totals(ctx, q.dead, deadSubjects); err != nil {
		return Totals{}, fmt.Errorf("queue: totals: %w", redact(err))
	}
	return t, nil
}

// totals counts by page what stands under subjects, if any are given.
func totals(ctx context.Context, stream jetstream.Stream, subjects string) (StreamTotals, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var opts []jetstream.StreamInfoOpt
	if subjects != "" {
		opts = append(opts, jetstream.WithSubjectFilter(subjects+">"))
	}
	info, err := stream.Info(ctx, opts...)
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

package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog is what is stored for one page, over all workers.
type Backlog struct {
	Pending  uint64    // jobs that are stored and not settled, those in flight included
	Retrying uint64    // of these, delivered before
	Dead     uint64    // dead letters
	Oldest   time.Time // when the oldest job was stored; zero if there is none
}

// Backlog counts the jobs and dead letters of a page.
func (q *Queue) Backlog(ctx context.Context, page string) (Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var b Backlog
	for _, lane := range Lanes() {
		l, err := q.laneBacklog(ctx, PageLane{page, lane})
		if err != nil {
			return Backlog{}, fmt.Errorf("queue: backlog: %w", redact(err))
		}
		b.Pending, b.Retrying, b.Oldest = b.Pending+l.Pending, b.Retrying+l.Retrying, earlier(b.Oldest, l.Oldest)
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

// laneBacklog counts the jobs of a lane.
func (q *Queue) laneBacklog(ctx context.Context, lane PageLane) (b Backlog, err error) {
	for _, at := range q.storesOf(lane.Page, lane.Lane) {
		here, err := at.laneBacklog(ctx, lane)
		if err != nil {
			return b, err
		}
		b.Pending, b.Retrying, b.Oldest = b.Pending+here.Pending, b.Retrying+here.Retrying, earlier(b.Oldest, here.Oldest)
	}
	return b, nil
}

// earlier returns the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// laneBacklog asks the lane's consumer, which keeps count.
func (h store) laneBacklog(ctx context.Context, lane PageLane) (b Backlog, err error) {
	from := uint64(1) // the search for the oldest job begins here
	filter := h.jobSubject(lane.Page, lane.Lane, "*")
	consumer, err := h.jobs.Consumer(ctx, consumerName(lane.Page, lane.Lane)) // requests its info
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound): // no worker has fetched from the lane yet
		if b.Pending, err = h.countSubjects(ctx, filter); err != nil {
			return b, err
		}
	case err != nil:
		return b, err
	default:
		info := consumer.CachedInfo()
		if info.Cluster != nil && info.Cluster.Leader == "" { // then a member answers, and counts 0 of everything
			return b, fmt.Errorf("consumer %s has no leader", info.Name)
		}
		b.Pending = info.NumPending + uint64(info.NumAckPending)
		b.Retrying = uint64(info.NumRedelivered)
		from = info.AckFloor.Stream + 1
	}
	if b.Pending == 0 {
		return b, nil
	}
	b.Oldest, err = h.oldestJob(ctx, from, filter)
	return b, err
}

// oldestJob returns when the first job from a sequence on was stored that a filter takes, zero if there is none any more.
func (p *partition) oldestJob(ctx context.Context, from uint64, filter string) (time.Time, error) {
	first, err := p.jobs.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // it was settled meanwhile
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	}
	return first.Time, nil
}

// countSubjects counts the subjects that match a filter. The server lists them all, so it is for lanes without a consumer.
func (p *partition) countSubjects(ctx context.Context, filter string) (uint64, error) {
	info, err := p.jobs.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, err
	}
	return uint64(len(info.State.Subjects)), nil
}

// Pending counts the jobs that are stored and not settled, by page and lane. Lanes without any are left out.
func (q *Queue) Pending(ctx context.Context) (map[PageLane]uint64, error) {
	pending, err := q.pendingJobs(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[PageLane]uint64, len(pending))
	for lane, p := range pending {
		found[lane] = p.jobs
	}
	return found, nil
}

// Waiting counts the messages that are stored and not settled, over all pages, and reports whether a worker fetches from a lane
// that has some.
func (q *Queue) Waiting(ctx context.Context) (messages uint64, fetched bool, err error) {
	pending, err := q.pendingJobs(ctx)
	for _, lane := range pending {
		messages, fetched = messages+lane.jobs, fetched || lane.fetched
	}
	return messages, fetched, err
}

// laneJobs are the jobs of a lane that are stored and not settled.
type laneJobs struct {
	jobs     uint64
	taken    uint64 // of these, delivered to a worker and not settled
	retrying uint64 // of these, delivered before
	fetched  bool   // a worker fetches from the lane
	settled  uint64 // all jobs of the lane in its partition up to this sequence are
}

// pendingJobs returns the lanes that have jobs, over all partitions. A lane is fetched from if that is so in all in which it has jobs.
func (q *Queue) pendingJobs(ctx context.Context) (map[PageLane]laneJobs, error) {
	found := map[PageLane]laneJobs{}
	for _, p := range q.partitions() {
		pending, err := q.pendingIn(ctx, p)
		if err != nil {
			return nil, err
		}
		for lane, here := range pending {
			if sum, ok := found[lane]; ok {
				here = laneJobs{jobs: sum.jobs + here.jobs, taken: sum.taken + here.taken, retrying: sum.retrying + here.retrying,
					fetched: sum.fetched && here.fetched}
			}
			found[lane] = here
		}
	}
	return found, nil
}

// pendingIn returns the lanes that have jobs in a partition.
func (q *Queue) pendingIn(ctx context.Context, in *partition) (map[PageLane]laneJobs, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	all, err := q.lanesIn(ctx, in)
	if err != nil {
		return nil, err
	}
	known := map[string]*jetstream.ConsumerInfo{}
	list := in.jobs.ListConsumers(ctx)
	for info := range list.Info() {
		known[info.Name] = info
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("queue: pending: %w", redact(err))
	}
	found := make(map[PageLane]laneJobs, len(all))
	for _, lane := range all {
		var p laneJobs
		if info := known[consumerName(lane.Page, lane.Lane)]; info != nil {
			p = laneJobs{jobs: info.NumPending + uint64(info.NumAckPending), taken: uint64(info.NumAckPending), retrying: uint64(info.NumRedelivered),
				fetched: info.NumWaiting > 0, settled: info.AckFloor.Stream}
		} else if p.jobs, err = in.countSubjects(ctx, in.store().jobSubject(lane.Page, lane.Lane, "*")); err != nil {
			return nil, fmt.Errorf("queue: pending: %w", redact(err))
		}
		if p.jobs > 0 {
			found[lane] = p
		}
	}
	return found, nil
}

// PageBacklog is the backlog of a page among those of all pages.
type PageBacklog struct {
	Backlog
	InFlight uint64 // jobs that a worker has, and that none had before
	Fetched  bool   // a worker fetches some of its jobs
}

// Backlogs counts the jobs and dead letters of all pages that have any. A lane's oldest job costs one request.
func (q *Queue) Backlogs(ctx context.Context) (map[string]PageBacklog, error) {
	found := make(map[string]PageBacklog)
	for _, in := range q.partitions() {
		pending, err := q.pendingIn(ctx, in)
		if err != nil {
			return nil, err
		}
		for lane, p := range pending {
			b := found[lane.Page]
			oldest, err := in.oldestJob(ctx, p.settled+1, in.store().jobSubject(lane.Page, lane.Lane, "*"))
			if err != nil {
				return nil, fmt.Errorf("queue: backlogs: %w", redact(err))
			}
			b.Pending, b.Retrying, b.InFlight = b.Pending+p.jobs, b.Retrying+p.retrying, b.InFlight+p.taken-min(p.retrying, p.taken)
			b.Oldest, b.Fetched = earlier(b.Oldest, oldest), b.Fetched || p.fetched
			found[lane.Page] = b
		}
	}
	dead, err := q.deadByPage(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue: backlogs: %w", redact(err))
	}
	for page, n := range dead {
		b := found[page]
		b.Dead = n
		found[page] = b
	}
	return found, nil
}

// Totals is what the queue stores, by page.
type Totals struct {
	Jobs, Dead map[string]uint64
}

// Totals counts the jobs and the dead letters.
func (q *Queue) Totals(ctx context.Context) (Totals, error) {
	pending, err := q.Pending(ctx)
	if err != nil {
		return Totals{}, err
	}
	t := Totals{Jobs: map[string]uint64{}}
	for lane, n := range pending {
		t.Jobs[lane.Page] += n
	}
	if t.Dead, err = q.deadByPage(ctx); err != nil {
		return Totals{}, fmt.Errorf("queue: totals: %w", redact(err))
	}
	return t, nil
}

// deadByPage counts the dead letters.
func (q *Queue) deadByPage(ctx context.Context) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := q.dead.Info(ctx, jetstream.WithSubjectFilter(deadSubjects+">"))
	if err != nil {
		return nil, err
	}
	found := map[string]uint64{}
	for subject, n := range info.State.Subjects {
		page, _, _ := strings.Cut(strings.TrimPrefix(subject, deadSubjects), ".")
		found[page] += n
	}
	return found, nil
}

// Sizes is what the queue stores of messages.
type Sizes struct {
	Jobs []Size // in each of the streams that have them
	Dead uint64 // dead letters
}

// Size is what one stream stores.
type Size struct {
	Stream   string
	Bytes    uint64 // on disk
	MaxBytes int64  // -1: no limit
}

// Sizes returns what is stored, by small requests at the same time. With an error it returns what is known.
func (q *Queue) Sizes(ctx context.Context) (s Sizes, err error) {
	all := q.partitions()
	infos := make([]*jetstream.StreamInfo, len(all)+1)
	errs := make([]error, len(infos))
	var asking sync.WaitGroup
	for i, p := range all {
		asking.Go(func() { infos[i], errs[i] = p.jobs.Info(ctx) })
	}
	asking.Go(func() { infos[len(all)], errs[len(all)] = q.dead.Info(ctx) })
	asking.Wait()
	for i, p := range all {
		if errs[i] == nil {
			s.Jobs = append(s.Jobs, Size{p.jobsName, infos[i].State.Bytes, infos[i].Config.MaxBytes})
		}
	}
	if errs[len(all)] == nil {
		s.Dead = infos[len(all)].State.Msgs
	}
	if err := errors.Join(errs...); err != nil {
		return s, fmt.Errorf("queue: sizes: %w", redact(q.reportMissing(err)))
	}
	return s, nil
}

// RoadBackBacklog counts the webhook events and the updates that are stored and not settled, over all pages.
func (q *Queue) RoadBackBacklog(ctx context.Context) (events, updates Backlog, err error) {
	if events, err = q.backlogIn(ctx, StreamEvents); err != nil {
		return events, updates, err
	}
	updates, err = q.backlogIn(ctx, StreamUpdates)
	return events, updates, err
}

// OutcomesBacklog counts the outcomes and receipts of messages that are stored and not settled, over all pages.
func (q *Queue) OutcomesBacklog(ctx context.Context) (Backlog, error) {
	return q.backlogIn(ctx, StreamOutcomes)
}

// backlogIn counts what one of the streams beside that of the messages stores.
func (q *Queue) backlogIn(ctx context.Context, name string) (b Backlog, err error) {
	stream := q.streams[name]
	if stream == nil {
		return b, fmt.Errorf("queue: backlog: %w", ErrNoRoadBack)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return b, fmt.Errorf("queue: backlog: %w", redact(q.reportMissing(err)))
	}
	if b.Pending = info.State.Msgs; b.Pending > 0 {
		b.Oldest = info.State.FirstTime
	}
	return b, nil
}

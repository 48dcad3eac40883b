package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
)

// Setup makes every stream and bucket what cfg and this version ask for, with whatever rights the connection has, and
// returns what differed. With dryRun it changes nothing. It looks at all of them before it changes the first. A
// *[ConfigError] is about cfg, a *[StreamError] about a stream that cannot become what it should be. After any error
// the differences that are returned were changed, and nothing else.
//
// Settings that break nothing and that cfg does not set stay as they are. A stream without a schema is taken over if it is
// empty. The bucket of paces is left out if the server is in this process, which forgets the bucket when it ends.
func Setup(ctx context.Context, cfg Config, dryRun bool) ([]Difference, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Existing = false
	q, err := dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("queue: setup: %w", err)
	}
	for _, w := range q.writers() {
		close(w.done)
	}
	close(q.repairer.done)
	defer q.Close()
	s := setup{q: q}
	err = q.await(ctx, s.plan)
	if err == nil && !dryRun {
		err = s.apply(ctx)
	}
	if err != nil {
		return s.changed, fmt.Errorf("queue: setup: %w", redact(err))
	}
	var all []Difference
	for _, step := range s.steps {
		all = append(all, step.differs...)
	}
	return all, nil
}

// setup is the work of Setup.
type setup struct {
	q       *Queue
	steps   []step
	changed []Difference
}

// step makes one stream what it should be, or raises the number of partitions, whose streams are there by then.
type step struct {
	plan    jetstream.StreamConfig
	to      *jetstream.StreamConfig // nil: the stream is missing
	differs []Difference

	from       division
	partitions int // that there are to be; 0: the step is about a stream
}

// plan compares everything and makes the steps.
func (s *setup) plan(ctx context.Context) error {
	s.steps = nil
	if n := s.q.cfg.Replicas; n > 1 && s.q.nc.ConnectedClusterName() == "" {
		return &StreamError{StreamJobs, fmt.Sprintf("%d replicas need a cluster, and this is a single server", n), "ask for one replica (--replicas)"}
	}
	has, partitions, err := s.planDivision(ctx)
	if err != nil {
		return err
	}
	plans := s.q.cfg.layout(has)
	plans = append(plans, s.q.cfg.partitionStreams(division{partitions: partitions})[2*has.partitions:]...)
	for _, plan := range plans {
		if plan.Name == streamOf(BucketPace) && s.q.cfg.InProcess != nil {
			continue
		}
		next, err := s.planStep(ctx, plan)
		if err != nil {
			return err
		}
		if next.differs != nil {
			s.steps = append(s.steps, next)
		}
	}
	if partitions > has.partitions {
		s.steps = append(s.steps, step{plan: jetstream.StreamConfig{Name: StreamJobs}, from: has, partitions: partitions,
			differs: []Difference{{StreamJobs, "partitions", strconv.Itoa(has.partitions), strconv.Itoa(partitions)}}})
	}
	return nil
}

// planDivision reads how many partitions there are, and decides how many there are to be.
func (s *setup) planDivision(ctx context.Context) (has division, partitions int, err error) {
	has, err = s.q.findDivision(ctx)
	if errors.Is(err, errNotAllowed) {
		err = backoff.Permanent(mayNot(StreamJobs))
	}
	if err != nil {
		return has, 0, err
	}
	partitions = cmp.Or(s.q.cfg.Partitions, has.partitions)
	stream, err := s.q.lookAt(ctx, StreamJobs)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && has.partitions == 1: // it is made with this number
		return division{partitions: partitions}, partitions, nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return has, 0, describe(&jetstream.StreamConfig{Name: StreamJobs}, err)
	case partitions > has.partitions && has.since.After(stream.CachedInfo().TimeStamp):
		return has, 0, &StreamError{StreamJobs, fmt.Sprintf("the %d partitions that there are come into use at %s", has.partitions, has.since.UTC().Format(time.RFC3339)),
			"raise their number again after that"}
	}
	if partitions < has.partitions {
		return has, 0, &StreamError{StreamJobs, fmt.Sprintf("there are %d partitions, and their number can only be raised", has.partitions),
			fmt.Sprintf("ask for %d (--partitions), or leave the flag out", has.partitions)}
	}
	return has, partitions, nil
}

func (s *setup) planStep(ctx context.Context, plan jetstream.StreamConfig) (step, error) {
	next := step{plan: plan}
	stream, err := s.q.lookAt(ctx, plan.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		next.differs = []Difference{{Stream: plan.Name, Setting: "stream", Have: "missing", Want: "made"}}
		return next, nil
	}
	if errors.Is(err, errNotAllowed) {
		return next, backoff.Permanent(mayNot(plan.Name))
	}
	if err != nil {
		return next, describe(&plan, err)
	}
	found := stream.CachedInfo()
	_, err = schemaOf(&plan, &found.Config)
	if errors.Is(err, errNoSchema) && found.State.Msgs == 0 {
		err = nil
	}
	if errors.Is(err, errNoSchema) {
		err = unknownOrigin(plan.Name, found.State.Msgs)
	}
	if err != nil {
		return next, err
	}
	deviations := compare(&plan, &found.Config)
	var final []deviation
	for _, f := range deviations {
		if f.final {
			final = append(final, f)
		}
		next.differs = append(next.differs, f.Difference)
	}
	if err := brokenError(plan.Name, final); err != nil {
		return next, err
	}
	next.differs = append(next.differs, missing(&plan, &found.Config)...)
	to := amended(&plan, &found.Config, deviations, drifted)
	next.to = &to
	return next, nil
}

func (s *setup) apply(ctx context.Context) error {
	for _, step := range s.steps {
		if err := s.applyStep(ctx, step); err != nil {
			return err
		}
		s.changed = append(s.changed, step.differs...)
	}
	return nil
}

func (s *setup) applyStep(ctx context.Context, step step) (err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	switch {
	case step.partitions > 0:
		err = s.raise(ctx, step)
	case step.to != nil:
		_, err = s.q.updateStream(ctx, *step.to)
	case step.plan.Name == streamOf(BucketPace):
		_, err = s.q.ensurePace(ctx)
		return err
	default:
		_, err = s.q.makeStream(ctx, step.plan)
	}
	switch {
	case errors.Is(err, errNotAllowed):
		return mayNot(step.plan.Name)
	case hasCode(err, errCodeNoPeers):
		return fmt.Errorf("%w (%w)", &StreamError{step.plan.Name, fmt.Sprintf("the cluster does not have enough servers with space for %d replicas", step.plan.Replicas),
			"ask for fewer replicas (--replicas), or add servers"}, err)
	case err != nil:
		return describe(&step.plan, err)
	}
	return nil
}

// raise has all processes use more partitions, a while later by the server's clock.
func (s *setup) raise(ctx context.Context, step step) error {
	stream, err := s.q.lookAt(ctx, StreamJobs)
	if err != nil {
		return err
	}
	d := step.from.raised(step.partitions, stream.CachedInfo().TimeStamp.Add(s.q.cfg.partitionsLead))
	for _, plan := range s.q.cfg.partitionStreams(d)[:2] {
		if stream, err = s.q.lookAt(ctx, plan.Name); err != nil {
			return err
		}
		if _, err = s.q.updateStream(ctx, amended(&plan, &stream.CachedInfo().Config, nil, broken)); err != nil {
			return err
		}
	}
	step.differs[0].Want += ", the new ones from " + d.since.UTC().Format(time.RFC3339) + " on"
	return nil
}

func mayNot(stream string) error {
	return fmt.Errorf("stream %s: %w: connect as a user who may, such as operator of deploy/nats-users.conf", stream, errNotAllowed)
}

// Differences compares the settings that the operator may choose with those of cfg that are set, and the replicas of
// all streams with each other if cfg does not set their number.
func (q *Queue) Differences(ctx context.Context) ([]Difference, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	cfg := q.cfg
	var all []Difference
	for _, plan := range cfg.layout(q.division()) {
		stream, err := q.js.Stream(ctx, plan.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) && isOptional(plan.Name) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("queue: differences: stream %s: %w", plan.Name, redact(err))
		}
		found := stream.CachedInfo().Config
		if cfg.Replicas == 0 { // the first is the stream of jobs
			cfg.Replicas = found.Replicas
		}
		plan.Replicas = cfg.Replicas
		for _, f := range compare(&plan, &found) {
			if f.grade == drifted {
				all = append(all, f.Difference)
			}
		}
	}
	return all, nil
}

// isOptional reports whether messages are delivered without a stream, or a worker makes it when it first needs it.
func isOptional(stream string) bool {
	return stream == streamOf(BucketPace) || stream == streamOf(BucketAlive) || stream == StreamCampaigns
}

package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"
)

// Setup makes every stream and bucket what cfg and this version ask for, with whatever rights the connection has, and
// returns what differed. With dryRun it changes nothing. It looks at all of them before it changes the first. A
// *ConfigError says that one cannot become what it should be. After any error what is returned was changed, and nothing
// else.
//
// Settings that break nothing and that cfg says nothing of stay as they are. A stream without a schema is taken over where
// it is empty. The bucket of paces is left out where the server is in this process: it forgets the bucket when it ends.
func Setup(ctx context.Context, cfg Config, dryRun bool) ([]Difference, error) {
	cfg.Existing = false
	q, err := dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("queue: setup: %w", err)
	}
	close(q.accepting.done)
	close(q.recording.done)
	close(q.repairer.done)
	defer q.Close()
	s := setup{q: q}
	err = q.await(ctx, s.look)
	if err == nil && !dryRun {
		err = s.apply(ctx)
	}
	if err != nil {
		return s.done, fmt.Errorf("queue: setup: %w", redact(err))
	}
	var all []Difference
	for _, step := range s.steps {
		all = append(all, step.differs...)
	}
	return all, nil
}

// setup is what is to be done.
type setup struct {
	q     *Queue
	steps []step
	done  []Difference
}

// step makes one stream what it should be.
type step struct {
	plan    jetstream.StreamConfig
	to      *jetstream.StreamConfig // nil: it is missing
	differs []Difference
}

// look compares everything.
func (s *setup) look(ctx context.Context) error {
	s.steps = nil
	if n := s.q.cfg.Replicas; n > 1 && s.q.nc.ConnectedClusterName() == "" {
		return &ConfigError{StreamJobs, fmt.Sprintf("%d replicas need a cluster, and this is a single server", n), "ask for one replica (--replicas)"}
	}
	for _, plan := range s.q.cfg.layout() {
		if plan.Name == streamOf(BucketPace) && s.q.cfg.InProcess != nil {
			continue
		}
		next, err := s.compare(ctx, plan)
		if err != nil {
			return err
		}
		if next.differs != nil {
			s.steps = append(s.steps, next)
		}
	}
	return nil
}

func (s *setup) compare(ctx context.Context, plan jetstream.StreamConfig) (step, error) {
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
		return next, inWords(&plan, err)
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
	if err := refusal(plan.Name, final); err != nil {
		return next, err
	}
	if has, want := found.Config.Metadata[schemaKey], plan.Metadata[schemaKey]; has != want {
		if has == "" {
			has = "none"
		}
		next.differs = append(next.differs, Difference{plan.Name, schemaKey, has, want})
	}
	to := amended(&plan, &found.Config, deviations, drifted)
	next.to = &to
	return next, nil
}

func (s *setup) apply(ctx context.Context) error {
	for _, step := range s.steps {
		if err := s.change(ctx, step); err != nil {
			return err
		}
		s.done = append(s.done, step.differs...)
	}
	return nil
}

func (s *setup) change(ctx context.Context, step step) (err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	switch {
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
		return fmt.Errorf("%w (%w)", &ConfigError{step.plan.Name, fmt.Sprintf("the cluster has not enough servers with room for %d replicas", step.plan.Replicas),
			"ask for fewer (--replicas), or add servers"}, err)
	case err != nil:
		return inWords(&step.plan, err)
	}
	return nil
}

func mayNot(stream string) error {
	return fmt.Errorf("stream %s: %w: connect as one who may, such as the user operator of deploy/nats-users.conf", stream, errNotAllowed)
}

// Differences compares the settings that are the operator's to choose with those of cfg that are set, and the replicas of
// all streams with each other where cfg does not say how many there should be.
func (q *Queue) Differences(ctx context.Context) ([]Difference, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	cfg := q.cfg
	var all []Difference
	for _, plan := range cfg.layout() {
		stream, err := q.js.Stream(ctx, plan.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) && plan.Name == streamOf(BucketPace) {
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

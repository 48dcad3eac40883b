package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// ensureLayout makes sure of every stream and bucket except those of paces and of processes that are alive: a single server
// forgets the former, nothing depends on the latter, and the first process that needs one makes it. Settings that an operator
// tuned stay as they are.
//
// Partitions are adopted before the other streams are looked at: whatever is wrong with one of those, all processes store in new
// partitions, and take from them, from the same time on.
func (q *Queue) ensureLayout(ctx context.Context) (found map[string]jetstream.Stream, err error) {
	found = make(map[string]jetstream.Stream)
	var drift []Difference
	ensure := func(plan jetstream.StreamConfig) error {
		stream, differs, err := q.ensureStream(ctx, plan)
		if plan.Name == StreamCampaigns {
			if err = q.counters.tolerate(err); err == nil && stream == nil {
				return nil
			}
		}
		if err != nil {
			return located{readsOf(plan.Name), err}
		}
		found[plan.Name] = stream
		drift = append(drift, differs...)
		return nil
	}
	known := q.division()
	d, err := q.findDivision(ctx)
	if err != nil {
		return nil, err
	}
	var later error
	for _, plan := range q.cfg.partitionStreams(d) {
		err := ensure(plan)
		if _, number := partitionOfStream(plan.Name); err != nil && number > known.partitions && q.repairer.isOpen() {
			if needsSetup(err) {
				q.noteRefused(d, err)
			} else {
				later = err
			}
			d = known
			break // those that follow are new too
		}
		if err != nil {
			return nil, err
		}
	}
	q.adopt(d, found)
	for _, plan := range q.cfg.otherStreams() {
		if plan.Name == streamOf(BucketPace) || plan.Name == streamOf(BucketAlive) {
			continue
		}
		if err := ensure(plan); err != nil {
			return nil, err
		}
	}
	q.drift.Store(&drift)
	return found, later
}

// needsSetup reports whether waiting does not repair what is wrong with a stream.
func needsSetup(err error) bool {
	return errors.As(err, new(*StreamError)) || errors.Is(err, errNotAllowed) || hasCode(err, errCodeStorageExceeded)
}

// findDivision reads how many partitions there are. Where the streams tell of fewer than this process knows, they were made again by one
// that knew less: see ensureStream.
func (q *Queue) findDivision(ctx context.Context) (division, error) {
	d := q.division()
	for _, name := range []string{StreamJobs, StreamRecords} {
		stream, err := q.lookAt(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return d, located{readsOf(name), describe(&jetstream.StreamConfig{Name: name}, err)}
		}
		read, err := readDivision(&stream.CachedInfo().Config)
		if err != nil {
			return d, err
		}
		if read.partitions > d.partitions || read.partitions == d.partitions && name == StreamJobs {
			d = read
		}
	}
	return d, nil
}

// ensureStream returns a stream that keeps its promises, and the settings that differ from this process's flags. It
// makes a missing stream, and adds what this version adds. A stream that cannot be used is a *StreamError.
func (q *Queue) ensureStream(ctx context.Context, plan jetstream.StreamConfig) (jetstream.Stream, []Difference, error) {
	stream, err := q.lookAt(ctx, plan.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && !q.cfg.Existing {
		stream, err = q.makeStream(ctx, plan)
	}
	if _, number := partitionOfStream(plan.Name); number > 1 && errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, &StreamError{plan.Name, "it does not exist, and the queue is divided among partitions of which it is one", "start a worker, or " + remedySetup}
	}
	if err != nil {
		return nil, nil, describe(&plan, err)
	}
	found := stream.CachedInfo()
	has, err := schemaOf(&plan, &found.Config)
	if errors.Is(err, errNoSchema) {
		err = unknownOrigin(plan.Name, found.State.Msgs)
	}
	if err != nil {
		return nil, nil, err
	}
	deviations := compare(&plan, &found.Config)
	if err := brokenError(plan.Name, deviations); err != nil {
		return nil, nil, err
	}
	var drift []Difference
	outdated := strconv.Itoa(has) != plan.Metadata[schemaKey]
	for _, f := range deviations {
		outdated = outdated || f.grade == added
		if f.grade == drifted {
			drift = append(drift, f.Difference)
		}
	}
	forgot := !outdated && len(missing(&plan, &found.Config)) > 0 // how many partitions there are
	if (outdated || forgot) && !q.cfg.Existing {
		updated, err := q.updateStream(ctx, amended(&plan, &found.Config, deviations, added))
		switch {
		case err == nil:
			stream = updated
		case forgot && errors.Is(err, errNotAllowed): // a process that may updates it
		default:
			return nil, nil, q.notAdded(&plan, deviations, err)
		}
	}
	return stream, drift, nil
}

// lookAt requests a stream and its settings.
func (q *Queue) lookAt(ctx context.Context, name string) (stream jetstream.Stream, err error) {
	err = q.refusals.during(ctx, "$JS.API.STREAM.INFO."+name, func(ctx context.Context) (err error) {
		stream, err = q.js.Stream(ctx, name)
		return err
	})
	if errors.Is(err, errNotAllowed) {
		err = fmt.Errorf("%w: read the stream's settings", err)
	}
	return stream, err
}

// makeStream makes a stream, or returns the one that another process made meanwhile.
func (q *Queue) makeStream(ctx context.Context, plan jetstream.StreamConfig) (stream jetstream.Stream, err error) {
	err = q.refusals.during(ctx, "$JS.API.STREAM.CREATE."+plan.Name, func(ctx context.Context) (err error) {
		stream, err = q.js.CreateStream(ctx, plan)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return q.lookAt(ctx, plan.Name)
	case errors.Is(err, errNotAllowed):
		err = fmt.Errorf("%w: start a worker, or %s", errMayNotMake, remedySetup)
	case err == nil:
		q.made(plan.Name)
	}
	return stream, err
}

func (q *Queue) updateStream(ctx context.Context, to jetstream.StreamConfig) (stream jetstream.Stream, err error) {
	err = q.refusals.during(ctx, "$JS.API.STREAM.UPDATE."+to.Name, func(ctx context.Context) (err error) {
		stream, err = q.js.UpdateStream(ctx, to)
		return err
	})
	return stream, err
}

// notAdded returns the error for additions of this version that were not made.
func (q *Queue) notAdded(plan *jetstream.StreamConfig, deviations []deviation, err error) error {
	if !errors.Is(err, errNotAllowed) {
		return describe(plan, err)
	}
	lacks := []string{"schema " + plan.Metadata[schemaKey]}
	for _, f := range deviations {
		if f.grade == added {
			lacks = append(lacks, fmt.Sprintf("%s %s (it is %s)", f.Setting, f.Want, f.Have))
		}
	}
	return &StreamError{plan.Name, "this version needs " + strings.Join(lacks, " and ") + ", and this user may not change the stream",
		"start a worker of this version, or " + remedySetup}
}

// errNotAllowed says that the user of this connection may not make the request.
var (
	errNotAllowed = errors.New("this user may not do that")
	errMayNotMake = fmt.Errorf("it does not exist, and %w", errNotAllowed)
)

// describe adds to an error about a stream what it means. It returns a *StreamError for one that waiting does not repair.
func describe(plan *jetstream.StreamConfig, err error) error {
	final := func(reason, remedy string) error {
		return fmt.Errorf("%w (%w)", &StreamError{plan.Name, reason, remedy}, err)
	}
	switch {
	case hasCode(err, errCodeStorageExceeded):
		return fmt.Errorf("stream %s: the server does not have %d bytes for it; ask for less (--max-queue, --max-updates), or give it more (max_file_store): %w", plan.Name, plan.MaxBytes, err)
	case hasCode(err, errCodeReplicasNotSupported):
		return final(fmt.Sprintf("%d replicas need a cluster, and this is a single server", plan.Replicas), "ask for one replica (--replicas)")
	case hasCode(err, errCodeSubjectOverlap):
		return final("another stream takes some of the subjects "+strings.Join(plan.Subjects, " "), "remove that stream (nats stream ls --subjects)")
	case hasCode(err, errCodeMaxConsumers, errCodeMaxStreams, errCodeMaxBytesRequired, errCodeNoLimits, errCodeMaxStreamBytes):
		return final("the limits of the NATS account do not allow it", "raise them, or make the stream by hand with the settings of deploy/README.md")
	case hasCode(err, errCodeInvalidConfig):
		return final("the server refuses its settings", "use nats-server 2.15 or newer, with its default limits")
	}
	return fmt.Errorf("stream %s: %w", plan.Name, err)
}

// ensurePace makes sure of the bucket of paces. It belongs in memory, where a write costs the disk nothing. Where the
// servers or the account have no memory for streams (max_memory_store: 0), it is kept on file. A bucket that is there
// is used as it is.
func (q *Queue) ensurePace(ctx context.Context) (jetstream.Stream, error) {
	plan := q.cfg.planned(streamOf(BucketPace))
	stream, drift, err := q.ensureStream(ctx, plan)
	if withoutMemory(err) {
		plan.Storage = jetstream.FileStorage
		stream, drift, err = q.ensureStream(ctx, plan)
	}
	if err != nil {
		return nil, err
	}
	q.paceLogged.Do(func() {
		q.logDrift(drift)
		if stream.CachedInfo().Config.Storage == jetstream.FileStorage {
			q.log.Warn("paces are kept on file, since NATS had no memory for streams: each reservation costs a write to the disk",
				zap.String("event", "pace_on_file"), zap.String("stream", plan.Name),
				zap.String("remedy", "set max_memory_store to 64M or more, and remove the stream (nats stream rm): it is made again"))
		}
	})
	return stream, nil
}

// withoutMemory reports whether a stream was refused for want of memory: by a single server or the limits of the
// account (checkBytesLimits in nats-server 2.15.2), or by a cluster, whose error about unsuitable servers tells why in
// its text alone (selectPeerError there).
func withoutMemory(err error) bool {
	return hasCode(err, errCodeMemoryExceeded) || hasCode(err, errCodeNoPeers) && strings.Contains(err.Error(), "insufficient storage")
}

// logDrift logs what differs from this process's flags.
func (q *Queue) logDrift(drift []Difference) {
	for _, d := range drift {
		q.log.Warn("a stream's setting differs from this process's flags", zap.String("event", "drift"), zap.String("stream", d.Stream),
			zap.String("setting", d.Setting), zap.String("want", d.Want), zap.String("have", d.Have), zap.String("remedy", remedySetup))
	}
}

// ensure makes sure of all that Open promises. Several processes may do that at once.
func (q *Queue) ensure(ctx context.Context) error {
	found, err := q.ensureLayout(ctx)
	if err != nil {
		return err
	}
	q.repairer.noteReplaced(found)
	q.dead, q.streams = found[StreamDead], found
	if q.pages, err = q.js.KeyValue(ctx, BucketPages); err != nil {
		return fmt.Errorf("bucket %s: %w", BucketPages, err)
	}
	return nil
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// ensureLayout makes sure of every stream and bucket but that of paces, which a single server forgets and who needs it
// makes. What is there stays as the operator tuned it.
func (q *Queue) ensureLayout(ctx context.Context) (map[string]jetstream.Stream, error) {
	found := make(map[string]jetstream.Stream)
	var drift []Difference
	for _, plan := range q.cfg.layout() {
		if plan.Name == streamOf(BucketPace) {
			continue
		}
		stream, differs, err := q.ensureStream(ctx, plan)
		if err != nil {
			return nil, about{readsOf(plan.Name), err}
		}
		found[plan.Name] = stream
		drift = append(drift, differs...)
	}
	q.drift.Store(&drift)
	return found, nil
}

// ensureStream returns a stream that keeps its promises, with what differs from this process's flags. It makes one that is
// missing, and adds what this version adds. A stream that cannot be used is a *ConfigError.
func (q *Queue) ensureStream(ctx context.Context, plan jetstream.StreamConfig) (jetstream.Stream, []Difference, error) {
	stream, err := q.lookAt(ctx, plan.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && !q.cfg.Existing {
		stream, err = q.makeStream(ctx, plan)
	}
	if err != nil {
		return nil, nil, inWords(&plan, err)
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
	if err := refusal(plan.Name, deviations); err != nil {
		return nil, nil, err
	}
	var drift []Difference
	news := strconv.Itoa(has) != plan.Metadata[schemaKey]
	for _, f := range deviations {
		news = news || f.grade == added
		if f.grade == drifted {
			drift = append(drift, f.Difference)
		}
	}
	if news && !q.cfg.Existing {
		if stream, err = q.updateStream(ctx, amended(&plan, &found.Config, deviations, added)); err != nil {
			return nil, nil, q.notAdded(&plan, deviations, err)
		}
	}
	return stream, drift, nil
}

// lookAt asks for a stream and its settings.
func (q *Queue) lookAt(ctx context.Context, name string) (stream jetstream.Stream, err error) {
	err = q.refusals.during(ctx, "$JS.API.STREAM.INFO."+name, func(ctx context.Context) (err error) {
		stream, err = q.js.Stream(ctx, name)
		return err
	})
	if errors.Is(err, errNotAllowed) {
		err = fmt.Errorf("%w: look at the stream", err)
	}
	return stream, err
}

// makeStream makes a stream, or returns the one that another process has made meanwhile.
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

// notAdded is the error for additions that were not made.
func (q *Queue) notAdded(plan *jetstream.StreamConfig, deviations []deviation, err error) error {
	if !errors.Is(err, errNotAllowed) {
		return inWords(plan, err)
	}
	lacks := []string{"schema " + plan.Metadata[schemaKey]}
	for _, f := range deviations {
		if f.grade == added {
			lacks = append(lacks, fmt.Sprintf("%s %s (it is %s)", f.Setting, f.Want, f.Have))
		}
	}
	return &ConfigError{plan.Name, "this version needs " + strings.Join(lacks, " and ") + ", and this user may not change the stream",
		"start a worker of this version, or " + remedySetup}
}

// errNotAllowed says that the server refuses the request to the user of this connection.
var (
	errNotAllowed = errors.New("this user may not do that")
	errMayNotMake = fmt.Errorf("it is not there, and %w", errNotAllowed)
)

// Server error codes of streams that cannot be made or changed as asked (server/errors.json of nats-server).
const (
	errCodeNoPeers              jetstream.ErrorCode = 10005
	errCodeMaxConsumers         jetstream.ErrorCode = 10026
	errCodeMaxStreams           jetstream.ErrorCode = 10027
	errCodeMemoryExceeded       jetstream.ErrorCode = 10028
	errCodeInvalidConfig        jetstream.ErrorCode = 10052
	errCodeSubjectOverlap       jetstream.ErrorCode = 10065
	errCodeReplicasNotSupported jetstream.ErrorCode = 10074
	errCodeMaxBytesRequired     jetstream.ErrorCode = 10113
	errCodeNoLimits             jetstream.ErrorCode = 10120
	errCodeMaxStreamBytes       jetstream.ErrorCode = 10122
)

// inWords tells what a stream that could not be had means, and makes final what waiting does not mend.
func inWords(plan *jetstream.StreamConfig, err error) error {
	final := func(reason, remedy string) error {
		return fmt.Errorf("%w (%w)", &ConfigError{plan.Name, reason, remedy}, err)
	}
	switch {
	case hasCode(err, errCodeStorageExceeded):
		return fmt.Errorf("stream %s: the server does not have %d bytes for it: %w", plan.Name, plan.MaxBytes, err)
	case hasCode(err, errCodeReplicasNotSupported):
		return final(fmt.Sprintf("%d replicas need a cluster, and this is a single server", plan.Replicas), "ask for one replica (--replicas)")
	case hasCode(err, errCodeSubjectOverlap):
		return final("another stream takes some of the subjects "+strings.Join(plan.Subjects, " "), "remove that stream (nats stream ls --subjects)")
	case hasCode(err, errCodeMaxConsumers, errCodeMaxStreams, errCodeMaxBytesRequired, errCodeNoLimits, errCodeMaxStreamBytes):
		return final("the limits of the NATS account do not allow it", "raise them, or make the stream by hand with the settings of deploy/README.md")
	case hasCode(err, errCodeInvalidConfig):
		return final("the server does not take its settings", "use nats-server 2.15 or newer, with its limits as they are by default")
	}
	return fmt.Errorf("stream %s: %w", plan.Name, err)
}

// ensurePace makes sure of the bucket of paces. It belongs in memory, where a write costs the disk nothing. Where the
// servers or the account have none for streams (max_memory_store: 0), it is kept on file. One that is there is taken as
// it is.
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
	q.paceTold.Do(func() {
		q.tell(drift)
		if stream.CachedInfo().Config.Storage == jetstream.FileStorage {
			q.log.Warn("paces are kept on file, since NATS has or had no memory for streams: each reservation costs a write to the disk",
				zap.String("event", "pace_on_file"), zap.String("stream", plan.Name),
				zap.String("remedy", "set max_memory_store to 64M or more, and remove the stream (nats stream rm): it is made again"))
		}
	})
	return stream, nil
}

// withoutMemory reports whether a stream was refused since there is no memory for it: by a single server or by the
// account's limits (checkBytesLimits in nats-server 2.15.2), or by the cluster, whose error for servers that do not suit
// says why in its text alone (selectPeerError there).
func withoutMemory(err error) bool {
	return hasCode(err, errCodeMemoryExceeded) || hasCode(err, errCodeNoPeers) && strings.Contains(err.Error(), "insufficient storage")
}

// tell logs what differs from this process's flags.
func (q *Queue) tell(drift []Difference) {
	for _, d := range drift {
		q.log.Warn("a stream is not as this process's flags say", zap.String("event", "drift"), zap.String("stream", d.Stream),
			zap.String("setting", d.Setting), zap.String("want", d.Want), zap.String("have", d.Have), zap.String("remedy", remedySetup))
	}
}

// refusals tells who waits for an answer that the server refuses the request. NATS says so on the connection, and never
// answers the request.
type refusals struct {
	mu      sync.Mutex
	waiting map[int]refusable
	last    int
	recent  []denial // the last of those that were heard, one for each subject but for its last token
}

type denial struct {
	subject string
	at      time.Time
	logged  time.Time
}

// refusalsKept bounds what is remembered of refusals, and refusedLately is for how long one counts. A request that is not allowed
// is made again every few seconds, and its refusal is logged once in refusalsEvery.
const (
	refusalsKept  = 32
	refusedLately = 15 * time.Second
	refusalsEvery = time.Minute
)

type refusable struct {
	subject string
	cancel  context.CancelCauseFunc
}

// during calls with a context that ends with errNotAllowed when the server refuses a request to the subject.
func (r *refusals) during(ctx context.Context, subject string, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	if r.waiting == nil {
		r.waiting = make(map[int]refusable)
	}
	r.last++
	ticket := r.last
	r.waiting[ticket] = refusable{subject, cancel}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, ticket)
	}()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errNotAllowed) {
		return errNotAllowed
	}
	return err
}

// heard takes an error of the connection, and reports whether somebody who waited for it tells of it, or it was logged a
// moment ago. A user who may not listen to inboxes gets no answer to anything; that is still to be logged.
func (r *refusals) heard(err error) (taken bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	inbox := strings.Contains(err.Error(), `Subscription to "`+inboxPrefix)
	for _, w := range r.waiting {
		refused := strings.Contains(err.Error(), strconv.Quote(w.subject))
		if refused || inbox {
			w.cancel(errNotAllowed)
		}
		taken = taken || refused
	}
	known := r.remember(err.Error())
	if !taken && time.Since(known.logged) < refusalsEvery {
		return true
	}
	if !taken {
		known.logged = time.Now()
	}
	return taken
}

// remember returns what is known of a refusal, by its text. r.mu is held.
func (r *refusals) remember(text string) *denial {
	_, subject, _ := strings.Cut(text, `"`)
	subject, _, _ = strings.Cut(subject, `"`)
	kind := subject[:strings.LastIndexByte(subject, '.')+1] // the last token may be the id of a job
	now := time.Now()
	for i := range r.recent {
		if r.recent[i].subject == kind {
			r.recent[i].at = now
			return &r.recent[i]
		}
	}
	if len(r.recent) == refusalsKept {
		r.recent = r.recent[1:]
	}
	r.recent = append(r.recent, denial{subject: kind, at: now})
	return &r.recent[len(r.recent)-1]
}

// lately reports whether a request was refused that may be why something does not answer.
func (r *refusals) lately(what awaited) bool {
	about := []string{"." + what.stream + ".", inboxPrefix}
	switch what.stream {
	case StreamJobs:
		about = append(about, jobSubjects, laneSubjects)
	case StreamRecords:
		about = append(about, recordSubjects)
	case StreamDead:
		about = append(about, deadSubjects)
	case streamOf(BucketPages), streamOf(BucketPace):
		about = append(about, "$"+strings.ReplaceAll(what.stream, "_BRAZIER", ".BRAZIER")+".")
	}
	if what.kind == onConsumer {
		about = []string{"." + consumerName(what.page, what.lane) + ".", inboxPrefix}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.recent, func(f denial) bool {
		return time.Since(f.at) < refusedLately && slices.ContainsFunc(about, func(part string) bool { return strings.Contains(f.subject+".", part) })
	})
}

package braze

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Workspace is a Braze workspace to send updates to.
type Workspace struct {
	Name   string // as in its lane of updates: see [queue.Updates]
	Client *Client
}

// SenderConfig is what a Sender needs. Queue, opened with RoadBack, and Resolve are required.
type SenderConfig struct {
	Queue      *queue.Queue
	Workspaces []Workspace
	// Resolve returns the objects that an update stands for now, none if nothing is left to write. After an error that is
	// [ErrUnreadable] the update is a dead letter; after another it is tried again later.
	Resolve func(ctx context.Context, update *queue.Delivery) ([]Object, error)
	// Linger is how long an object waits for others to share its call. Default 1s.
	Linger time.Duration
	Log    *zap.Logger // default: nothing is logged
}

// ErrUnreadable says that an update stands for nothing, now or later.
var ErrUnreadable = errors.New("braze: the update cannot be read")

// Sender sends the updates of workspaces. Of many processes one sends those of a workspace at a time, which has the workspace's
// claim, so that no two calls under way hold the same user.
//
//	updates ─▶ Resolve ─▶ Batcher ─▶ Client.Track ─▶ done, dead letter, or once more
//
// When Braze takes no calls, the workspace is held: nothing is fetched, and after a pause that grows one call is tried. What was not
// written waits in the queue, uncounted, for as long as that takes. A workspace whose key is refused is tried at once with another.
type Sender struct {
	cfg        SenderConfig
	metrics    *metrics
	claimEvery time.Duration // the constant, less in tests
}

const (
	// claimFor is how long a workspace is this process's without a renewal, and claimEvery how often the claim is renewed, or asked for
	// where another process has it. A workspace whose process was killed waits claimFor for another.
	claimFor, claimEvery = 30 * time.Second, 5 * time.Second
	// callLeast is how much of the claim has to be left for a call to begin: much more than Braze takes for an answer. A call is cut
	// off when the claim ends.
	callLeast = 10 * time.Second
	// keyEvery is how often a workspace that was denied looks for another key.
	keyEvery = 2 * time.Second
	// logAfter is how many calls in a row have to fail for want of Braze until the log says so. What a person has to mend is logged at
	// the first.
	logAfter = 3
)

// NewSender checks the configuration.
func NewSender(cfg SenderConfig) (*Sender, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("braze: Queue is missing")
	case cfg.Resolve == nil:
		return nil, errors.New("braze: Resolve is missing")
	}
	for _, w := range cfg.Workspaces {
		if w.Name == "" || w.Client == nil {
			return nil, fmt.Errorf("braze: workspace %q: Name and Client must be set", w.Name)
		}
	}
	if cfg.Linger == 0 {
		cfg.Linger = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Sender{cfg: cfg, metrics: newMetrics(), claimEvery: claimEvery}, nil
}

// Run sends until ctx ends, and returns when no call is under way any more, after 13 s at the latest.
func (s *Sender) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, w := range s.cfg.Workspaces {
		running.Go(func() {
			l := &line{s: s, Workspace: w, log: s.cfg.Log.With(zap.String("workspace", w.Name))}
			l.run(ctx)
		})
	}
	running.Wait()
	return nil
}

// line sends the updates of one workspace. It belongs to one goroutine.
type line struct {
	Workspace
	s     *Sender
	log   *zap.Logger
	until atomic.Pointer[time.Time] // the end of the claim, by this machine's monotonic clock

	failures int       // calls in a row that the workspace did not take
	since    time.Time // the first of them
	logged   bool      // that the workspace is held
}

func (l *line) run(ctx context.Context) {
	claim := l.s.cfg.Queue.NewClaim("braze-" + l.Name)
	defer func() { claim.Release(context.WithoutCancel(ctx)) }()
	for ctx.Err() == nil {
		until, err := claim.Hold(ctx, claimFor)
		if err != nil || !time.Now().Before(until) { // another process has it; what NATS fails of, the queue tells
			wait(ctx, l.s.claimEvery, nil)
			continue
		}
		l.own(ctx, claim, until)
	}
}

// own sends while this process has the claim.
func (l *line) own(ctx context.Context, claim *queue.Claim, until time.Time) {
	l.until.Store(&until)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer stop()
	renewing.Go(func() {
		defer stop()
		for wait(ctx, l.s.claimEvery, nil) {
			next, err := claim.Hold(ctx, claimFor)
			switch {
			case err == nil && next.IsZero():
				l.log.Warn("another process sends the updates", zap.String("event", "claim_lost"))
				return
			case err == nil:
				l.until.Store(&next)
			}
			if time.Until(*l.until.Load()) < callLeast { // the server is away
				return
			}
		}
	})
	for ctx.Err() == nil {
		v := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		l.pause(ctx, v)
	}
}

// pause waits until a call is worth trying after a verdict.
func (l *line) pause(ctx context.Context, v Verdict) {
	if l.failures++; l.failures == 1 {
		l.since = time.Now()
	}
	length := v.Wait.For
	if length == 0 {
		b := queue.Backoff(v.Wait.First, v.Wait.Max)
		b.Multiplier, b.RandomizationFactor = 2, 0
		for range min(l.failures, 20) {
			length = b.NextBackOff()
		}
	}
	l.s.metrics.held.WithLabelValues(l.Name).Set(1)
	if needsPerson := v.Meaning == Denied || v.Meaning == Rejected; !l.logged && (needsPerson || l.failures >= logAfter) {
		l.logged = true
		l.log.Error("Braze takes no updates, they wait", zap.String("event", "braze_held"), zap.String("cause", string(v.Meaning)),
			zap.Int("status", v.Status), zap.String("reason", v.Text), zap.Time("since", l.since.UTC()))
	}
	changed := func() bool { return false }
	if v.Meaning == Denied {
		changed = func() bool {
			key, err := l.Client.cfg.Key()
			return err == nil && Fingerprint(key) != v.Key
		}
	}
	wait(ctx, length, changed)
}

// taken notes that the workspace took a call.
func (l *line) taken() {
	if l.logged {
		l.log.Info("Braze takes updates again", zap.String("event", "braze_resumed"), zap.Float64("for_s", time.Since(l.since).Round(100*time.Millisecond).Seconds()))
	}
	l.s.metrics.held.WithLabelValues(l.Name).Set(0)
	l.failures, l.logged = 0, false
}

// wait waits for a time, or until changed, if given, says so. It reports false if ctx ended before.
func wait(ctx context.Context, length time.Duration, changed func() bool) bool {
	end := time.NewTimer(length)
	defer end.Stop()
	look := time.NewTicker(keyEvery)
	defer look.Stop()
	for {
		select {
		case <-end.C:
			return true
		case <-look.C:
			if changed != nil && changed() {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
}

// Package subscription watches whether Facebook still sends a page's webhooks.
//
// Facebook ends a page's subscription without notice after an hour of failed webhooks, and nobody is linked or reachable from then on.
// A Watcher reads the subscribed fields of each page every few minutes. Of all processes one does so for a page, which has the page's
// claim. A loss is logged once, with the command that repairs it. The Watcher repairs nothing by itself: somebody may have ended the
// subscription on purpose.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

const (
	// every is how often the fields of a page are read: often enough to notice a loss while Facebook still repeats what failed within
	// its hour, and a hundredth of what a page may call.
	every = 5 * time.Minute
	// jitter is by what part of that it varies, so that pages do not call all at once.
	jitter = 0.1
	// claimMargin is how much longer than until its renewal a claim lasts. Nobody reads the fields of a page until the claim of a
	// process that was killed has ended.
	claimMargin = time.Minute
	// startWithin is within what time the fields are read first.
	startWithin = 10 * time.Second
	// loggedAfter is how many reads in a row have to fail until the log says so.
	loggedAfter = 3
	// maxCalls is how many calls are under way at one time, over all pages.
	maxCalls = 8
)

// Page is a page whose webhooks are wanted.
type Page struct {
	ID          string // Facebook page id
	Name        string // how logs and metrics name it
	Credentials func() (sendapi.Credentials, error)
	Receipts    bool // receipts of deliveries and reads are wanted too
}

// Config is what a Watcher needs. Queue and Client are required.
type Config struct {
	Queue  *queue.Queue
	Client *sendapi.Client
	Pages  []Page
	Log    *zap.Logger // default: nothing is logged
}

// Watcher reads the subscribed fields of pages. It is safe for concurrent use.
type Watcher struct {
	cfg        Config
	every      time.Duration // the constant, less in tests
	subscribed *prometheus.GaugeVec
	calls      chan struct{} // has one element per call under way

	mu      sync.Mutex
	pages   []Page
	changed chan struct{} // has one element when pages are others
}

// New checks the configuration.
func New(cfg Config) (*Watcher, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("subscription: Queue is missing")
	case cfg.Client == nil:
		return nil, errors.New("subscription: Client is missing")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	w := &Watcher{cfg: cfg, every: every, calls: make(chan struct{}, maxCalls), changed: make(chan struct{}, 1),
		subscribed: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "brazier_webhook_subscribed",
			Help: "Whether Facebook sends the page's webhooks, with all fields that are needed: 1 or 0. Of the workers, one knows."}, []string{"page"})}
	return w, w.SetPages(cfg.Pages)
}

// SetPages makes these the pages that are watched, at any time. After an error nothing has changed.
func (w *Watcher) SetPages(pages []Page) error {
	for _, p := range pages {
		if p.ID == "" || p.Credentials == nil {
			return fmt.Errorf("subscription: page %q: ID and Credentials must be set", p.Name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages = slices.Clone(pages)
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	known := map[string]*state{} // by page id
	for ctx.Err() == nil {
		w.mu.Lock()
		select {
		case <-w.changed: // what is read now
		default:
		}
		pages := w.pages
		w.mu.Unlock()
		w.follow(ctx, pages, known)
	}
	w.subscribed.Reset()
	return nil
}

// follow watches pages until there are others or ctx ends.
func (w *Watcher) follow(ctx context.Context, pages []Page, known map[string]*state) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for id, s := range known {
		if !slices.ContainsFunc(pages, func(p Page) bool { return p.ID == id && p.Name == s.page.Name }) {
			w.subscribed.DeleteLabelValues(s.page.Name)
			delete(known, id)
		}
	}
	for _, p := range pages {
		s := known[p.ID]
		if s == nil {
			s = &state{next: time.Now().Add(rand.N(min(startWithin, w.every)))}
			known[p.ID] = s
		}
		s.page, s.w = p, w
		running.Go(func() { s.run(ctx) })
	}
	select {
	case <-w.changed:
	case <-ctx.Done():
	}
}

// state is what is known of a page. It belongs to one goroutine at a time.
type state struct {
	w    *Watcher
	page Page
	next time.Time // when the fields are read next

	missing  []string  // that the log told of; none: the page is subscribed as far as is known
	since    time.Time // when fields were missing first
	failures int       // reads in a row that failed
}

func (s *state) run(ctx context.Context) {
	claim := s.w.cfg.Queue.NewClaim(claimName(s.page.ID))
	defer func() { claim.Release(context.WithoutCancel(ctx)) }()
	for {
		timer := time.NewTimer(time.Until(s.next))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		s.look(ctx, claim)
		s.next = time.Now().Add(time.Duration(float64(s.w.every) * (1 + jitter*(2*rand.Float64()-1))))
	}
}

func claimName(page string) string { return "webhook-" + page }

// look reads the fields of the page, if no other process does.
func (s *state) look(ctx context.Context, claim *queue.Claim) {
	length := time.Duration(float64(s.w.every)*(1+jitter)) + claimMargin
	until, err := claim.Hold(ctx, length)
	if err != nil { // what NATS fails of, the queue logs
		return
	}
	if until.IsZero() {
		s.missing, s.failures = nil, 0
		claim.Note(nil)
		s.w.subscribed.DeleteLabelValues(s.page.Name)
		return
	}
	missing, err := s.read(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.failed(err)
	default:
		if s.found(missing) {
			claim.Note([]byte(strings.Join(missing, ",")))
			_, _ = claim.Hold(ctx, length) // so that Missing has it now; if that fails, the next one stores it
		}
	}
}

// Missing returns the webhook fields that a page lacks, as the worker that watches it last read them: none where all are there, and
// where nobody knows.
func Missing(ctx context.Context, q *queue.Queue, page string) (fields []string, err error) {
	note, err := q.ClaimNote(ctx, claimName(page))
	if err != nil || len(note) == 0 {
		return nil, err
	}
	return strings.Split(string(note), ","), nil
}

// read returns the fields to which the page is not subscribed.
func (s *state) read(ctx context.Context) (missing []string, err error) {
	select {
	case s.w.calls <- struct{}{}:
		defer func() { <-s.w.calls }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	cred, err := s.page.Credentials()
	if err != nil {
		return nil, err
	}
	apps, err := s.w.cfg.Client.Subscriptions(ctx, cred, s.page.ID)
	if err != nil {
		return nil, err
	}
	return sendapi.MissingFields(apps, sendapi.WebhookFields(s.page.Receipts)), nil
}

func (s *state) failed(err error) {
	if s.failures++; s.failures == loggedAfter {
		s.w.cfg.Log.Warn("the page's subscribed fields cannot be read", zap.String("event", "subscription_unknown"), zap.String("page", s.page.Name),
			zap.String("reason", err.Error()))
	}
}

// found logs what has changed, and reports whether anything has.
func (s *state) found(missing []string) (changed bool) {
	s.failures = 0
	page := zap.String("page", s.page.Name)
	if len(missing) == 0 {
		s.w.subscribed.WithLabelValues(s.page.Name).Set(1)
		if len(s.missing) > 0 {
			s.w.cfg.Log.Info("Facebook sends the page's webhooks again", zap.String("event", "subscription_ok"), page,
				zap.Int64("for_s", int64(time.Since(s.since).Seconds())))
		}
		changed, s.missing = len(s.missing) > 0, nil
		return changed
	}
	s.w.subscribed.WithLabelValues(s.page.Name).Set(0)
	if slices.Equal(missing, s.missing) {
		return false
	}
	if len(s.missing) == 0 {
		s.since = time.Now()
	}
	s.missing = missing
	s.w.cfg.Log.Error("Facebook does not send the page's webhooks", zap.String("event", "subscription_lost"), page,
		zap.Strings("missing", missing), zap.String("remedy", "brazier webhook subscribe "+s.page.Name))
	return true
}

// Describe is part of prometheus.Collector.
func (w *Watcher) Describe(to chan<- *prometheus.Desc) { w.subscribed.Describe(to) }

// Collect is part of prometheus.Collector. It makes no call.
func (w *Watcher) Collect(to chan<- prometheus.Metric) { w.subscribed.Collect(to) }

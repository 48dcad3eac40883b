package worker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Worker delivers for a set of pages.
type Worker struct {
	cfg  Config
	name string // among the workers, in the states of pages

	inFlight atomic.Int64
	circuit  circuit
	slowness slowness
	metrics  *metrics
	pool     *pool

	overdueEvery, laneIdle, behind, stillEvery, backlogOld time.Duration // less in tests

	mu      sync.Mutex
	pages   map[string]*page
	states  map[string]*shared        // of all pages and apps that are known
	start   func(*page)               // set while Run takes pages
	waiting map[queue.PageLane]uint64 // the backlog at the last look
	known   map[queue.PageLane]bool   // lanes that ever had a job

	isKnown atomic.Bool   // the states are those that are stored
	changed chan struct{} // has one element when the pages are others
}

// New checks the configuration. Nothing runs before [Worker.Run].
func New(cfg Config) (*Worker, error) {
	if cfg.Queue == nil {
		return nil, errors.New("worker: Queue is missing")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.SlowStart == 0 {
		cfg.SlowStart = DefaultSlowStart
	}
	if cfg.StatsEvery == 0 {
		cfg.StatsEvery = statsEvery
	}
	if cfg.GraphSlow == 0 {
		cfg.GraphSlow = DefaultGraphSlow
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	w := &Worker{cfg: cfg, name: queue.NewID(), pages: map[string]*page{}, states: map[string]*shared{}, known: map[queue.PageLane]bool{}, changed: make(chan struct{}, 1), metrics: newMetrics(), pool: newPool(), overdueEvery: overdueEvery, laneIdle: laneIdle, behind: defaultBehind, stillEvery: stillEvery, backlogOld: backlogOld}
	w.circuit.w = w
	w.slowness.log, w.slowness.host, w.slowness.limit = cfg.Log, cfg.Host, cfg.GraphSlow
	return w, w.SetPages(cfg.Pages)
}

// SetPages makes these the pages to deliver for, at any time. A page that is gone, or has other settings, ends as on
// shutdown; jobs of a page that is gone wait in the queue. After an error nothing has changed.
func (w *Worker) SetPages(pages []Page) error {
	next := make(map[string]Page, len(pages))
	for _, p := range pages {
		if err := p.setDefaults(); err != nil {
			return err
		}
		next[p.ID] = p
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, p := range w.pages {
		if cfg, ok := next[id]; ok && p.same(cfg) {
			p.credentials.Store(&cfg.Credentials)
			p.handler.Store(&cfg.Handler)
			delete(next, id)
			continue
		}
		delete(w.pages, id)
		p.end()
	}
	for id, cfg := range next {
		p := newPage(w, cfg)
		w.metrics.expect(p.Name)
		for lane := range w.known {
			if lane.Page == id { // it may be in use, and nobody says so soon
				p.wake(lane.Lane)
			}
		}
		w.pages[id] = p
		if w.start != nil {
			w.start(p)
		}
	}
	w.forget()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
}

// forget drops the states that no page depends on and that nobody ever wrote. Those that are written stay known, since the watch
// tells of each but once: a page that comes back is held if it was. w.mu is held.
func (w *Worker) forget() {
	used := map[*shared]bool{}
	for _, p := range w.pages {
		used[p.own], used[p.app] = true, true
	}
	maps.DeleteFunc(w.states, func(_ string, h *shared) bool { return !used[h] && h.now().Revision() == 0 })
}

// all returns the pages as they are now.
func (w *Worker) all() []*page {
	w.mu.Lock()
	defer w.mu.Unlock()
	pages := make([]*page, 0, len(w.pages))
	for _, p := range w.pages {
		pages = append(pages, p)
	}
	slices.SortFunc(pages, func(a, b *page) int { return cmp.Compare(a.Name, b.Name) })
	return pages
}

// Run delivers until ctx ends, then drains, and returns when nothing is in flight any more. It is called once. It
// returns an error if the queue's connection ended for good under it.
func (w *Worker) Run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// work carries what is in flight beyond ctx; settle goes on a little longer still.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	settle, cutSettle := context.WithCancel(context.WithoutCancel(ctx))
	defer cutSettle()

	var running sync.WaitGroup
	defer w.pool.close()         // when nothing runs any more
	known := make(chan struct{}) // closed once the states of the pages are
	running.Go(func() { w.watch(ctx, known) })
	running.Go(func() {
		select {
		case <-known: // before, a page that is held would not be said to be
			w.report(ctx)
		case <-ctx.Done():
		}
	})
	running.Go(func() { w.watchLanes(ctx) })
	running.Go(func() { w.findOverdue(ctx, settle) })
	running.Go(func() {
		select {
		case <-known:
			w.isKnown.Store(true)
			w.begin(ctx, phases{work: work, settle: settle}, &running)
			w.remindOfHolds(ctx)
		case <-ctx.Done():
		}
	})
	select {
	case <-ctx.Done():
	case <-w.cfg.Queue.Closed():
		err = errors.New("worker: the queue is closed")
		stop()
	}
	w.mu.Lock()
	w.start = nil
	w.mu.Unlock()
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	budget := time.NewTimer(w.cfg.Drain)
	defer budget.Stop()
	select {
	case <-done:
		return err
	case <-budget.C:
	}
	cut()
	grace := time.AfterFunc(settleGrace, cutSettle)
	defer grace.Stop()
	<-done
	return err
}

// begin starts the pages that there are, and lets SetPages start others.
func (w *Worker) begin(ctx context.Context, ph phases, running *sync.WaitGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	w.start = func(p *page) { running.Go(func() { p.run(ctx, ph) }) }
	for _, p := range w.pages {
		w.start(p)
	}
}

// watch keeps the states of the pages until ctx ends.
func (w *Worker) watch(ctx context.Context, known chan struct{}) {
	err := w.cfg.Queue.WatchPages(ctx, func(key string, s queue.PageState) {
		w.mu.Lock()
		h := w.shared(key)
		w.mu.Unlock()
		h.see(s)
	}, known)
	if err != nil && ctx.Err() == nil {
		w.cfg.Log.Error("holds of pages are not seen any more", zap.String("event", "hold_error"), zap.Error(err))
	}
}

// shared returns what is known of a page or an app, by its key. w.mu is held.
func (w *Worker) shared(key string) *shared {
	h := w.states[key]
	if h == nil {
		h = &shared{w: w, key: key}
		w.states[key] = h
	}
	return h
}

// lookAgain has the pages that depend on h look again whether they may be fetched for; nil: all of them.
func (w *Worker) lookAgain(h *shared) {
	for _, p := range w.all() {
		if h == nil || p.own == h || p.app == h {
			p.lookAgain()
		}
	}
}

// backlog returns how many pages have messages that wait, and how many there are of these, as it was at the last look.
func (w *Worker) backlog() (pages int, pending uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for lane, n := range w.waiting {
		if w.pages[lane.Page] != nil && n > 0 {
			seen[lane.Page] = true
			pending += n
		}
	}
	return len(seen), pending
}

// ofApp returns the pages that are throttled together with p, p among them.
func (w *Worker) ofApp(p *page) (pages []*page) {
	for _, other := range w.all() {
		if other.App == p.App {
			pages = append(pages, other)
		}
	}
	return pages
}

// InFlight returns how many jobs are in flight: taken up and not settled.
func (w *Worker) InFlight() int { return int(w.inFlight.Load()) }

// phases are the contexts that outlive the fetching.
type phases struct {
	work   context.Context // calls to Facebook
	settle context.Context // settlements, which must outlive a cut call
}

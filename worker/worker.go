package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Page is a Facebook page to deliver for.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// App names the Facebook app whose tokens the page uses: pages of one app are throttled together. Pages that name none
	// count as of one app.
	App string
	// Rate and MediaRate are calls a second, all workers together, at least [MinRate]. Default [DefaultRate] and
	// [DefaultMediaRate].
	Rate, MediaRate float64
	// MaxInFlight bounds the calls under way at one time, in this process: those with text, and as many with media. Default
	// [DefaultMaxInFlight] of Rate.
	MaxInFlight int
	// Handler does the page's jobs. Another one takes over for the jobs that begin after [Worker.SetPages]. Required.
	Handler Handler
	// Credentials names the credentials that the handler would use now, without giving them away. By that it is known when
	// those that Facebook refused have been replaced. After an error nothing is sent for the page. It must be quick and safe
	// for concurrent use. Default: they never change.
	Credentials func() (string, error)
}

const (
	// DefaultRate stays at the mark from which Facebook calls a page's volume high and may block it: more than 40
	// messages a second (Messenger rate limits). The hard limit is 300 calls a second.
	DefaultRate = 40
	// DefaultMediaRate is Facebook's limit for audio and video, calls a second and page (Messenger rate limits).
	DefaultMediaRate = 10
	// MinRate is one call in 10 seconds. At a tenth of it, where a page goes after a hold and when Facebook's limits are near,
	// slots are still to be had (see [queue.Pace.Reserve]), a new worker's first after 100 s. A page that is to send less is
	// to be held.
	MinRate = 0.1
)

const (
	// inFlightFor is twice what a call to Facebook usually takes (0.8 s), and what its settlement takes besides.
	inFlightFor = 1.6 // seconds
	// minInFlight lets a slow page's calls hang for a while. maxInFlight is more than Facebook's rates ask for; each call is a
	// connection.
	minInFlight, maxInFlight = 64, 10_000
)

// DefaultMaxInFlight allows a rate with calls of 1.6 s.
func DefaultMaxInFlight(rate float64) int {
	return int(min(max(math.Ceil(inFlightFor*rate), minInFlight), maxInFlight))
}

func (p *Page) setDefaults() error {
	if p.Name == "" {
		p.Name = p.ID
	}
	if p.Rate == 0 {
		p.Rate = DefaultRate
	}
	if p.MediaRate == 0 {
		p.MediaRate = DefaultMediaRate
	}
	if p.MaxInFlight == 0 {
		p.MaxInFlight = DefaultMaxInFlight(p.Rate)
	}
	if p.Credentials == nil {
		p.Credentials = func() (string, error) { return "", nil }
	}
	switch {
	case p.ID == "":
		return errors.New("worker: a page has no id")
	case p.Handler == nil:
		return fmt.Errorf("worker: page %s: Handler is missing", p.Name)
	case p.Rate < MinRate, p.MediaRate < MinRate:
		return fmt.Errorf("worker: page %s: Rate and MediaRate must be at least %v", p.Name, MinRate)
	case p.MaxInFlight < 0:
		return fmt.Errorf("worker: page %s: MaxInFlight must be above 0", p.Name)
	}
	return nil
}

// Config is what a worker needs. Queue is required.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	// Host names where the Send API is, for the log.
	Host string
	// SlowStart is how long a page that comes out of a hold takes to reach its full rate. Default [DefaultSlowStart].
	SlowStart time.Duration
	// Drain is how long jobs in flight may go on after the context of Run has ended. Default [DefaultDrain].
	Drain time.Duration
	// StatsEvery is the time between stats lines. Default 10s.
	StatsEvery time.Duration
	Log        *zap.Logger // default: nothing is logged
}

const (
	// DefaultDrain leaves the door and the server their share of a process's shutdown budget.
	DefaultDrain = 15 * time.Second
	// DefaultSlowStart is our choice; Facebook documents none.
	DefaultSlowStart = time.Minute
)

// settleGrace is what settling may take after the drain budget has cut off the calls.
const settleGrace = 3 * time.Second

// Worker delivers for a set of pages.
type Worker struct {
	cfg  Config
	name string // among the workers, in the states of pages

	inFlight atomic.Int64
	circuit  circuit
	metrics  *metrics
	hands    *hands

	overdueEvery time.Duration // less in tests

	mu      sync.Mutex
	pages   map[string]*page
	states  map[string]*shared        // of all pages and apps that are known
	start   func(*page)               // set while Run takes pages
	waiting map[queue.PageLane]uint64 // what waited at the last look

	changed chan struct{} // has one element when the pages are others
}

// New checks the configuration. Nothing runs before [Worker.Run].
func New(cfg Config) (*Worker, error) {
	if cfg.Queue == nil {
		return nil, errors.New("worker: Queue is missing")
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.SlowStart == 0 {
		cfg.SlowStart = DefaultSlowStart
	}
	if cfg.StatsEvery == 0 {
		cfg.StatsEvery = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	w := &Worker{cfg: cfg, name: queue.NewID(), pages: map[string]*page{}, states: map[string]*shared{}, changed: make(chan struct{}, 1), metrics: newMetrics(), hands: newHands(), overdueEvery: overdueEvery}
	w.circuit.w = w
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
		w.pages[id] = p
		if w.start != nil {
			w.start(p)
		}
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return nil
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
	defer w.hands.close()        // when nothing runs any more
	known := make(chan struct{}) // closed once the states of the pages are
	running.Go(func() { w.watch(ctx, known) })
	running.Go(func() { w.report(ctx) })
	running.Go(func() { w.wakeLanes(ctx) })
	running.Go(func() { w.findOverdue(ctx, settle) })
	running.Go(func() {
		select {
		case <-known:
			w.begin(ctx, phases{work: work, settle: settle}, &running)
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

// wakeEvery is how long the first message of a lane may lie before this worker looks at the lane.
const wakeEvery = 200 * time.Millisecond

// wakeLanes lets a lane be fetched from as soon as there is anything in it, and from then on. Most lanes of most pages
// never have anything, and a consumer with an open request for each of them would cost the server more than the jobs do:
// it asks all consumers of the stream about each job that is settled (nats-server 2.15.2).
func (w *Worker) wakeLanes(ctx context.Context) {
	every := time.NewTicker(wakeEvery)
	defer every.Stop()
	for {
		lanes, err := w.cfg.Queue.Lanes(ctx)
		if err == nil { // else it is asked again, and others tell of it
			w.wake(lanes)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *Worker) wake(lanes []queue.PageLane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, lane := range lanes {
		if p := w.pages[lane.Page]; p != nil {
			p.wake(lane.Lane)
		}
	}
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

// InFlight returns how many jobs are in a handler's hands.
func (w *Worker) InFlight() int { return int(w.inFlight.Load()) }

// phases are the contexts that outlive the fetching.
type phases struct {
	work   context.Context // calls to Facebook
	settle context.Context // settlements, which must outlive a cut call
}

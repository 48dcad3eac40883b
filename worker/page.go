package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// page is one page's share of a worker: its sources, its slots, its places in flight, and whether it may be sent for.
type page struct {
	Page
	w   *Worker
	log *zap.Logger

	text, media places
	probe       places        // of the one message that is tried after a hold
	patience    time.Duration // stuck, less in tests

	inFlight, delivered, dead atomic.Int64
	usage                     usage
	credentials               atomic.Pointer[func() (string, error)] // as they are read now
	handler                   atomic.Pointer[Handler]                // of the jobs that begin now

	lanes map[queue.Lane]*lane

	end   context.CancelFunc // ends run
	ended context.Context

	own, app *shared // states that it depends on

	mu       sync.Mutex
	rows     map[sign]*row      // of refusals, with no message taken between
	tookAt   time.Time          // when the latest call that Facebook took began, in this process
	halted   int                // holds that are not written down yet
	mode     gate               // of the fetching, while there is any
	stop     context.CancelFunc // ends the fetching
	awaiting chan struct{}      // closed when the gate may be another
	said     string             // the trouble of this process's own that was logged last

	deadToken string // that Facebook refused this process during the hold there is, for another try from deadUntil on
	deadUntil time.Time
}

// lane says whether a lane is fetched from: see [Worker.wakeLanes]. Until then nothing runs for it.
type lane struct {
	mu    sync.Mutex
	awake bool   // there was something in it
	start func() // what waits for that, nil if nothing does
}

// whenAwake calls start once there was something in the lane, now or later, unless cancel is called before. Only one start
// waits at a time.
func (l *lane) whenAwake(start func()) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awake {
		start()
		return func() {}
	}
	l.start = start
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.start = nil
	}
}

func (p *page) wake(name queue.Lane) {
	l := p.lanes[name]
	if l == nil { // somebody published by hand
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = true
	if l.start != nil {
		l.start()
		l.start = nil
	}
}

// places bounds what is in flight: one element each.
type places chan struct{}

func newPage(w *Worker, cfg Page) *page {
	p := &page{
		Page:  cfg,
		w:     w,
		log:   w.cfg.Log.With(zap.String("page", cfg.Name)),
		text:  make(places, cfg.MaxInFlight),
		media: make(places, cfg.MaxInFlight),
		probe: make(places, 1),
		lanes: map[queue.Lane]*lane{},
		rows:  map[sign]*row{},
		own:   w.shared(cfg.ID),
		app:   w.shared(queue.AppKey(cfg.App)),

		patience: stuck,
		awaiting: make(chan struct{}),
	}
	for _, name := range queue.Lanes() {
		p.lanes[name] = &lane{}
	}
	p.credentials.Store(&cfg.Credentials)
	p.handler.Store(&cfg.Handler)
	p.ended, p.end = context.WithCancel(context.Background())
	return p
}

// same reports whether the page can go on under these settings.
func (p *page) same(cfg Page) bool {
	return p.Name == cfg.Name && p.App == cfg.App && p.Rate == cfg.Rate && p.MediaRate == cfg.MediaRate && p.MaxInFlight == cfg.MaxInFlight
}

// run fetches and delivers, hold after hold, until ctx or the page ends, and returns when nothing of the page is in
// flight.
func (p *page) run(ctx context.Context, ph phases) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ended, cancel)()
	text, media := p.w.cfg.Queue.Pace(p.ID, "text"), p.w.cfg.Queue.Pace(p.ID, "media")
	// Without this the first message would pay for it; if it cannot be done now, it will.
	_ = text.Prepare(ctx)
	_ = media.Prepare(ctx)
	var handling sync.WaitGroup
	defer handling.Wait()
	for {
		fetching, mode := p.open(ctx)
		if fetching == nil {
			return
		}
		textPlaces, mediaPlaces := p.text, p.media
		var running sync.WaitGroup
		if mode == due {
			textPlaces, mediaPlaces = p.probe, p.probe
		}
		// Most pages never have a message for the lane of media.
		cancelMedia := p.lanes[queue.Media].whenAwake(func() {
			running.Go(func() { p.dispatch(fetching, ph, mode, &handling, media, mediaPlaces, queue.Media) })
		})
		p.dispatch(fetching, ph, mode, &handling, text, textPlaces, queue.Urgent, queue.Bulk)
		cancelMedia()
		running.Wait()
		p.close()
	}
}

// recheck is how often a page that waits for other credentials, or for others to try, looks again.
const recheck = 2 * time.Second

// credentialsName names what the page would be sent with now; empty if that cannot be read.
func (p *page) credentialsName() string {
	name, _ := (*p.credentials.Load())()
	return name
}

// gate returns the page's gate, why this process alone keeps it closed, and when to look again: 0 if only a change can open
// it. Where this worker tries a message already, it is due. p.mu is held.
func (p *page) gate() (g gate, why string, wake time.Duration) {
	if p.halted > 0 {
		return closed, p.said, 0 // what else stops it is not looked at
	}
	name, err := (*p.credentials.Load())()
	if err != nil {
		return closed, err.Error(), recheck
	}
	now := p.w.cfg.Queue.Now()
	g, wake = p.w.circuit.gate(p, now)
	for _, h := range p.holds() {
		s := h.now()
		of, after := gateOf(s, p.w.name, name, now)
		if of != open && (!h.free(p) || h == p.own && p.triedToken(s, name, now)) {
			of, after = closed, recheck
		} else if of == closed && !s.Held {
			why = "Facebook refused the token that this process has; others have a new one"
		}
		switch {
		case of == closed && g == closed:
			wake = max(wake, after)
			if after == 0 {
				wake = 0
			}
		case of == closed:
			g, wake = closed, after
		case of != open && g == open:
			g = of
		}
	}
	if g == trying {
		g = due
	}
	return g, why, wake
}

// triedToken reports whether credentials that are not those that the page is held for were refused during this hold all the
// same. Two workers whose tokens are both dead would else try them in turns, each being another than the last. p.mu is held.
func (p *page) triedToken(s queue.PageState, name string, now time.Time) bool {
	return s.Held && s.Class == classAuth && s.DeadToken != name && p.deadToken == name && p.deadUntil.After(now)
}

// open waits until the page may be fetched for, and returns a context that ends with ctx or when that changes. It
// returns nil when ctx has ended.
func (p *page) open(ctx context.Context) (context.Context, gate) {
	for ctx.Err() == nil {
		p.mu.Lock()
		g, why, wake := p.gate()
		p.say(why)
		if g != closed {
			fetching, stop := context.WithCancel(ctx)
			p.mode, p.stop = g, stop
			p.mu.Unlock()
			return fetching, g
		}
		changed := p.awaiting
		p.mu.Unlock()
		if wake == 0 {
			wake = time.Hour
		}
		timer := time.NewTimer(wake)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil, closed
}

// say logs what stops the page in this process alone, once. p.mu is held.
func (p *page) say(why string) {
	switch {
	case why == p.said:
	case why != "":
		p.log.Error("page held in this process", zap.String("event", "held"), zap.String("class", classAuth), zap.Int("code", 0),
			zap.Int("subcode", 0), zap.String("reason", why), zap.String("until", untilToken))
	default:
		p.log.Info("page goes on in this process", zap.String("event", "resumed"), zap.String("class", classAuth))
	}
	p.said = why
}

// close ends the fetching, if there is any.
func (p *page) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop, p.mode = nil, closed
	}
}

// halt stops the page in this process until what stops it is written down.
func (p *page) halt(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted += n
	p.recheck()
}

// lookAgain takes in that what stops the page may be another.
func (p *page) lookAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recheck()
}

// recheck stops fetching that is not allowed any more, and wakes what waits for the gate. p.mu is held.
func (p *page) recheck() {
	if !p.own.now().Held {
		p.deadToken = ""
	}
	if p.stop != nil {
		if g, _, _ := p.gate(); g != p.mode {
			p.stop()
		}
	}
	close(p.awaiting)
	p.awaiting = make(chan struct{})
}

// may reports whether the page may be fetched for as at first.
func (p *page) may(mode gate) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, _, _ := p.gate()
	return g == mode
}

func (p *page) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, _, _ := p.gate()
	return g != open
}

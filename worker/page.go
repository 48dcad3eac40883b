package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// page is one page's share of a worker: its sources, its slots, its permits for calls in flight, and whether it may be sent for.
type page struct {
	Page
	w   *Worker
	log *zap.Logger

	floods *Floods // of lines about its messages

	text, media  permits
	probe        permits       // of the one message that is tried after a hold
	stuckTimeout time.Duration // stuck, less in tests

	inFlight, delivered, dead atomic.Int64
	oldest                    atomic.Int64 // when the oldest message that waits was accepted, Unix milliseconds; 0: none does
	usage                     usage
	ends                      ends                                   // belongs to Worker.report
	credentials               atomic.Pointer[func() (string, error)] // as they are read now
	handler                   atomic.Pointer[Handler]                // of the jobs that begin now

	lanes map[queue.Lane]*lane

	end   context.CancelFunc // ends run
	ended context.Context

	own, app *shared // states that it depends on

	mu         sync.Mutex
	rows       map[sign]*row      // of refusals, with no message taken between
	round      *round             // of tries after a hold, the last one; nil: there was none
	tookAt     time.Time          // when the latest call that Facebook took began, in this process
	halted     int                // holds that are not written down yet
	mode       gate               // of the fetching, while there is any
	stop       context.CancelFunc // ends the fetching
	awaiting   chan struct{}      // closed when the gate may be another
	lastLogged string             // what stops the page in this process alone, as last logged
	loggedAt   time.Time          // when that was
	stillAt    time.Time          // when it was last told

	deadToken string // that Facebook refused this process during the hold there is, for another try from deadUntil on
	deadUntil time.Time
}

// permits bounds what is in flight: one element each.
type permits chan struct{}

func newPage(w *Worker, cfg Page) *page {
	p := &page{
		Page:  cfg,
		w:     w,
		log:   w.cfg.Log.With(zap.String("page", cfg.Name)),
		text:  make(permits, cfg.MaxInFlight),
		media: make(permits, cfg.MaxInFlight),
		probe: make(permits, 1),
		lanes: map[queue.Lane]*lane{},
		rows:  map[sign]*row{},
		own:   w.shared(cfg.ID),
		app:   w.shared(queue.AppKey(cfg.App)),

		stuckTimeout: stuckTimeout,
		awaiting:     make(chan struct{}),
	}
	for _, name := range queue.Lanes() {
		p.lanes[name] = &lane{}
	}
	p.floods = NewFloods(p.log)
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
	for {
		fetching, mode := p.awaitGate(ctx)
		if fetching == nil {
			handling.Wait() // not deferred: after a panic the process is to end
			p.floods.Flush()
			return
		}
		textPermits, mediaPermits := p.text, p.media
		var running sync.WaitGroup
		if mode == gateDue {
			textPermits, mediaPermits = p.probe, p.probe
		}
		// Most pages never have a message for the lane of media.
		cancelMedia := p.lanes[queue.Media].whileAwake(fetching, func(awake context.Context) {
			running.Go(func() { p.dispatch(awake, ph, mode, &handling, media, mediaPermits, queue.Media) })
		})
		p.dispatch(fetching, ph, mode, &handling, text, textPermits, queue.Urgent, queue.Bulk)
		cancelMedia()
		running.Wait()
		p.close()
	}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Page is a Facebook page to deliver for.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// Rate and MediaRate are calls a second, each worker for itself. Default [DefaultRate] and [DefaultMediaRate].
	Rate, MediaRate float64
	// MaxInFlight bounds the calls under way at one time, in this process. Default [DefaultMaxInFlight].
	MaxInFlight int
}

const (
	// DefaultRate stays at the mark from which Facebook calls a page's volume high and may block it: more than 40
	// messages a second (Messenger rate limits). The hard limit is 300 calls a second.
	DefaultRate = 40
	// DefaultMediaRate is Facebook's limit for audio and video, calls a second and page (Messenger rate limits).
	DefaultMediaRate = 10
	// DefaultMaxInFlight allows the default rate with calls of 1.6 s.
	DefaultMaxInFlight = 64
)

// Config is what a worker needs. Queue and Handler are required.
type Config struct {
	Queue   *queue.Queue
	Handler Handler
	Pages   []Page
	// Drain is how long jobs in flight may go on after the context of Run has ended. Default [DefaultDrain].
	Drain time.Duration
	// StatsEvery is the time between stats lines. Default 10s.
	StatsEvery time.Duration
	Log        *zap.Logger // default: nothing is logged
}

// DefaultDrain leaves the door and the server their share of a process's shutdown budget.
const DefaultDrain = 15 * time.Second

// settleGrace is what settling may take after the drain budget has cut off the calls.
const settleGrace = 3 * time.Second

// Worker delivers for a set of pages.
type Worker struct {
	cfg   Config
	pages []*page
}

// New checks the configuration. Nothing runs before [Worker.Run].
func New(cfg Config) (*Worker, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("worker: Queue is missing")
	case cfg.Handler == nil:
		return nil, errors.New("worker: Handler is missing")
	}
	if cfg.Drain == 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.StatsEvery == 0 {
		cfg.StatsEvery = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	w := &Worker{cfg: cfg}
	for _, p := range cfg.Pages {
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
			p.MaxInFlight = DefaultMaxInFlight
		}
		switch {
		case p.ID == "":
			return nil, errors.New("worker: a page has no id")
		case p.Rate < 0, p.MediaRate < 0:
			return nil, fmt.Errorf("worker: page %s: Rate and MediaRate must be above 0", p.Name)
		case p.MaxInFlight < 0:
			return nil, fmt.Errorf("worker: page %s: MaxInFlight must be above 0", p.Name)
		}
		w.pages = append(w.pages, newPage(w, p))
	}
	return w, nil
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
	for _, p := range w.pages {
		running.Go(func() { p.run(ctx, phases{work: work, settle: settle}) })
		running.Go(func() { p.report(ctx) })
	}
	select {
	case <-ctx.Done():
	case <-w.cfg.Queue.Closed():
		err = errors.New("worker: the queue is closed")
		stop()
	}
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

// InFlight returns how many jobs are in a handler's hands.
func (w *Worker) InFlight() int {
	n := 0
	for _, p := range w.pages {
		n += int(p.inFlight.Load())
	}
	return n
}

// phases are the contexts that outlive the fetching.
type phases struct {
	work   context.Context // calls to Facebook
	settle context.Context // settlements, which must outlive a cut call
}

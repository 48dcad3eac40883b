package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"
)

type benchCommand struct {
	URL     string   `name:"url" env:"BRAZIER_BENCH_URL" placeholder:"URL" group:"running" help:"A door that runs already, such as http://127.0.0.1:8080. Default: none; one is started, and stopped at the end."`
	Keys    []string `name:"key" env:"BRAZIER_BENCH_KEY" placeholder:"KEY,…" group:"running" help:"Key of that door, which names the page; several make it several pages. Set it by the variable, to keep it out of lists of processes. Default: none."`
	Sandbox string   `name:"sandbox" env:"BRAZIER_BENCH_SANDBOX" placeholder:"URL" group:"running" help:"Control address of the sandbox that this door's worker sends to, to count what arrives. Default: none; nothing is counted."`

	Messages    int           `name:"messages" env:"BRAZIER_BENCH_MESSAGES" default:"100000" group:"load" help:"How many messages are posted, up to 1000000."`
	Duration    time.Duration `name:"duration" env:"BRAZIER_BENCH_DURATION" default:"0s" group:"load" help:"Post only what is due within this time, if that is less than --messages. 0s: all of them."`
	Rate        float64       `name:"rate" env:"BRAZIER_BENCH_RATE" default:"0" group:"load" help:"Messages a second, evenly spaced, and answers timed from when each should have been posted. 0: as fast as they are answered."`
	Connections int           `name:"connections" env:"BRAZIER_BENCH_CONNECTIONS" default:"500" group:"load" help:"Connections that stay open, each with one request at a time."`

	Pages    int    `name:"pages" env:"BRAZIER_BENCH_PAGES" default:"4" group:"started" help:"Pages that the messages are for."`
	PageRate int    `name:"page-rate" env:"BRAZIER_BENCH_PAGE_RATE" default:"20000" group:"started" help:"Calls a second that each page may make. The default is more than the machine makes, so that its own speed shows. Facebook's ceiling is 300."`
	Sync     string `name:"sync" env:"BRAZIER_BENCH_SYNC" default:"always" enum:"always,interval" group:"started" help:"As of brazier serve: when messages are flushed to the disk, always or interval."`
	Dir      string `name:"dir" env:"BRAZIER_BENCH_DIR" type:"path" placeholder:"DIR" group:"started" help:"A directory on the disk to measure; the queue's files go into one below it, which is removed at the end. Default: none; temporary files have a place."`

	JSON bool `name:"json" env:"BRAZIER_BENCH_JSON" help:"Print the figures as a JSON object."`
}

func (benchCommand) Help() string {
	return "Posts messages as Braze's Messenger template would, each to a recipient and with an idempotency key of its own, and waits until " +
		"all have arrived. By default it starts brazier serve and brazier sandbox, each as a process of its own, without " +
		"the sandbox's limits. Everything runs on one machine then, and shares its processors. " +
		"Its exit code is 1 if a message that was accepted did not arrive exactly once."
}

// benchSilence is how long nothing may arrive, while something is missing, before it counts as lost.
const benchSilence = 30 * time.Second

func (c benchCommand) check() error {
	switch {
	case c.Messages < 1 || c.Messages > benchMessages:
		return fmt.Errorf("--messages: %d is not between 1 and %d, which is what the sandbox remembers", c.Messages, benchMessages)
	case c.Duration < 0:
		return fmt.Errorf("--duration: %v is below 0s", c.Duration)
	case !(c.Rate >= 0 && c.Rate <= 1e6):
		return fmt.Errorf("--rate: %v is not between 0 and 1000000", c.Rate)
	case c.Connections < 1 || c.Connections > 20_000:
		return fmt.Errorf("--connections: %d is not between 1 and 20000", c.Connections)
	case c.Pages < 1 || c.Pages > 1000:
		return fmt.Errorf("--pages: %d is not between 1 and 1000", c.Pages)
	case c.PageRate < 1 || c.PageRate > liftedRate:
		return fmt.Errorf("--page-rate: %d is not between 1 and %d", c.PageRate, liftedRate)
	case c.URL == "" && len(c.Keys) > 0:
		return errors.New("--key: it belongs to a door that runs: name that with --url, or leave the key out")
	case c.URL == "" && c.Sandbox != "":
		return errors.New("--sandbox: it belongs to a door that runs: name that with --url, or leave the sandbox out")
	case c.URL != "" && len(c.Keys) == 0:
		return errors.New("--key is missing: the door at --url knows pages by their keys")
	}
	for _, given := range []struct{ flag, value string }{{"--url", c.URL}, {"--sandbox", c.Sandbox}} {
		if given.value == "" {
			continue
		}
		if u, err := url.Parse(given.value); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%s: it is not an address such as http://127.0.0.1:8080", given.flag) // its value may hold a key
		}
	}
	for _, key := range c.Keys {
		if err := checkSecret(key); err != nil {
			return fmt.Errorf("--key: a key %w", err)
		}
	}
	return nil
}

func (c benchCommand) Run(ctx context.Context, std stdio) error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	b := &bench{benchCommand: c, screen: newScreen(std.err)}
	ctx, done := b.screen.attended(ctx, std.signals)
	defer done()
	if c.URL == "" {
		dir, err := os.MkdirTemp(c.Dir, "brazier-bench-")
		if err != nil {
			return usageError{fmt.Errorf("--dir: %w", err)}
		}
		defer std.signals.beforeExit(func() { b.kill(); removeInUse(dir) })()
		defer os.RemoveAll(dir)
		defer b.stop()
		if err := b.startAll(ctx, dir); err != nil {
			return stoppedOr(ctx, err)
		}
	}
	figures, err := b.run(ctx)
	b.screen.clear()
	if err != nil {
		return stoppedOr(ctx, err)
	}
	if err := figures.print(std.out, c.JSON); err != nil {
		return err
	}
	if figures.Arrived != nil && figures.Arrived.Missing+figures.Arrived.Twice > 0 {
		return fmt.Errorf("of the messages that were accepted %d did not arrive, and %d arrived more than once", figures.Arrived.Missing, figures.Arrived.Twice)
	}
	return nil
}

// stoppedOr tells an error from the end that the user asked for.
func stoppedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// bench is one run: what is driven, and by what load.
type bench struct {
	benchCommand
	screen   *screen
	children []*child
	load     *benchLoad
	count    *arrivals // nil: nothing is counted

	starting sync.Mutex // of children, by the one goroutine that reads them, beside kill
	killed   bool       // no child is started any more
}

// run posts, waits until everything has arrived, and returns the figures.
func (b *bench) run(ctx context.Context) (*benchFigures, error) {
	var err error
	if b.load, err = newBenchLoad(b.benchCommand); err != nil {
		return nil, err
	}
	if b.Sandbox != "" {
		b.count = newArrivals(b.Sandbox)
		defer b.count.close()
		if err := b.count.begin(ctx); err != nil {
			return nil, fmt.Errorf("--sandbox: %w", err)
		}
	}
	if len(b.children) > 0 {
		if err := b.warmUp(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.load.open(ctx); err != nil {
		return nil, fmt.Errorf("--url: no door there: %w", err)
	}
	before := b.usage()
	posted := make(chan error, 1)
	go func() { posted <- b.load.run(ctx) }()
	arrived, err := b.watch(ctx, posted)
	if err != nil {
		return nil, err
	}
	figures := b.figures(before, b.usage())
	if b.count != nil {
		if figures.Arrived, err = b.count.compare(ctx, b.load); err != nil {
			return nil, err
		}
		figures.Arrived.PerSecond = float64(figures.Arrived.Delivered) / arrived.Sub(b.load.start).Seconds()
	}
	return figures, nil
}

// watch shows progress until the load has ended and everything accepted has arrived, or nothing comes any more. It
// returns when the last message was seen to arrive.
func (b *bench) watch(ctx context.Context, posted <-chan error) (last time.Time, err error) {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	every, shown := 5*time.Second, time.Now()
	if b.screen.terminal {
		every = 500 * time.Millisecond
	}
	seen, last := -1, time.Now()
	for {
		ended := false
		select {
		case err := <-posted:
			if err != nil || b.count == nil {
				return time.Now(), err
			}
			posted, ended = nil, true
		case <-poll.C:
		}
		show := time.Since(shown) >= every
		// While messages are posted, asking the sandbox often would take from what is measured.
		if b.count != nil && (posted == nil || show) {
			arrived, err := b.count.now(ctx)
			switch {
			case err != nil && posted == nil:
				return last, err
			case err == nil && arrived != seen:
				seen, last = arrived, time.Now()
			}
			if posted == nil && seen >= int(b.load.accepted.Load()) {
				return last, nil
			}
		}
		switch {
		case ended:
			last = time.Now() // silence counts from here
		case posted == nil && time.Since(last) > benchSilence:
			return last, nil
		}
		if show {
			shown = time.Now()
			b.screen.live(b.progress(seen))
		}
	}
}

func (b *bench) progress(arrived int) string {
	l := b.load
	elapsed := time.Since(l.start).Seconds()
	line := fmt.Sprintf("%5.1fs  accepted %d (%.0f/s), refused %d", elapsed, l.accepted.Load(), float64(l.accepted.Load())/elapsed, l.refused.Load()+l.unanswered.Load())
	if arrived >= 0 {
		line += fmt.Sprintf(", arrived %d", arrived)
	}
	return line
}

// Package bench measures a Brazier: it posts many messages, and compares one by one what was accepted with what has arrived
// at the sandbox.
//
// What it measures are other processes, the ones it starts or one that runs already, so that their processor time and
// memory are their own. It shares the machine with them and so speaks HTTP/1.1 by itself: net/http's client would take
// several times as much of it. It knows Brazier by its HTTP alone.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// Command is brazier bench.
type Command struct {
	URL     string   `name:"url" env:"BRAZIER_BENCH_URL" placeholder:"URL" group:"running" help:"URL of an ingress that already runs, such as http://127.0.0.1:8080. Default: none; one is started, and stopped at the end."`
	Keys    []string `name:"key" env:"BRAZIER_BENCH_KEY" placeholder:"KEY,…" group:"running" help:"Key of a page for that ingress; several keys spread the load over several pages. Use the variable, to keep keys out of process lists. Default: none."`
	Sandbox string   `name:"sandbox" env:"BRAZIER_BENCH_SANDBOX" placeholder:"URL" group:"running" help:"URL of the control API of the sandbox that receives the messages, to count what arrives. Default: none, nothing is counted."`

	Messages    int           `name:"messages" env:"BRAZIER_BENCH_MESSAGES" default:"100000" group:"load" help:"Messages to post, at most 1000000."`
	Duration    time.Duration `name:"duration" env:"BRAZIER_BENCH_DURATION" default:"0s" group:"load" help:"Stop posting after this time, even if fewer than --messages have been posted. 0s: no limit."`
	Rate        float64       `name:"rate" env:"BRAZIER_BENCH_RATE" default:"0" group:"load" help:"Messages to post a second, evenly spaced. Latency then counts from when each was due. 0: as fast as they are answered."`
	Connections int           `name:"connections" env:"BRAZIER_BENCH_CONNECTIONS" default:"500" group:"load" help:"Connections to keep open, each with one request at a time."`

	PageCount int    `name:"page-count" env:"BRAZIER_BENCH_PAGE_COUNT" default:"4" group:"started" help:"Number of pages to spread the messages over."`
	PageRate  int    `name:"page-rate" env:"BRAZIER_BENCH_PAGE_RATE" default:"20000" group:"started" help:"Calls a second that each page may make. The default is more than a machine manages, so that the machine is the limit. Facebook allows 300."`
	Sync      string `name:"sync" env:"BRAZIER_BENCH_SYNC" default:"always" enum:"always,interval" group:"started" help:"When messages are flushed to disk, always or interval: see \"brazier serve --help\"."`
	Dir       string `name:"dir" env:"BRAZIER_BENCH_DIR" type:"path" placeholder:"DIR" group:"started" help:"Directory on the disk to measure. The queue's files go into a new directory in it, which is removed at the end. Default: none, the directory for temporary files."`

	JSON bool `name:"json" env:"BRAZIER_BENCH_JSON" help:"Print the figures as a JSON object."`
}

func (Command) Help() string {
	return "Posts messages like those of Braze's Messenger template, each to its own recipient and with its own idempotency key, and waits until " +
		"all have arrived. By default it starts \"brazier serve\" and a \"brazier sandbox\" without limits as processes of their own. " +
		"They share the machine's processors with the load.\n\n" +
		"Exit codes: 0 every accepted message arrived exactly once; 1 some did not."
}

// silence is how long nothing may arrive, while something is missing, before it counts as lost.
const silence = 30 * time.Second

func (c Command) check() error {
	for _, n := range []struct {
		flag               string
		value, least, most int
	}{{"--messages", c.Messages, 1, maxMessages}, {"--connections", c.Connections, 1, 20_000}, {"--page-count", c.PageCount, 1, 1000}, {"--page-rate", c.PageRate, 1, pagefile.MaxRate}} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("%s: must be between %d and %d (got %d)", n.flag, n.least, n.most, n.value)
		}
	}
	switch {
	case c.Duration < 0:
		return fmt.Errorf("--duration: must not be negative (got %v)", c.Duration)
	case !(c.Rate >= 0 && c.Rate <= 1e6):
		return fmt.Errorf("--rate: must be between 0 and 1000000 (got %v)", c.Rate)
	case c.URL == "" && len(c.Keys) > 0:
		return errors.New("--key: is of use with --url only: name the ingress, or leave the key out")
	case c.URL == "" && c.Sandbox != "":
		return errors.New("--sandbox: is of use with --url only: name the ingress, or leave the sandbox out")
	case c.URL != "" && len(c.Keys) == 0:
		return errors.New("--key: is required with --url: the ingress knows pages by their keys")
	}
	for _, given := range []struct{ flag, value string }{{"--url", c.URL}, {"--sandbox", c.Sandbox}} {
		if given.value == "" {
			continue
		}
		if u, err := url.Parse(given.value); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("%s: must be a URL such as http://127.0.0.1:8080", given.flag) // its value may hold a key
		}
	}
	for _, key := range c.Keys {
		if err := pagefile.CheckSecret(key); err != nil {
			return fmt.Errorf("--key: a key %w", err)
		}
	}
	return nil
}

func (c Command) Run(ctx context.Context, std cli.Stdio) error {
	if err := c.check(); err != nil {
		return cli.Usage(err)
	}
	b := &benchmark{Command: c, screen: cli.NewScreen(std.Err)}
	ctx, done := b.screen.Attended(ctx, std.Signals)
	defer done()
	if c.URL == "" {
		dir, err := os.MkdirTemp(c.Dir, "brazier-bench-")
		if err != nil {
			return cli.Usagef("--dir: %w", err)
		}
		defer std.Signals.BeforeExit(func() { b.kill(); cli.RemoveInUse(dir) })()
		defer os.RemoveAll(dir)
		defer b.stop()
		if err := b.startAll(ctx, dir); err != nil {
			return stoppedOr(ctx, err)
		}
	}
	figures, err := b.run(ctx)
	b.screen.Clear()
	if err != nil {
		return stoppedOr(ctx, err)
	}
	if err := figures.print(std.Out, c.JSON); err != nil {
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

// benchmark is one run: what is driven, and by what load.
type benchmark struct {
	Command
	screen   *cli.Screen
	children []*child
	load     *load
	count    *arrivals // nil: nothing is counted

	starting sync.Mutex // of children, by the one goroutine that reads them, beside kill
	killed   bool       // no child is started any more
}

// run posts, waits until everything has arrived, and returns the figures.
func (b *benchmark) run(ctx context.Context) (*Figures, error) {
	var err error
	if b.load, err = newLoad(b.Command); err != nil {
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
		return nil, fmt.Errorf("--url: cannot connect to the ingress: %w", err)
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
func (b *benchmark) watch(ctx context.Context, posted <-chan error) (last time.Time, err error) {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	every, shown := b.screen.Every(500*time.Millisecond, 5*time.Second), time.Now()
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
		case posted == nil && time.Since(last) > silence:
			return last, nil
		}
		if show {
			shown = time.Now()
			b.screen.Live(b.progress(seen))
		}
	}
}

func (b *benchmark) progress(arrived int) string {
	l := b.load
	elapsed := time.Since(l.start).Seconds()
	line := fmt.Sprintf("%5.1fs  accepted %d (%.0f/s), refused %d", elapsed, l.accepted.Load(), float64(l.accepted.Load())/elapsed, l.refused.Load()+l.unanswered.Load())
	if arrived >= 0 {
		line += fmt.Sprintf(", arrived %d", arrived)
	}
	return line
}

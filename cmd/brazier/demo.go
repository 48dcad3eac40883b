package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

type demoCommand struct {
	Messages int  `name:"messages" default:"200" help:"How many messages the campaign has."`
	Exit     bool `name:"exit" help:"End after the campaign, instead of staying up for requests of your own."`
}

func (demoCommand) Help() string {
	return "Starts the door, a worker, the queue and a simulated Facebook on free ports of this machine, posts a campaign to two " +
		"pages with some of the troubles that campaigns meet, and shows what became of each message. Files go to a temporary " +
		"directory that is removed at the end."
}

func (c demoCommand) Run(ctx context.Context, std stdio) error {
	if c.Messages < 20 || c.Messages > 100_000 {
		return usageError{fmt.Errorf("--messages: %d is not between 20 and 100000", c.Messages)}
	}
	dir, err := os.MkdirTemp("", "brazier-demo-")
	if err != nil {
		return err
	}
	defer std.signals.beforeExit(func() { removeInUse(dir) })()
	defer os.RemoveAll(dir)
	logFile, err := os.Create(filepath.Join(dir, "brazier.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()

	d := newDemo(c, std, logFile.Name())
	ctx, done := d.screen.attended(ctx, std.signals)
	defer done()
	log := logFlags{Level: "debug", Format: "json"}.logger(logFile)
	log = log.WithOptions(zap.WrapCore(func(file zapcore.Core) zapcore.Core { return zapcore.NewTee(file, d.tally.core()) }))
	h := newHouse(log, d.pages, queue.Config{Role: "serve", MaxBytes: 1 << 30})
	graph := graphFlags{GraphVersion: vars["graph_version"], SendTimeout: 30 * time.Second, SlowStart: 5 * time.Second}
	err = runParts(ctx, log, []part{
		d.facebook(&graph),
		h.server(embeddedFlags{Data: filepath.Join(dir, "queue"), Sync: "always"}),
		h.queue(),
		h.worker(&graph),
		h.door(doorFlags{Listen: "127.0.0.1:0"}),
		{name: "campaign", open: func(context.Context) error { d.door = "http://" + h.doorAt; return nil }, run: d.run},
	})
	if err == nil && ctx.Err() != nil {
		d.screen.say("\nStopped. The temporary files are gone.")
	}
	return err
}

// removeInUse removes a directory that this process may still be writing files into.
func removeInUse(dir string) {
	for range 100 {
		if os.RemoveAll(dir) == nil {
			return
		}
	}
}

// demo is the campaign and what is seen of it.
type demo struct {
	demoCommand
	pages   []pageConfig
	keys    map[string]string // door key by page name
	sandbox *sandbox.Sandbox
	door    string // base URL
	logFile string
	tally   *tally
	screen  *screen
	client  *http.Client
}

func newDemo(c demoCommand, std stdio, logFile string) *demo {
	d := &demo{demoCommand: c, logFile: logFile, keys: map[string]string{}, tally: newTally(), screen: newScreen(std.out),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: posters}, Timeout: 90 * time.Second}}
	for _, p := range []pageConfig{{ID: "1029384756", Name: "acme"}, {ID: "5647382910", Name: "nordwind"}} {
		key := "demo-" + p.Name + "-" + rand.Text()[:8]
		d.keys[p.Name] = key
		p.Secrets.Token = sandbox.DefaultToken(p.ID)
		p.Keys = [][sha256.Size]byte{sha256.Sum256([]byte(key))}
		p.Rate, p.MediaRate = worker.DefaultRate, worker.DefaultMediaRate
		p.InDoubt, p.Expire = deliver.Resend, time.Hour
		d.pages = append(d.pages, p)
	}
	return d
}

// facebook is the simulated Send API, with one throttle to come.
func (d *demo) facebook(graph *graphFlags) part {
	return part{
		name: "sandbox",
		open: func(context.Context) (err error) {
			pages, err := simulated(d.pages)
			if err != nil {
				return err
			}
			d.sandbox, err = sandbox.New(sandbox.Config{Pages: pages, Latency: 120 * time.Millisecond, Jitter: 60 * time.Millisecond})
			if err != nil {
				return err
			}
			graph.GraphURL = d.sandbox.URL()
			throttled := d.pages[1]
			d.sandbox.Script(sandbox.Fault{Page: throttled.ID, Every: d.Messages / 5, Times: 1, Status: http.StatusBadRequest, Code: 613})
			return nil
		},
		close: func() error { return d.sandbox.Close() },
	}
}

// run is the campaign, its report, and the time after it.
func (d *demo) run(ctx context.Context) error {
	d.screen.say("Brazier demo: a Braze campaign of %d messages for two pages, %s and %s, through the door, the queue and a worker,",
		d.Messages, d.pages[0].Name, d.pages[1].Name)
	d.screen.say("to a simulated Facebook. Nothing leaves this machine.\n")
	d.tally.begin(d.screen)
	posted := make(chan struct{})
	go func() { defer close(posted); d.post(ctx) }()
	settled := d.watch(ctx, posted)
	<-posted
	d.client.CloseIdleConnections()
	if !settled {
		return nil // stopped in the middle
	}
	d.report()
	if d.Exit {
		return errFinished
	}
	d.invite()
	d.tally.follow(d.screen)
	<-ctx.Done()
	return nil
}

// watch shows progress until every accepted message has come to its end. It reports false when ctx ended first.
func (d *demo) watch(ctx context.Context, posted <-chan struct{}) bool {
	tick := time.NewTicker(d.screen.every())
	defer tick.Stop()
	done := false
	for {
		select {
		case <-ctx.Done():
			d.screen.clear()
			return false
		case <-posted:
			posted, done = nil, true
		case <-tick.C:
		}
		now := d.tally.now()
		d.screen.live(now.progress(d.Messages))
		if done && now.delivered+now.dead >= now.accepted {
			d.screen.clear()
			return true
		}
	}
}

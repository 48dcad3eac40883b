// Package demo shows Brazier at work in one process: the real ingress, queue and worker, a simulated Facebook and a
// simulated Braze, a campaign with some of the troubles that campaigns meet, what Braze is told of it, and a person whose PSID comes to
// Braze.
//
// It sees Brazier as operators do, through its log lines: what it prints of the campaign comes from nowhere else. Nothing
// leaves the machine, and nothing of it is left behind.
package demo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// Command is brazier demo.
type Command struct {
	Messages int  `name:"messages" default:"200" help:"Messages in the campaign."`
	Exit     bool `name:"exit" help:"Exit after the campaign. Otherwise everything stays up for requests of your own."`
}

func (Command) Help() string {
	return "Starts the ingress, a worker, the queue, a simulated Facebook and a simulated Braze on free ports of this machine, posts a " +
		"campaign with some typical failures to two pages, and shows what became of each message, also in Braze. Then a person follows a link and " +
		"writes, and the next campaign reaches her by the PSID that Brazier wrote to Braze. Its files are temporary and removed at the end."
}

func (c Command) Run(ctx context.Context, std cli.Stdio) error {
	if c.Messages < 20 || c.Messages > 100_000 {
		return cli.Usagef("--messages: must be between 20 and 100000 (got %d)", c.Messages)
	}
	dir, err := os.MkdirTemp("", "brazier-demo-")
	if err != nil {
		return err
	}
	defer std.Signals.BeforeExit(func() { cli.RemoveInUse(dir) })()
	defer os.RemoveAll(dir)
	logFile, err := os.Create(filepath.Join(dir, "brazier.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()

	d := newDemo(c, std, logFile.Name())
	d.data = filepath.Join(dir, "queue")
	if err := d.collect(dir); err != nil {
		return err
	}
	ctx, done := d.screen.Attended(ctx, std.Signals)
	defer done()
	log := cli.LogFlags{Level: "debug", Format: "json"}.Logger(logFile)
	log = log.WithOptions(zap.WrapCore(func(file zapcore.Core) zapcore.Core { return zapcore.NewTee(file, d.tally.core()) }))
	h := process.New(log, d.pages, queue.Config{Role: "serve", MaxBytes: 1 << 30})
	graph := process.GraphFlags{GraphVersion: process.DefaultGraphVersion, SendTimeout: 30 * time.Second, SlowStart: 5 * time.Second}
	err = h.Run(ctx, "demo",
		d.facebook(&graph),
		d.braze.part(d.people()),
		h.JetStream(process.EmbeddedFlags{Data: d.data, Sync: "always"}),
		h.Queue(),
		h.Worker(&graph),
		h.Ingress(process.IngressFlags{Listen: "127.0.0.1:0"}),
		process.Part{Name: "campaign", Open: func(context.Context) error { d.ingressURL = "http://" + h.IngressAddress; return nil }, Run: d.run},
	)
	if err == nil && ctx.Err() != nil {
		d.screen.Say("\nStopped. The temporary files are gone.")
	}
	return err
}

// demo is the campaign and what is seen of it.
type demo struct {
	Command
	pages      []pagefile.Page
	keys       map[string]string // ingress key by page name
	sandbox    *sandbox.Sandbox
	braze      *braze
	ingressURL string // base URL
	logFile    string
	data       string // directory of the queue
	tally      *tally
	screen     *cli.Screen
	client     *http.Client
}

func newDemo(c Command, std cli.Stdio, logFile string) *demo {
	d := &demo{Command: c, logFile: logFile, keys: map[string]string{}, tally: newTally(), screen: cli.NewScreen(std.Out),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: posters}, Timeout: 90 * time.Second}}
	for _, p := range []pagefile.Page{{ID: "1029384756", Name: "acme"}, {ID: "5647382910", Name: "nordwind"}} {
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
func (d *demo) facebook(graph *process.GraphFlags) process.Part {
	return process.Part{
		Name: "sandbox",
		Open: func(context.Context) (err error) {
			var pages []sandbox.Page
			for _, p := range d.pages {
				pages = append(pages, sandbox.Page{ID: p.ID, Name: p.Name, Token: p.Secrets.Token})
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
		Close: func() error { return d.sandbox.Close() },
	}
}

// run is the campaign, its report, and the time after it.
func (d *demo) run(ctx context.Context) error {
	d.screen.Say("Brazier demo: a Braze campaign of %d messages for two pages, %s and %s, through the ingress, the queue and a worker,",
		d.Messages, d.pages[0].Name, d.pages[1].Name)
	d.screen.Say("to a simulated Facebook. Nothing leaves this machine.\n")
	d.tally.begin(d.screen)
	posted := make(chan struct{})
	go func() { defer close(posted); d.post(ctx) }()
	settled := d.watch(ctx, posted)
	<-posted
	defer d.client.CloseIdleConnections()
	if !settled {
		return nil // stopped in the middle
	}
	d.report()
	if err := d.tellTruth(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := d.collectPSID(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if d.Exit {
		return process.ErrFinished
	}
	d.invite()
	d.tally.follow(d.screen)
	<-ctx.Done()
	return nil
}

// watch shows progress until every accepted message has come to its end. It reports false when ctx ended first.
func (d *demo) watch(ctx context.Context, posted <-chan struct{}) bool {
	tick := time.NewTicker(d.screen.Every(100*time.Millisecond, time.Second))
	defer tick.Stop()
	done := false
	for {
		select {
		case <-ctx.Done():
			d.screen.Clear()
			return false
		case <-posted:
			posted, done = nil, true
		case <-tick.C:
		}
		now := d.tally.now()
		d.screen.Live(now.progress(d.Messages))
		if done && now.delivered+now.dead >= now.accepted {
			d.screen.Clear()
			return true
		}
	}
}

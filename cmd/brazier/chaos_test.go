package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

var (
	chaosKills = flag.Int("chaos.kills", 0, "kills of each kind in each mode of TestChaos; 0: a few, as a part of all tests")
	chaosSeed  = flag.Uint64("chaos.seed", 0, "seed of what TestChaos does and when; 0: a new one")
	chaosRate  = flag.Int("chaos.rate", 60, "messages a second in each mode of TestChaos")
	chaosParts = flag.Int("chaos.partitions", 1, "partitions to which the queue is divided in TestChaos once the load has begun; they come into use two minutes later. 8 part the two pages")
	chaosSync  = flag.String("chaos.sync", "interval", "when the queue flushes to the disk in TestChaos: interval or always")
)

// TestChaos kills, pauses, cuts off and restarts real processes under load, and compares what the ingress accepted with
// what Facebook got. A message that was accepted is delivered, or dead with its reason. It is delivered twice only if its
// worker was killed or its connection to Facebook cut, and then it is logged in doubt. It prints the figures.
//
// As a part of all tests it does little of this, and without a cluster. To do more, one mode at a time:
//
//	go test ./cmd/brazier -run Chaos/serve   -v -chaos.kills 50 -chaos.sync always -timeout 60m
//	go test ./cmd/brazier -run Chaos/roles   -v -chaos.kills 50 -chaos.sync always -timeout 60m
//	go test ./cmd/brazier -run Chaos/cluster -v -chaos.kills 50 -chaos.sync always -timeout 60m
//	go test ./cmd/brazier -run Chaos/rolling -v -chaos.kills 50 -chaos.sync always -timeout 60m
//	go test ./cmd/brazier -run Chaos/upgrade -v -chaos.from HEAD~1
//
// deploy/README.md has the figures. The seed decides what is done, to whom and when. What is under way at that time is
// not in its power.
func TestChaos(t *testing.T) {
	t.Parallel()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-chaos.seed %d", seed)
	var r report
	var running sync.WaitGroup // instead of t.Parallel, which would have the second mode wait for the first one's turn
	for i, run := range []struct {
		name string
		mode mode
		must promises
		// spare is the pages' rate as a multiple of the load. The less there is of it, the longer the backlog lasts: so much
		// that it outlasts the faults, by how much of the time they leave for deliveries.
		spare float64
		short bool // part of all tests
	}{
		{"serve", &allInOne{}, promises{}, 5. / 3, true},
		{"roles", &roles{}, promises{}, 4. / 3, true},
		{"cluster", &cluster{}, promises{wait: true}, 5. / 3, false},
		{"rolling", &rolling{}, promises{wait: true, orderly: true}, 1.1, false},
		{"upgrade", &upgrade{}, promises{wait: true, orderly: true}, 1.1, *chaosFrom != ""},
	} {
		if !long() && !run.short || run.name == "upgrade" && *chaosFrom == "" {
			continue
		}
		running.Go(func() {
			t.Run(run.name, func(t *testing.T) {
				f := newChaos(t, rand.New(rand.NewPCG(seed, uint64(i))), run.mode, run.spare).run(run.name)
				r.add(f)
				f.judge(t, run.must)
			})
		})
	}
	running.Wait()
	t.Logf("seed %d\n%s", seed, &r)
}

// mode is a fleet and what is done to it.
type mode interface {
	// raise adds the members of the fleet, and names the ingresses.
	raise(c *chaos)
	// hold keeps messages from being delivered, once the fleet has started, and reports whether it does. release lets them
	// be delivered.
	hold(c *chaos) bool
	release(c *chaos)
	// storm does what is done, and returns when all is up again.
	storm(c *chaos)
	// natsURL is where the NATS servers are now.
	natsURL() (string, error)
}

// chaos is one mode's run. Its fields belong to the test's goroutine.
type chaos struct {
	t         *testing.T
	rnd       *rand.Rand
	mode      mode
	pages     []testPage
	pageFile  string
	facebook  *sandbox.Sandbox
	probes    *http.Client // asks whether processes are healthy
	fleet     *fleet
	ingresses []string
	load      *load
	faults    []*fault
	lasting   sync.WaitGroup // faults of NATS that last: their ends belong to goroutines of their own until it is done
}

func newChaos(t *testing.T, rnd *rand.Rand, m mode, spare float64) *chaos {
	c := &chaos{t: t, rnd: rnd, mode: m, probes: &http.Client{}, fleet: &fleet{journal: newJournal()}}
	t.Cleanup(c.probes.CloseIdleConnections)
	t.Cleanup(c.lasting.Wait)
	rate := 100.
	if long() {
		rate = spare * float64(*chaosRate) / 2
	}
	var cfg sandbox.Config
	for _, p := range []testPage{newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")} {
		p.extra = fmt.Sprintf("    rate: %.0f\n", rate)
		c.pages = append(c.pages, p)
		cfg.Pages = append(cfg.Pages, sandbox.Page{ID: p.id, Token: p.token, AppSecret: p.secret, Rate: sandbox.Off, HighVolume: sandbox.Off})
	}
	c.pageFile = writePages(t, c.pages...)
	// Long enough for something to be in flight at any time, in each worker.
	cfg.Latency, cfg.Jitter, cfg.Control = 120*time.Millisecond, 60*time.Millisecond, "off"
	var err error
	if c.facebook, err = sandbox.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.facebook.Close() })
	return c
}

// settleTimeout is how long messages may take to be answered once all is up again, and how long nothing may happen to what is
// left in the queue: a lease and some retries.
const settleTimeout = 90 * time.Second

// divide raises the number of partitions, where that is asked for.
func (c *chaos) divide() {
	c.t.Helper()
	if *chaosParts == 1 {
		return
	}
	url, err := c.mode.natsURL()
	if err != nil {
		c.t.Fatal(err)
	}
	if did := command(c.t, "", "setup", "--nats-url="+url, "--max-queue=1GiB", fmt.Sprint("--partitions=", *chaosParts)); did.code != cli.ExitOK {
		c.t.Fatalf("setup: %+v", did)
	}
}

func (c *chaos) run(name string) *figures {
	c.mode.raise(c)
	c.fleet.start(c.t)
	c.load = newLoad(c.pages, c.ingresses...)
	_, c.load.balanced = c.mode.(*rolling)
	ctx, abandon := context.WithCancel(context.Background())
	defer abandon()
	c.age(ctx)
	c.divide()
	c.mode.storm(c)
	c.lasting.Wait()
	last := time.AfterFunc(settleTimeout, abandon)
	defer last.Stop()
	c.load.end()

	l := c.settle()
	l.deadLetters = c.deadLetters()
	f := l.sum(name)
	for _, complaint := range c.restart() {
		c.t.Error(complaint)
	}
	c.repeat(l, f)
	for _, complaint := range append(c.fleet.stop(), c.fleet.journal.complained()...) {
		c.t.Error(complaint)
	}
	f.again(c, l)
	c.t.Logf("log lines by event: %v", c.fleet.journal.events)
	return f
}

// age makes a backlog, lets it become older than a lease, and starts the load behind it: NATS files a delivery under the
// time at which its message was stored, so that a new leader believes the lease of an old message to be over.
func (c *chaos) age(ctx context.Context) {
	if !c.mode.hold(c) {
		c.load.run(ctx, *chaosRate)
		return
	}
	seconds := 10
	if long() {
		seconds = 120 // it has to outlast the faults: see the modes' spare rates
	}
	c.load.backlog(ctx, seconds**chaosRate)
	c.pass(queue.Lease + time.Second)
	c.load.run(ctx, *chaosRate)
	c.mode.release(c)
}

// settle waits until something became of every message that was accepted and nothing waits in the queue any more. It
// ends when nothing has waited there for a while, or when nothing happens to what does.
func (c *chaos) settle() *ledger {
	const grace = 10 * time.Second
	busy := time.Now() // when something was last seen in the queue
	moved, calls := busy, 0
	every := time.NewTicker(500 * time.Millisecond)
	defer every.Stop()
	for {
		now := time.Now()
		if n := c.facebook.Counts().Calls; n > calls {
			moved, calls = now, n
		}
		idle := c.idle()
		switch l := c.openLedger; {
		case idle && (l().settled() || now.Sub(busy) > grace):
			return l()
		case !idle && now.Sub(moved) > settleTimeout:
			c.t.Errorf("something is left in the queue, and Facebook got no call for %v", settleTimeout)
			return l()
		case !idle:
			busy = now
		}
		<-every.C
	}
}

// settled reports whether it is known what became of every message, and of every call for one.
func (l *ledger) settled() bool {
	return !slices.ContainsFunc(l.accounts, func(a account) bool { return a.missing() || (a.id != "" && a.open()) })
}

// restart ends everything in good order and starts it again.
func (c *chaos) restart() (complaints []string) {
	complaints = c.fleet.stop()
	c.fleet.start(c.t)
	return complaints
}

// sample is how many keys are posted again.
const sample = 100

// repeat posts messages again that were settled before the restart.
func (c *chaos) repeat(l *ledger, f *figures) {
	again := newLoad(c.pages, c.ingresses...)
	again.messages = make([]*posted, len(l.accounts)) // numbers go on where they were
	for range sample {
		n := c.rnd.IntN(len(l.accounts))
		first := l.accounts[n]
		if first.id == "" {
			continue
		}
		m := &posted{page: first.page, psid: first.psid, body: first.body, key: first.key}
		again.post(c.t.Context(), m, n)
		f.repeated++
		if last := m.answers[len(m.answers)-1]; last.state != "duplicate" || last.id != first.id {
			f.answeredOtherwise++
			first.posted = &posted{page: first.page, psid: first.psid, key: first.key, id: first.id, answers: append(first.answers, m.answers...)}
			f.show("posted again, and not told that it is a duplicate", l, &first)
		}
	}
	// One more message for each page: when these are delivered, what was put into the queue before them had its turn.
	for range c.pages {
		m, n := again.next(false)
		again.post(c.t.Context(), m, n)
		eventually(c.t, "a message posted after the restart is delivered", func() bool {
			return len(c.facebook.DeliveredTo(m.page.id, m.psid)) > 0
		})
	}
	again.end()
}

// again counts the messages of the ledger that Facebook was called for once more since it was made.
func (f *figures) again(c *chaos, before *ledger) {
	now := c.openLedger()
	for i := range before.accounts {
		if a := &now.accounts[i]; len(a.calls) > len(before.accounts[i].calls) {
			f.sentAgain++
			f.show("sent again after all was settled", now, a)
		}
	}
}

// do notes what is done to the fleet while it is done. What is done to NATS lasts until every consumer has a leader again.
func (c *chaos) do(f fault, what func()) {
	f.from = time.Now()
	what()
	f.to = time.Now()
	c.faults = append(c.faults, &f)
	if !f.nats {
		return
	}
	c.lasting.Go(func() {
		if err := c.awaitLed(); err != nil {
			c.t.Errorf("no leader after %s: %v", f.kind, err)
		}
		f.to = time.Now()
	})
}

// kill ends a process as kill -9 does and starts it again after down.
func (c *chaos) kill(m *member, kind string, down time.Duration) {
	f := fault{kind: "kill " + kind, hits: hitCalls}
	switch m.kind {
	case "ingress":
		f.hits = hitNothing
	case "nats":
		f.hits, f.nats = hitTime, true
	}
	c.do(f, m.kill)
	c.pass(down)
	m.start(c.t)
}

// pass lets time pass.
func (c *chaos) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

// between draws a time.
func (c *chaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.rnd.Int64N(int64(most-least)))
}

// long reports whether the flag asks for more than the part that all tests have.
func long() bool { return *chaosKills > 0 }

// times is how often something is done.
func times(short int) int {
	if long() {
		return *chaosKills
	}
	return short
}

// lasting is how long something takes.
func lasting(short, longer time.Duration) time.Duration {
	if long() {
		return longer
	}
	return short
}

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/queue/embedded"
)

// allInOne is one process that has everything, killed again and again.
type allInOne struct {
	*member
	data string
}

func (a *allInOne) raise(c *chaos) {
	ingress := stableAddress(c.t)
	c.ingresses = append(c.ingresses, ingress)
	a.data = c.t.TempDir()
	a.member = c.fleet.add(c.t, "serve", "brazier", "serve", "--listen="+ingress, "--ops-listen=off", "--data="+a.data,
		"--sync="+*chaosSync, "--pages="+c.pageFile, "--graph-url="+c.facebook.URL(), "--slow-start=0s", "--log-level=debug")
}

// hold holds the pages, in the short form too: the other mode that runs beside this one then waits for leases anyway.
func (a *allInOne) hold(c *chaos) bool {
	a.pagesCommand(c, "hold")
	return true
}

func (a *allInOne) release(c *chaos) { a.pagesCommand(c, "resume") }

// pagesCommand has an operator's command change every page.
func (a *allInOne) pagesCommand(c *chaos, command string) {
	c.t.Helper()
	for _, page := range c.pages {
		cmd := exec.Command(filepath.Join(bin, "brazier"), "pages", command, page.name, "--data="+a.data, "--pages="+c.pageFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
}

func (a *allInOne) storm(c *chaos) {
	for range times(3) {
		c.pass(c.between(200*time.Millisecond, 2*time.Second))
		c.kill(a.member, "serve", 0)
	}
	a.await(c.t)
}

func (a *allInOne) natsURL() (string, error) { return embedded.Address(a.data) }

// roles is a NATS server, two ingresses and two workers. Each of them has wires of its own.
type roles struct {
	nats               *natsServer
	ingresses, workers []*member
	toNATS, toGraph    []*wire
}

func (r *roles) raise(c *chaos) {
	r.nats = c.addNATS(1)[0]
	wired := func(target string, wires *[]*wire) string {
		w := newWire(c.t, target)
		*wires = append(*wires, w)
		return w.address()
	}
	for range 2 {
		r.ingresses = append(r.ingresses, c.addIngress(wired(r.nats.address, &r.toNATS)))
		r.workers = append(r.workers, c.addWorker(wired(r.nats.address, &r.toNATS),
			"http://"+wired(strings.TrimPrefix(c.facebook.URL(), "http://"), &r.toGraph)))
	}
}

// hold holds the workers, in the long form alone. The short form has no time for it: what a leader makes of messages that
// are older than a lease, the tests of package queue ask on a cluster with a short lease.
func (r *roles) hold(*chaos) bool { return long() }

func (r *roles) release(c *chaos) { c.fleet.release(c.t) }

func (c *chaos) addIngress(natsURL string) *member {
	ingress := stableAddress(c.t)
	c.ingresses = append(c.ingresses, ingress)
	return c.fleet.add(c.t, "ingress", "brazier", "ingress", "--listen="+ingress, "--ops-listen=off", "--nats-url="+natsURL,
		"--max-queue=1000000000", "--pages="+c.pageFile, "--log-level=debug")
}

// addWorker adds a worker, which in the long form is held until [fleet.release].
func (c *chaos) addWorker(natsURL, graphURL string) *member {
	m := c.fleet.add(c.t, "worker", "brazier", "worker", "--ops-listen=off", "--nats-url="+natsURL, "--graph-url="+graphURL,
		"--max-queue=1000000000", "--pages="+c.pageFile, "--log-level=debug")
	m.held = long()
	return m
}

func (r *roles) storm(c *chaos) {
	var deeds []func()
	for range times(1) {
		deeds = append(deeds,
			func() { c.kill(pick(c, r.ingresses), "ingress", 0) },
			func() { c.kill(pick(c, r.workers), "worker", 0) },
			func() { c.kill(r.nats.member, "nats-server", c.between(0, 500*time.Millisecond)) },
			func() { r.pause(c) },
			func() { c.do(fault{kind: "cut to nats-server", hits: hitTime, nats: true}, pick(c, r.toNATS).cut) },
			func() { c.do(fault{kind: "cut to Facebook", hits: hitCalls}, pick(c, r.toGraph).cut) },
		)
	}
	c.rnd.Shuffle(len(deeds), func(i, j int) { deeds[i], deeds[j] = deeds[j], deeds[i] })
	longest := lasting(500*time.Millisecond, 1500*time.Millisecond)
	for _, deed := range deeds {
		c.pass(c.between(50*time.Millisecond, longest))
		deed()
	}
	for _, m := range c.fleet.members {
		m.await(c.t)
	}
}

// pause keeps the server from running for a while. Its connections stay open.
func (r *roles) pause(c *chaos) {
	c.do(fault{kind: "pause of nats-server", hits: hitTime, nats: true}, func() {
		r.nats.signal(pauseSignal)
		c.pass(c.between(time.Second, lasting(1500*time.Millisecond, 3*time.Second)))
		r.nats.signal(continueSignal)
	})
}

func (r *roles) natsURL() (string, error) { return r.nats.address, nil }

// cluster is three NATS servers, two ingresses and two workers.
type cluster struct {
	servers            []*natsServer
	ingresses, workers []*member
}

func (k *cluster) raise(c *chaos) {
	k.servers = c.addNATS(3)
	url, _ := k.natsURL()
	for range 2 {
		k.ingresses = append(k.ingresses, c.addIngress(url))
		k.workers = append(k.workers, c.addWorker(url, c.facebook.URL()))
	}
}

func (k *cluster) hold(*chaos) bool { return true }

func (k *cluster) release(c *chaos) { c.fleet.release(c.t) }

// storm kills ingresses, workers and whoever leads the stream of jobs, again and again, and then restarts each server in good
// order.
func (k *cluster) storm(c *chaos) {
	var deeds []func()
	for range times(1) {
		deeds = append(deeds,
			func() { c.kill(pick(c, k.ingresses), "ingress", 0) },
			func() { c.kill(pick(c, k.workers), "worker", 0) },
			func() { k.killLeader(c) },
		)
	}
	c.rnd.Shuffle(len(deeds), func(i, j int) { deeds[i], deeds[j] = deeds[j], deeds[i] })
	for _, deed := range deeds {
		c.pass(c.between(500*time.Millisecond, 4*time.Second))
		deed()
	}
	for _, s := range k.servers {
		c.awaitHealthy(k.servers)
		c.do(fault{kind: "restart of nats-server", hits: hitTime, nats: true}, func() { s.terminate() })
		s.start(c.t)
	}
	c.awaitHealthy(k.servers)
	for _, m := range c.fleet.members {
		m.await(c.t)
	}
}

// killLeader kills the server that leads the stream of jobs, once there is one and it has taken a message.
func (k *cluster) killLeader(c *chaos) {
	leader := c.leader()
	c.load.awaitAccepted(c.t)
	for _, s := range k.servers {
		if s.name == leader {
			c.kill(s.member, "leader", c.between(0, time.Second))
		}
	}
}

func (k *cluster) natsURL() (string, error) {
	var urls []string
	for _, s := range k.servers {
		urls = append(urls, "nats://"+s.address)
	}
	return strings.Join(urls, ","), nil
}

// awaitHealthy returns when every server has caught up with all it holds.
func (c *chaos) awaitHealthy(servers []*natsServer) {
	c.t.Helper()
	for _, s := range servers {
		eventually(c.t, s.name+" has caught up", s.healthy)
	}
}

func pick[T any](c *chaos, from []T) T { return from[c.rnd.IntN(len(from))] }

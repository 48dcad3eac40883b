package main

import (
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// allInOne is one process that has everything, killed again and again.
type allInOne struct {
	*member
	data string
}

func (a *allInOne) raise(c *chaos) {
	door := stableAddress(c.t)
	c.doors = append(c.doors, door)
	a.data = c.t.TempDir()
	a.member = c.fleet.add(c.t, "serve", "brazier", "serve", "--listen="+door, "--ops-listen=off", "--data="+a.data,
		"--sync="+*chaosSync, "--pages="+c.pageFile, "--graph-url="+c.facebook.URL(), "--log-level=debug")
}

func (a *allInOne) storm(c *chaos) {
	for range times(3) {
		c.pass(c.between(200*time.Millisecond, 2*time.Second))
		c.kill(a.member, "serve", 0)
	}
	a.await(c.t)
}

// idle waits for what is handed out again a lease after the last kill: nobody but the process itself can look into its
// queue.
func (a *allInOne) idle(c *chaos) bool {
	return time.Since(c.faults[len(c.faults)-1].to) > queue.Lease+time.Second
}

// letters stops the process, reads its directory, and starts it again.
func (a *allInOne) letters(c *chaos) map[string]bool {
	a.terminate()
	srv, err := embedded.Start(embedded.Config{Dir: a.data})
	if err != nil {
		c.t.Fatal(err)
	}
	ids := deadLetters(c.t, "", nats.InProcessServer(srv))
	if err := srv.Close(); err != nil {
		c.t.Fatal(err)
	}
	a.start(c.t)
	a.await(c.t)
	return ids
}

// roles is a NATS server, two doors and two workers. Each of them has wires of its own.
type roles struct {
	nats            *natsServer
	doors, workers  []*member
	toNATS, toGraph []*wire
}

func (r *roles) raise(c *chaos) {
	r.nats = c.addNATS(1)[0]
	wired := func(target string, wires *[]*wire) string {
		w := newWire(c.t, target)
		*wires = append(*wires, w)
		return w.address()
	}
	for range 2 {
		r.doors = append(r.doors, c.addDoor(wired(r.nats.address, &r.toNATS)))
		r.workers = append(r.workers, c.addWorker(wired(r.nats.address, &r.toNATS),
			"http://"+wired(strings.TrimPrefix(c.facebook.URL(), "http://"), &r.toGraph)))
	}
}

func (c *chaos) addDoor(natsURL string) *member {
	door := stableAddress(c.t)
	c.doors = append(c.doors, door)
	return c.fleet.add(c.t, "ingress", "brazier", "ingress", "--listen="+door, "--ops-listen=off", "--nats-url="+natsURL,
		"--max-queue=1000000000", "--pages="+c.pageFile, "--log-level=debug")
}

func (c *chaos) addWorker(natsURL, graphURL string) *member {
	return c.fleet.add(c.t, "worker", "brazier", "worker", "--ops-listen=off", "--nats-url="+natsURL, "--graph-url="+graphURL,
		"--max-queue=1000000000", "--pages="+c.pageFile, "--log-level=debug")
}

func (r *roles) storm(c *chaos) {
	var deeds []func()
	for range times(1) {
		deeds = append(deeds,
			func() { c.kill(pick(c, r.doors), "ingress", 0) },
			func() { c.kill(pick(c, r.workers), "worker", 0) },
			func() { c.kill(r.nats.member, "nats-server", c.between(0, 500*time.Millisecond)) },
			func() { r.pause(c) },
			func() { c.do(fault{kind: "cut to nats-server"}, pick(c, r.toNATS).cut) },
			func() { c.do(fault{kind: "cut to Facebook"}, pick(c, r.toGraph).cut) },
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
	c.do(fault{kind: "pause of nats-server"}, func() {
		r.nats.signal(syscall.SIGSTOP)
		c.pass(c.between(time.Second, lasting(1500*time.Millisecond, 3*time.Second)))
		r.nats.signal(syscall.SIGCONT)
	})
}

func (r *roles) idle(*chaos) bool { return idle([]*natsServer{r.nats}) }

func (r *roles) letters(c *chaos) map[string]bool { return deadLetters(c.t, r.nats.address) }

// cluster is three NATS servers, two doors and two workers.
type cluster struct{ servers []*natsServer }

func (k *cluster) raise(c *chaos) {
	k.servers = c.addNATS(3)
	var urls []string
	for _, s := range k.servers {
		urls = append(urls, "nats://"+s.address)
	}
	for range 2 {
		c.addDoor(strings.Join(urls, ","))
		c.addWorker(strings.Join(urls, ","), c.facebook.URL())
	}
}

// storm kills whoever leads the stream of jobs, again and again, and then restarts each server in good order. All tests
// have time for one kill only: what is in flight then may come back a lease later.
func (k *cluster) storm(c *chaos) {
	for range times(1) {
		c.pass(c.between(lasting(500*time.Millisecond, 2*time.Second), lasting(2*time.Second, 5*time.Second)))
		c.kill(leader(c.t, k.servers).member, "leader", c.between(0, time.Second))
		leader(c.t, k.servers)
		c.load.awaitAccepted(c.t)
	}
	if !long() {
		return
	}
	for _, s := range k.servers {
		eventually(c.t, "all servers have caught up", k.healthy)
		c.do(fault{kind: "restart of nats-server"}, func() { s.terminate() })
		s.start(c.t)
	}
	eventually(c.t, "all servers have caught up", k.healthy)
}

func (k *cluster) healthy() bool {
	for _, s := range k.servers {
		if !s.healthy() {
			return false
		}
	}
	return true
}

func (k *cluster) idle(*chaos) bool { return idle(k.servers) }

func (k *cluster) letters(c *chaos) map[string]bool { return deadLetters(c.t, k.servers[0].address) }

func pick[T any](c *chaos, from []T) T { return from[c.rnd.IntN(len(from))] }

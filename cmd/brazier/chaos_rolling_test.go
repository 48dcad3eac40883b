package main

import (
	"os"
	"syscall"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// rolling is three NATS servers, two ingresses and three workers, each of which is restarted in good order, one after the
// other, as an upgrade does it. The ingresses are behind a load balancer: see load.balanced.
type rolling struct {
	cluster
	ready map[*member]string // the URL that tells whether a role is ready
}

func (r *rolling) raise(c *chaos) {
	r.servers = c.addNATS(3)
	url, _ := r.natsURL()
	r.ready = map[*member]string{}
	withOps := func(m *member) *member {
		ops := stableAddress(c.t)
		m.args = append(m.args, "--ops-listen="+ops) // the last one counts
		r.ready[m] = "http://" + ops + "/readyz"
		return m
	}
	for range 2 {
		r.ingresses = append(r.ingresses, withOps(c.addIngress(url)))
	}
	for range 3 {
		r.workers = append(r.workers, withOps(c.addWorker(url, c.facebook.URL())))
	}
}

// storm restarts all eight, pass after pass. In one pass the NATS servers are told to leave by SIGUSR2 (lame duck mode), as
// the Helm chart of NATS does it, in the next by SIGTERM.
func (r *rolling) storm(c *chaos) {
	for range max(times(1)/10, 1) {
		r.pass(c, "lame duck mode", lameDuckSignal)
		r.pass(c, "SIGTERM", syscall.SIGTERM)
	}
}

func (r *rolling) pass(c *chaos, name string, leave os.Signal) {
	for _, s := range r.servers {
		r.restart(c, s.member, fault{kind: "restart of nats-server, " + name, hits: hitTime, nats: true}, leave)
	}
	for _, m := range r.workers {
		r.restart(c, m, fault{kind: "restart of worker", hits: hitTime}, syscall.SIGTERM)
	}
	for _, m := range r.ingresses {
		r.restart(c, m, fault{kind: "restart of ingress", hits: hitNothing}, syscall.SIGTERM)
	}
}

// restart tells a process to end, waits until it has, starts it again and waits until all is ready.
func (r *rolling) restart(c *chaos, m *member, f fault, leave os.Signal) {
	c.do(f, func() {
		if code := m.end(leave); code != cli.ExitOK && m.announcesSelf {
			c.t.Errorf("%s ended with code %d:\n%s", m.name, code, m.log.tail())
		}
	})
	m.start(c.t)
	m.await(c.t)
	c.awaitHealthy(r.servers)
	for m, url := range r.ready {
		eventually(c.t, m.name+" is ready", func() bool { return answersOK(c.probes, url) })
	}
	c.pass(c.between(500*time.Millisecond, 3*time.Second))
}

package main

import (
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

var containersRate = flag.Int("containers.rate", 100, "with -containers: messages a second for deploy/compose.yaml")

// testCompose runs deploy/compose.yaml and posts a campaign, while services are killed, cut off from the network and upgraded, one at a
// time. What was accepted is delivered, or dead with its reason. A message is delivered twice only if its worker was killed or cut off,
// and then it is logged in doubt. The client that posts asks the other ingress where one fails or refuses, and is never refused.
func testCompose(e *engine, image string) {
	t := e.t
	s := newStack(e, image)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &chaos{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), mode: s, pages: []testPage{{id: "1029384756", name: "acme", key: "try-me"}}}
	s.raise(c)
	t.Cleanup(c.lasting.Wait)
	balancer := newBalancer(s.ingresses...)
	defer balancer.CloseIdleConnections()
	c.load = newLoad(c.pages, "brazier")
	c.load.client.Transport = balancer
	ctx, abandon := context.WithCancel(context.Background())
	defer abandon()
	c.load.run(ctx, *containersRate)
	s.storm(c)
	c.lasting.Wait()
	last := time.AfterFunc(settleTimeout, abandon)
	defer last.Stop()
	c.load.end()

	f := s.settle(c).sum("compose")
	var r report
	r.add(f)
	t.Logf("%d a second for %v\n%sthe other ingress was asked: %v", *containersRate, s.lasted.Round(time.Second), &r, balancer.passed)
	f.judge(t, promises{wait: true})
	if f.notTaken > 0 {
		t.Errorf("%d answers other than 202 and 503", f.notTaken)
	}
	// A call that a worker was about to make is in doubt, too, and never reached the sandbox.
	if most := f.inFlightCalls + 2*inFlightAtWorker; f.inDoubt > most {
		t.Errorf("%d messages in doubt, want %d at most", f.inDoubt, most)
	}
	s.keepsSecrets()
}

// inFlightAtWorker is how many calls one of three workers has under way, for the rate of these tests and the sandbox's latency.
const inFlightAtWorker = 10

// balancer is between Braze and the ingresses: it asks the next ingress where one does not answer, or answers 503.
type balancer struct {
	*http.Transport
	ingresses []string
	requests  atomic.Uint64

	mu     sync.Mutex
	passed map[string]int // requests that were passed on to the next ingress, by what the first one answered
}

func newBalancer(ingresses ...string) *balancer {
	return &balancer{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, ingresses: ingresses, passed: map[string]int{}}
}

func (b *balancer) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer req.Body.Close()
	first := int(b.requests.Add(1) % uint64(len(b.ingresses)))
	for try := range b.ingresses {
		r := req.Clone(req.Context())
		r.URL.Host = b.ingresses[(first+try)%len(b.ingresses)]
		if r.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		switch resp, err = b.Transport.RoundTrip(r); {
		case err == nil && resp.StatusCode != http.StatusServiceUnavailable, try == len(b.ingresses)-1:
			return resp, err
		case err == nil:
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			b.pass(string(text))
		default:
			b.pass("nothing")
		}
	}
	return resp, err
}

func (b *balancer) pass(answer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passed[answer]++
}

// The stack is a mode of [chaos]. It has no way to hold messages back.
func (s *stack) hold(*chaos) bool { return false }
func (s *stack) release(*chaos)   {}

var (
	composeNATS      = []string{"nats-1", "nats-2", "nats-3"}
	composeWorkers   = []string{"worker-1", "worker-2", "worker-3"}
	composeIngresses = []string{"ingress-1", "ingress-2"}
)

// storm kills, cuts off and upgrades services, each when the one before is back.
func (s *stack) storm(c *chaos) {
	began := time.Now()
	cut := fault{kind: "partition of NATS node", hits: hitTime, nats: true}
	s.kill(c, pick(c, composeNATS), fault{kind: "kill of NATS node", hits: hitTime, nats: true})
	s.kill(c, pick(c, composeWorkers), fault{kind: "kill of worker", hits: hitCalls})
	leader := c.leader()
	s.partition(c, pick(c, slices.DeleteFunc(slices.Clone(composeNATS), func(name string) bool { return name == leader })), 10*time.Second, cut)
	cut.kind = "partition of the leader"
	s.partition(c, c.leader(), queue.Lease+5*time.Second, cut)
	s.isolate(c, pick(c, composeWorkers), queue.Lease+5*time.Second)
	for _, name := range composeNATS {
		s.upgrade(c, name, fault{kind: "upgrade of NATS node", hits: hitTime, nats: true})
	}
	for _, name := range composeWorkers {
		s.upgrade(c, name, fault{kind: "upgrade of worker", hits: hitTime})
	}
	for _, name := range composeIngresses {
		s.upgrade(c, name, fault{kind: "upgrade of ingress", hits: hitNothing})
	}
	s.lasted = time.Since(began)
}

// kill ends a container as kill -9 does, and starts it again.
func (s *stack) kill(c *chaos, service string, f fault) {
	id := s.container(service)
	c.do(f, func() { s.run("kill", id) })
	c.load.awaitAccepted(s.t)
	s.run("start", id)
	s.back(c, f.kind+" "+service)
}

// partition takes a NATS node off the network for a while.
func (s *stack) partition(c *chaos, service string, lasts time.Duration, f fault) {
	c.do(f, func() {
		reconnect := s.disconnect(service)
		c.pass(lasts)
		reconnect()
	})
	s.back(c, f.kind+" "+service)
}

// isolate takes a worker off the network for a while. Calls are cut off when that begins,
// and may still arrive when it ends; the worker can make none meanwhile.
func (s *stack) isolate(c *chaos, worker string, lasts time.Duration) {
	var reconnect func()
	c.do(fault{kind: "partition of worker", hits: hitCalls, late: true}, func() { reconnect = s.disconnect(worker) })
	c.pass(lasts)
	reconnect()
	s.back(c, "partition of "+worker)
}

// upgrade replaces a container by one of the next image, as the head of compose.yaml says.
func (s *stack) upgrade(c *chaos, service string, f fault) {
	c.do(f, func() {
		s.stop(service)
		s.compose("up", "--detach", "--no-deps", service)
	})
	s.await(service)
	s.back(c, f.kind+" "+service)
}

// back returns when all services can do their work, and then some more is accepted.
func (s *stack) back(c *chaos, after string) {
	c.lasting.Wait()
	for _, service := range slices.Concat(composeNATS, composeWorkers, composeIngresses) {
		s.eventually(service+" does its work after "+after, func() bool { return s.works(service) })
	}
	c.load.awaitAccepted(s.t)
	s.t.Logf("%s: back at %s", after, time.Now().Format(time.TimeOnly))
}

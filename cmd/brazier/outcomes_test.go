package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

var outcomesMessages = flag.Int("outcomes.messages", 0, "messages that each campaign of TestOutcomes sends; 0: it is not run. It takes a minute, and the machine for itself")

// Every message of a campaign ends in Braze as Facebook's record says, while each process between the two is killed and Braze fails
// in every way: no event is lost, and none is told twice but where the workspace says that it may be.
func TestOutcomes(t *testing.T) {
	if *outcomesMessages == 0 {
		return // .ci/run asks for it
	}
	t.Parallel()
	for name, repeats := range map[string]bool{"events in doubt are dead letters": false, "events in doubt are repeated": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newOutcomes(t, repeats)
			c.link()
			c.campaign()
			c.settled()
			c.contacts()
			c.end()
		})
	}
}

// fate is what becomes of a message to a person whose PSID has a prefix (see brazier sandbox).
type fate struct {
	prefix string
	class  string // of the dead letter; empty: delivered
	expire string // X-Brazier-Expire
	noMID  bool   // Facebook takes it and does not say so in the answer
}

// fates are those of every other person; messages to the rest are delivered.
var fates = []fate{
	{prefix: "9000000551", class: "recipient"}, {prefix: "9000000278", class: "window"}, {prefix: "9000000100", class: "message"},
	{prefix: "9000000047", class: "recipient"}, {prefix: "9000000065", class: "window"}, {prefix: "9000000444", class: "in_doubt"},
	{prefix: "9000000200", class: "recipient"}, {prefix: "9000000500"}, {prefix: "9000000445", class: "in_doubt"},
	{prefix: "9000000001", class: "recipient"}, {prefix: "9000000502"}, {prefix: "9000000046", noMID: true},
	{prefix: "9000000108", class: "recipient"}, {prefix: "9000000011"}, {prefix: "9000000002", class: "expired", expire: "2s"},
	{prefix: "9000000300", class: "expired", expire: "2s"},
}

// How Brazier knows the user of a message's person.
const (
	byBrazeID    = iota // X-Brazier-User names them
	byExternalID        // X-Brazier-External-Id names them
	byReference         // a reference linked the two before
	byNothing           // nobody knows
	knownWays
)

// addressee is a person who gets one message.
type addressee struct {
	fate
	psid  string
	known int
	user  string // an id of the user in Braze; empty: there is none
	id    string // of the message in Brazier
	wrote bool   // to the page, after the campaign
}

// outcomes is a campaign between two simulated services.
type outcomes struct {
	*world
	repeats  bool
	facebook *sandbox.Sandbox
	people   []*addressee
	ingress  string
	q        *queue.Queue
	start    map[string]func() *proc
	running  map[string]*proc
	logs     []*proc
	kills    []time.Time
	began    time.Time
}

func newOutcomes(t *testing.T, repeats bool) *outcomes {
	t.Helper()
	workspace := fmt.Sprintf("    repeat_events: %t\n    events: [sent, failed, delivered, read, linked, inbound]\n", repeats)
	rate := max(30, *outcomesMessages/10)
	w := newWorldWith(t, brazesandbox.Config{Latency: 200 * time.Millisecond, Jitter: 100 * time.Millisecond}, workspace,
		fmt.Sprintf("    in_doubt: park\n    rate: %d\n", rate))
	c := &outcomes{world: w, repeats: repeats, ingress: freeAddress(t), running: map[string]*proc{}, began: time.Now()}
	fb, err := sandbox.New(sandbox.Config{
		Pages:   []sandbox.Page{{ID: roadBackPage, Token: "page-token-of-acme", App: "acme-app", Rate: sandbox.Off, HighVolume: sandbox.Off}},
		Latency: 100 * time.Millisecond, Jitter: 100 * time.Millisecond,
		Webhook: sandbox.Webhook{URL: "http://" + c.ingress + "/webhook", Apps: []sandbox.App{{Name: "acme-app", Secret: appSecret, VerifyToken: verifyToken}},
			Receipts: true, ReceiptsTwice: 4, Shuffle: true, Batch: 4, RetryEvery: 200 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	c.facebook = fb
	nats, store := freeAddress(t), t.TempDir()
	host, port, _ := strings.Cut(nats, ":")
	common := []string{"--nats-url=nats://" + nats, "--pages=" + w.pages, "--ops-listen=off", "--log-format=json"}
	worker := append([]string{"worker", "--graph-url=" + fb.URL()}, common...)
	c.start = map[string]func() *proc{
		"nats-server": func() *proc { return startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port) },
		"ingress": func() *proc {
			return startProcess(t, "brazier", append([]string{"ingress", "--listen=" + c.ingress}, common...)...)
		},
		"worker 1": func() *proc { return startProcess(t, "brazier", worker...) },
		"worker 2": func() *proc { return startProcess(t, "brazier", worker...) },
	}
	for _, name := range []string{"nats-server", "worker 1", "worker 2", "ingress"} {
		c.run(name)
	}
	for _, name := range []string{"worker 1", "worker 2", "ingress"} {
		c.running[name].log.await(t, "started")
	}
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://" + nats, Name: "test", Existing: true, RoadBack: true, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	c.q = q
	for i := range *outcomesMessages {
		c.people = append(c.people, c.addressee(i))
	}
	return c
}

func (c *outcomes) run(name string) {
	p := c.start[name]()
	c.running[name], c.logs = p, append(c.logs, p)
}

// kill ends a process as a crash does, and starts it again.
func (c *outcomes) kill(name string) {
	c.running[name].signal(os.Kill)
	<-c.running[name].done
	c.kills = append(c.kills, time.Now())
	c.run(name)
}

// killSender kills both workers, and so the one that has a call under way which Braze has written and not answered.
func (c *outcomes) killSender() {
	c.t.Helper()
	written := make(chan struct{})
	c.braze.Script(brazesandbox.Fault{Action: brazesandbox.Pass, Delay: time.Minute, Name: "messenger_sent", OnHit: func(brazesandbox.Call) { close(written) }})
	select {
	case <-written:
	case <-time.After(2 * time.Minute):
		c.t.Fatal("waited in vain: a call to Braze")
	}
	c.kill("worker 2")
	c.kill("worker 1")
}

// addressee makes the i-th person, each way of knowing the user with each fate in turn.
func (c *outcomes) addressee(i int) *addressee {
	a := &addressee{known: i % knownWays}
	round := i / knownWays
	if round%2 == 0 {
		a.fate = fates[round/2%len(fates)]
	} else {
		a.prefix = "7003141592"
	}
	a.psid = fmt.Sprintf("%s%06d", a.prefix, i)
	if a.known == byNothing {
		return a
	}
	p := brazesandbox.Profile{BrazeID: fmt.Sprintf("%024x", 0xbeef000000+i)}
	if a.user = p.BrazeID; a.known == byExternalID {
		p.ExternalID = fmt.Sprintf("customer-%d", i)
		a.user = p.ExternalID
	}
	if _, err := c.braze.Create(p); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// link has people follow their links before the campaign.
func (c *outcomes) link() {
	c.t.Helper()
	for _, a := range c.people {
		if a.known != byReference {
			continue
		}
		if _, err := c.facebook.Write(a.psid, sandbox.Write{Ref: reference(c.t, a.user, time.Now().Add(-time.Hour)), Repeat: 1}); err != nil {
			c.t.Fatal(err)
		}
	}
	eventually(c.t, "Braze knows the PSIDs of those who followed a link", func() bool {
		return !slices.ContainsFunc(c.people, func(a *addressee) bool {
			return a.known == byReference && c.attribute(a.user, "messenger_id") != a.psid
		})
	})
}

// campaign posts the messages, and kills processes and breaks Braze while they are sent.
func (c *outcomes) campaign() {
	c.t.Helper()
	var posting sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		posting.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.people); i = int(next.Add(1)) - 1 {
				for !c.post(c.people[i]) { // as Braze does
					if c.t.Context().Err() != nil {
						return
					}
					pause(c.t.Context(), 50*time.Millisecond)
				}
			}
		})
	}
	at := func(percent int) {
		eventually(c.t, fmt.Sprintf("%d %% of the messages are sent", percent), func() bool {
			return c.facebook.Counts().Calls*100 >= percent*len(c.people)
		})
	}
	at(5)
	c.braze.Script(brazesandbox.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"X-Ratelimit-Reset": {fmt.Sprint(time.Now().Unix() + 2)}}, Times: 2})
	at(10)
	c.kill("worker 1")
	at(20)
	c.kill("nats-server")
	at(30)
	c.braze.Script(brazesandbox.Fault{Status: http.StatusBadGateway})
	c.braze.Script(brazesandbox.Fault{Action: brazesandbox.Reset, Accept: true})
	at(40)
	c.kill("ingress")
	at(50)
	c.braze.Script(brazesandbox.Fault{Action: brazesandbox.Hang, Times: brazesandbox.Standing})
	at(60)
	c.braze.Clear()
	c.killSender()
	c.braze.Script(brazesandbox.Fault{Status: http.StatusCreated, Accept: true,
		Body: `{"message":"success","events_processed":1,"errors":[{"type":"'name' is not valid","input_array":"events","index":0}]}`})
	c.braze.Script(brazesandbox.Fault{Action: brazesandbox.CutBody, Accept: true})
	posting.Wait()
}

// post posts the message to a person and reports whether the ingress took it.
func (c *outcomes) post(a *addressee) bool {
	header := map[string]string{"Idempotency-Key": "campaign " + a.psid, "X-Brazier-Campaign": "spring"}
	switch a.known {
	case byBrazeID:
		header["X-Brazier-User"] = a.user
	case byExternalID:
		header["X-Brazier-External-Id"] = a.user
	}
	if a.expire != "" {
		header["X-Brazier-Expire"] = a.expire
	}
	status, answer, err := post(c.client, c.ingress, testPage{key: "key 1"}, message(a.psid, "this is private"), header)
	var stored struct{ ID string }
	if err != nil || status != http.StatusAccepted || json.Unmarshal([]byte(answer), &stored) != nil {
		if err == nil && status != http.StatusServiceUnavailable {
			c.t.Errorf("the ingress answered %d %s", status, answer)
		}
		return false
	}
	a.id = stored.ID
	return true
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// TestRoles runs every role as a process of its own against a separate nats-server, two ingresses and two workers, and
// restarts nats-server under load.
func TestRoles(t *testing.T) {
	t.Parallel()
	pages := []testPage{newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")}
	for i := range pages {
		pages[i].extra = "    rate: 200\n"
	}
	file := writePages(t, pages...)
	natsAddress, store := freeAddress(t), t.TempDir()
	host, port, _ := strings.Cut(natsAddress, ":")
	startNATS := func() *proc { return startProcess(t, "nats-server", "-js", "-sd", store, "-a", host, "-p", port) }

	// The roles come up before NATS, wait for it and say so.
	facebook := startProcess(t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+file,
		"--latency=20ms", "--jitter=10ms", "--page-rate=-1", "--high-volume=-1")
	graph, control := facebook.address(t, `Graph API +(http://\S+)`), facebook.address(t, `Control +(http://\S+)`)
	common := []string{"--nats-url=nats://" + natsAddress, "--pages=" + file, "--ops-listen=127.0.0.1:0", "--log-level=debug"}
	var ingresses, workers []*proc
	for range 2 {
		ingresses = append(ingresses, startProcess(t, "brazier", append([]string{"ingress", "--listen=127.0.0.1:0"}, common...)...))
		workers = append(workers, startProcess(t, "brazier", append([]string{"worker", "--graph-url=" + graph}, common...)...))
	}
	roles := append(append([]*proc{}, ingresses...), workers...)
	for _, p := range roles {
		p.log.await(t, "waiting")
	}
	nats := startNATS()
	for _, p := range roles {
		p.log.await(t, "started")
	}

	c := campaign{ingresses: ingresses, pages: pages, total: 2000}
	posted := make(chan struct{})
	go func() { defer close(posted); c.post() }()
	eventually(t, "a third is accepted", func() bool { return c.accepted.Load() > int64(c.total)/3 })
	if code := nats.terminate(); code != 0 && code != 1 {
		t.Logf("nats-server ended with %d", code)
	}
	nats = startNATS()
	<-posted
	if c.accepted.Load() == 0 || c.abandoned.Load() > 0 {
		t.Fatalf("%d messages accepted, %d abandoned by the sender", c.accepted.Load(), c.abandoned.Load())
	}

	var seen struct {
		Accepted, Calls int
		Duplicates      int
	}
	eventually(t, "every accepted message is delivered", func() bool {
		getJSON(t, control+"/summary", &seen)
		return seen.Accepted-duplicates(t, control) >= int(c.accepted.Load())
	})
	reached := map[string]bool{}
	var calls []struct {
		Recipient string
		Accepted  bool
	}
	getJSON(t, fmt.Sprintf("%s/calls?limit=%d", control, 10*c.total), &calls)
	for _, call := range calls {
		if call.Accepted {
			reached[call.Recipient] = true
		}
	}
	for n := range c.total {
		if !reached[c.psid(n)] {
			t.Errorf("message %d was accepted and not delivered", n)
		}
	}
	doubted := 0
	for _, w := range workers {
		doubted += len(w.log.events("in_doubt"))
		if len(w.log.events("delivered")) == 0 {
			t.Error("a worker delivered nothing")
		}
		if len(w.log.events("connected")) < 2 {
			t.Error("a worker did not say that it was connected again")
		}
	}
	if twice := duplicates(t, control); twice > doubted {
		t.Errorf("%d messages were delivered twice, and only %d logged in doubt", twice, doubted)
	}
	t.Logf("accepted %d, delivered %d, twice %d, in doubt %d", c.accepted.Load(), seen.Accepted, duplicates(t, control), doubted)

	var written strings.Builder
	for _, p := range roles {
		if code := p.terminate(); code != cli.ExitOK {
			t.Errorf("exit code %d:\n%s", code, p.log.tail())
		}
		written.WriteString(p.log.String())
	}
	written.WriteString(c.answers.String())
	secrets := []string{"Hi Ada", "your order"}
	for _, p := range pages {
		secrets = append(secrets, p.token, p.secret, p.key)
	}
	for n := range c.total {
		secrets = append(secrets, c.psid(n))
	}
	keepsSecrets(t, written.String(), secrets...)
	nats.signal(syscall.SIGTERM)
}

// campaign posts numbered messages through several ingresses, and asks again as Braze does when it gets no 202.
type campaign struct {
	ingresses []*proc
	pages     []testPage
	total     int

	accepted, abandoned atomic.Int64
	answers             transcript
}

func (c *campaign) psid(n int) string { return fmt.Sprintf("20030040050%05d", n) }

func (c *campaign) post() {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 90 * time.Second}
	defer client.CloseIdleConnections()
	numbers := make(chan int)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for n := range numbers {
				c.postOne(client, n)
			}
		})
	}
	for n := range c.total {
		numbers <- n
	}
	close(numbers)
	senders.Wait()
}

func (c *campaign) postOne(client *http.Client, n int) {
	address := c.ingresses[n%len(c.ingresses)].log.events("started")[0]["address"].(string)
	header := map[string]string{"Idempotency-Key": fmt.Sprintf("campaign/%d", n)}
	for range 10 {
		status, answer, err := post(client, address, c.pages[n%len(c.pages)], message(c.psid(n), fmt.Sprintf("Hi Ada, your order #%d has shipped", n)), header)
		fmt.Fprintf(&c.answers, "%d %s %v\n", status, answer, err)
		if status == http.StatusAccepted {
			c.accepted.Add(1)
			return
		}
	}
	c.abandoned.Add(1)
}

// address waits for the process to print what a pattern's group matches.
func (p *proc) address(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(t, pattern, func() bool { return re.MatchString(p.log.String()) })
	return re.FindStringSubmatch(p.log.String())[1]
}

func (t *transcript) tail() string {
	s := t.String()
	return s[max(0, len(s)-3000):]
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// duplicates counts deliveries beyond the first of each message.
func duplicates(t *testing.T, control string) int {
	t.Helper()
	var list []struct{ Times, Count int }
	getJSON(t, control+"/duplicates", &list)
	return len(list)
}

package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestFullStream fills a queue to its limit: the ingress says so and when to come again, loses nothing, and takes messages
// again as soon as some have been delivered.
func TestFullStream(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	outage := fb.Script(sandbox.Fault{Times: sandbox.Standing, Status: 400, Code: 613})
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-format=json", "--max-queue=1048576")
	p := newPoster(t, r.log.await(t, "started")["address"].(string), page)
	p.text = strings.Repeat("x", 1900)

	full := p.until(16, func(a ingressAnswer) bool { return a.status == http.StatusServiceUnavailable })
	if after, err := strconv.Atoi(full.after); err != nil || after < 1 {
		t.Errorf("Retry-After is %q", full.after)
	}
	if !strings.Contains(full.body, "queue is full") {
		t.Errorf("the answer is %s", full.body)
	}
	kept := p.accepted()
	if len(kept) < 100 {
		t.Errorf("1 MiB took %d messages", len(kept))
	}
	if n := fb.Summary().Accepted; n != 0 {
		t.Fatalf("%d messages were sent in spite of the throttle", n)
	}
	fb.Clear(outage)
	eventually(t, "the ingress takes messages again", func() bool { return p.post().status == http.StatusAccepted })
	eventually(t, "every accepted message is delivered", func() bool { return fb.Summary().Accepted >= len(p.accepted()) })
	reached := received(fb)
	for psid := range p.accepted() {
		if reached[psid] != 1 {
			t.Errorf("%s was accepted and reached %d times", psid, reached[psid])
		}
	}
	t.Logf("accepted %d, delivered %d", len(p.accepted()), fb.Summary().Accepted)
}

// poster posts messages, each to a person of its own and under a key of its own, and keeps what the ingress answered.
type poster struct {
	t       *testing.T
	client  *http.Client
	address string
	page    testPage
	text    string
	keyed   bool

	mu   sync.Mutex
	next int
	kept map[string]string // id by PSID, of what was answered 202
}

// ingressAnswer is what the ingress answered to one message.
type ingressAnswer struct {
	status int
	body   string
	after  string // Retry-After
	err    error
}

func newPoster(t *testing.T, address string, page testPage) *poster {
	p := &poster{t: t, address: address, page: page, text: "hello", keyed: true, kept: map[string]string{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// post sends the next message.
func (p *poster) post() ingressAnswer {
	p.mu.Lock()
	n := p.next
	p.next++
	p.mu.Unlock()
	return p.postNumber(n)
}

// postNumber sends the message of a number. Sent twice, it is a duplicate if the load is keyed.
func (p *poster) postNumber(n int) ingressAnswer {
	psid := fmt.Sprintf("30040050%08d", n)
	req, err := http.NewRequest(http.MethodPost, "http://"+p.address+"/v25.0/me/messages", strings.NewReader(message(psid, p.text)))
	if err != nil {
		return ingressAnswer{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+p.page.key)
	if p.keyed {
		req.Header.Set("Idempotency-Key", "load/"+psid)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return ingressAnswer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := ingressAnswer{status: resp.StatusCode, body: string(body), after: resp.Header.Get("Retry-After"), err: err}
	if a.status == http.StatusAccepted {
		p.mu.Lock()
		p.kept[psid] = idOf(a.body)
		p.mu.Unlock()
	}
	return a
}

// until posts over several connections until one of the answers is the one that is waited for, and returns that.
func (p *poster) until(connections int, is func(ingressAnswer) bool) (last ingressAnswer) {
	p.t.Helper()
	var posting sync.WaitGroup
	found := make(chan ingressAnswer, connections)
	stop := make(chan struct{})
	var once sync.Once
	for range connections {
		posting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := p.post()
				if a.err != nil {
					p.t.Errorf("post: %v", a.err)
				}
				if a.err != nil || is(a) {
					found <- a
					once.Do(func() { close(stop) })
					return
				}
			}
		})
	}
	posting.Wait()
	return <-found
}

// accepted returns what was answered 202 so far.
func (p *poster) accepted() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := make(map[string]string, len(p.kept))
	for psid, id := range p.kept {
		kept[psid] = id
	}
	return kept
}

// idOf reads the id of an answer.
func idOf(body string) string {
	_, rest, _ := strings.Cut(body, `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// received counts what a simulated Facebook accepted, by PSID.
func received(fb *sandbox.Sandbox) map[string]int {
	times := map[string]int{}
	for _, c := range fb.Calls() {
		if c.Accepted {
			times[c.Recipient]++
		}
	}
	return times
}

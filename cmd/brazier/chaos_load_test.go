package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/brazier-relay/brazier/queue"
)

// load posts numbered messages at a constant rate, whatever becomes of them, and asks again for each as Braze does: with
// the same key and body, after 408, 429, 5xx and lost connections, until it gets another answer.
type load struct {
	ingresses []string
	pages     []testPage
	client    *http.Client
	// balanced: it asks the next ingress at once where a connection is refused or lost before an answer, as a load
	// balancer does.
	balanced bool

	stop    chan struct{} // closed to end the posting of new messages
	posting sync.WaitGroup

	mu       sync.Mutex
	messages []*posted
	accepted chan struct{} // gets an element at an acceptance, if somebody waits
}

// posted is one message and what the ingress answered to it. It belongs to the goroutine that posts it, until that is done.
type posted struct {
	page       testPage
	psid, body string
	key        string
	answers    []answered

	id string // as the first 202 has it; empty without one
}

// answered is what one request came to.
type answered struct {
	at     time.Time // when the request was made
	took   time.Duration
	status int    // 0: no answer
	text   string // of the answer, or of the error
	id     string // of a 202
	state  string // of a 202: queued or duplicate

	broken     bool // the connection was refused, or lost before an answer
	failedOver bool // broken, and the next ingress was asked at once
}

func newLoad(pages []testPage, ingresses ...string) *load {
	return &load{
		pages: pages, ingresses: ingresses, stop: make(chan struct{}), accepted: make(chan struct{}),
		// Braze allows a request 90 seconds.
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 90 * time.Second},
	}
}

// run posts perSecond messages a second until end is called. ctx ends the asking again.
func (l *load) run(ctx context.Context, perSecond int) {
	l.posting.Go(func() {
		every := time.NewTicker(time.Second / time.Duration(perSecond))
		defer every.Stop()
		for {
			select {
			case <-every.C:
			case <-l.stop:
				return
			case <-ctx.Done():
				return
			}
			m, n := l.next(true)
			l.posting.Go(func() { l.post(ctx, m, n) })
		}
	})
}

// backlog posts so many messages as fast as they are answered, and returns when they are.
func (l *load) backlog(ctx context.Context, messages int) {
	var posting sync.WaitGroup
	numbers := make(chan struct{})
	for range 16 {
		posting.Go(func() {
			for range numbers {
				m, n := l.next(true)
				l.post(ctx, m, n)
			}
		})
	}
	for range messages {
		numbers <- struct{}{}
	}
	close(numbers)
	posting.Wait()
}

// end stops the load and returns when every message has its answer, or was abandoned when ctx ended.
func (l *load) end() {
	close(l.stop)
	l.posting.Wait()
	l.client.CloseIdleConnections()
}

// awaitAccepted returns when a message is accepted from now on.
func (l *load) awaitAccepted(t *testing.T) {
	t.Helper()
	select {
	case <-l.accepted:
	case <-time.After(settleTimeout):
		t.Fatalf("nothing was accepted for %v", settleTimeout)
	}
}

// next makes the next message. Most people get theirs; of a load with troubles, one in twenty meets an outage of
// Facebook's first, and one in twenty-five cannot be reached.
func (l *load) next(troubles bool) (m *posted, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = len(l.messages)
	m = &posted{page: l.pages[n%len(l.pages)], psid: fmt.Sprintf("2003004%09d", n), key: fmt.Sprintf("campaign/%d", n)}
	switch {
	case troubles && n%20 == 7:
		m.psid = fmt.Sprintf("9000000500%07d", n)
	case troubles && n%25 == 11:
		m.psid = fmt.Sprintf("9000000551%07d", n)
	}
	m.body = message(m.psid, fmt.Sprintf("Hi Ada, your order #%d has shipped", n))
	l.messages = append(l.messages, m)
	return m, n
}

// errAgain says that Braze would ask again.
var errAgain = errors.New("no final answer")

func (l *load) post(ctx context.Context, m *posted, n int) {
	wait := queue.Backoff(100*time.Millisecond, 2*time.Second)
	_ = backoff.Retry(func() error {
		a := l.ask(m, l.ingresses[(n+len(m.answers))%len(l.ingresses)])
		for others := len(l.ingresses) - 1; l.balanced && a.status == 0 && a.broken && others > 0; others-- {
			a.failedOver = true
			m.answers = append(m.answers, a)
			a = l.ask(m, l.ingresses[(n+len(m.answers))%len(l.ingresses)])
		}
		m.answers = append(m.answers, a)
		switch {
		case a.status == http.StatusAccepted:
			m.id = a.id
			select {
			case l.accepted <- struct{}{}:
			default:
			}
			return nil
		case a.status == 0, a.status == http.StatusRequestTimeout, a.status == http.StatusTooManyRequests, a.status >= 500:
			return errAgain
		}
		return nil // refused for good
	}, backoff.WithContext(wait, ctx))
}

func (l *load) ask(m *posted, ingress string) answered {
	a := answered{at: time.Now()}
	status, text, err := post(l.client, ingress, m.page, m.body, map[string]string{"Idempotency-Key": m.key})
	a.took, a.status, a.text = time.Since(a.at), status, text
	if err != nil { // also where an answer was cut off: nothing that Braze could rely on
		a.status, a.text = 0, err.Error()
		a.broken = errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
	}
	if a.status == http.StatusAccepted {
		var got struct{ ID, Status string }
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.ID == "" {
			a.status = http.StatusTeapot // 202 with anything but an id is an answer that nobody can use
		}
		a.id, a.state = got.ID, got.Status
	}
	return a
}

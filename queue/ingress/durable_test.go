package ingress_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// sendText returns a body with a text of its own for each n.
func sendText(n int) string {
	return fmt.Sprintf(`{"recipient":{"id":"%s"},"message":{"text":"%s, number %d."}}`, psid, greeting, n)
}

// Many callers post at once. The queue holds exactly what was answered 202.
func TestStoredOnce(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 40
	h := open(t)
	var mu sync.Mutex
	sent := make(map[string]string) // body by id
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				body := sendText(c*each + i)
				var again []func(*http.Request)
				if i%4 == 0 {
					again = append(again, with("Idempotency-Key", fmt.Sprint("order-", c, "-", i)))
				}
				a := h.post(append(again, withBody(body))...)
				h.accepted(a, "queued")
				if len(again) > 0 { // as Braze does when an answer was lost
					if b := h.post(append(again, withBody(body))...); b.ID != a.ID || b.Status != "duplicate" {
						t.Errorf("the repetition of %s is answered %s", a.ID, b.body)
					}
				}
				mu.Lock()
				sent[a.ID] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	h.storedExactly(sent)
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{}, queue.Config{InProcess: queuetest.Server(t, ""), MaxBytes: 1 << 20})
	sent := make(map[string]string)
	filler := strings.Repeat("x", 1800)
	full := false
	for n := 0; !full; n++ {
		body := fmt.Sprintf(`{"recipient":{"id":"%s"},"message":{"text":"%d %s"}}`, psid, n, filler)
		switch a := h.post(withBody(body)); a.status {
		case http.StatusAccepted:
			sent[a.ID] = body
		default:
			full = true
			h.unavailable(a)
			if !strings.Contains(a.Error.Message, "full") {
				t.Errorf("the message does not say what is wrong: %s", a.body)
			}
		}
		if n > 2000 {
			t.Fatal("2000 messages are stored in 1 MiB")
		}
	}
	if len(sent) < 100 {
		t.Errorf("1 MiB is full after %d messages", len(sent))
	}
	// No old job was dropped for a new one, and once they are taken the queue accepts new ones.
	var jobs []queue.Job
	for range len(sent) {
		jobs = append(jobs, h.next(acme, queue.Bulk))
	}
	h.compare(sent, jobs)
	a := h.post()
	for deadline := time.Now().Add(30 * time.Second); a.status == http.StatusServiceUnavailable && time.Now().Before(deadline); a = h.post() {
		<-time.After(50 * time.Millisecond) // the queue counts the backlog of each page once a second
	}
	h.accepted(a, "queued")
	// take would publish, and the queue may still count the page as full.
	if job := h.next(acme, queue.Bulk); job.ID != a.ID {
		t.Errorf("stored is %s, not %s", job.ID, a.ID)
	}
}

// swappable connects to a server that can be replaced: a queue that reconnects gets the current one.
type swappable struct{ server atomic.Value }

type connector interface{ InProcessConn() (net.Conn, error) }

func (o *swappable) swap(c connector) { o.server.Store(&c) }

func (o *swappable) InProcessConn() (net.Conn, error) {
	c, _ := o.server.Load().(*connector)
	if c == nil {
		return nil, errors.New("no server")
	}
	return (*c).InProcessConn()
}

func TestQueueGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var nats swappable
	nats.swap(srv)
	h := openOn(t, ingress.Config{Wait: 2 * time.Second}, queue.Config{InProcess: &nats})
	longWaiting, err := ingress.Open(ingress.Config{Queue: h.q, Pages: testPages(), Listen: "127.0.0.1:0", Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer longWaiting.Close()
	sent := make(map[string]string)
	post := func(n int) answer {
		a := h.post(withBody(sendText(n)))
		if a.status == http.StatusAccepted {
			sent[a.ID] = sendText(n)
		}
		return a
	}
	h.accepted(post(0), "queued")
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	h.unavailable(post(1))
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("503 after %v, far beyond Wait", took)
	}
	// With a longer Wait the request outlasts the outage.
	waited := make(chan *httptest.ResponseRecorder)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(sendText(2)))
		r.Header.Set("Authorization", "Bearer "+acmeKey)
		longWaiting.ServeHTTP(w, r)
		waited <- w
	}()
	nats.swap(queuetest.Server(t, dir))
	a := h.read((<-waited).Result())
	h.accepted(a, "queued")
	sent[a.ID] = sendText(2)
	h.accepted(post(3), "queued")
	h.storedExactly(sent)
}

// lossyLine connects to a server. While it is armed, the next lookup of a key is lost and the connection is closed.
type lossyLine struct {
	server connector
	armed  atomic.Bool
}

func (l *lossyLine) InProcessConn() (net.Conn, error) {
	conn, err := l.server.InProcessConn()
	return &lossyConn{conn, l}, err
}

type lossyConn struct {
	net.Conn
	line *lossyLine
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("$JS.API.DIRECT.GET.")) && c.line.armed.CompareAndSwap(true, false) {
		return len(b), c.Close()
	}
	return c.Conn.Write(b)
}

// A duplicate whose lookup is lost with the connection is answered as soon as there is a new connection. It must not wait
// for the timeout of an answer from the queue, since all other requests wait behind it.
func TestLookupLost(t *testing.T) {
	t.Parallel()
	const answerTime = 3 * time.Second // the queue's timeout for one lookup
	line := &lossyLine{server: queuetest.Server(t, "")}
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{InProcess: line})
	h.accepted(h.post(with("Idempotency-Key", "order-1")), "queued")
	fastest := time.Minute
	for range 5 { // the machine may be busy elsewhere
		line.armed.Store(true)
		began := time.Now()
		h.accepted(h.post(with("Idempotency-Key", "order-1")), "duplicate")
		if line.armed.Load() {
			t.Fatal("nothing was looked up")
		}
		if fastest = min(fastest, time.Since(began)); fastest < answerTime {
			break
		}
	}
	if fastest >= answerTime {
		t.Errorf("answered after %v: the lost lookup was waited for", fastest)
	}
	h.only(acme)
}

// Of two requests during an outage of the queue one may wait, and the other is refused at once.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var nats swappable
	nats.swap(srv)
	h := openOn(t, ingress.Config{MaxWaiting: 1, Wait: time.Minute}, queue.Config{InProcess: &nats})
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 2)
	for n := range 2 {
		go func() { answers <- h.post(withBody(sendText(n))) }()
	}
	refused := <-answers
	h.unavailable(refused)
	if !strings.Contains(refused.Error.Message, "too many requests are waiting") {
		t.Errorf("the message does not say what is wrong: %s", refused.body)
	}
	nats.swap(queuetest.Server(t, dir))
	h.accepted(<-answers, "queued")
	h.only(acme)
}

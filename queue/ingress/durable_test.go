package ingress_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// sendText is a body of its own for each n.
func sendText(n int) string {
	return fmt.Sprintf(`{"recipient":{"id":"%s"},"message":{"text":"%s, number %d."}}`, psid, greeting, n)
}

// unavailable checks a 503, which tells in whole seconds when to come again.
func (h *house) unavailable(a answer) {
	h.t.Helper()
	h.refused(a, http.StatusServiceUnavailable)
	if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 1 {
		h.t.Errorf("Retry-After is %q, want whole seconds", a.header.Get("Retry-After"))
	}
}

// Many callers at once: what each is told is what stands in the queue.
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
	h.standsExactly(sent)
}

// standsExactly takes what is stored for acme and compares it with what was answered 202.
func (h *house) standsExactly(sent map[string]string) {
	h.t.Helper()
	h.compare(sent, h.take(acme))
}

func (h *house) compare(sent map[string]string, jobs []queue.Job) {
	h.t.Helper()
	stored := make(map[string]bool)
	for _, job := range jobs {
		body, accepted := sent[job.ID]
		switch {
		case !accepted:
			h.t.Errorf("job %s was not answered 202", job.ID)
		case stored[job.ID]:
			h.t.Errorf("job %s is stored twice", job.ID)
		case string(job.Body) != body:
			h.t.Errorf("job %s has another body", job.ID)
		}
		stored[job.ID] = true
	}
	for id := range sent {
		if !stored[id] {
			h.t.Errorf("job %s was answered 202 and is not stored", id)
		}
	}
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
	// Nothing was dropped for the newest, and there is room again.
	var jobs []queue.Job
	for range len(sent) {
		jobs = append(jobs, h.next(acme, queue.Bulk))
	}
	h.compare(sent, jobs)
	a := h.post()
	for deadline := time.Now().Add(30 * time.Second); a.status == http.StatusServiceUnavailable && time.Now().Before(deadline); a = h.post() {
		<-time.After(50 * time.Millisecond) // how much waits for each page is counted once a second
	}
	h.accepted(a, "queued")
	h.only(acme)
}

// outlet is a server that can be exchanged: a queue that reconnects meets the one that is there now.
type outlet struct{ server atomic.Value }

type connector interface{ InProcessConn() (net.Conn, error) }

func (o *outlet) plug(c connector) { o.server.Store(&c) }

func (o *outlet) InProcessConn() (net.Conn, error) {
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
	var power outlet
	power.plug(srv)
	h := openOn(t, ingress.Config{Wait: 2 * time.Second}, queue.Config{InProcess: &power})
	patient, err := ingress.Open(ingress.Config{Queue: h.q, Pages: testPages(), Listen: "127.0.0.1:0", Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer patient.Close()
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
	// With more patience an outage is waited out.
	waited := make(chan *httptest.ResponseRecorder)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(sendText(2)))
		r.Header.Set("Authorization", "Bearer "+acmeKey)
		patient.ServeHTTP(w, r)
		waited <- w
	}()
	power.plug(queuetest.Server(t, dir))
	a := h.read((<-waited).Result())
	h.accepted(a, "queued")
	sent[a.ID] = sendText(2)
	h.accepted(post(3), "queued")
	h.standsExactly(sent)
}

// lossyLine leads to a server, and can be told to break when the next lookup of a key is sent, which is lost.
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

// A repetition whose lookup goes down with the connection is answered once there is another one. Everybody waits behind
// it, and the time that an answer may take is far longer.
func TestLookupLost(t *testing.T) {
	t.Parallel()
	const answerTime = 3 * time.Second // of the queue, for one question
	line := &lossyLine{server: queuetest.Server(t, "")}
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{InProcess: line})
	h.accepted(h.post(with("Idempotency-Key", "order-1")), "queued")
	fastest := time.Minute
	for range 5 { // on a machine that is busy elsewhere
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
		t.Errorf("answered after %v: an answer was waited for that could not come", fastest)
	}
	h.only(acme)
}

// Of two requests that find the queue gone, one may wait, and the other is answered at once.
func TestCrowded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	var power outlet
	power.plug(srv)
	h := openOn(t, ingress.Config{MaxWaiting: 1, Wait: time.Minute}, queue.Config{InProcess: &power})
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 2)
	for n := range 2 {
		go func() { answers <- h.post(withBody(sendText(n))) }()
	}
	refused := <-answers
	h.unavailable(refused)
	if !strings.Contains(refused.Error.Message, "too many requests wait") {
		t.Errorf("the message does not say what is wrong: %s", refused.body)
	}
	power.plug(queuetest.Server(t, dir))
	h.accepted(<-answers, "queued")
	h.only(acme)
}

// A caller that waits for an answer when the door closes gets one.
func TestDrain(t *testing.T) {
	t.Parallel()
	h := open(t)
	conn := h.underway(len(nested))
	defer conn.Close()
	closed := make(chan error, 1)
	go func() { closed <- h.shut() }()
	h.refusesConnections()
	if _, err := io.WriteString(conn, nested); err != nil {
		t.Fatal(err)
	}
	status, body := h.readRaw(conn)
	if status != http.StatusAccepted {
		t.Errorf("status %d: %s", status, body)
	}
	if err := <-closed; err != nil {
		t.Errorf("run: %v", err)
	}
	if job := h.only(acme); !strings.Contains(body, job.ID) {
		t.Errorf("stored is %s, answered %s", job.ID, body)
	}
	// What still reaches the handler by another server is told to come again.
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	h.door.ServeHTTP(w, r)
	h.unavailable(h.read(w.Result()))
	h.nothingStored()
}

// Closing waits for the queue no longer than the callers are worth, and tells them so.
func TestDrainWithoutQueue(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{InProcess: srv})
	// A connection that says nothing, such as a load balancer keeps, is nobody who was cut off.
	silent := h.dial()
	defer silent.Close()
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	conn := h.underway(len(nested))
	defer conn.Close()
	if _, err := io.WriteString(conn, nested); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- h.shut() }()
	if status, body := h.readRaw(conn); status != http.StatusServiceUnavailable {
		t.Errorf("status %d: %s", status, body)
	}
	if err := <-closed; err != nil {
		t.Errorf("run: %v", err)
	}
}

// A request that does not come to its end is cut off, and Run says so.
func TestDrainCutsOff(t *testing.T) {
	t.Parallel()
	h := open(t)
	conn := h.underway(len(nested))
	defer conn.Close()
	err := h.shut()
	if err == nil || !strings.Contains(err.Error(), "1 requests were cut off") {
		t.Errorf("run: %v", err)
	}
	h.shut = func() error { return nil } // told here
	h.nothingStored()
}

// underway begins a request and returns once the door has asked for its body.
func (h *house) underway(length int) net.Conn {
	h.t.Helper()
	conn := h.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: relay.example\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		messages, acmeKey, length)
	r := bufio.NewReaderSize(conn, 16)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			h.t.Fatalf("read 100 Continue: %v", err)
		}
		if line == "\r\n" {
			return conn
		}
	}
}

// refusesConnections returns once the door listens no more.
func (h *house) refusesConnections() {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", h.door.Addr().String())
		if err != nil {
			return
		}
		conn.Close()
	}
	h.t.Fatal("the door still listens")
}

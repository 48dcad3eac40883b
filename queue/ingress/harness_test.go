package ingress_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// harness is a Server on a real queue, and a client.
type harness struct {
	t      testing.TB
	q      *queue.Queue
	server *ingress.Server
	url    string
	client *http.Client

	sources map[string]*queue.Source // by page and lane
	shut    func() error             // ends Run and returns its error; may be called more than once
}

// open serves the test's pages on a fresh queue.
func open(t testing.TB) *harness {
	t.Helper()
	srv := queuetest.Server(t, "")
	return openOn(t, ingress.Config{}, queue.Config{InProcess: srv})
}

// openOn serves the test's pages with the given settings. It sets Queue, Pages and Listen itself, and output gets the log
// lines too.
func openOn(t testing.TB, cfg ingress.Config, jobs queue.Config) *harness {
	t.Helper()
	jobs.Log = testLog(t, cfg.Log)
	q, err := queue.Open(t.Context(), jobs)
	if err != nil {
		t.Fatalf("open queue: %v", err)
	}
	t.Cleanup(q.Close)
	return serve(t, cfg, q)
}

// testLog returns a logger to output and, if given, to another.
func testLog(t testing.TB, other *zap.Logger) *zap.Logger {
	log := output.logger()
	if other != nil {
		log = zap.New(zapcore.NewTee(log.Core(), other.Core()))
	}
	if _, ok := t.(*testing.B); ok {
		log = log.WithOptions(zap.IncreaseLevel(zap.InfoLevel)) // as in production
	}
	return log
}

// serve is openOn with a queue that is open already.
func serve(t testing.TB, cfg ingress.Config, q *queue.Queue) *harness {
	t.Helper()
	h := &harness{t: t, q: q, sources: make(map[string]*queue.Source)}
	var err error
	cfg.Queue, cfg.Pages, cfg.Log, cfg.Listen = q, testPages(), testLog(t, cfg.Log), "127.0.0.1:0"
	if h.server, err = ingress.Open(cfg); err != nil {
		t.Fatalf("open ingress: %v", err)
	}
	h.url = "http://" + h.server.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	h.client = &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.server.Run(ctx) }()
	h.shut = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := h.shut(); err != nil {
			t.Errorf("run: %v", err)
		}
		for _, s := range h.sources {
			s.Stop()
		}
	})
	return h
}

// in returns the same harness for a subtest.
func (h *harness) in(t testing.TB) *harness {
	sub := *h
	sub.t = t
	return &sub
}

func testPages() []ingress.Page {
	digest := func(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }
	return []ingress.Page{
		{ID: acme, Name: "acme", Keys: [][sha256.Size]byte{digest(acmeKey), digest(acmeNextKey)}},
		{ID: nordwind, Keys: [][sha256.Size]byte{digest(nordwindKey)}, Expire: 90 * time.Minute},
	}
}

// answer is an answer of the server, its JSON parsed.
type answer struct {
	status int
	header http.Header
	body   string
	ID     string
	Status string
	Error  struct {
		Message string
		Code    int
	}
}

// post sends a good request with the given changes.
func (h *harness) post(options ...func(*http.Request)) answer {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.url+messages, strings.NewReader(nested))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	for _, o := range options {
		o(r)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return answer{}
	}
	return h.read(resp)
}

func (h *harness) read(resp *http.Response) answer {
	h.t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Errorf("read answer: %v", err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	fmt.Fprintf(&output, "answer %d %v %s\n", a.status, a.header, a.body)
	if len(b) > 0 && resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" { // of a webhook's challenge
		if err := json.Unmarshal(b, &a); err != nil {
			h.t.Errorf("answer %d is not JSON: %v: %s", a.status, err, b)
		}
	}
	return a
}

// raw sends bytes over a connection of its own and reads one answer. With half, the client closes its half of the
// connection after the request.
func (h *harness) raw(request string, half bool) (status int, body string) {
	h.t.Helper()
	conn := h.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		h.t.Fatal(err)
	}
	if half {
		if err := conn.CloseWrite(); err != nil {
			h.t.Fatal(err)
		}
	}
	return h.readRaw(conn)
}

func (h *harness) readRaw(conn io.Reader) (status int, body string) {
	h.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		h.t.Fatalf("read answer: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !os.IsTimeout(err) {
		h.t.Errorf("read answer: %v", err)
	}
	fmt.Fprintf(&output, "answer %d %v %s\n", resp.StatusCode, resp.Header, b)
	return resp.StatusCode, string(b)
}

func (h *harness) dial() *net.TCPConn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.server.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

// underway begins a request and returns once the server has asked for the body.
func (h *harness) underway(length int) net.Conn {
	h.t.Helper()
	conn := h.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
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

// refused checks the status and the form of a refusal.
func (h *harness) refused(a answer, status int) {
	h.t.Helper()
	if a.status != status {
		h.t.Errorf("status %d, want %d: %s", a.status, status, a.body)
		return
	}
	if a.Error.Code != status {
		h.t.Errorf("error.code is %d, want the HTTP status, %d: %s", a.Error.Code, status, a.body)
	}
	if n := len(a.Error.Message); n == 0 || n > 200 {
		h.t.Errorf("error.message has %d bytes, want 1 to 200: %s", n, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		h.t.Errorf("Content-Type is %q", got)
	}
	var form struct {
		Error map[string]any `json:"error"`
	}
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&form); err != nil || len(form.Error) != 2 {
		h.t.Errorf("the body is not {error:{message,code}}: %s", a.body)
	}
}

// unavailable checks a 503, whose Retry-After is in whole seconds.
func (h *harness) unavailable(a answer) {
	h.t.Helper()
	h.refused(a, http.StatusServiceUnavailable)
	if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 1 {
		h.t.Errorf("Retry-After is %q, want whole seconds", a.header.Get("Retry-After"))
	}
}

// accepted checks the status and the form of a 202.
func (h *harness) accepted(a answer, status string) {
	h.t.Helper()
	if a.status != http.StatusAccepted {
		h.t.Errorf("status %d, want 202: %s", a.status, a.body)
		return
	}
	if want := fmt.Sprintf(`{"id":%q,"status":%q}`, a.ID, status); a.ID == "" || a.body != want {
		h.t.Errorf("answer is %s, want %s", a.body, want)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		h.t.Errorf("Content-Type is %q", got)
	}
}

// Options of post.

func at(path string) func(*http.Request) {
	return func(r *http.Request) {
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	}
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func without(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name) }
}

func withBody(body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.GetBody = nil
	}
}

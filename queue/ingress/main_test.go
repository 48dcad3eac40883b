package ingress_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// What the tests send and no log line and no answer may hold.
const (
	acmeKey     = "door-key-of-acme"
	acmeNextKey = "second-door-key-of-acme"
	nordwindKey = "door-key-of-nordwind"
	strangeKey  = "key-that-no-page-has"
	psid        = "7418529630741852"
	greeting    = "Your parcel is on the doorstep"
)

const (
	acme     = "1029384756"
	nordwind = "5647382910"
)

const messages = "/v25.0/me/messages"

// nested is a body as a Braze template makes it.
const nested = `{"recipient":{"id":"` + psid + `"},"messaging_type":"UPDATE","message":{"text":"` + greeting + `"}}`

func confidential() []string {
	return []string{acmeKey, acmeNextKey, nordwindKey, strangeKey, psid, greeting}
}

// spoken hears everything that the doors of this test run say: log lines and answers.
var spoken = transcript{secrets: confidential()}

// transcript keeps of what is written to it the writes that hold a secret. It is safe for concurrent use.
type transcript struct {
	secrets []string

	mu    sync.Mutex
	leaks []string
}

func (t *transcript) Write(p []byte) (int, error) {
	said := string(p)
	if slices.ContainsFunc(t.secrets, func(s string) bool { return strings.Contains(said, s) }) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.leaks = append(t.leaks, said)
	}
	return len(p), nil
}

func (t *transcript) Sync() error { return nil }

func (t *transcript) found() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaks
}

// logger writes to the transcript as JSON, all levels.
func (t *transcript) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), t, zap.DebugLevel))
}

// After the last test, a secret that was said in any of them fails the run.
func TestMain(m *testing.M) {
	if config := os.Getenv(configOfChild); config != "" {
		if err := runNATS(config); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, append(queuetest.Strays(), goleak.Cleanup(func(code int) {
		for _, leak := range spoken.found() {
			fmt.Fprintf(os.Stderr, "a log line or an answer holds a key, a PSID or a text: %s\n", leak)
			code = max(code, 1)
		}
		os.Exit(code)
	}))...)
}

func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	for _, secret := range confidential() {
		said := transcript{secrets: confidential()}
		log := said.logger()
		log.Info("harmless", zap.String("recipient", "…"+psid[len(psid)-4:]))
		if found := said.found(); len(found) != 0 {
			t.Fatalf("found in a harmless line: %q", found)
		}
		log.Debug("careless", zap.String("detail", "refused "+secret+" as it stands"))
		if len(said.found()) != 1 {
			t.Errorf("%q was logged and not found", secret)
		}
	}
}

// house is a door on a real queue, and a client.
type house struct {
	t      testing.TB
	q      *queue.Queue
	door   *ingress.Door
	url    string
	client *http.Client

	sources map[string]*queue.Source // by page and lane
	shut    func() error             // ends the door and returns what Run returned; more than once is well
}

// open serves a door with the test's pages on a fresh queue.
func open(t testing.TB) *house {
	t.Helper()
	srv := queuetest.Server(t, "")
	return openOn(t, ingress.Config{}, queue.Config{InProcess: srv})
}

// openOn serves a door. Queue, Pages and Listen of its configuration are given here, and Log is heard by spoken as well.
func openOn(t testing.TB, door ingress.Config, jobs queue.Config) *house {
	t.Helper()
	h := &house{t: t, sources: make(map[string]*queue.Source)}
	log := spoken.logger()
	if door.Log != nil {
		log = zap.New(zapcore.NewTee(log.Core(), door.Log.Core()))
	}
	if _, ok := t.(*testing.B); ok {
		log = log.WithOptions(zap.IncreaseLevel(zap.InfoLevel)) // as in production
	}
	jobs.Log = log
	q, err := queue.Open(t.Context(), jobs)
	if err != nil {
		t.Fatalf("open queue: %v", err)
	}
	t.Cleanup(q.Close)
	h.q = q

	door.Queue, door.Pages, door.Log, door.Listen = q, testPages(), log, "127.0.0.1:0"
	if h.door, err = ingress.Open(door); err != nil {
		t.Fatalf("open door: %v", err)
	}
	h.url = "http://" + h.door.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	h.client = &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.door.Run(ctx) }()
	h.shut = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := h.shut(); err != nil {
			t.Errorf("close door: %v", err)
		}
		for _, s := range h.sources {
			s.Stop()
		}
	})
	return h
}

// in is the same house for a subtest.
func (h *house) in(t testing.TB) *house {
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

// answer is what came back from a door.
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

// post sends a good request, changed by the options.
func (h *house) post(options ...func(*http.Request)) answer {
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

func (h *house) read(resp *http.Response) answer {
	h.t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Errorf("read answer: %v", err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	fmt.Fprintf(&spoken, "answer %d %v %s\n", a.status, a.header, a.body)
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a); err != nil {
			h.t.Errorf("answer %d is not JSON: %v: %s", a.status, err, b)
		}
	}
	return a
}

// raw sends bytes as they stand over a connection of its own and reads one answer. With half, the client then says that
// it has no more to send.
func (h *house) raw(request string, half bool) (status int, body string) {
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

func (h *house) dial() *net.TCPConn {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.door.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

// refused checks a refusal in every respect: its form is the same for all of them.
func (h *house) refused(a answer, status int) {
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

// accepted checks a 202 in every respect.
func (h *house) accepted(a answer, status string) {
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

// take removes what stands in the queue for a page and returns it, lane by lane, oldest first. It publishes a last job
// to each lane, so that it knows when it has seen all.
func (h *house) take(page string) []queue.Job {
	h.t.Helper()
	var jobs []queue.Job
	for _, lane := range queue.Lanes() {
		end := queue.Job{ID: queue.NewID(), Page: page, Lane: lane, Accepted: time.Now(), Expire: time.Now().Add(time.Hour)}
		if _, err := h.q.Publish(h.t.Context(), &end); err != nil {
			h.t.Fatalf("publish the end of lane %s: %v", lane, err)
		}
		for {
			job := h.next(page, lane)
			if job.ID == end.ID {
				break
			}
			jobs = append(jobs, job)
		}
	}
	return jobs
}

func (h *house) next(page string, lane queue.Lane) queue.Job {
	h.t.Helper()
	source, ok := h.sources[page+string(lane)]
	if !ok {
		source = h.q.Source(page, lane, 64)
		h.sources[page+string(lane)] = source
	}
	defer time.AfterFunc(time.Minute, source.Stop).Stop()
	d, err := source.Next(h.t.Context())
	if err != nil {
		h.t.Fatalf("next job of %s/%s: %v", page, lane, err)
	}
	if err := d.Done(h.t.Context()); err != nil {
		h.t.Fatalf("settle: %v", err)
	}
	return d.Job
}

// only takes the one job that is expected to stand in the queue.
func (h *house) only(page string) queue.Job {
	h.t.Helper()
	jobs := h.take(page)
	if len(jobs) != 1 {
		h.t.Fatalf("%d jobs are stored for page %s, want 1", len(jobs), page)
	}
	return jobs[0]
}

func (h *house) nothingStored() {
	h.t.Helper()
	for _, page := range []string{acme, nordwind} {
		if jobs := h.take(page); len(jobs) != 0 {
			h.t.Errorf("%d jobs are stored for page %s, want none", len(jobs), page)
		}
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

package braze_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/worker/braze"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, queuetest.Strays()...) }

// theKey must appear nowhere but in the header of a call.
const theKey = "5ab0a8bd-7f32-4d5a-a5ad-0123456789ab"

// body is what a call held.
type body struct {
	Attributes []map[string]any `json:"attributes"`
	Events     []map[string]any `json:"events"`
}

func (b body) objects() int { return len(b.Attributes) + len(b.Events) }

// ids returns the external ids of a call in their order.
func (b body) ids() []string {
	var ids []string
	for _, o := range append(b.Attributes, b.Events...) {
		ids = append(ids, fmt.Sprint(o["external_id"]))
	}
	return ids
}

// server is a Braze that answers as a test says, and keeps what it was asked.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	calls []body
	heads []http.Header
}

// serve starts a server. answer has the call's number, from 1.
func serve(t *testing.T, answer func(n int, b body, w http.ResponseWriter)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("body: %v", err)
		}
		var b body
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Errorf("body: %v in %s", err, raw)
		}
		if r.Method != "POST" || r.URL.String() != "/users/track" {
			t.Errorf("%s %s, want POST /users/track", r.Method, r.URL)
		}
		s.mu.Lock()
		s.calls, s.heads = append(s.calls, b), append(s.heads, r.Header)
		n := len(s.calls)
		s.mu.Unlock()
		answer(n, b, w)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) seen() []body {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// head is the header of the last call.
func (s *server) head() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[len(s.heads)-1].Clone()
}

// always answers each call alike.
func always(status int, text string) func(int, body, http.ResponseWriter) {
	return func(_ int, _ body, w http.ResponseWriter) { answer(w, status, text) }
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

const success = `{"message":"success"}`

// client returns a client of a URL, closed when the test ends.
func client(t *testing.T, url string, change ...func(*braze.Config)) *braze.Client {
	t.Helper()
	cfg := braze.Config{URL: url, Key: func() (string, error) { return theKey, nil }, UserAgent: "brazier/test"}
	for _, c := range change {
		c(&cfg)
	}
	c, err := braze.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func track(t *testing.T, c *braze.Client, objects ...braze.Object) ([]braze.Result, braze.Verdict) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, verdict := c.Track(ctx, objects)
	if len(results) != len(objects) {
		t.Fatalf("%d results for %d objects", len(results), len(objects))
	}
	return results, verdict
}

func user(id string) braze.UserID { return braze.UserID{ExternalID: id} }

func attribute(id string) braze.Object {
	return braze.Object{User: user(id), Attributes: map[string]any{"messenger_id": "24689753102468975"}}
}

func event(id string) braze.Object {
	return braze.Object{User: user(id), Event: &braze.Event{Name: "messenger_failed", Time: time.Unix(1795600000, 0),
		Properties: map[string]any{"class": "recipient", "code": 551}}}
}

// large is an attributes object of about 140 KB.
func large(id string) braze.Object {
	o := braze.Object{User: user(id), Attributes: map[string]any{}}
	for n := range 500 {
		o.Attributes[fmt.Sprintf("x%d", n)] = strings.Repeat("x", 255)
	}
	return o
}

// many returns n attributes objects of users u0, u1, …
func many(n int) []braze.Object {
	objects := make([]braze.Object, n)
	for i := range objects {
		objects[i] = attribute(fmt.Sprintf("u%d", i))
	}
	return objects
}

// tally counts results by outcome and cause.
func tally(results []braze.Result) map[string]int {
	counts := map[string]int{}
	for _, r := range results {
		name := string(r.Outcome)
		if r.Cause != "" {
			name += " " + string(r.Cause)
		}
		counts[name]++
	}
	return counts
}

package ingress_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		cfg  ingress.Config
		want string
	}{
		"no queue":       {ingress.Config{}, "Queue"},
		"wait":           {ingress.Config{Queue: q, Wait: -1}, "Wait"},
		"page id":        {ingress.Config{Queue: q, Pages: []ingress.Page{{ID: "acme"}}}, "ID"},
		"address in use": {ingress.Config{Queue: q, Listen: taken.Addr().String()}, taken.Addr().String()},
	} {
		server, err := ingress.Open(c.cfg)
		if err == nil {
			server.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "ingress: ") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q does not name %s", name, text, c.want)
		}
	}
	server, err := ingress.Open(ingress.Config{Queue: q, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // never ran
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// A request under way when the Server ends is answered.
func TestDrain(t *testing.T) {
	t.Parallel()
	h := open(t)
	conn := h.underway(len(nested))
	defer conn.Close()
	closed := make(chan error, 1)
	go func() { closed <- h.shut() }()
	h.awaitClosed()
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
	// A request that reaches the handler through another HTTP server is answered 503.
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, messages, strings.NewReader(nested))
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	h.server.ServeHTTP(w, r)
	h.unavailable(h.read(w.Result()))
	h.nothingStored()
}

// Requests that wait for the queue when the Server ends are answered 503 before it has ended.
func TestDrainWithoutQueue(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	h := openOn(t, ingress.Config{Wait: time.Minute}, queue.Config{InProcess: srv})
	// A connection without a request, such as a load balancer keeps, does not count as cut off.
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

// A request that does not end is cut off, and the error of Run says so.
func TestDrainCutsOff(t *testing.T) {
	t.Parallel()
	h := open(t)
	conn := h.underway(len(nested))
	defer conn.Close()
	err := h.shut()
	if err == nil || !strings.Contains(err.Error(), "1 requests were cut off") {
		t.Errorf("run: %v", err)
	}
	h.shut = func() error { return nil } // the error was expected
	h.nothingStored()
}

// awaitClosed returns once the server has stopped listening.
func (h *harness) awaitClosed() {
	h.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		conn, err := net.Dial("tcp", h.server.Addr().String())
		if err != nil {
			return
		}
		conn.Close()
	}
	h.t.Fatal("the server still listens")
}

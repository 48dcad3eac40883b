package ingress_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// postOn sends a good request over a connection and does not wait for its answer.
func (h *harness) postOn(conn net.Conn) {
	h.t.Helper()
	if _, err := io.WriteString(conn, head("POST "+messages, acmeKey, fmt.Sprintf("Content-Length: %d\r\n", len(nested)))+nested); err != nil {
		h.t.Fatal(err)
	}
}

// acceptedOn reads the answer to postOn.
func (h *harness) acceptedOn(conn net.Conn) {
	h.t.Helper()
	if resp, body := h.answered(conn, bufio.NewReader(conn)); resp.StatusCode != http.StatusAccepted {
		h.t.Errorf("status %d: %s", resp.StatusCode, body)
	}
}

// unanswered fails the test if the server writes to the connection or closes it within 200 ms.
func (h *harness) unanswered(conn net.Conn) {
	h.t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		h.t.Errorf("%d bytes and %v are read, want nothing yet", n, err)
	}
}

// MaxConnections connections are served; others wait to be accepted until one of those is closed.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.WarnLevel)
	h := openOn(t, ingress.Config{MaxConnections: 3, Log: zap.New(seen)}, fresh(t))
	var busy, waiting []net.Conn
	for range 3 {
		conn := h.underway(len(nested))
		defer conn.Close()
		busy = append(busy, conn)
	}
	for range 3 {
		conn := h.dial()
		defer conn.Close()
		h.postOn(conn)
		waiting = append(waiting, conn)
	}
	for _, conn := range waiting {
		h.unanswered(conn)
	}
	h.gauge("connections", 3)
	h.gauge("connections_limit", 3)
	for i, conn := range busy {
		if i == 0 { // closed by its client
			conn.Close()
		} else {
			_, _ = io.WriteString(conn, nested)
			h.acceptedOn(conn)
			conn.Close()
		}
		h.acceptedOn(waiting[i])
		h.gauge("connections", 3)
	}
	if found := lines.FilterField(zap.String("event", "connections_full")).All(); len(found) != 1 || found[0].ContextMap()["limit"] != int64(3) {
		t.Errorf("lines of connections_full: %v", found)
	}
	for _, conn := range waiting {
		conn.Close()
	}
	h.gauge("connections", 0)
	if jobs := h.take(acme); len(jobs) != 5 {
		t.Errorf("%d jobs are stored, want 5", len(jobs))
	}
}

// At the limit, the connection that has been idle longest is closed for a new one after 2 s, long before IdleTimeout, and
// no connection that is in use.
func TestIdleConnectionGivesWay(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{MaxConnections: 4, IdleTimeout: time.Hour, BodyTimeout: time.Minute}, fresh(t))
	var idle []net.Conn
	use := func(conn net.Conn) {
		h.postOn(conn)
		h.acceptedOn(conn)
		h.eventually("the connection is idle", func() bool { return h.server.Idle() == len(idle) })
	}
	for range 3 {
		conn := h.dial()
		defer conn.Close()
		idle = append(idle, conn)
		use(conn)
	}
	use(idle[0]) // now the second has been idle longest
	busy := h.underway(len(nested))
	defer busy.Close()

	late := h.dial()
	defer late.Close()
	h.postOn(late)
	h.acceptedOn(late)
	_ = idle[1].SetReadDeadline(time.Now().Add(promptly))
	if n, err := idle[1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection that has been idle longest: %d bytes, %v, want it closed", n, err)
	}
	_, _ = io.WriteString(busy, nested)
	for _, conn := range []net.Conn{idle[0], idle[2], late} {
		h.postOn(conn)
	}
	for _, conn := range []net.Conn{idle[0], idle[2], late, busy} {
		h.acceptedOn(conn)
	}
	h.gauge("connections", 4)
	h.take(acme)
}

// TestIdleConnectionGivesWayTLS is the same over TLS. In HTTP/2 a connection without requests is idle.
func TestIdleConnectionGivesWayTLS(t *testing.T) {
	t.Parallel()
	h := openTLS(t, ingress.Config{MaxConnections: 2, IdleTimeout: time.Hour})
	trusting := h.client.Transport.(*http.Transport).TLSClientConfig
	for _, http2 := range []bool{true, true, false, false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!http2)
		protocols.SetHTTP2(http2)
		transport := &http.Transport{TLSClientConfig: trusting.Clone(), Protocols: protocols}
		t.Cleanup(transport.CloseIdleConnections)
		h.client = &http.Client{Transport: transport, Timeout: promptly}
		h.accepted(h.post(), "queued")
	}
	h.gauge("connections", 2)
	h.take(acme)
}

// A connection that waits to be accepted does not delay the end of Run.
func TestMaxConnectionsDrain(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{MaxConnections: 1}, fresh(t))
	busy := h.underway(len(nested))
	defer busy.Close()
	waiting := h.dial()
	defer waiting.Close()
	h.postOn(waiting)
	h.unanswered(waiting)
	closed := make(chan error, 1)
	go func() { closed <- h.shut() }()
	h.awaitClosed()
	_, _ = io.WriteString(busy, nested)
	h.acceptedOn(busy)
	if err := <-closed; err != nil {
		t.Errorf("run: %v", err)
	}
	h.only(acme)
}

// A connection leaves the count of open ones however it ends.
func TestConnectionsAreGivenBack(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{MaxConnections: 2}, fresh(t))
	for name, request := range map[string]string{
		"silent":               "",
		"begun":                "POST ",
		"malformed":            "no request\r\n\r\n",
		"closed by the server": head("POST "+messages, unknownKey, "Connection: close\r\n"),
		"closed by the client": head("POST "+messages, unknownKey, "Content-Length: 0\r\n"),
		"body unfinished":      head("POST "+messages, acmeKey, "Content-Length: 1000\r\n") + "{",
		"body unread":          head("POST "+messages, unknownKey, "Content-Length: 1000\r\n"),
	} {
		for range 3 {
			conn := h.dial()
			_, _ = io.WriteString(conn, request)
			_ = conn.CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(promptly))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			conn.Close()
		}
	}
	h.gauge("connections", 0)
	h.nothingStored()
}

package ingress_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// promptly is how long a refusal may take that waits for nothing. It is far below the BodyTimeout of these tests, and far
// above what a busy machine takes.
const promptly = 5 * time.Second

// unreadCases are all refusals that do not depend on the body, each with what a request needs to get it.
var unreadCases = []struct {
	name    string
	request string // method and path
	key     string
	cfg     ingress.Config
	want    int
}{
	{"address", "POST " + messages, acmeKey, ingress.Config{AllowFrom: prefixes("203.0.113.0/24")}, 403},
	{"path", "POST /elsewhere", acmeKey, ingress.Config{}, 404},
	{"method", "PUT " + messages, acmeKey, ingress.Config{}, 405},
	{"no key", "POST " + messages, "", ingress.Config{}, 401},
	{"unknown key", "POST " + messages, strangeKey, ingress.Config{}, 401},
	{"page", "POST /v25.0/" + nordwind + "/messages", acmeKey, ingress.Config{}, 403},
}

// head is a request up to its body.
func head(request, key, more string) string {
	h := request + " HTTP/1.1\r\nHost: relay.example\r\n"
	if key != "" {
		h += "Authorization: Bearer " + key + "\r\n"
	}
	return h + more + "\r\n"
}

// answered reads an answer that has to come promptly, and returns it with its body.
func (h *house) answered(conn net.Conn, from *bufio.Reader) (*http.Response, string) {
	h.t.Helper()
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(promptly))
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		h.t.Fatalf("no answer after %v: %v", time.Since(began).Round(time.Millisecond), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("the answer broke off: %v", err)
	}
	fmt.Fprintf(&spoken, "answer %d %v %s\n", resp.StatusCode, resp.Header, body)
	return resp, string(body)
}

// refusedAtOnce sends requests, each over a connection of its own, and reads from each of them a refusal that has to come
// promptly. Then ended waits for the connections to be closed, which has to be orderly.
func (h *house) refusedAtOnce(status int, dial func() net.Conn, requests map[string]string) (ended func()) {
	h.t.Helper()
	answers := map[string]*bufio.Reader{}
	conns := map[string]net.Conn{}
	for name, request := range requests {
		conn := dial()
		h.t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, request); err != nil {
			h.t.Errorf("%s: %v", name, err)
		}
		conns[name], answers[name] = conn, bufio.NewReader(conn)
	}
	for name := range requests {
		resp, body := h.answered(conns[name], answers[name])
		if resp.StatusCode != status || !resp.Close {
			h.t.Errorf("%s: status %d, want %d; Connection: close is %v: %s", name, resp.StatusCode, status, resp.Close, body)
		}
	}
	return func() {
		h.t.Helper()
		for name := range requests {
			if rest, err := io.ReadAll(answers[name]); err != nil || len(rest) > 0 {
				h.t.Errorf("%s: after the answer: %q, %v", name, rest, err)
			}
		}
	}
}

func (h *house) plain() net.Conn { return h.dial() }

// A refusal that does not depend on the body does not wait for it: who has no key must not hold a connection for as long
// as a body may take, and who has made a mistake is told so at once.
func TestRefusalWithoutBody(t *testing.T) {
	t.Parallel()
	for _, c := range unreadCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.BodyTimeout = time.Minute
			h := openOn(t, c.cfg, fresh(t))
			ended := h.refusedAtOnce(c.want, h.plain, map[string]string{
				"small":           head(c.request, c.key, "Content-Length: 1000\r\n"),
				"large":           head(c.request, c.key, "Content-Length: 200000\r\n"),
				"over any limit":  head(c.request, c.key, "Content-Length: 10000000000\r\n"),
				"begun":           head(c.request, c.key, "Content-Length: 1000\r\n") + "{",
				"in chunks":       head(c.request, c.key, "Transfer-Encoding: chunked\r\n"),
				"in chunks begun": head(c.request, c.key, "Transfer-Encoding: chunked\r\n") + "10\r\n{",
				// The answer comes first, not 100: the body is not asked for.
				"expecting":           head(c.request, c.key, "Content-Length: 1000\r\nExpect: 100-continue\r\n"),
				"expecting in chunks": head(c.request, c.key, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"),
			})
			if c.name == "no key" { // it takes a second, and is the same for all
				ended()
			}
		})
	}
}

// What is too large by its Content-Length is refused before it arrives, whatever the limit.
func TestTooLargeByContentLength(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{MaxBody: 10 << 10, BodyTimeout: time.Minute}, fresh(t))
	h.refusedAtOnce(http.StatusRequestEntityTooLarge, h.plain, map[string]string{
		"a little":  head("POST "+messages, acmeKey, "Content-Length: 10241\r\n"),
		"much":      head("POST "+messages, acmeKey, "Content-Length: 10000000\r\n"),
		"expecting": head("POST "+messages, acmeKey, "Content-Length: 10241\r\nExpect: 100-continue\r\n"),
	})()
	h.nothingStored()
}

// A body that finds no memory left is refused while it still arrives.
func TestOverloadedWhileArriving(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{MaxBody: 64 << 10, MaxWaitingBytes: 64 << 10, BodyTimeout: time.Minute}, fresh(t))
	first := h.dial()
	defer first.Close()
	_, _ = io.WriteString(first, head("POST "+messages, acmeKey, "Content-Length: 65000\r\n")+strings.Repeat(" ", 60_000))
	h.gauge("waiting_bytes", 65_000-4<<10)
	h.refusedAtOnce(http.StatusServiceUnavailable, h.plain, map[string]string{
		"with a length": head("POST "+messages, acmeKey, "Content-Length: 30000\r\n") + strings.Repeat(" ", 20_000),
		"in chunks":     head("POST "+messages, acmeKey, "Transfer-Encoding: chunked\r\n") + "7530\r\n" + strings.Repeat(" ", 20_000),
	})()
}

// An ingress that is closing says so at once. Its own server takes no new requests then; another one may.
func TestDrainingWithoutBody(t *testing.T) {
	t.Parallel()
	h := open(t)
	if err := h.shut(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(h.door)
	defer other.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", other.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	h.refusedAtOnce(http.StatusServiceUnavailable, dial, map[string]string{"small": head("POST "+messages, acmeKey, "Content-Length: 1000\r\n")})()
}

// A client that sends all of its body before it reads finds the answer: a connection that is closed while bytes are unread
// is reset, which can destroy the answer.
func TestRefusalWithWholeBody(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	const size = 2 << 20
	bounded := func() net.Conn { // with a send buffer that does not hold it
		conn := h.dial()
		_ = conn.SetWriteBuffer(128 << 10)
		return conn
	}
	for _, key := range []string{strangeKey, acmeKey} {
		want := map[string]int{strangeKey: 401, acmeKey: 413}[key]
		h.refusedAtOnce(want, bounded, map[string]string{
			"with a length": head("POST "+messages, key, fmt.Sprintf("Content-Length: %d\r\n", size)) + strings.Repeat(" ", size),
			"in chunks":     head("POST "+messages, key, "Transfer-Encoding: chunked\r\n") + strings.Repeat("8000\r\n"+strings.Repeat(" ", 0x8000)+"\r\n", size/0x8000) + "0\r\n\r\n",
		})()
	}
}

// Who goes on sending after a refusal does not hold the connection.
func TestRefusalOfTrickle(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	conn := h.dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, head("POST "+messages, strangeKey, "Content-Length: 200000\r\n"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		}
	}()
	if resp, body := h.answered(conn, bufio.NewReader(conn)); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
	select {
	case <-ended:
	case <-time.After(promptly):
		t.Error("the connection is still open")
	}
}

// A body that came with its request costs the connection nothing: otherwise a template with a wrong key would begin a new
// connection, and a TLS handshake, with each message.
func TestRefusalKeepsConnection(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	for name, request := range map[string]string{
		"with a length": head("POST "+messages, strangeKey, fmt.Sprintf("Content-Length: %d\r\n", len(nested))) + nested,
		"in chunks":     head("POST "+messages, strangeKey, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(nested), nested),
		"without body":  head("GET /elsewhere", "", ""),
	} {
		conn := h.dial()
		defer conn.Close()
		answers := bufio.NewReader(conn)
		for range 2 {
			_, _ = io.WriteString(conn, request)
			if resp, body := h.answered(conn, answers); resp.Close || resp.StatusCode/100 != 4 {
				t.Errorf("%s: status %d, Connection: close is %v: %s", name, resp.StatusCode, resp.Close, body)
			}
		}
		_, _ = io.WriteString(conn, head("POST "+messages, acmeKey, fmt.Sprintf("Content-Length: %d\r\n", len(nested)))+nested)
		if resp, body := h.answered(conn, answers); resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s: then status %d: %s", name, resp.StatusCode, body)
		}
	}
}

// The same over TLS, in HTTP/1.1.
func TestRefusalWithoutBodyTLS(t *testing.T) {
	t.Parallel()
	h := secured(t, ingress.Config{BodyTimeout: time.Minute})
	trusting := h.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.NextProtos, trusting.ServerName = []string{"http/1.1"}, "example.com"
	dial := func() net.Conn {
		conn, err := tls.Dial("tcp", h.door.Addr().String(), trusting)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	h.refusedAtOnce(http.StatusUnauthorized, dial, map[string]string{
		"small":     head("POST "+messages, strangeKey, "Content-Length: 1000\r\n"),
		"large":     head("POST "+messages, strangeKey, "Content-Length: 200000\r\n") + "{",
		"in chunks": head("POST "+messages, strangeKey, "Transfer-Encoding: chunked\r\n"),
	})()
}

// In HTTP/2 the refused request ends, and its connection stays for the others: a proxy may send all callers over one.
func TestRefusalWithoutBodyHTTP2(t *testing.T) {
	t.Parallel()
	for _, c := range unreadCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.BodyTimeout = time.Minute
			h := secured(t, c.cfg)
			for n := range 3 {
				body, sender := io.Pipe()
				defer sender.Close()
				began := time.Now()
				reused := false
				trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
				a := h.post(withBody(""), func(r *http.Request) {
					method, path, _ := strings.Cut(c.request, " ")
					r.Method, r.URL.Path = method, path
					r.Header.Set("Authorization", "Bearer "+c.key)
					r.Body, r.ContentLength = body, 200_000
					*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
				})
				h.refused(a, c.want)
				if took := time.Since(began); took > promptly {
					t.Errorf("answered after %v", took)
				}
				if reused != (n > 0) {
					t.Errorf("request %d: its connection was used before: %v", n, reused)
				}
			}
		})
	}
}

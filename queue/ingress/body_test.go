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

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// promptly is how long a refusal may take that does not wait for its body: far less than the BodyTimeout of these tests, and
// far more than a busy machine takes.
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
	{"unknown key", "POST " + messages, unknownKey, ingress.Config{}, 401},
	{"page", "POST /v25.0/" + nordwind + "/messages", acmeKey, ingress.Config{}, 403},
}

// head is a request up to its body.
func head(request, key, more string) string {
	h := request + " HTTP/1.1\r\nHost: brazier.example\r\n"
	if key != "" {
		h += "Authorization: Bearer " + key + "\r\n"
	}
	return h + more + "\r\n"
}

// answered reads an answer, which must arrive within promptly, and returns it with its body.
func (h *harness) answered(conn net.Conn, from *bufio.Reader) (*http.Response, string) {
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
	fmt.Fprintf(&output, "answer %d %v %s\n", resp.StatusCode, resp.Header, body)
	return resp, string(body)
}

// refusedAtOnce sends each request over a connection of its own and reads a refusal, which must arrive within promptly. The
// function that it returns then waits until the server has closed all the connections without a reset.
func (h *harness) refusedAtOnce(status int, dial func() net.Conn, requests map[string]string) (ended func()) {
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

func (h *harness) plain() net.Conn { return h.dial() }

// A refusal that does not depend on the body does not wait for the body: an unauthenticated caller must not occupy a
// connection for as long as a body may take, and an honest caller learns of its mistake at once.
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
				// The answer is not preceded by 100 Continue, since nobody wants the body.
				"expecting":           head(c.request, c.key, "Content-Length: 1000\r\nExpect: 100-continue\r\n"),
				"expecting in chunks": head(c.request, c.key, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"),
			})
			if c.name == "no key" { // one case is enough: it takes a second, and is the same for all
				ended()
			}
		})
	}
}

// A body whose Content-Length is over the limit is refused before it arrives.
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

// A body that would exceed MaxWaitingBytes is refused while it still arrives.
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

// A Server that has ended refuses at once. Its own HTTP server takes no requests then, but another one may still call it.
func TestDrainingWithoutBody(t *testing.T) {
	t.Parallel()
	h := open(t)
	if err := h.shut(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(h.server)
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

// A client that sends all of its body before it reads still gets the answer. The system resets a connection that is closed
// with unread bytes, which can destroy the answer.
func TestRefusalWithWholeBody(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	const size = 1 << 20 // more than the buffers in between and finishBody take
	for key, want := range map[string]int{unknownKey: 401, acmeKey: 413} {
		h.refusedAfterBody(want, head("POST "+messages, key, fmt.Sprintf("Content-Length: %d\r\n", size))+strings.Repeat(" ", size))
		h.refusedAfterBody(want, head("POST "+messages, key, "Transfer-Encoding: chunked\r\n")+
			strings.Repeat("8000\r\n"+strings.Repeat(" ", 0x8000)+"\r\n", size/0x8000)+"0\r\n\r\n")
	}
}

// The next request on the connection of a refused one is accepted, however long the refusal took: the deadline for the rest of a
// refused body must not end the context of the connection.
func TestRefusedConnectionIsKept(t *testing.T) {
	t.Parallel()
	core, _ := observer.New(zap.WarnLevel)
	slow := zap.Hooks(func(zapcore.Entry) error { <-time.After(100 * time.Millisecond); return nil }) // as on a busy machine
	h := openOn(t, ingress.Config{Log: zap.New(core, slow)}, fresh(t))
	conn := h.dial()
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, c := range []struct {
		key  string
		want int
	}{{"", 401}, {acmeKey, 202}, {unknownKey, 401}, {acmeKey, 202}} {
		_, _ = io.WriteString(conn, head("POST "+messages, c.key, fmt.Sprintf("Content-Length: %d\r\n", len(nested)))+nested)
		if status, body := h.readRaw(answers); status != c.want {
			t.Errorf("key %q: status %d, want %d: %s", c.key, status, c.want, body)
		}
	}
}

// refusedAfterBody sends a request to its end, then reads its refusal. It tries five times: the server discards a body for a
// second, and a busy machine may take longer to send one.
func (h *harness) refusedAfterBody(status int, request string) {
	h.t.Helper()
	var failure error
	for range 5 {
		conn := h.dial()
		defer conn.Close()
		_ = conn.SetWriteBuffer(128 << 10) // smaller than the body
		if _, failure = io.WriteString(conn, request); failure != nil {
			continue
		}
		var resp *http.Response
		if resp, failure = http.ReadResponse(bufio.NewReader(conn), nil); failure != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if failure = err; failure != nil {
			continue
		}
		if resp.StatusCode != status || !resp.Close {
			h.t.Errorf("status %d, want %d; Connection: close is %v: %s", resp.StatusCode, status, resp.Close, body)
		}
		return
	}
	h.t.Errorf("%.20q: no answer to a whole body: %v", request, failure)
}

// A caller that goes on sending after its refusal does not keep the connection.
func TestRefusalOfTrickle(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	conn := h.dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, head("POST "+messages, unknownKey, "Content-Length: 200000\r\n"))
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

// A refused request whose body has arrived keeps its connection. Otherwise a template with a wrong key would cost a new
// connection, and a TLS handshake, for each message.
func TestRefusalKeepsConnection(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{BodyTimeout: time.Minute}, fresh(t))
	for name, request := range map[string]string{
		"with a length": head("POST "+messages, unknownKey, fmt.Sprintf("Content-Length: %d\r\n", len(nested))) + nested,
		"in chunks":     head("POST "+messages, unknownKey, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(nested), nested),
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

// TestRefusalWithoutBodyTLS is TestRefusalWithoutBody over TLS, in HTTP/1.1.
func TestRefusalWithoutBodyTLS(t *testing.T) {
	t.Parallel()
	h := openTLS(t, ingress.Config{BodyTimeout: time.Minute})
	trusting := h.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.NextProtos, trusting.ServerName = []string{"http/1.1"}, "example.com"
	dial := func() net.Conn {
		conn, err := tls.Dial("tcp", h.server.Addr().String(), trusting)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	h.refusedAtOnce(http.StatusUnauthorized, dial, map[string]string{
		"small":     head("POST "+messages, unknownKey, "Content-Length: 1000\r\n"),
		"large":     head("POST "+messages, unknownKey, "Content-Length: 200000\r\n") + "{",
		"in chunks": head("POST "+messages, unknownKey, "Transfer-Encoding: chunked\r\n"),
	})()
}

// In HTTP/2 a refused request does not end its connection: a proxy may send the requests of all callers over one.
func TestRefusalWithoutBodyHTTP2(t *testing.T) {
	t.Parallel()
	for _, c := range unreadCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.BodyTimeout = time.Minute
			h := openTLS(t, c.cfg)
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

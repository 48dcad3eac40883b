package sendapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobodyListens is an address that refuses connections. A port that a test has just freed would not do, since another
// process may get it.
const nobodyListens = "127.0.0.1:1"

// refusedText is the system's text for a connection that is refused. Windows has a number of Winsock for it.
func refusedText() string {
	if runtime.GOOS == "windows" {
		return syscall.Errno(10061).Error()
	}
	return syscall.ECONNREFUSED.Error()
}

// TestUnreachableAndAboutOne checks what answers say of Facebook and of the page.
func TestUnreachableAndAboutOne(t *testing.T) {
	const html = "<html>Sorry</html>"
	tests := []struct {
		name, body            string
		status                int
		unreachable, aboutOne bool
	}{
		{"500 silent", "", 500, true, false},
		{"502 HTML", html, 502, true, false},
		{"503 text", "upstream connect error", 503, true, false},
		{"503 JSON without an error", "{}", 503, true, false},
		{"504 HTML", html, 504, true, false},
		{"500 Graph error", `{"error":{"code":2,"is_transient":true}}`, 500, false, false},
		{"503 Graph error without a code", `{"error":{"message":"x"}}`, 503, false, false},
		{"407 HTML", html, 407, true, false},
		{"401 HTML", html, 401, false, false},
		{"403 HTML", html, 403, false, false},
		{"404 HTML", html, 404, false, false},
		{"429 empty", "", 429, false, false},
		{"302 empty", "", 302, false, false},
		{"200 HTML", html, 200, false, false},
		{"another status", "", 600, false, false},
		{"person", `{"error":{"code":551,"error_subcode":1545041}}`, 400, false, true},
		{"conversation deleted", `{"error":{"code":100,"error_subcode":2534001}}`, 400, false, true},
		{"window", `{"error":{"code":10,"error_subcode":2018278}}`, 400, false, true},
		{"another app's conversation", `{"error":{"code":10,"error_subcode":2018300}}`, 400, false, true},
		{"rules of Europe", `{"error":{"code":10,"error_subcode":2018336}}`, 400, false, true},
		{"account linking token", `{"error":{"code":10303}}`, 400, false, true},
		{"message", `{"error":{"code":100}}`, 400, false, false},
		{"no such object", `{"error":{"code":100,"error_subcode":33}}`, 400, false, false},
		{"call", `{"error":{"code":100,"error_subcode":33,"type":"GraphMethodException"}}`, 400, false, false},
		{"unknown code", `{"error":{"code":777777}}`, 400, false, false},
		{"page", `{"error":{"code":200}}`, 403, false, false},
		{"token", `{"error":{"code":190}}`, 401, false, false},
	}
	for _, tt := range tests {
		e := decodeFailure(t, tt.status, tt.body)
		if e.Unreachable() != tt.unreachable || e.AboutOne() != tt.aboutOne {
			t.Errorf("%s: Unreachable %v, AboutOne %v (%v)", tt.name, e.Unreachable(), e.AboutOne(), e)
		}
		if graph := strings.Contains(tt.body, `"error"`); e.Silent == graph {
			t.Errorf("%s: Silent %v", tt.name, e.Silent)
		}
	}
	// Errors of callers, who have not called.
	for _, class := range Classes() {
		if e := (&Error{Class: class}); e.Unreachable() {
			t.Errorf("an error of class %s without a call is Unreachable", class)
		}
	}
}

// An error says that a proxy refused, and repeats nothing that the proxy sent.
func TestProxyRefuses(t *testing.T) {
	proxy := func(answer string) string {
		return rawServer(t, func(_ int, conn *net.TCPConn) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		})
	}
	socks := strings.Replace(rawServer(t, func(_ int, conn *net.TCPConn) {
		defer conn.Close()
		greeting, request := make([]byte, 3), make([]byte, 5+len("graph.invalid")+2)
		if _, err := io.ReadFull(conn, greeting); err != nil {
			return
		}
		_, _ = conn.Write([]byte{5, 0}) // no authentication
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		_, _ = conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0}) // host unreachable (RFC 1928)
	}), "http:", "socks5:", 1)
	tests := []struct{ name, proxy, text string }{
		{"SOCKS", socks, "at the proxy: the connection failed"},
		{"403", proxy("HTTP/1.1 403 Dear Ms Example\r\nContent-Length: 0\r\n\r\n"), "the proxy answered 403"},
		{"407", proxy("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"), "the proxy answered 407"},
		{"503", proxy("HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n"), "the proxy answered 503"},
		{"silent", proxy(""), "the connection was closed"},
		{"away", "http://" + nobodyListens, "at the proxy: " + refusedText()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := testClient(t, "https://graph.invalid", nil)
			proxyURL, err := url.Parse(tt.proxy)
			if err != nil {
				t.Fatal(err)
			}
			client.transport.Proxy = http.ProxyURL(proxyURL)
			e := sendFails(t, t.Context(), client)
			if e.Class != ClassTransient || e.Status != 0 || !e.Unreachable() || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("got %v, unreachable %v, want %q", e, e.Unreachable(), tt.text)
			}
		})
	}
}

func TestProxyConnects(t *testing.T) {
	server, client := testServerTLS(t, false, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, testSent) })
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer in.Close()
		go func() { _, _ = io.Copy(out, buffered) }()
		_, _ = io.Copy(in, out)
	}))
	defer proxy.Close()
	defer client.Close()
	proxyURL, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client.transport.Proxy = http.ProxyURL(proxyURL)
	if got, err := client.Send(t.Context(), Credentials{Token: testToken}, []byte(testBody)); err != nil || got.MessageID != "m_1" {
		t.Errorf("through the proxy: %v, %v", got, err)
	}
}

// The caller's own end says nothing of Facebook.
func TestCanceledIsNotUnreachable(t *testing.T) {
	client := testClient(t, "http://127.0.0.1:1", nil)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancelLate()
	for _, ctx := range []context.Context{canceled, late} {
		if e := sendFails(t, ctx, client); e.Class != ClassTransient || e.Unreachable() {
			t.Errorf("%v: unreachable %v", e, e.Unreachable())
		}
	}
	// While the handshake hangs, canceled by the caller.
	arrived := make(chan struct{})
	mute := strings.Replace(rawServer(t, func(_ int, conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		close(arrived)
	}), "http:", "https:", 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-arrived; stop() }()
	if e := sendFails(t, ctx, testClient(t, mute, nil)); e.Class != ClassTransient || e.Unreachable() {
		t.Errorf("%v: unreachable %v", e, e.Unreachable())
	}
}

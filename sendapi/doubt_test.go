package sendapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestInDoubt checks that what the server does decides whether a message is in doubt.
func TestInDoubt(t *testing.T) {
	answer := func(s string) func(int, *net.TCPConn) {
		return func(_ int, conn *net.TCPConn) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, s)
				_ = conn.Close()
			}
		}
	}
	tests := []struct {
		name  string
		serve func(n int, conn *net.TCPConn)
		want  Class
	}{
		{"reset before reading all", func(_ int, conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 1))
			reset(conn)
		}, ClassInDoubt},
		{"reset after reading", func(_ int, conn *net.TCPConn) {
			readRequest(conn)
			reset(conn)
		}, ClassInDoubt},
		{"closed after reading", answer(""), ClassInDoubt},
		{"half a status line", answer("HTTP/1.1 20"), ClassInDoubt},
		{"half a header", answer("HTTP/1.1 200 OK\r\nContent-Ty"), ClassInDoubt},
		{"header alone", answer("HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n"), ClassInDoubt},
		{"half a body", answer("HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n" + testSent[:40]), ClassInDoubt},
		{"half a body in chunks", answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + testSent[:16] + "\r\n"), ClassInDoubt},
		{"half a body of unknown length", answer("HTTP/1.1 200 OK\r\n\r\n" + testSent[:40]), ClassInDoubt},
		{"not HTTP", answer("SSH-2.0-Dear Ms Example\r\n"), ClassInDoubt},
		{"half a refusal", answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{\"error\":{\"co"), ClassTransient},
		{"whole refusal, half a body", answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{\"error\":{\"code\":190}}"), ClassAuth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			url := rawServer(t, func(n int, conn *net.TCPConn) {
				conns.Add(1)
				tt.serve(n, conn)
			})
			if e := sendFails(t, t.Context(), testClient(t, url, nil)); e.Class != tt.want || e.Unreachable() {
				t.Errorf("got %v, unreachable %v, want %s", e, e.Unreachable(), tt.want)
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// The time runs out when the server has the request, and perhaps a part of its
// answer has come back.
func TestInDoubtAfterDeadline(t *testing.T) {
	for _, answer := range []string{
		"",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n" + testSent[:40],
	} {
		over := make(chan struct{})
		url := rawServer(t, func(_ int, conn *net.TCPConn) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, answer)
				close(over)
			}
		})
		e := sendFails(t, deadlineAt{t.Context(), over}, testClient(t, url, nil))
		if e.Class != ClassInDoubt || !errors.Is(e, context.DeadlineExceeded) {
			t.Errorf("after %q: %v", answer, e)
		}
	}
}

// An answer that says all it has to say is an answer, though its end is missing.
func TestWholeAnswerHalfABody(t *testing.T) {
	url := rawServer(t, func(_ int, conn *net.TCPConn) {
		if readRequest(conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"+testSent)
			_ = conn.Close()
		}
	})
	got, err := testClient(t, url, nil).Send(t.Context(), Credentials{Token: testToken}, []byte(testBody))
	if err != nil || got.MessageID != "m_1" {
		t.Errorf("got %v, %v", got, err)
	}
}

// Nothing has left before there is a connection.
func TestNotInDoubt(t *testing.T) {
	plain := strings.Replace(rawServer(t, func(_ int, conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_ = conn.Close()
	}), "http:", "https:", 1)
	mute := strings.Replace(rawServer(t, func(int, *net.TCPConn) {}), "http:", "https:", 1)
	resets := strings.Replace(rawServer(t, func(_ int, conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		reset(conn)
	}), "http:", "https:", 1)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	defer untrusted.Close()

	tests := []struct{ name, url, text string }{
		{"refused", "http://" + nobodyListens, refusedText()},
		{"no such host", "https://nope.invalid", ""}, // a resolver may say either
		{"no TLS", plain, "does not speak TLS"},
		{"reset in the handshake", resets, ""},
		{"mute in the handshake", mute, "timed out"},
		{"certificate not trusted", untrusted.URL, "not trusted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := testClient(t, tt.url, nil)
			client.timeout = 2 * time.Second
			if tt.url == mute {
				client.timeout = 200 * time.Millisecond
			}
			e := sendFails(t, t.Context(), client)
			if e.Class != ClassTransient || e.Status != 0 || !e.Unreachable() || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("got %v, want transient and %q", e, tt.text)
			}
		})
	}
}

func TestContextEndedBefore(t *testing.T) {
	var calls atomic.Int64
	_, client := testServer(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := sendFails(t, ctx, client)
	if e.Class != ClassTransient || !errors.Is(e, context.Canceled) {
		t.Errorf("got %v", e)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls went out", n)
	}
}

func TestContextEndedWaitingForAnswer(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		arrived, release := make(chan struct{}), make(chan struct{})
		_, client := testServerTLS(t, http2, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(arrived)
			<-release
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		e := sendFails(t, ctx, client)
		if e.Class != ClassInDoubt || !errors.Is(e, context.Canceled) {
			t.Errorf("HTTP/2 %v: got %v", http2, e)
		}
		close(release)
	}
}

func TestAttemptEnds(t *testing.T) {
	unread := &roundTrip{body: []byte("body")}
	if unread.end() {
		t.Error("a body that nobody read has left")
	}
	if n, err := unread.Read(make([]byte, 9)); n != 0 || err != net.ErrClosed || unread.end() {
		t.Errorf("read %d bytes after the end, %v", n, err)
	}
	begun := &roundTrip{body: []byte("body")}
	if n, err := begun.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if !begun.end() {
		t.Error("a body of which a part was read has not left")
	}
	if n, err := begun.Read(make([]byte, 9)); n != 0 || err != net.ErrClosed {
		t.Errorf("read %d bytes after the end, %v", n, err)
	}
}

// The caller may reuse the body when Send returns, also if the server answers
// before it has read the request.
func TestBodyIsTheCallersAgain(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		_, client := testServerTLS(t, http2, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":{"code":100}}`)
		})
		body := append([]byte(`{"a":"`), append(make([]byte, 1<<20), `"}`...)...)
		for range 5 {
			_, err := client.Send(t.Context(), Credentials{Token: testToken}, body)
			if err == nil {
				t.Fatal("sent")
			}
			clear(body[10 : len(body)-10]) // the race detector watches
		}
	}
}

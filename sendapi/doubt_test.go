package sendapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var quiet = log.New(io.Discard, "", 0)

// rawServer hands each connection that it accepts to serve, in turn of their
// coming and each in a goroutine of its own, and returns its URL. A connection is
// closed at the end of the test and not before, unless serve does.
func rawServer(t *testing.T, serve func(n int, conn *net.TCPConn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { serve(n, conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}

// readRequest reads one whole request.
func readRequest(conn net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// reset closes a connection so that the peer gets a reset and no goodbye.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// What the server does decides between "nothing left" and "who knows".
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
		{"hang", func(_ int, conn *net.TCPConn) { readRequest(conn) }, ClassInDoubt},
		{"hang in the answer", func(_ int, conn *net.TCPConn) {
			if readRequest(conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 54\r\n\r\n"+testSent[:40])
			}
		}, ClassInDoubt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			url := rawServer(t, func(n int, conn *net.TCPConn) {
				conns.Add(1)
				tt.serve(n, conn)
			})
			client := testClient(t, url, nil)
			if strings.HasPrefix(tt.name, "hang") {
				client.timeout = 300 * time.Millisecond
			}
			if e := sendFails(t, t.Context(), client); e.Class != tt.want {
				t.Errorf("got %v, want %s", e, tt.want)
			}
			if n := conns.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
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
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
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
		{"refused", "http://" + closed.Addr().String(), "connection refused"},
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
			if e.Class != ClassTransient || e.Status != 0 || !strings.Contains(e.Error(), tt.text) {
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

// dialed makes the client give its test the connections that it opens.
func dialed(client *Client) <-chan *net.TCPConn {
	conns := make(chan *net.TCPConn, 100)
	dial := client.transport.DialContext
	client.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			conns <- conn.(*countingConn).Conn.(*net.TCPConn)
		}
		return conn, err
	}
	return conns
}

// A pooled connection that takes nothing any more is replaced within the call.
// Its writing side is shut on our end, by which the server does not notice and
// the pool neither, until the next call finds that nothing can be written.
func TestPooledConnectionClosed(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			var calls atomic.Int64
			handler := func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				_, _ = io.WriteString(w, testSent)
			}
			var client *Client
			if scheme == "http" {
				client = testClient(t, rawServer(t, func(_ int, conn *net.TCPConn) {
					for readRequest(conn) {
						calls.Add(1)
						_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(testSent), testSent)
					}
				}), nil)
			} else {
				_, client = testServerTLS(t, false, handler)
			}
			conns := dialed(client)
			for call := range int64(3) {
				if _, err := client.Send(t.Context(), Credentials{Token: testToken}, []byte(testBody)); err != nil {
					t.Fatalf("call %d: %v", call+1, err)
				}
				if n := calls.Load(); n != call+1 {
					t.Fatalf("%d calls have come to %d requests", call+1, n)
				}
				if err := (<-conns).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A server that drops connections as soon as they are idle, under load: whatever
// Send says of a message has to be true of what the server got.
func TestIdleConnectionsDroppedUnderLoad(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got[string(body)]++
		mu.Unlock()
		_, _ = io.WriteString(w, testSent)
	}))
	server.Config.IdleTimeout = 100 * time.Microsecond
	server.Start()
	defer server.Close()
	client := testClient(t, server.URL, nil)

	const workers, each = 8, 150
	said := make([][]Class, workers) // "" for sent
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range each {
				_, err := client.Send(t.Context(), Credentials{Token: testToken}, fmt.Appendf(nil, `{"n":"%d-%d"}`, w, n))
				var e *Error
				if errors.As(err, &e) {
					said[w] = append(said[w], e.Class)
					continue
				}
				said[w] = append(said[w], "")
			}
		})
	}
	wg.Wait()

	count := map[Class]int{}
	for w := range workers {
		for n, class := range said[w] {
			count[class]++
			times := got[fmt.Sprintf(`{"n":"%d-%d"}`, w, n)]
			switch {
			case times > 1:
				t.Errorf("message %d-%d was sent %d times", w, n, times)
			case class == "" && times != 1:
				t.Errorf("message %d-%d is said to be sent", w, n)
			case class == ClassTransient && times != 0:
				t.Errorf("message %d-%d is said not to be sent", w, n)
			case class != "" && class != ClassTransient && class != ClassInDoubt:
				t.Errorf("message %d-%d is %s", w, n, class)
			}
		}
	}
	t.Logf("%v", count)
}

// TLS says goodbye on a connection that is given up. That must not pass for a
// request, in any version and cipher, while the least request must.
func TestGoodbyeIsNoRequest(t *testing.T) {
	configs := map[string]*tls.Config{
		"TLS 1.3":     {MinVersion: tls.VersionTLS13},
		"TLS 1.2 GCM": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
		"TLS 1.2 CBC": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}},
	}
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, testSent)
			}))
			server.TLS = config
			server.Config.ErrorLog = quiet
			server.StartTLS()
			defer server.Close()
			client := testClient(t, server.URL, nil)
			client.transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			client.transport.TLSClientConfig.ServerName = "example.com"
			client.transport.TLSClientConfig.CipherSuites = config.CipherSuites

			raw, err := client.transport.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, client.transport.TLSClientConfig)
			if err := conn.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			a := &attempt{body: []byte(testBody)}
			a.gotConn(httptrace.GotConnInfo{Conn: conn})
			if _, err := a.Read(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			if goodbye := a.count.written.Load() - a.before; goodbye == 0 || goodbye+27 > tlsOverhead {
				t.Errorf("the goodbye has %d bytes", goodbye)
			}
			if a.left() {
				t.Error("the goodbye passes for a request")
			}
			if _, err := a.Read(make([]byte, 1)); err == nil {
				t.Error("the body can be read after the end")
			}
		})
	}
}

func TestLeastRequestIsLongerThanGoodbye(t *testing.T) {
	seen := make(chan int, 1)
	url := rawServer(t, func(_ int, conn *net.TCPConn) {
		n, _ := conn.Read(make([]byte, 4096))
		seen <- n
		_ = conn.Close()
	})
	client := testClient(t, url, nil)
	client.url = strings.Replace(client.url, "v25.0", "v1.0", 1)
	_, _ = client.Send(t.Context(), Credentials{Token: "t"}, []byte(`{}`))
	// Longer by more than what a host's name of one letter would take away.
	if n := <-seen - len("127.0.0.1:12345"); n <= tlsOverhead {
		t.Errorf("the least request has %d bytes", n)
	}
}

// An HTTP/2 server may refuse a stream in ways after which net/http resends, one
// of which promises nothing. Nothing may be resent after the body has left.
func TestHTTP2RefusesStream(t *testing.T) {
	const protocolError, internalError, refusedStream = 1, 2, 7
	for _, code := range []uint32{protocolError, internalError, refusedStream} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			certs, _ := testServerTLS(t, true, func(http.ResponseWriter, *http.Request) {})
			var streams atomic.Int64
			url := rawServer(t, func(_ int, conn *net.TCPConn) {
				server := tls.Server(conn, &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2"}})
				serveHTTP2Reset(server, code, &streams)
			})
			client := testClient(t, strings.Replace(url, "http:", "https:", 1), nil)
			client.transport.TLSClientConfig = certs.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			client.transport.TLSClientConfig.ServerName = "example.com"
			if e := sendFails(t, t.Context(), client); e.Class != ClassInDoubt {
				t.Errorf("got %v", e)
			}
			if n := streams.Load(); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// serveHTTP2Reset reads each request of a connection to its end and then resets
// its stream with the code. It counts the requests.
func serveHTTP2Reset(conn net.Conn, code uint32, streams *atomic.Int64) {
	const (
		data, rstStream, settings  = 0, 3, 4
		endStream                  = 1
		preface                    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		headerLength, idStartsFrom = 9, 5
	)
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, int64(len(preface))); err != nil {
		return
	}
	if _, err := conn.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	for {
		var header [headerLength]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if header[3] != data || header[4]&endStream == 0 {
			continue
		}
		streams.Add(1)
		frame := []byte{0, 0, 4, rstStream, 0}
		frame = append(frame, header[idStartsFrom:]...)
		if _, err := conn.Write(binary.BigEndian.AppendUint32(frame, code)); err != nil {
			return
		}
	}
}

// The caller has its memory back when Send returns, also if the server answers
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

package sendapi

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

const (
	testToken = "page-token-for-the-test"
	testBody  = `{"recipient":{"id":"1254477777772919"},"messaging_type":"RESPONSE","message":{"text":"Dear Ms Example"}}`
	testSent  = `{"recipient_id":"1254477777772919","message_id":"m_1"}`
)

// testClient returns a client for a server on this machine, closed with the test.
func testClient(t testing.TB, graphURL string, roots *x509.CertPool) *Client {
	t.Helper()
	client, err := newClient(Config{GraphURL: graphURL, Timeout: 20 * time.Second}, roots)
	if err != nil {
		t.Fatal(err)
	}
	client.transport.Proxy = nil
	t.Cleanup(client.Close)
	return client
}

// testServer serves the handler over HTTP/1.1, and returns a client for it.
func testServer(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server, testClient(t, server.URL, nil)
}

// testServerTLS is testServer over HTTPS, with HTTP/2 if wanted.
func testServerTLS(t testing.TB, http2 bool, handler http.HandlerFunc) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, testClient(t, server.URL, roots)
}

// sendFails sends and returns the error, which must be an *Error and show nothing
// of the call.
func sendFails(t testing.TB, ctx context.Context, client *Client) *Error {
	t.Helper()
	receipt, err := client.Send(ctx, Credentials{Token: testToken}, []byte(testBody))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("receipt %v and error %v, want an *Error", receipt, err)
	}
	mustHide(t, e, testToken, "1254477777772919", "Dear Ms Example", "/me/messages")
	return e
}

var quiet = log.New(io.Discard, "", 0)

// rawServer calls serve for each connection that it accepts, in turn of their
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

// reset closes a connection with a TCP reset.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// deadlineAt is a context whose deadline is reached when the channel is closed, so
// that no test has to guess how long something takes.
type deadlineAt struct {
	context.Context
	over <-chan struct{}
}

func (d deadlineAt) Done() <-chan struct{} { return d.over }

func (d deadlineAt) Err() error {
	select {
	case <-d.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

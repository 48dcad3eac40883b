package sendapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dialed makes the client give its test the connections that it opens.
func dialed(client *Client) <-chan *net.TCPConn {
	conns := make(chan *net.TCPConn, 100)
	dial := client.transport.DialContext
	client.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			conns <- conn.(*net.TCPConn)
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

// Once a pooled connection has taken the request, nothing sends it again.
func TestPooledConnectionReset(t *testing.T) {
	var requests atomic.Int64
	client := testClient(t, rawServer(t, func(_ int, conn *net.TCPConn) {
		for readRequest(conn) {
			if requests.Add(1) > 1 {
				reset(conn)
				return
			}
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(testSent), testSent)
		}
	}), nil)
	if _, err := client.Send(t.Context(), Credentials{Token: testToken}, []byte(testBody)); err != nil {
		t.Fatal(err)
	}
	if e := sendFails(t, t.Context(), client); e.Class != ClassInDoubt {
		t.Errorf("got %v", e)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("two calls have come to %d requests", n)
	}
}

// A server that drops connections as soon as they are idle, under load: whatever
// Send reports of a message must be true of what the server got.
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

	const workers, each = 8, 60
	classes := make([][]Class, workers) // "" for sent
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range each {
				_, err := client.Send(t.Context(), Credentials{Token: testToken}, fmt.Appendf(nil, `{"n":"%d-%d"}`, w, n))
				var e *Error
				if errors.As(err, &e) {
					classes[w] = append(classes[w], e.Class)
					continue
				}
				classes[w] = append(classes[w], "")
			}
		})
	}
	wg.Wait()

	count := map[Class]int{}
	for w := range workers {
		for n, class := range classes[w] {
			count[class]++
			times := got[fmt.Sprintf(`{"n":"%d-%d"}`, w, n)]
			switch {
			case times > 1:
				t.Errorf("message %d-%d was sent %d times", w, n, times)
			case class == "" && times != 1:
				t.Errorf("message %d-%d is reported as sent", w, n)
			case class == ClassTransient && times != 0:
				t.Errorf("message %d-%d is reported as not sent", w, n)
			case class != "" && class != ClassTransient && class != ClassInDoubt:
				t.Errorf("message %d-%d is %s", w, n, class)
			}
		}
	}
	t.Logf("%v", count)
}

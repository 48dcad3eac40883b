package sendapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// newTransport returns a transport for many calls at once to one host.
//
// It goes through the proxy that HTTPS_PROXY and its relatives name, as programs
// behind an egress proxy expect. It asks for no compression: an answer is some
// hundred bytes. Where the server offers HTTP/2, calls share a few connections
// (whether graph.facebook.com does is not known), and without it each call in
// flight has its own.
func newTransport(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &countingConn{Conn: conn}, nil
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		HTTP2: &http.HTTP2Config{
			// A shared connection that dies silently would take every call on it along
			// until their time is up. A server busy with one call still answers pings.
			SendPingTimeout:  15 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 15 * time.Second,
		},
		MaxIdleConnsPerHost: 256,
		// Below the minute after which servers and middleboxes commonly drop an idle
		// connection. How long Facebook keeps one is not known.
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// attempt is one round trip, and the body of its request. It knows whether the
// request may have reached Facebook, from what was read of the body and what the
// connection wrote; the text of an error decides nothing.
//
// It has to know about resends too, since net/http makes some by itself. As of
// Go 1.26 (transport.go, shouldRetryRequest and rewindBody; h2_bundle.go,
// http2shouldRetryRequest) it repeats a POST
//
//   - over HTTP/1.1, on a reused connection that failed before it took a byte, if
//     the request has a GetBody. With an Idempotency-Key header it does so after
//     bytes were written as well;
//   - over HTTP/2, if the server refused the stream (REFUSED_STREAM, or GOAWAY
//     with a lower stream), and also after PROTOCOL_ERROR, which promises nothing
//     about whether the request was carried out. Both need a GetBody once the body
//     was read;
//   - over both, on a connection found unusable before the body was read.
//
// So a request here has no GetBody and no such header, which leaves only the last,
// and Client.Send repeats what is safe to repeat. The price: a call that HTTP/2
// refused after its body was read is in doubt, though the server did promise not
// to have looked at it.
type attempt struct {
	mu     sync.Mutex // a transport may read the body after RoundTrip returned
	body   []byte     // what is left to read
	read   bool
	sealed bool

	// Set by gotConn, in the goroutine of RoundTrip.
	conn   net.Conn
	reused bool
	count  *countingConn
	before int64
}

// Read hands the body to the transport.
func (a *attempt) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sealed {
		return 0, net.ErrClosed
	}
	a.read = true
	if len(a.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p, a.body)
	a.body = a.body[n:]
	return n, nil
}

// Close does nothing: the body is memory of the caller's.
func (a *attempt) Close() error { return nil }

// seal ends the reading of the body, so that the caller has its memory back and
// nothing more can leave. It reports whether anything was read.
func (a *attempt) seal() (read bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sealed = true
	return a.read
}

// trace makes the transport tell which connection it took.
func (a *attempt) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})
}

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.conn, a.reused = info.Conn, info.Reused
	if a.count = countUnder(info.Conn); a.count != nil {
		a.before = a.count.written.Load()
	}
}

// tlsOverhead is more than TLS writes by itself between taking a connection and
// giving it up: an answer to a key update (27 bytes) and a goodbye (24 to 69,
// after the cipher). It is less than the first record of any request, since the
// header of one alone is longer; and a record cut short cannot be deciphered. TLS
// to the server inside TLS to a proxy may write more, and is then in doubt.
const tlsOverhead = 100

// left seals the attempt and reports whether its request may have reached the
// peer. False is certain.
//
// If the body was not read, then at most the header left, and a message cannot be
// sent without its body. If it was read, HTTP/1.1 may still hold all of it in its
// buffer: the connection is this call's alone, is idle by the time RoundTrip has
// failed, and knows how much it wrote. An HTTP/2 connection is shared and tells
// nothing.
func (a *attempt) left() bool {
	if !a.seal() {
		return false
	}
	if a.count == nil {
		return true
	}
	allowance := int64(0)
	if conn, ok := a.conn.(*tls.Conn); ok {
		if conn.ConnectionState().NegotiatedProtocol == "h2" {
			return true
		}
		allowance = tlsOverhead
	}
	return a.count.written.Load()-a.before > allowance
}

// countingConn counts the bytes that the kernel took for sending.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// countUnder finds the countingConn under the layers of TLS, nil if there is none.
func countUnder(conn net.Conn) *countingConn {
	for {
		switch c := conn.(type) {
		case *countingConn:
			return c
		case *tls.Conn:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

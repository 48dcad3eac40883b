package sendapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
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
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return proxyRefusal(answer.StatusCode)
			}
			return nil
		},
		DialContext:         dialer.DialContext,
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
		// As many as calls of some dozen pages may be in flight over HTTP/1.1; what is
		// beyond it is closed after each burst, and opened again for the next.
		MaxIdleConnsPerHost: 2048,
		// Below the minute after which servers and middleboxes commonly drop an idle
		// connection. How long Facebook keeps one is not known.
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// attempt is one round trip, and the body of its request. It knows whether the
// message may have reached Facebook: it may have if the transport has asked for
// the body, and cannot have otherwise, whatever became of the header. The text of
// an error decides nothing.
//
// net/http writes the header before it asks for a body that it does not know, so
// that a connection on which nothing can be written any more is found before the
// body is read. Would it ask earlier one day, more calls would be in doubt, and
// none wrongly certain.
//
// net/http also resends some requests by itself. As of Go 1.26 (transport.go,
// shouldRetryRequest and rewindBody; h2_bundle.go, http2shouldRetryRequest) it
// repeats a POST
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
	reused bool // the connection; set by the goroutine that calls RoundTrip

	mu   sync.Mutex // a transport may read the body after RoundTrip has returned
	body []byte     // what is left to read
	read bool       // reading has begun
	over bool       // no more reading
}

// Read hands the body to the transport.
func (a *attempt) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
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

// Close does nothing: the body is the caller's memory.
func (a *attempt) Close() error { return nil }

// end stops the reading of the body for good, so that nothing more of it can leave
// and the caller has its memory back. It reports whether anything may have left.
func (a *attempt) end() (left bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	return a.read
}

// trace makes the transport tell whether it took a connection from its pool.
func (a *attempt) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { a.reused = info.Reused },
	})
}

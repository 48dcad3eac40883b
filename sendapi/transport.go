package sendapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"time"
)

// newTransport returns a transport for many calls at once to one host.
//
// It uses the proxy of HTTPS_PROXY and similar variables, as is usual behind an egress
// proxy. It asks for no compression, since an answer has some hundred bytes. Calls share
// a few connections if the server offers HTTP/2 (it is not known whether
// graph.facebook.com does); otherwise each call in flight has its own.
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
			// Without pings, all calls on a shared connection that dies silently would hang
			// until their timeout. A server that is busy with a call still answers pings.
			SendPingTimeout:  15 * time.Second,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 15 * time.Second,
		},
		// About the number of calls that some dozen pages have in flight over HTTP/1.1.
		// With fewer, connections would be closed after each burst and opened for the next.
		MaxIdleConnsPerHost: 2048,
		// Below the minute after which servers and middleboxes commonly drop an idle
		// connection. How long Facebook keeps one is not known.
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

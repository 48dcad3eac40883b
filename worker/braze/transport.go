package braze

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// newTransport returns a transport for a few calls at once to one host.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		// A shared connection that dies silently would take every call on it along until their time is up.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // an answer is some hundred bytes
	}
}

// reply is what came back from one call.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error // no answer, or one whose body broke off
	sent   bool  // something of the body may have left
	key    string
}

// maxAnswer bounds what is read of an answer. One error a object, of some hundred bytes, makes 50 KB.
const maxAnswer = 1 << 20

// maxTries bounds how many connections one call goes through that turn out to be closed already. A server that drops its idle
// connections drops them together.
const maxTries = 4

// post makes one call.
func (c *Client) post(ctx context.Context, body []byte) reply {
	key, err := c.cfg.Key()
	if err != nil {
		return reply{err: &keyError{err.Error()}}
	}
	if !usable(key) {
		return reply{err: &keyError{"the key must be printable ASCII without spaces"}, key: key}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	for tries := 1; ; tries++ {
		r, again := c.try(ctx, key, body)
		if r.key = key; !again || tries == maxTries {
			return r
		}
	}
}

func usable(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return key != ""
}

// keyError is what is wrong with the key. There was no call.
type keyError struct{ reason string }

func (e *keyError) Error() string { return e.reason }

// try makes one round trip. again reports that nothing left because a connection from the pool was closed already.
func (c *Client) try(ctx context.Context, key string, body []byte) (_ reply, again bool) {
	sending := &sending{body: body}
	defer sending.end()
	req, err := http.NewRequestWithContext(sending.trace(ctx), http.MethodPost, c.url, sending)
	if err != nil {
		return reply{err: err}, false
	}
	req.ContentLength = int64(len(body))
	req.Header = http.Header{
		"Authorization": {"Bearer " + key},
		"Content-Type":  {"application/json"},
		"User-Agent":    {c.cfg.UserAgent},
	}
	// RoundTrip and not http.Client: it follows no redirect, which would carry the key elsewhere, and its errors hold no URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		sent := sending.end()
		return reply{err: err, sent: sent}, !sent && sending.reused && ctx.Err() == nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: answer, err: err, sent: true}, false
}

// sending is the body of one round trip. It knows whether anything of the body may have left: it may have once the transport has asked
// for it, and cannot have before, whatever became of the header. It has no GetBody, so that net/http resends nothing by itself: events
// would be counted twice.
type sending struct {
	reused bool // the connection; set by the goroutine that calls RoundTrip

	mu   sync.Mutex // a transport may read the body after RoundTrip has returned
	body []byte     // what is left to read
	read bool       // reading has begun
	over bool       // no more reading
}

// Read gives the body to the transport.
func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, net.ErrClosed
	}
	s.read = true
	if len(s.body) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.body)
	s.body = s.body[n:]
	return n, nil
}

// Close does nothing: there is nothing to give back.
func (s *sending) Close() error { return nil }

// end stops the reading for good, and reports whether anything may have left.
func (s *sending) end() (sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.read
}

// trace makes the transport tell whether it took a connection from its pool.
func (s *sending) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { s.reused = info.Reused },
	})
}

// cause returns the text of a transport's error: what failed, without our own address, which is of no use to a reader.
func cause(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "stopped"
	}
	return cut(err.Error(), maxText)
}

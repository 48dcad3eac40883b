package sendapi

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultGraphURL is where Facebook's Graph API lives.
const DefaultGraphURL = "https://graph.facebook.com"

// IsFacebook reports whether calls to a Graph URL go to Facebook itself, and not to
// what stands in for it.
func IsFacebook(graphURL string) bool {
	u, err := url.Parse(graphURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return true // the safe side; NewClient has a word for it
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	return host == "facebook.com" || strings.HasSuffix(host, ".facebook.com")
}

// DefaultTimeout bounds a call for whose message Facebook may have to fetch a file.
// Facebook may take 75 seconds to fetch a video before it answers (Messenger error
// codes page, 2018294), and a call given up before its answer is in doubt.
const DefaultTimeout = 90 * time.Second

// TextTimeout bounds a call for whose message there is no file to fetch: see
// [Client.Send]. A text takes about a second: 0.5 to 1.25 s were measured years ago,
// through new connections. A shorter time would put more messages in doubt while
// Facebook is slow; a longer one keeps a call that hangs, and with it the place of
// another, for nothing.
const TextTimeout = 30 * time.Second

// Config says how a [Client] calls Facebook. The zero Config is ready for use.
type Config struct {
	// GraphURL is the Graph API without version, DefaultGraphURL if empty.
	GraphURL string

	// Version is the Graph API version, such as "v25.0"; DefaultVersion if empty.
	// See [VersionWarning].
	Version string

	// Timeout bounds a call from its start to the end of its answer, DefaultTimeout
	// if 0. A call without a file to fetch is bounded by TextTimeout as well.
	Timeout time.Duration

	// AllowPlainHTTP takes a GraphURL that starts with http:// and is not this
	// machine. Tokens and messages then cross the network for everybody to read:
	// for a simulated Send API in a container next door.
	AllowPlainHTTP bool

	// Now tells the time that an appsecret_proof is made for, which Facebook wants to
	// be right within five minutes; time.Now if nil. Give it a clock that is better
	// than the machine's where there is one. It must be safe for concurrent use.
	Now func() time.Time
}

// Client calls the Send API. It is safe for concurrent use and meant to be shared:
// its connections are. It holds no credentials.
//
// It makes one call for one message. The Graph API also takes batches of up to 50
// calls, which this client does not use: each call in a batch counts against the
// limits by itself, they run in parallel in no order, and the one documented
// answer of an error for a sent message (1/1357046) comes from a batch.
type Client struct {
	url       string
	timeout   time.Duration
	transport *http.Transport
	now       func() time.Time
}

// NewClient checks the configuration and returns a client for it. It opens no
// connection. An error names the field and repeats none of its value, which may
// hold a password. Close the client when done.
func NewClient(config Config) (*Client, error) { return newClient(config, nil) }

// newClient is NewClient with the certificates to trust, nil for the system's.
func newClient(config Config, roots *x509.CertPool) (*Client, error) {
	graph, err := parseGraphURL(config)
	if err != nil {
		return nil, err
	}
	version := config.Version
	if version == "" {
		version = DefaultVersion
	}
	if _, _, ok := parseVersion(version); !ok {
		return nil, errors.New("sendapi: Version: want the form v25.0")
	}
	timeout := config.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	if timeout < 0 {
		return nil, errors.New("sendapi: Timeout: is negative")
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	return &Client{
		url:       graph + "/" + version + "/me/messages",
		timeout:   timeout,
		transport: newTransport(roots),
		now:       now,
	}, nil
}

// parseGraphURL returns the checked GraphURL without a slash at its end. It also
// reads the proxy settings once, so that a bad one is found at the start.
func parseGraphURL(config Config) (string, error) {
	raw := config.GraphURL
	if raw == "" {
		raw = DefaultGraphURL
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("sendapi: GraphURL: want https://host")
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("sendapi: GraphURL: want no user, query or fragment")
	case u.Scheme == "http" && !config.AllowPlainHTTP && !loopback(u.Hostname()):
		return "", errors.New("sendapi: GraphURL: http:// would show tokens to the network; use https:// or set AllowPlainHTTP")
	case endsInVersion(u.Path):
		return "", errors.New("sendapi: GraphURL: ends in a version; leave it out, Version has it")
	}
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil {
		return "", errors.New("sendapi: the proxy in the environment is not a URL")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func endsInVersion(path string) bool {
	path = strings.TrimRight(path, "/")
	_, _, ok := parseVersion(path[strings.LastIndexByte(path, '/')+1:])
	return ok
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Close closes the connections that are idle. Calls under way go on, and a later
// call opens a new connection.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Send posts one request, a JSON object, to me/messages. The body stays the
// caller's: it is not changed, and not looked at after Send has returned.
//
// Every error is an *[Error]. Unless its class is ClassInDoubt or
// ClassDeliveredAnyway, the message counts as not sent. A call that fails without
// an answer is ClassInDoubt if a byte of its body may have left, and
// ClassTransient if none has: no connection, no TLS, ctx ended before. A
// connection from the pool that turns out closed by then is replaced within the
// call, a few times.
//
// The call is bounded by ctx, by Config.Timeout, and by TextTimeout where the body
// names nothing that Facebook may have to fetch before it answers: no attachment, no
// template, no image of a quick reply. A link in a text is not fetched first.
//
// The path could name the page instead of me; with a page token both are the same
// (Send API reference). The token travels in the Authorization header, where
// neither proxies nor servers log it. Meta's pages put it in the query or a form
// field; others use the header in production. An appsecret_proof stands in the query
// of the URL, which no error of this package holds.
func (c *Client) Send(ctx context.Context, cred Credentials, body []byte) (Receipt, error) {
	if failure := refuse(ctx, cred, body); failure != nil {
		return Receipt{}, failure
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeoutFor(body))
	defer cancel()
	for tries := 1; ; tries++ {
		receipt, failure, again := c.try(ctx, cred, body)
		if again && tries < maxTries {
			continue
		}
		if failure != nil {
			return Receipt{}, failure
		}
		return receipt, nil
	}
}

// maxTries bounds how many closed connections one call goes through. A server that
// drops its idle connections drops them together, so there may be several.
const maxTries = 4

// refuse returns what keeps a call from being made.
func refuse(ctx context.Context, cred Credentials, body []byte) *Error {
	if err := ctx.Err(); err != nil {
		return &Error{Class: ClassTransient, Cause: fmt.Errorf("%w: %w", errNotCalled, err)}
	}
	if cred.Token == "" || strings.ContainsFunc(cred.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &Error{Class: ClassAuth, Cause: errToken}
	}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) < 2 || trimmed[0] != '{' || trimmed[len(trimmed)-1] != '}' {
		return &Error{Class: ClassMessage, Cause: errNotObject}
	}
	return nil
}

// fetched are what the members of a message begin with for which Facebook may have
// to fetch something: attachment and attachments with their urls and image_urls,
// an approved template's header, the image of a quick reply. A text with such a word
// in quotes is taken for one of them and has more time; a name with an escaped letter
// is not found and has less.
var fetched = [][]byte{[]byte(`"attachment`), []byte(`"template"`), []byte(`"image_url"`)}

// timeoutFor returns how long the call for a body may take.
func (c *Client) timeoutFor(body []byte) time.Duration {
	for _, name := range fetched {
		if bytes.Contains(body, name) {
			return c.timeout
		}
	}
	return min(c.timeout, TextTimeout)
}

// try makes one round trip. again reports that nothing left because a connection
// from the pool was closed already.
func (c *Client) try(ctx context.Context, cred Credentials, body []byte) (_ Receipt, _ *Error, again bool) {
	a := &attempt{body: body}
	defer a.end()
	req, err := http.NewRequestWithContext(a.trace(ctx), http.MethodPost, c.url+cred.query(c.now()), a)
	if err != nil {
		return Receipt{}, &Error{Class: ClassTransient, Cause: safeCause(err)}, false
	}
	req.ContentLength = int64(len(body))
	req.Header = http.Header{
		"Authorization": {"Bearer " + cred.Token},
		"Content-Type":  {"application/json"},
		"User-Agent":    {"brazier"},
	}
	// RoundTrip and not http.Client: it follows no redirect, which would carry the
	// token and the message elsewhere, and its errors hold no URL.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		class := ClassTransient
		left := a.end()
		if left {
			class = ClassInDoubt
		}
		again := !left && a.reused && ctx.Err() == nil
		return Receipt{}, &Error{Class: class, Cause: safeCause(err)}, again
	}
	defer resp.Body.Close()
	receipt, failure := c.read(resp)
	return receipt, failure, false
}

// maxAnswer bounds what is kept of an answer, which takes some hundred bytes, and
// maxDrain what is read beyond it so that the connection can be used again.
const (
	maxAnswer = 64 << 10
	maxDrain  = 256 << 10
)

// read decodes the answer. One that breaks off is decoded as far as it came: an
// answer that is whole without its last bytes is a whole answer.
func (c *Client) read(resp *http.Response) (Receipt, *Error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		err = errTooLong
	}
	receipt, failure := decodeAnswer(resp.StatusCode, resp.Header, body, c.now())
	if err != nil && failure != nil && failure.Silent {
		failure.Cause = safeCause(err)
	}
	return receipt, failure
}

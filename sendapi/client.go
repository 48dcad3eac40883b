package sendapi

import (
	"bytes"
	"cmp"
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

// DefaultGraphURL is the URL of Facebook's Graph API.
const DefaultGraphURL = "https://graph.facebook.com"

// IsFacebook reports whether calls to a Graph URL go to Facebook itself rather than to
// a substitute such as the sandbox. It is true for a URL that cannot be read.
func IsFacebook(graphURL string) bool {
	u, err := url.Parse(graphURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return true // the safe side; NewClient refuses such a URL with the reason
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	return host == "facebook.com" || strings.HasSuffix(host, ".facebook.com")
}

// defaultTimeout bounds a call for whose message Facebook may have to fetch a file.
// Facebook may take 75 seconds to fetch a video before it answers (Messenger error
// codes page, 2018294), and a call that ends before its answer is in doubt.
const defaultTimeout = 90 * time.Second

// textTimeout bounds a call for a message without a file to fetch: see [Client.Send].
// A text takes about a second: 0.5 to 1.25 s were measured years ago, through new
// connections. A shorter timeout would put more messages in doubt while Facebook is
// slow; a longer one would let a call that hangs keep its permit from other calls.
const textTimeout = 30 * time.Second

// Config configures a [Client]. The zero Config is ready for use.
type Config struct {
	// GraphURL is the Graph API without version, DefaultGraphURL if empty.
	GraphURL string

	// Version is the Graph API version, such as "v25.0"; the version of Meta's own Send API pages, v25.0, if empty.
	// See [VersionWarning].
	Version string

	// Timeout bounds a call from its start to the end of its answer, 90 s if 0. A call
	// without a file to fetch is bounded by 30 s as well: see [Client.Send].
	Timeout time.Duration

	// AllowPlainHTTP accepts a GraphURL that starts with http:// and is not on this
	// machine. Tokens and messages then cross the network in clear. It is meant for a
	// simulated Send API in another container.
	AllowPlainHTTP bool

	// Now returns the time of an appsecret_proof, which must be right within five
	// minutes; time.Now if nil. Set it where there is a better clock than the machine's.
	// It must be safe for concurrent use.
	Now func() time.Time
}

// Client calls the Send API. It is safe for concurrent use. Share one Client, so that
// calls share its connections. It holds no credentials.
//
// A Client makes one call for one message. It does not use Graph's batches of up to 50
// calls: each call in a batch counts against the limits, the calls run in parallel in
// no order, and the one documented error for a sent message (1/1357046) comes from a
// batch.
type Client struct {
	url       string
	timeout   time.Duration
	transport *http.Transport
	now       func() time.Time
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "GraphURL"
	Fault string // what is allowed; never the value, which may contain a password
}

func (e *ConfigError) Error() string { return "sendapi: " + e.Field + ": " + e.Fault }

// Validate returns all faults of the settings, joined, each of them a *[ConfigError], or nil.
func (c Config) Validate() error {
	var faults []error
	if _, err := parseGraphURL(c); err != nil {
		faults = append(faults, err)
	}
	if _, _, ok := parseVersion(cmp.Or(c.Version, defaultVersion)); !ok {
		faults = append(faults, &ConfigError{"Version", "must have the form v25.0"})
	}
	if c.Timeout < 0 {
		faults = append(faults, &ConfigError{"Timeout", fmt.Sprintf("must not be negative (got %v)", c.Timeout)})
	}
	return errors.Join(faults...)
}

// NewClient checks the configuration and returns a client for it. It opens no
// connection. An error names the field and does not repeat its value, which may
// contain a password. Close the client when done.
func NewClient(config Config) (*Client, error) { return newClient(config, nil) }

// newClient is NewClient with the certificates to trust, nil for the system's.
func newClient(config Config, roots *x509.CertPool) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	graph, err := parseGraphURL(config)
	if err != nil {
		return nil, err
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	return &Client{
		url:       graph + "/" + cmp.Or(config.Version, defaultVersion) + "/me/messages",
		timeout:   cmp.Or(config.Timeout, defaultTimeout),
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
		return "", &ConfigError{"GraphURL", "must have the form https://host"}
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", &ConfigError{"GraphURL", "must have no user, query or fragment"}
	case u.Scheme == "http" && !config.AllowPlainHTTP && !loopback(u.Hostname()):
		return "", &ConfigError{"GraphURL", "http:// would send tokens over the network in clear; use https://, or allow plain HTTP"}
	case endsInVersion(u.Path):
		return "", &ConfigError{"GraphURL", "must not end in a version: it is a setting of its own"}
	}
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil {
		return "", &ConfigError{"GraphURL", "the proxy in the environment must be a URL"}
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

// Send posts one request, a JSON object, to me/messages. The caller keeps the body:
// Send does not change it and does not read it after it has returned.
//
// Every error is an *[Error]. Unless its class is ClassInDoubt or
// ClassDeliveredAnyway, the message was not sent. A call that fails without an answer
// is ClassInDoubt if a byte of its body may have been transmitted, and ClassTransient
// if none was: no connection, no TLS, ctx ended before. If a pooled connection turns
// out to be closed, Send replaces it, up to three times.
//
// The call is bounded by ctx, by Config.Timeout, and by 30 s if the body names nothing
// that Facebook may have to fetch before it answers: no attachment, no template, no
// image of a quick reply. Facebook does not fetch a link in a text first.
//
// The path says me instead of the page's id; with a page token both are the same (Send
// API reference). The token is in the Authorization header, which proxies and servers
// do not log. Meta's pages put the token in the query or a form field; others use the
// header in production. An appsecret_proof is in the query of the URL, which no error
// of this package contains.
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

// maxTries bounds the connections that one call tries. A server that drops its idle
// connections drops them together, so several pooled ones may be closed.
const maxTries = 4

// refuse returns the error of a call that must not be made, or nil.
func refuse(ctx context.Context, cred Credentials, body []byte) *Error {
	if err := ctx.Err(); err != nil {
		return &Error{Class: ClassTransient, Err: fmt.Errorf("%w: %w", errNotCalled, err)}
	}
	if cred.Token == "" || strings.ContainsFunc(cred.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &Error{Class: ClassAuth, Err: errToken}
	}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) < 2 || trimmed[0] != '{' || trimmed[len(trimmed)-1] != '}' {
		return &Error{Class: ClassMessage, Err: errNotObject}
	}
	return nil
}

// fetchedMembers are the names, or the beginnings of names, of members for which
// Facebook may have to fetch something: attachment and attachments with their urls and
// image_urls, an approved template's header, the image of a quick reply. A text that
// contains such a name in quotes gets the longer timeout too; a name with an escaped
// character is not found and gets the shorter one.
var fetchedMembers = [][]byte{[]byte(`"attachment`), []byte(`"template"`), []byte(`"image_url"`)}

// timeoutFor returns how long the call for a body may take.
func (c *Client) timeoutFor(body []byte) time.Duration {
	for _, name := range fetchedMembers {
		if bytes.Contains(body, name) {
			return c.timeout
		}
	}
	return min(c.timeout, textTimeout)
}

// try makes one round trip. again reports that nothing was transmitted because a pooled
// connection was closed already.
func (c *Client) try(ctx context.Context, cred Credentials, body []byte) (_ Receipt, _ *Error, again bool) {
	trip := &roundTrip{body: body}
	defer trip.end()
	req, err := http.NewRequestWithContext(trip.trace(ctx), http.MethodPost, c.url+cred.query(c.now()), trip)
	if err != nil {
		return Receipt{}, &Error{Class: ClassTransient, Err: safeCause(err)}, false
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
		left := trip.end()
		if left {
			class = ClassInDoubt
		}
		again := !left && trip.reused && ctx.Err() == nil
		return Receipt{}, &Error{Class: class, Err: safeCause(err)}, again
	}
	defer resp.Body.Close()
	receipt, failure := c.read(resp)
	return receipt, failure, false
}

// maxAnswer bounds how many bytes of an answer are kept; answers have some hundred.
// maxDrain bounds how many are read beyond those so that the connection can be reused.
const (
	maxAnswer = 64 << 10
	maxDrain  = 256 << 10
)

// read decodes the answer. It decodes what arrived of an answer that breaks off, which
// may be a whole JSON object.
func (c *Client) read(resp *http.Response) (Receipt, *Error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		err = errTooLong
	}
	receipt, failure := decodeAnswer(resp.StatusCode, resp.Header, body, c.now())
	if err != nil && failure != nil && failure.Silent {
		failure.Err = safeCause(err)
	}
	return receipt, failure
}

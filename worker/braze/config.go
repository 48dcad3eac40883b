package braze

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Defaults and limits of Config.
const (
	// DefaultTimeout is our choice: Braze only queues what a call holds, and answers in well below a second. A shorter time puts
	// more calls in doubt while Braze is slow.
	DefaultTimeout = 30 * time.Second
	// MaxObjects is Braze's limit for the objects of a call over all its arrays. Older contracts have 50 (API limits page).
	MaxObjects = 75
	// MaxBytes is Braze's limit for the body of a call (API limits page: 4 MB).
	MaxBytes = 4_000_000
)

// Config says how a [Client] calls one Braze workspace. URL and Key are required.
type Config struct {
	// URL is the REST endpoint of the workspace's instance, such as https://rest.fra-01.braze.eu.
	URL string
	// Key returns the REST API key, which needs the permission users.track. It is called for each call, so that a key that has been
	// replaced is used at once, must be quick, and must be safe for concurrent use. Its error is shown to people.
	Key func() (string, error)
	// UserAgent names the program and its version. Default: brazier.
	UserAgent string
	// Timeout bounds each call. Default: DefaultTimeout.
	Timeout time.Duration
	// MaxObjects is how many objects a call holds at most. Default: the constant of the same name.
	MaxObjects int
	// RepeatEvents sends events again whose call ended in doubt. Braze may then count one twice; without it one may be missing.
	RepeatEvents bool
	// CreateAliases lets attributes of an alias that Braze does not know make a profile. No other id ever makes one.
	CreateAliases bool
	// AllowPlainHTTP takes a URL that starts with http:// and is not this machine. The key then crosses the network for everybody
	// to read: for a simulated Braze in another container.
	AllowPlainHTTP bool
	// Transport makes the calls. Default: one of the client's own, with the proxy of the environment.
	Transport http.RoundTripper
}

// FieldError is what is wrong with a field of Config. It does not repeat a value that may hold a secret.
type FieldError struct {
	Field  string // the field's name
	Reason string // what it must be
}

func (e *FieldError) Error() string { return "braze: " + e.Field + ": " + e.Reason }

// Validate returns everything that is wrong with the configuration, as joined [*FieldError].
func (c Config) Validate() error {
	var found []error
	wrong := func(field, format string, args ...any) {
		found = append(found, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	if reason := c.checkURL(); reason != "" {
		wrong("URL", "%s", reason)
	}
	if c.Key == nil {
		wrong("Key", "must be set")
	}
	if strings.ContainsFunc(c.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		wrong("UserAgent", "must be printable ASCII")
	}
	if c.Timeout < 0 {
		wrong("Timeout", "must not be negative (got %s)", c.Timeout)
	}
	if c.MaxObjects < 0 || c.MaxObjects > MaxObjects {
		wrong("MaxObjects", "must be between 1 and %d (got %d)", MaxObjects, c.MaxObjects)
	}
	return errors.Join(found...)
}

// checkURL returns what is wrong with the URL, if anything.
func (c Config) checkURL() string {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return "must be set, such as https://rest.fra-01.braze.eu"
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return "must have the form https://rest.fra-01.braze.eu"
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "must have no user, query or fragment"
	case strings.Trim(u.Path, "/") == "users/track":
		return "must be without /users/track, which is added"
	case u.Scheme == "http" && !c.AllowPlainHTTP && !loopback(u.Hostname()):
		return "must be https:// or this machine, or AllowPlainHTTP must be set: the key would be shown to the network"
	}
	if _, err := http.ProxyFromEnvironment(&http.Request{URL: u}); c.Transport == nil && err != nil {
		return "the proxy for it in the environment must be a URL" // found here, since the error of a call would show its password
	}
	return ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// resolved fills in the defaults.
func (c Config) resolved() Config {
	c.URL = strings.TrimRight(c.URL, "/")
	c.UserAgent = cmp.Or(c.UserAgent, "brazier")
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.MaxObjects = cmp.Or(c.MaxObjects, MaxObjects)
	return c
}

package ingress

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Defaults of the fields of Config that are flags of the program too.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultMaxBody         = 256 << 10 // bytes, over a hundred times a long text message
	DefaultWait            = 40 * time.Second
	DefaultMaxWaiting      = 8192     // requests
	DefaultMaxWaitingBytes = 64 << 20 // bytes
	// DefaultMaxConnections must be above DefaultMaxWaiting: in HTTP/1 each waiting request occupies a connection, and the
	// requests beyond MaxWaiting need connections of their own to be answered 503. An idle connection that was used takes
	// 21 KB of memory, 41 KB with TLS and 52 KB with HTTP/2 (measured with 3,000 to 4,000 connections). At the limit that is
	// 0.35, 0.7 or 0.9 GB.
	DefaultMaxConnections = 16384
)

// Defaults of the limits of webhooks.
const (
	// DefaultMaxWebhookBody, in bytes, is enough for the 1,000 events that Facebook puts into one body at most (Graph API,
	// webhooks getting started), at four times the size of an event with a text of some lines. A body over the limit is
	// refused each time that Facebook repeats it, until Facebook unsubscribes the page.
	DefaultMaxWebhookBody     = 4 << 20
	DefaultMaxWebhooksWaiting = 512      // requests, each with up to 1,000 events
	DefaultMaxWebhookBytes    = 32 << 20 // bytes, of eight bodies of the largest size
)

// MaxWait is the longest that Config.Wait may be. Braze abandons a request after 90 s; the 10 s between are for the answer
// to reach Braze.
const MaxWait = 80 * time.Second

// Config holds the settings of a Server. Queue is required; the zero value of every other field means its default.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	// Listen is the TCP address, HOST:PORT. Default [DefaultListen].
	Listen string
	// MaxBody bounds the body of a request, in bytes. Default [DefaultMaxBody].
	MaxBody int64
	// Wait is how long a request waits for the queue before it is answered 503. Default [DefaultWait], at most [MaxWait].
	Wait time.Duration
	// MaxWaiting is how many requests may wait for the queue at one time; requests beyond it are answered 503 at once.
	// Default [DefaultMaxWaiting].
	MaxWaiting int
	// MaxWaitingBytes bounds the memory of all large bodies together, in bytes, from their arrival until they are stored;
	// requests beyond it are answered 503 at once. The first 4 KiB of each body do not count: MaxWaiting and
	// MaxConnections bound those. Default [DefaultMaxWaitingBytes], at least MaxBody.
	MaxWaitingBytes int64

	// MaxConnections is how many connections may be open at one time. Beyond it the connection that has been idle longest
	// is closed for a new one; while no connection has been idle for 2 s, new ones wait to be accepted. Default
	// [DefaultMaxConnections].
	MaxConnections int

	// Apps are the Facebook apps whose webhooks are taken, at /webhook. Empty: that path is answered 404. Queue must have been
	// opened with [queue.Config.RoadBack] then.
	Apps []App
	// MaxWebhookBody bounds the body of a webhook, in bytes. Default [DefaultMaxWebhookBody].
	MaxWebhookBody int64
	// MaxWebhooksWaiting is how many webhooks may wait for the queue at one time, apart from MaxWaiting. Default
	// [DefaultMaxWebhooksWaiting].
	MaxWebhooksWaiting int
	// MaxWebhookBytes bounds the memory of the large bodies of webhooks, apart from MaxWaitingBytes and counted likewise.
	// Default [DefaultMaxWebhookBytes], at least MaxWebhookBody.
	MaxWebhookBytes int64

	// AllowFrom are the networks that requests may come from, webhooks excepted. Empty: requests may come from anywhere.
	AllowFrom []netip.Prefix
	// WebhookAllowFrom are the networks that webhooks may come from. Empty: webhooks may come from anywhere, and their
	// signatures alone tell who sent them. Facebook advises against lists of its addresses, as they change.
	WebhookAllowFrom []netip.Prefix
	// TrustedProxies are the networks of the proxies whose X-Forwarded-For header is believed.
	TrustedProxies []netip.Prefix
	// TLS, if set, makes the server speak HTTPS only, in HTTP/1.1 and HTTP/2. TLS needs a certificate.
	TLS *tls.Config

	// HeaderTimeout bounds the arrival of the headers of a request, and the TLS handshake. Default 10s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds the arrival of a whole request. Default 30s.
	BodyTimeout time.Duration
	// AnswerTimeout bounds the writing of an answer, on top of the times for reading and waiting. Default 15s.
	AnswerTimeout time.Duration
	// IdleTimeout is how long a connection may be silent between requests. Default 2m.
	IdleTimeout time.Duration

	Log *zap.Logger // default: nothing is logged
}

// ConfigError is a setting of Config that cannot be used.
type ConfigError struct {
	Field string // of Config, such as "MaxBody"
	Fault string // what is allowed and what was given, such as "must not be negative (got -1)"
}

func (e *ConfigError) Error() string { return "ingress: " + e.Field + ": " + e.Fault }

// Validate returns all faults of the settings, joined, each of them a *[ConfigError], or nil. It does not need Queue, so
// settings can be judged before there is a queue.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	refuse := func(field, format string, args ...any) {
		faults = append(faults, &ConfigError{field, fmt.Sprintf(format, args...)})
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil {
		refuse("Listen", "must be HOST:PORT (got %q)", c.Listen)
	} else if _, err := net.LookupPort("tcp", port); err != nil {
		refuse("Listen", "must have a port between 0 and 65535 (got %q)", c.Listen)
	}
	for _, f := range []struct {
		field string
		value int64
	}{{"MaxBody", c.MaxBody}, {"MaxWaiting", int64(c.MaxWaiting)}, {"MaxConnections", int64(c.MaxConnections)},
		{"MaxWebhookBody", c.MaxWebhookBody}, {"MaxWebhooksWaiting", int64(c.MaxWebhooksWaiting)}} {
		if f.value < 0 {
			refuse(f.field, "must not be negative (got %d)", f.value)
		}
	}
	if c.MaxWaitingBytes < c.MaxBody {
		refuse("MaxWaitingBytes", "must be at least the size of the largest body, %d, or that body is never accepted (got %d)", c.MaxBody, c.MaxWaitingBytes)
	}
	if c.MaxWebhookBytes < c.MaxWebhookBody {
		refuse("MaxWebhookBytes", "must be at least the size of the largest webhook, %d, or that webhook is never accepted (got %d)", c.MaxWebhookBody, c.MaxWebhookBytes)
	}
	for _, f := range []struct {
		field string
		value time.Duration
	}{{"Wait", c.Wait}, {"HeaderTimeout", c.HeaderTimeout}, {"BodyTimeout", c.BodyTimeout}, {"AnswerTimeout", c.AnswerTimeout}, {"IdleTimeout", c.IdleTimeout}} {
		if f.value < 0 {
			refuse(f.field, "must not be negative (got %v)", f.value)
		}
	}
	if c.Wait > MaxWait {
		refuse("Wait", "must be at most %v, since Braze abandons a request after 90s (got %v)", MaxWait, c.Wait)
	}
	return errors.Join(slices.Concat(faults, pageFaults(c.Pages), appFaults(c.Apps))...)
}

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	c.MaxBody = cmp.Or(c.MaxBody, DefaultMaxBody)
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, DefaultMaxWaiting)
	c.MaxWaitingBytes = cmp.Or(c.MaxWaitingBytes, DefaultMaxWaitingBytes)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 10*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 30*time.Second)
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, 15*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.Log = cmp.Or(c.Log, zap.NewNop())
	c.MaxWebhookBody = cmp.Or(c.MaxWebhookBody, DefaultMaxWebhookBody)
	c.MaxWebhooksWaiting = cmp.Or(c.MaxWebhooksWaiting, DefaultMaxWebhooksWaiting)
	c.MaxWebhookBytes = cmp.Or(c.MaxWebhookBytes, DefaultMaxWebhookBytes)
	c.AllowFrom, c.WebhookAllowFrom, c.TrustedProxies = unmapped(c.AllowFrom), unmapped(c.WebhookAllowFrom), unmapped(c.TrustedProxies)
	return c
}

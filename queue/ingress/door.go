// Package ingress is the HTTP door: it takes the Send API requests of Braze campaigns and of programs like them, makes them
// durable, and answers truthfully about them.
//
// It reads Graph's own forms (POST /{version}/me/messages and its variants), so that a template needs only another host
// and another token. The token is a key of the door, never a page's token, and names the page. It answers in its own way: 202
// with the id that the message has here, where Facebook would answer 200 with ids of its own. Uploads, batches and the rest
// of Graph are not here.
//
// Promises: 202 is answered only after the queue has stored the message. An answer is never a redirect (Braze does not
// follow them and does not retry), never 200 with an error in it, and never holds a key, a message text or a recipient.
// Braze retries 408, 429 and 5xx only, so those are kept for what a repetition can mend.
//
// Nobody can make it hold more than its bounds: connections are bounded (see listener), requests that find no room are
// refused at once (see room), what is slow is cut off, and lines about refusals are logged so many a second, the rest
// counted (see sampler). A refusal does not wait for the body of its request (see finishBody).
package ingress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
)

// Page is a Facebook page that callers may send for.
type Page struct {
	ID   string // Facebook page id
	Name string // how logs name it; default ID
	// Keys are the SHA-256 digests of the keys that callers present for this page.
	Keys [][sha256.Size]byte
	// Expire is how long a message is worth delivering when the request does not say. Default [DefaultExpire].
	Expire time.Duration
	// QueueShare is the part of the queue that the page may fill of what the others leave. Default [queue.DefaultShare].
	QueueShare float64
}

// DefaultExpire is a page's expiry where it has none of its own.
const DefaultExpire = 24 * time.Hour

// Defaults of Config for those of its fields that are flags of the program too.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultMaxBody         = 256 << 10 // bytes, over a hundred times a long text message
	DefaultWait            = 40 * time.Second
	DefaultMaxWaiting      = 8192     // requests
	DefaultMaxWaitingBytes = 64 << 20 // bytes
	// DefaultMaxConnections is above DefaultMaxWaiting, since in HTTP/1 each request that waits has a connection: there is
	// then a connection left for those that are answered 503. An idle connection that was used takes 21 KB of memory, with
	// TLS 41 KB, in HTTP/2 52 KB (measured with 3,000 to 4,000 of them): 0.35 GB for so many, 0.7 GB, or 0.9 GB.
	DefaultMaxConnections = 16384
)

// Config is what a Door needs. Queue is required.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	// Listen is the TCP address. Default [DefaultListen].
	Listen string
	// MaxBody bounds a request's body, in bytes. Default [DefaultMaxBody].
	MaxBody int64
	// Wait is how long a request waits for the queue before it is answered 503. Default [DefaultWait]; Braze gives a
	// request 90 s.
	Wait time.Duration
	// MaxWaiting is how many requests may wait for the queue at one time; others are answered 503 at once. Default
	// [DefaultMaxWaiting].
	MaxWaiting int
	// MaxWaitingBytes bounds the memory that large bodies take together while they arrive and wait; others are answered
	// 503 at once. The first 4 KiB of each do not count: MaxWaiting bounds those. Default
	// [DefaultMaxWaitingBytes].
	MaxWaitingBytes int64

	// MaxConnections is how many connections may be open at one time. Beyond it the one that was idle for longest is closed
	// for a new one; while none was idle for 2 s, new ones wait to be accepted. Default [DefaultMaxConnections].
	MaxConnections int

	// AllowFrom are the networks that requests may come from. Empty: everybody's.
	AllowFrom []netip.Prefix
	// TrustedProxies are the networks of proxies whose X-Forwarded-For tells where a request comes from.
	TrustedProxies []netip.Prefix
	// TLS, if set, makes the door speak HTTPS alone, in HTTP/1.1 and HTTP/2. It needs a certificate.
	TLS *tls.Config

	// HeaderTimeout bounds the arrival of a request's headers, and the TLS handshake. Default 10s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds the arrival of a whole request. Default 30s.
	BodyTimeout time.Duration
	// AnswerTimeout bounds the writing of an answer, on top of the times for reading and waiting. Default 15s.
	AnswerTimeout time.Duration
	// IdleTimeout is how long a connection may be silent between requests. Default 2m.
	IdleTimeout time.Duration

	Log *zap.Logger // default: nothing is logged
}

const maxHeader = 32 << 10

// http2Limits bound what one connection can ask for. A stream is a request; a body of Braze's fits its buffer many times.
// A peer that is silent is asked for a sign of life, and cut off without one.
var http2Limits = http.HTTP2Config{
	MaxConcurrentStreams:          128,
	MaxReceiveBufferPerStream:     64 << 10,
	MaxReceiveBufferPerConnection: 512 << 10,
	SendPingTimeout:               30 * time.Second,
	PingTimeout:                   15 * time.Second,
	WriteByteTimeout:              15 * time.Second,
}

// drainTimeout is what requests under way get to be answered when the door closes, waiting for the queue included.
const drainTimeout = 5 * time.Second

// Door is the HTTP server. It is an http.Handler, for those who bring a server of their own, and a prometheus.Collector.
type Door struct {
	cfg       Config
	log       *zap.Logger
	keys      atomic.Pointer[keyring]
	listener  *listener
	server    *http.Server
	room      *room
	metrics   *metrics
	strangers *sampler // of refusals without a page; each page has its own, so that strangers do not drown what it has to say
	httpSaid  *sampler

	draining atomic.Bool
	underway atomic.Int64    // requests in ServeHTTP
	waiting  context.Context // ends when requests may wait for the queue no longer
	giveUp   context.CancelFunc
}

func (c *Config) setDefaults() error {
	for _, f := range []struct {
		name  string
		value *int64
		or    int64
	}{
		{"MaxBody", &c.MaxBody, DefaultMaxBody},
		{"MaxWaitingBytes", &c.MaxWaitingBytes, DefaultMaxWaitingBytes},
		{"Wait", (*int64)(&c.Wait), int64(DefaultWait)},
		{"HeaderTimeout", (*int64)(&c.HeaderTimeout), int64(10 * time.Second)},
		{"BodyTimeout", (*int64)(&c.BodyTimeout), int64(30 * time.Second)},
		{"AnswerTimeout", (*int64)(&c.AnswerTimeout), int64(15 * time.Second)},
		{"IdleTimeout", (*int64)(&c.IdleTimeout), int64(2 * time.Minute)},
	} {
		if *f.value < 0 {
			return fmt.Errorf("%s: %d is under 0", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.or
		}
	}
	switch {
	case c.Queue == nil:
		return errors.New("field Queue is missing")
	case c.MaxWaiting < 0:
		return fmt.Errorf("MaxWaiting: %d is under 0", c.MaxWaiting)
	case c.MaxWaitingBytes < c.MaxBody:
		return fmt.Errorf("MaxWaitingBytes: %d is under MaxBody, %d: the largest body would never be taken", c.MaxWaitingBytes, c.MaxBody)
	case c.MaxConnections < 0:
		return fmt.Errorf("MaxConnections: must be 0 or more (got %d)", c.MaxConnections)
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = DefaultMaxWaiting
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	c.AllowFrom, c.TrustedProxies = plain(c.AllowFrom), plain(c.TrustedProxies)
	return nil
}

// Open checks the configuration and listens. Requests are served by [Door.Run].
func Open(cfg Config) (*Door, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	listener, err := listen(cfg.Listen, cfg.MaxConnections, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	d := &Door{cfg: cfg, log: cfg.Log, listener: listener, room: newRoom(cfg.MaxWaiting, cfg.MaxWaitingBytes)}
	d.metrics = newMetrics(d.room, listener)
	d.strangers = d.newSampler("rejected", "")
	if err := d.SetPages(cfg.Pages); err != nil {
		_ = listener.Close() // it never served
		return nil, err
	}
	d.httpSaid = d.newSampler("http_error", "")
	d.waiting, d.giveUp = context.WithCancel(context.Background())
	d.server = d.newServer()
	return d, nil
}

func (d *Door) newServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	// HTTP/2 without TLS would be one more parser open to strangers, and neither Braze nor a usual proxy speaks it.
	protocols.SetHTTP2(d.cfg.TLS != nil)
	return &http.Server{
		Handler:           d,
		Protocols:         &protocols,
		HTTP2:             &http2Limits,
		TLSConfig:         d.cfg.TLS,
		ReadHeaderTimeout: d.cfg.HeaderTimeout,
		ReadTimeout:       d.cfg.BodyTimeout,
		WriteTimeout:      d.cfg.BodyTimeout + d.cfg.Wait + d.cfg.AnswerTimeout,
		IdleTimeout:       d.cfg.IdleTimeout,
		ConnState:         d.listener.track,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(httpErrors{d}, "", 0),
		// Otherwise net/http answers OPTIONS * with 200, past this handler.
		DisableGeneralOptionsHandler: true,
	}
}

func (d *Door) newSampler(of, page string) *sampler {
	return &sampler{tell: func(left int) {
		d.log.Warn("lines left out", zap.String("event", "left_out"), zap.String("of", of), zap.String("page", page), zap.Int("count", left))
	}}
}

// httpErrors logs what net/http has to say: a listener that fails, a peer that breaks off its TLS handshake.
type httpErrors struct{ d *Door }

func (h httpErrors) Write(line []byte) (int, error) {
	if h.d.httpSaid.allow() {
		h.d.log.Warn("HTTP server", zap.String("event", "http_error"), zap.String("detail", strings.TrimSpace(string(line))))
	}
	return len(line), nil
}

// keyring has each page under the digests of its keys.
type keyring map[[sha256.Size]byte]*knownPage

// knownPage is a page that callers may send for.
type knownPage struct {
	Page
	refusals *sampler
}

// SetPages makes these the pages that callers may send for, at any time. After an error nothing has changed.
func (d *Door) SetPages(pages []Page) error {
	keys, shares := keyring{}, map[string]float64{}
	for _, p := range pages {
		if err := p.complete(); err != nil {
			return err
		}
		shares[p.ID] = p.QueueShare
		known := &knownPage{Page: p, refusals: d.newSampler("rejected", p.Name)}
		for _, k := range p.Keys {
			if other, taken := keys[k]; taken {
				return fmt.Errorf("ingress: page %s: Keys: a key belongs to page %s already, and a key names one page", p.Name, other.Name)
			}
			keys[k] = known
		}
	}
	for _, known := range keys {
		d.metrics.expect(known.Name)
	}
	d.keys.Store(&keys)
	d.cfg.Queue.SetShares(shares)
	return nil
}

// complete checks the page and fills in its defaults.
func (p *Page) complete() error {
	if p.Name == "" {
		p.Name = p.ID
	}
	if !isDigits(p.ID) {
		return fmt.Errorf("ingress: page %s: ID: %q is not a Facebook page id, digits only", p.Name, p.ID)
	}
	if p.QueueShare == 0 {
		p.QueueShare = queue.DefaultShare
	}
	if p.QueueShare < 0 || p.QueueShare > 1 {
		return fmt.Errorf("ingress: page %s: QueueShare must be above 0 and up to 1 (got %v)", p.Name, p.QueueShare)
	}
	if p.Expire == 0 {
		p.Expire = DefaultExpire
	}
	if p.Expire < 0 || p.Expire > queue.MaxExpire {
		return fmt.Errorf("ingress: page %s: Expire: %v is not between 0 and %v", p.Name, p.Expire, queue.MaxExpire)
	}
	return nil
}

// Addr is where the door listens.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Run serves until ctx ends, then answers what is under way, within 5 s, and returns.
func (d *Door) Run(ctx context.Context) error {
	defer d.giveUp()
	defer d.tellLeftOut()
	failed := make(chan error, 1)
	go func() { failed <- d.serve() }()
	select {
	case err := <-failed:
		_ = d.server.Close() // the connections that are left
		return fmt.Errorf("ingress: %w", err)
	case <-ctx.Done():
	}
	d.draining.Store(true)
	// Those who wait for the queue are answered 503 in time for the answer to be read.
	lastCall := time.AfterFunc(drainTimeout*4/5, d.giveUp)
	defer lastCall.Stop()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := d.server.Shutdown(bound)
	<-failed // http.ErrServerClosed
	if err == nil {
		return nil
	}
	cutOff := d.underway.Load()
	_ = d.server.Close()
	if cutOff == 0 {
		// Shutdown waits for connections that are open and silent too, such as a balancer keeps. They lose nothing.
		return nil
	}
	return fmt.Errorf("ingress: %d requests were cut off: %w", cutOff, err)
}

func (d *Door) serve() error {
	if d.cfg.TLS != nil {
		return d.server.ServeTLS(d.listener, "", "") // the certificate is the configuration's
	}
	return d.server.Serve(d.listener)
}

// tellLeftOut loses no count when the door closes.
func (d *Door) tellLeftOut() {
	d.httpSaid.flush()
	d.strangers.flush()
	for _, page := range *d.keys.Load() {
		page.refusals.flush()
	}
}

// Close closes a door that never ran. After Run it does nothing.
func (d *Door) Close() error {
	d.giveUp()
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

// Package ingress is the HTTP door: it takes what a Braze campaign or any Send API client posts, makes it durable, and
// answers truthfully about it.
//
// It speaks Graph's own forms (POST /{version}/me/messages and its variants), so that a template needs only another host
// and another token. The token is a key of the door, never a page's token, and names the page.
//
// Promises: 202 is answered only after the queue has stored the message. An answer is never a redirect (Braze does not
// follow them and does not retry), never 200 with an error in it, and never holds a key, a message text or a recipient.
// Braze retries 408, 429 and 5xx only, so those are kept for what a repetition can mend.
package ingress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
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
}

// DefaultExpire is a page's expiry where it has none of its own.
const DefaultExpire = 24 * time.Hour

// Config is what a Door needs. Queue is required.
type Config struct {
	Queue *queue.Queue
	Pages []Page
	// Listen is the TCP address. Default 127.0.0.1:8080.
	Listen string
	// MaxBody bounds a request's body, in bytes. Default 256 KiB, over a hundred times a long text message.
	MaxBody int64
	// Wait is how long a request waits for the queue before it is answered 503. Default 15s; Braze gives a request 90.
	Wait time.Duration
	// MaxWaiting is how many requests may wait for the queue at one time; others are answered 503 at once. Each holds its
	// body in memory. Default 8192.
	MaxWaiting int
	Log        *zap.Logger // default: nothing is logged
}

// Timeouts of the server. Braze posts a body of a few hundred bytes at once; what takes longer than this is no Braze.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	// answerTimeout is what writing an answer may take on top of reading and waiting.
	answerTimeout = 15 * time.Second
	maxHeader     = 32 << 10
)

// drainTimeout is what requests under way get to be answered when the door closes, waiting for the queue included.
const drainTimeout = 5 * time.Second

// Door is the HTTP server. It is an http.Handler, for those who bring a server of their own.
type Door struct {
	cfg      Config
	log      *zap.Logger
	keys     map[[sha256.Size]byte]*Page
	listener net.Listener
	server   *http.Server

	places   chan struct{} // one element per request that waits for the queue
	draining atomic.Bool
	underway atomic.Int64    // requests in ServeHTTP
	waiting  context.Context // ends when requests may wait for the queue no longer
	giveUp   context.CancelFunc
}

// Open checks the configuration and listens. Requests are served by [Door.Run].
func Open(cfg Config) (*Door, error) {
	switch {
	case cfg.Queue == nil:
		return nil, errors.New("ingress: Queue is missing")
	case cfg.MaxBody < 0:
		return nil, fmt.Errorf("ingress: MaxBody: %d is under 0", cfg.MaxBody)
	case cfg.Wait < 0:
		return nil, fmt.Errorf("ingress: Wait: %v is under 0", cfg.Wait)
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:8080"
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 256 << 10
	}
	if cfg.Wait == 0 {
		cfg.Wait = 15 * time.Second
	}
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = 8192
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	keys, err := keyring(cfg.Pages)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	// What net/http has to say: a panic, a listener that fails.
	errorLog, err := zap.NewStdLogAt(cfg.Log.With(zap.String("event", "http_error")), zap.ErrorLevel)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	d := &Door{cfg: cfg, log: cfg.Log, keys: keys, listener: listener, places: make(chan struct{}, cfg.MaxWaiting)}
	d.waiting, d.giveUp = context.WithCancel(context.Background())
	d.server = &http.Server{
		Handler:           d,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout + cfg.Wait + answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:          errorLog,
		// Otherwise net/http answers OPTIONS * with 200, past this handler.
		DisableGeneralOptionsHandler: true,
	}
	return d, nil
}

// keyring maps each key's digest to its page.
func keyring(pages []Page) (map[[sha256.Size]byte]*Page, error) {
	keys := make(map[[sha256.Size]byte]*Page)
	for _, p := range pages {
		if p.Name == "" {
			p.Name = p.ID
		}
		if !isDigits(p.ID) {
			return nil, fmt.Errorf("page %s: ID: %q is not a Facebook page id, digits only", p.Name, p.ID)
		}
		if p.Expire == 0 {
			p.Expire = DefaultExpire
		}
		if p.Expire < 0 || p.Expire > queue.MaxExpire {
			return nil, fmt.Errorf("page %s: Expire: %v is not between 0 and %v", p.Name, p.Expire, queue.MaxExpire)
		}
		for _, k := range p.Keys {
			if other, taken := keys[k]; taken {
				return nil, fmt.Errorf("page %s: Keys: a key belongs to page %s already, and a key names one page", p.Name, other.Name)
			}
			keys[k] = &p
		}
	}
	return keys, nil
}

// Addr is where the door listens.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Run serves until ctx ends, then answers what is under way, within 5 s, and returns.
func (d *Door) Run(ctx context.Context) error {
	defer d.giveUp()
	failed := make(chan error, 1)
	go func() { failed <- d.server.Serve(d.listener) }()
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

// Close closes a door that never ran. After Run it does nothing.
func (d *Door) Close() error {
	d.giveUp()
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

// Package ingress takes the Send API requests of Braze campaigns, and of programs like them, and the webhooks of Facebook over
// HTTP, makes them durable, and answers truthfully about them.
//
// A request has one of Graph's own forms (POST /{version}/me/messages and its variants), so that a Braze template needs only
// another host and another token. The token is a Brazier key, never a page access token, and names the page. The answer is
// Brazier's own: 202 with the id that Brazier gave to the message, where Facebook answers 200 with ids of its own. Uploads,
// batches and the rest of Graph are not supported.
//
// Promises: 202 is answered only after the queue has stored the message. An answer is never a redirect (Braze does not
// follow redirects and does not retry them), never 200 with an error in it, and never contains a key, a message text or a
// recipient. Braze retries only 408, 429 and 5xx, so these statuses are kept for what a retry can mend.
//
// Webhooks come to a path of their own, from callers of their own, with limits of their own: see webhook.go. They share the
// connections and the processor with Send API requests, and nothing else.
//
// What callers can make the process hold is bounded:
//
//	connections                      listener    closes the idlest one, or lets new ones wait
//	waiting requests, large bodies   limits      503 at once
//	slow requests and readers        timeouts    cut off
//	log lines about refusals         sampler     counted
//
// A refusal does not wait for the body of its request (see finishBody).
package ingress

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const maxHeader = 32 << 10 // bytes, of all headers of a request; beyond it net/http answers 431

// http2Limits bound what one HTTP/2 connection can ask for. A stream is a request; the buffer of a stream holds the body of
// a Braze request many times over. A silent peer is pinged, and cut off if it does not answer.
var http2Limits = http.HTTP2Config{
	MaxConcurrentStreams:          128,
	MaxReceiveBufferPerStream:     64 << 10,
	MaxReceiveBufferPerConnection: 512 << 10,
	SendPingTimeout:               30 * time.Second,
	PingTimeout:                   15 * time.Second,
	WriteByteTimeout:              15 * time.Second,
}

// drainTimeout is how long Run waits for the requests under way when it ends, their waiting for the queue included. The
// README promises operators that a process stops within 27 s, of which these are part.
const drainTimeout = 5 * time.Second

// Server is the HTTP server. It is an http.Handler too, for programs with an HTTP server of their own, and a
// prometheus.Collector.
type Server struct {
	cfg      Config
	log      *zap.Logger
	keys     atomic.Pointer[keyring]
	apps     atomic.Pointer[knownApps] // nil: webhooks are off
	listener *listener
	server   *http.Server
	limits   *limits
	metrics  *metrics
	webhooks *webhooks

	// Lines about refused requests without a valid key have a sampler of their own, and so has each page: a flood of
	// unauthenticated requests must not suppress the lines about a page.
	unauthenticated *sampler
	httpErrors      *sampler // lines of net/http

	draining    atomic.Bool
	underway    atomic.Int64    // requests in ServeHTTP
	waiting     context.Context // ended by stopWaiting: no request waits for the queue after that
	stopWaiting context.CancelFunc
}

// Open validates the configuration and listens. [Server.Run] then serves requests; a Server that does not run has to be
// closed. A setting that cannot be used is a *[ConfigError].
func Open(cfg Config) (*Server, error) {
	if cfg.Queue == nil {
		return nil, &ConfigError{"Queue", "is required"}
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	listener, err := listen(cfg.Listen, cfg.MaxConnections, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Log, listener: listener, limits: newLimits(cfg.MaxWaiting, cfg.MaxWaitingBytes, cfg.MaxBody)}
	s.metrics = newMetrics(s.limits, listener)
	s.unauthenticated, s.httpErrors = s.newSampler("rejected", ""), s.newSampler("http_error", "")
	s.webhooks = s.newWebhooks()
	s.usePages(cfg.Pages)
	s.useApps(cfg.Apps)
	s.waiting, s.stopWaiting = context.WithCancel(context.Background())
	s.server = s.newServer()
	return s, nil
}

func (s *Server) newServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	// HTTP/2 without TLS would be one more parser open to unauthenticated callers, and neither Braze nor a usual proxy uses it.
	protocols.SetHTTP2(s.cfg.TLS != nil)
	return &http.Server{
		Handler:           s,
		Protocols:         &protocols,
		HTTP2:             &http2Limits,
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		ReadTimeout:       s.cfg.BodyTimeout,
		WriteTimeout:      s.cfg.BodyTimeout + s.cfg.Wait + s.cfg.AnswerTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		ConnState:         s.listener.track,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(httpErrorLog{s}, "", 0),
		// Otherwise net/http itself answers OPTIONS * with 200.
		DisableGeneralOptionsHandler: true,
	}
}

func (s *Server) newSampler(of, page string) *sampler {
	return &sampler{report: func(leftOut int) {
		s.log.Warn("lines left out", zap.String("event", "left_out"), zap.String("of", of), zap.String("page", page), zap.Int("count", leftOut))
	}}
}

// httpErrorLog logs the errors of net/http, such as a TLS handshake that a peer breaks off.
type httpErrorLog struct{ s *Server }

func (h httpErrorLog) Write(line []byte) (int, error) {
	if h.s.httpErrors.allow() {
		h.s.log.Warn("HTTP server", zap.String("event", "http_error"), zap.String("detail", strings.TrimSpace(string(line))))
	}
	return len(line), nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then answers the requests under way, within 5 s, and returns. The error says how many requests
// were cut off, or why the server ended before ctx did. Run is called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.stopWaiting()
	defer s.reportLeftOut()
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watching.Go(func() { s.watchWorkers(ctx) })
	failed := make(chan error, 1)
	go func() { failed <- s.serve() }()
	select {
	case err := <-failed:
		_ = s.server.Close() // closes the remaining connections
		return fmt.Errorf("ingress: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	// Requests that still wait for the queue are answered 503 early enough for the answers to be sent.
	deadline := time.AfterFunc(drainTimeout*4/5, s.stopWaiting)
	defer deadline.Stop()
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := s.server.Shutdown(bound)
	<-failed // http.ErrServerClosed
	if err == nil {
		return nil
	}
	cutOff := s.underway.Load()
	_ = s.server.Close()
	if cutOff == 0 {
		// Shutdown also waits for open connections without a request, such as a load balancer keeps. They lose nothing.
		return nil
	}
	return fmt.Errorf("ingress: %d requests were cut off: %w", cutOff, err)
}

func (s *Server) serve() error {
	if s.cfg.TLS != nil {
		return s.server.ServeTLS(s.listener, "", "") // the certificate is in TLSConfig
	}
	return s.server.Serve(s.listener)
}

// reportLeftOut logs the counts of left-out lines that are not logged yet.
func (s *Server) reportLeftOut() {
	s.httpErrors.flush()
	s.unauthenticated.flush()
	s.webhooks.unsigned.flush()
	s.webhooks.signed.flush()
	for _, page := range *s.keys.Load() {
		page.refusals.flush()
	}
}

// Close releases a Server that never ran. After Run it does nothing.
func (s *Server) Close() error {
	s.stopWaiting()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

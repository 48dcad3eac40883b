package ingress_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// openTLS serves over TLS, with the certificate of net/http/httptest.
func openTLS(t *testing.T, cfg ingress.Config) *harness {
	t.Helper()
	issuer := httptest.NewTLSServer(http.NotFoundHandler())
	trusting := issuer.Client().Transport.(*http.Transport).TLSClientConfig
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: issuer.TLS.Certificates}
	issuer.Close()
	h := openOn(t, cfg, fresh(t))
	h.url = strings.Replace(h.url, "http:", "https:", 1)
	transport := &http.Transport{TLSClientConfig: trusting, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	h.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return h
}

func TestTLS(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.InfoLevel)
	h := openTLS(t, ingress.Config{Log: zap.New(seen)})
	var requests sync.WaitGroup
	for n := range 100 { // streams of one connection
		requests.Go(func() { h.accepted(h.post(withBody(sendText(n))), "queued") })
	}
	requests.Wait()
	h.refused(h.post(withBody(strings.Repeat(" ", 300<<10))), http.StatusRequestEntityTooLarge)
	h.refused(h.post(withBody(strings.Repeat(" ", 300<<10)), func(r *http.Request) { r.ContentLength = -1 }), http.StatusRequestEntityTooLarge)
	if jobs := h.take(acme); len(jobs) != 100 {
		t.Errorf("%d jobs are stored, want 100", len(jobs))
	}
	resp, err := h.client.Get(h.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("the protocol is %s over TLS %x", resp.Proto, resp.TLS.Version)
	}

	old := h.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	old.MinVersion, old.MaxVersion, old.NextProtos = tls.VersionTLS10, tls.VersionTLS11, nil
	if conn, err := tls.Dial("tcp", h.server.Addr().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
	if status, _ := h.raw("GET / HTTP/1.1\r\nHost: brazier.example\r\n\r\n", false); status != http.StatusBadRequest {
		t.Errorf("without TLS: status %d", status)
	}
	if len(lines.FilterField(zap.String("event", "http_error")).All()) == 0 {
		t.Error("handshakes that fail are not logged")
	}
}

// A slow body over HTTP/2 is answered 408, and its connection serves other requests meanwhile.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	h := openTLS(t, ingress.Config{BodyTimeout: 3 * time.Second})
	body, sender := io.Pipe()
	defer sender.Close()
	go fmt.Fprint(sender, "{")
	slow := make(chan answer, 1)
	go func() {
		slow <- h.post(func(r *http.Request) { r.Body, r.ContentLength, r.GetBody = body, 200_000, nil })
	}()
	h.accepted(h.post(), "queued")
	h.refused(<-slow, http.StatusRequestTimeout)
	h.only(acme)
}

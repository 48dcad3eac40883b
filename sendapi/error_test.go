package sendapi

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Answers, and what they say of Facebook.
func TestUnreachable(t *testing.T) {
	const html = "<html>Sorry</html>"
	tests := []struct {
		name, body  string
		status      int
		unreachable bool
	}{
		{"500 silent", "", 500, true},
		{"502 HTML", html, 502, true},
		{"503 text", "upstream connect error", 503, true},
		{"503 JSON without an error", "{}", 503, true},
		{"504 HTML", html, 504, true},
		{"500 Graph error", `{"error":{"code":2,"is_transient":true}}`, 500, false},
		{"503 Graph error without a code", `{"error":{"message":"x"}}`, 503, false},
		{"407 HTML", html, 407, true},
		{"401 HTML", html, 401, false},
		{"403 HTML", html, 403, false},
		{"404 HTML", html, 404, false},
		{"429 empty", "", 429, false},
		{"302 empty", "", 302, false},
		{"200 HTML", html, 200, false},
		{"another status", "", 600, false},
		{"message", `{"error":{"code":100}}`, 400, false},
		{"no such object", `{"error":{"code":100,"error_subcode":33}}`, 400, false},
		{"call", `{"error":{"code":100,"error_subcode":33,"type":"GraphMethodException"}}`, 400, false},
		{"unknown code", `{"error":{"code":777777}}`, 400, false},
		{"page", `{"error":{"code":200}}`, 403, false},
		{"token", `{"error":{"code":190}}`, 401, false},
	}
	for _, tt := range tests {
		e := decodeFailure(t, tt.status, tt.body)
		if e.Unreachable() != tt.unreachable {
			t.Errorf("%s: Unreachable %v (%v)", tt.name, e.Unreachable(), e)
		}
		if graph := strings.Contains(tt.body, `"error"`); e.Silent == graph {
			t.Errorf("%s: Silent %v", tt.name, e.Silent)
		}
	}
	// Errors of callers, who have not called.
	for _, class := range Classes() {
		if e := (&Error{Class: class}); e.Unreachable() {
			t.Errorf("an error of class %s without a call is Unreachable", class)
		}
	}
}

// The caller's own end says nothing of Facebook.
func TestCanceledIsNotUnreachable(t *testing.T) {
	client := testClient(t, "http://127.0.0.1:1", nil)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancelLate()
	for _, ctx := range []context.Context{canceled, late} {
		if e := sendFails(t, ctx, client); e.Class != ClassTransient || e.Unreachable() {
			t.Errorf("%v: unreachable %v", e, e.Unreachable())
		}
	}
	// While the handshake hangs, canceled by the caller.
	arrived := make(chan struct{})
	mute := strings.Replace(rawServer(t, func(_ int, conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		close(arrived)
	}), "http:", "https:", 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-arrived; stop() }()
	if e := sendFails(t, ctx, testClient(t, mute, nil)); e.Class != ClassTransient || e.Unreachable() {
		t.Errorf("%v: unreachable %v", e, e.Unreachable())
	}
}

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// health runs brazier health and returns its exit code and everything that it wrote.
func health(t *testing.T, args ...string) (code int, wrote string) {
	t.Helper()
	code, out, complaints := runCommand(t, append([]string{"health"}, args...)...)
	return code, out + complaints
}

// A role that serves is ready and alive; one that waits for NATS is alive, and says why it is not ready.
func TestHealthOfRoles(t *testing.T) {
	page := newTestPage("1029384756", "acme")
	pages := "--pages=" + writePages(t, page)
	serving := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", pages, "--data="+t.TempDir(), "--graph-url=http://127.0.0.1:1", "--log-format=json")
	serving.log.await(t, "started")
	ready := serving.log.await(t, "ops")["address"].(string)
	waiting := startRole(t, "ingress", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", pages, "--nats-url=nats://"+freeAddress(t), "--log-format=json")
	waiting.log.await(t, "waiting")
	waits := waiting.log.await(t, "ops")["address"].(string)
	_, port, _ := net.SplitHostPort(ready)
	t.Setenv("BRAZIER_OPS_LISTEN", waits)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--ops-listen=" + ready}, cli.ExitOK, "ready\n"},
		{[]string{"--ops-listen=" + ready, "--alive"}, cli.ExitOK, "alive\n"},
		{[]string{"--ops-listen=0.0.0.0:" + port}, cli.ExitOK, "ready\n"},
		{[]string{"--ops-listen=:" + port}, cli.ExitOK, "ready\n"},
		{[]string{"--url=http://localhost:" + port}, cli.ExitOK, "ready\n"},
		{nil, cli.ExitFailed, "brazier: not open: "},
		{[]string{"--alive"}, cli.ExitOK, "alive\n"},
	} {
		if code, wrote := health(t, c.args...); code != c.code || !strings.HasPrefix(wrote, c.want) || strings.Count(wrote, "\n") != 1 {
			t.Errorf("health %v: code %d, %q, want %d, %q", c.args, code, wrote, c.code, c.want)
		}
	}
}

// What answers nothing, too late, or is no ops listener makes one line and exit code 1; what cannot be asked exit code 2.
func TestHealthWithoutRole(t *testing.T) {
	hangs := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			select {
			case <-hangs:
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	defer close(hangs)
	free := freeAddress(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--ops-listen=" + free}, cli.ExitFailed, "no answer of http://" + free + "/readyz: "},
		{[]string{"--url=" + server.URL}, cli.ExitFailed, "answered 404 Not Found: is that the ops listener of a role?"},
		{[]string{"--url=" + server.URL, "--alive", "--timeout=50ms"}, cli.ExitFailed, "/healthz did not answer within 50ms"},
		{[]string{"--url=" + server.URL + "/readyz"}, cli.ExitUsage, "--url: must be http://HOST:PORT, without a path"},
		{[]string{"--url=127.0.0.1:8081"}, cli.ExitUsage, "--url: must be http://HOST:PORT, without a path"},
		{[]string{"--ops-listen=off"}, cli.ExitUsage, "--ops-listen: is off"},
		{[]string{"--ops-listen=8081"}, cli.ExitUsage, `--ops-listen: must be HOST:PORT (got "8081")`},
		{[]string{"--timeout=0s"}, cli.ExitUsage, "--timeout: must be above 0 (got 0s)"},
	} {
		if code, wrote := health(t, c.args...); code != c.code || !strings.Contains(wrote, c.want) || strings.Count(wrote, "\n") != 1 {
			t.Errorf("health %v: code %d, %q, want %d, %q", c.args, code, wrote, c.code, c.want)
		}
	}
}

package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

func startIn(t *testing.T, dir string, log *zap.Logger) *embedded.Server {
	t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: dir, Sync: embedded.SyncInterval, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return srv
}

// TestAddress connects as another process does: the file, the port, the password.
func TestAddress(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, embedded.AddressFile)
	if _, err := embedded.Address(dir); !errors.Is(err, embedded.ErrNoServer) {
		t.Errorf("address of no server: %v", err)
	}
	if err := os.WriteFile(file, []byte(`{"url":"nats://127.0.0.1:1"}`), 0o644); err != nil { // left by a kill
		t.Fatal(err)
	}
	core, logged := observer.New(zap.DebugLevel)
	log := zap.New(core)
	srv := startIn(t, dir, log)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	at, err := embedded.Address(dir)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(at)
	if err != nil || u.Hostname() != "127.0.0.1" {
		t.Fatalf("address %s, error %v", u.Redacted(), err)
	}
	password, _ := u.User.Password()
	if len(password) < 24 {
		t.Errorf("the password has %d characters", len(password))
	}

	mine, err := queue.Open(t.Context(), queue.Config{InProcess: srv, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := queue.Open(t.Context(), queue.Config{URL: at, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for name, user := range map[string]*url.Userinfo{"no password": nil, "wrong password": url.UserPassword(u.User.Username(), "guess"), "wrong user": url.UserPassword("root", password)} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		q, err := queue.Open(ctx, queue.Config{URL: (&url.URL{Scheme: "nats", User: user, Host: u.Host}).String(), Log: log})
		if err == nil {
			q.Close()
			t.Errorf("%s: connected", name)
		} else if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: the error holds a password", name)
		}
		cancel()
	}
	for _, e := range logged.All() {
		if strings.Contains(e.Message+" "+text(e.ContextMap()), password) {
			t.Errorf("the log holds the password: %s", e.Message)
		}
	}

	theirs.Close()
	mine.Close()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there after Close: %v", err)
	}
	startIn(t, dir, nil)
	if err := srv.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	again, err := embedded.Address(dir)
	if err != nil {
		t.Fatalf("the second Close of one server removed the address of the next: %v", err)
	}
	if strings.Contains(again, password) {
		t.Error("two runs have one password")
	}
}

func text(m map[string]any) string {
	var b strings.Builder
	for _, v := range m {
		if s, ok := v.(string); ok {
			b.WriteString(s + " ")
		}
	}
	return b.String()
}

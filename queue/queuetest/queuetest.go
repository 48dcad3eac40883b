// Package queuetest gives a test a fresh, real queue: JetStream in this process, on files in the test's own directory.
//
// It is the one package below queue that meets a sibling: a queue for tests is the embedded server and a connection to
// it, and nothing else.
package queuetest

import (
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// Server starts JetStream in dir, or in a directory of the test's own if dir is empty, and stops it when the test ends.
// Flushes are left to the interval: tests that need each flush say so themselves.
func Server(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	srv, err := embedded.Start(embedded.Config{Dir: dir, Sync: embedded.SyncInterval})
	if err != nil {
		t.Fatalf("start JetStream: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("stop JetStream: %v", err)
		}
	})
	return srv
}

// New returns a queue on a server of its own. Both are closed when the test ends.
func New(t testing.TB) *queue.Queue {
	t.Helper()
	return On(t, Server(t, ""))
}

// On returns a queue on a running server. It is closed when the test ends.
func On(t testing.TB, srv *embedded.Server) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv, Embedded: true, Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatalf("open queue: %v", err)
	}
	t.Cleanup(q.Close)
	return q
}

// StrayClock excepts one goroutine from the search for leaks: that of nats-server's own clock, which goes on when a stream
// is made in the moment in which its server shuts down (nats-server 2.15.2).
func StrayClock() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1")
}

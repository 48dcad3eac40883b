// Package queuetest gives a test a fresh, real queue: JetStream in this process, on files in the test's own directory.
//
// It is the one package below queue that meets a sibling: a queue for tests is the embedded server and a connection to
// it, and nothing else.
package queuetest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// Unflushed are the settings of a server in dir that is not killed with its machine, and need not flush. With a short
// interval the race detector finds nats-server 2.15.2 at fault where a machine is busy: a stream's first flush comes
// before the stream is made.
func Unflushed(dir string) embedded.Config {
	return embedded.Config{Dir: dir, Sync: embedded.SyncInterval, FlushEvery: time.Hour}
}

// Server starts JetStream in dir, or in a directory of the test's own if dir is empty, and stops it when the test ends. It
// does not flush: tests that need flushes say so themselves.
func Server(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	srv, err := embedded.Start(Unflushed(dir))
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

// Ports that FreePort gives: below all that operating systems choose for outgoing connections, where a server that is
// started again on its port may find it taken. Each test binary has ports of its own, and shows so by holding the first
// of them.
const (
	firstPort, lastPort = 20000, 32000
	ownPorts            = 120
)

var own struct {
	sync.Mutex
	claim net.Listener // on the port before the others
	inUse map[int]bool
}

// FreePort returns a port of 127.0.0.1 that is the test's until it ends. A server can be stopped and started on it.
func FreePort(t testing.TB) int {
	t.Helper()
	own.Lock()
	defer own.Unlock()
	for at := firstPort; own.claim == nil && at < lastPort; at += ownPorts {
		own.claim, _ = listen(at)
		own.inUse = map[int]bool{}
	}
	if own.claim == nil {
		t.Fatalf("ports %d to %d are all taken", firstPort, lastPort)
	}
	first := own.claim.Addr().(*net.TCPAddr).Port + 1
	for port := first; port < first+ownPorts-1; port++ {
		if own.inUse[port] {
			continue
		}
		if l, err := listen(port); err == nil {
			_ = l.Close()
			own.inUse[port] = true
			t.Cleanup(func() {
				own.Lock()
				defer own.Unlock()
				delete(own.inUse, port)
			})
			return port
		}
	}
	t.Fatalf("ports %d to %d are all taken", first, first+ownPorts-2)
	return 0
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// Strays excepts goroutines from the search for leaks that go on when a stream is made while its server shuts down: that
// server's clock, and the goroutine that writes the stream's state (nats-server 2.15.2).
func Strays() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
	}
}

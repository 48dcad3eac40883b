package queue_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/brazier-relay/brazier/queue/queuetest"
)

// natsServer starts a NATS server in this process with more lines of configuration, and stops it when the test ends. Each
// %DIR% becomes a directory of the test's own.
func natsServer(t testing.TB, config string) *server.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	config = "listen: \"127.0.0.1:-1\"\n" + strings.ReplaceAll(config, "%DIR%", fmt.Sprintf("%q", t.TempDir()))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(testTimeout) {
		t.Fatal("nats-server is not ready")
	}
	return srv
}

// dial is a connection to a server, closed when the test ends.
func dial(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// natsCluster starts three servers that are one cluster.
func natsCluster(t testing.TB, config string) []*server.Server {
	t.Helper()
	var routes []string
	for range 3 {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", queuetest.FreePort(t)))
	}
	var servers []*server.Server
	for i, route := range routes {
		servers = append(servers, natsServer(t, fmt.Sprintf("server_name: nats-%d\n%s\ncluster { name: test, listen: %q, routes: [\"nats://%s\"] }\n",
			i, config, route, strings.Join(routes, `", "nats://`))))
	}
	eventually(t, "the cluster has a leader", func() bool { return led(servers) })
	return servers
}

func led(servers []*server.Server) bool {
	for _, s := range servers {
		if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
			return true
		}
	}
	return false
}

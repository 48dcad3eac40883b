package ingress_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// configOfChild, if set, makes this test binary a nats-server with that configuration, which says when it takes
// connections, and waits to be killed.
const configOfChild = "INGRESS_TEST_NATS"

func runNATS(config string) error {
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.Start()
	if !srv.ReadyForConnections(time.Minute) {
		return errors.New("nats-server is not ready")
	}
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
	return nil
}

// natsServer is a nats-server process. Killed, it can be started again at the same address on the same files.
type natsServer struct {
	t       *testing.T
	address string
	config  string
	child   *exec.Cmd // nil while there is none
	stdin   io.Closer
}

// newNATS returns a server that is not started yet.
func newNATS(t *testing.T) *natsServer {
	t.Helper()
	dir := t.TempDir()
	s := &natsServer{t: t, address: stableAddress(t), config: filepath.Join(dir, "nats.conf")}
	config := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\n", s.address, dir)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// start returns when the server takes connections.
func (s *natsServer) start() {
	s.t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), configOfChild+"="+s.config)
	stdin, err := child.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.child, s.stdin = child, stdin
	if said, err := bufio.NewReader(stdout).ReadString('\n'); said != "started\n" {
		s.t.Fatalf("nats-server said %q, %v", said, err)
	}
}

// kill ends the process as kill -9 does, and returns when it is gone.
func (s *natsServer) kill() {
	if s.child == nil {
		return
	}
	if err := s.child.Process.Kill(); err != nil {
		s.t.Error(err)
	}
	_ = s.child.Wait() // it was killed, and says so
	_ = s.stdin.Close()
	s.child = nil
}

// stableAddress is a loopback address that a process can come back to after it was killed. It lies below the ports that
// the system gives to outgoing connections, so that none of those takes it in between.
func stableAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000))))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

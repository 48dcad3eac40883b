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

// configOfChild names the variable that makes this test binary a nats-server with the configuration file in it. The server
// prints a line when it takes connections, and runs until it is killed.
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

// natsServer is a nats-server process that can be killed and started again at the same address on the same files.
type natsServer struct {
	t       *testing.T
	address string
	config  string
	child   *exec.Cmd // nil while none runs
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
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
		s.t.Fatalf("nats-server printed %q, %v", line, err)
	}
}

// kill ends the process as kill -9 does, and returns when the process has ended.
func (s *natsServer) kill() {
	if s.child == nil {
		return
	}
	if err := s.child.Process.Kill(); err != nil {
		s.t.Error(err)
	}
	_ = s.child.Wait() // the error is that it was killed
	_ = s.stdin.Close()
	s.child = nil
}

// stableAddress returns a loopback address that a process can listen on again after it was killed. Its port is below those
// that the system gives to outgoing connections, so that none of them takes it meanwhile.
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

package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// dirOfChild, if set, makes this test binary a process that starts a server there, says so, and waits to be killed.
const dirOfChild = "EMBEDDED_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirOfChild); dir != "" {
		if _, err := embedded.Start(embedded.Config{Dir: dir}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("started")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, queuetest.Strays()...)
}

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	srv, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, srv) })
	return srv
}

func closed(t *testing.T, srv *embedded.Server) {
	t.Helper()
	if err := srv.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func open(t *testing.T, srv *embedded.Server) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

func TestStartRefusesConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]embedded.Config{
		"no directory":      {},
		"another sync":      {Dir: t.TempDir(), Sync: "never"},
		"a file":            {Dir: file},
		"a file in between": {Dir: filepath.Join(file, "data")},
	} {
		if srv, err := embedded.Start(cfg); err == nil {
			closed(t, srv)
			t.Errorf("%s: started", name)
		}
	}
}

// One directory belongs to one server, until that is closed.
func TestInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first := start(t, embedded.Config{Dir: dir})
	if _, err := embedded.Start(embedded.Config{Dir: dir}); !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server on %s: %v", dir, err)
	}
	open(t, first) // the first one is unharmed
	closed(t, first)
	closed(t, first) // once more is well
	second := start(t, embedded.Config{Dir: dir})
	closed(t, first) // also when another has the directory
	if _, err := embedded.Start(embedded.Config{Dir: dir}); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("after the first was closed again: %v", err)
	}
	open(t, second)
}

// The lock holds between processes, and a killed process takes it along.
func TestInUseByProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), dirOfChild+"="+dir)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
		t.Errorf("the other process wrote %q, %v", line, err)
	}
	if _, err := embedded.Start(embedded.Config{Dir: dir}); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("start beside another process: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = child.Wait() // it was killed, and says so
	start(t, embedded.Config{Dir: dir})
}

// What was stored is there again, also after the server was cut off without warning to its clients.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, sync := range []embedded.Sync{"", embedded.SyncAlways, embedded.SyncInterval} {
		t.Run("sync "+string(sync), func(t *testing.T) {
			t.Parallel()
			cfg := embedded.Config{Dir: t.TempDir(), Sync: sync}
			srv := start(t, cfg)
			job := &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Body: []byte("{}")}
			if _, err := open(t, srv).Publish(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			closed(t, srv)
			if conn, err := srv.InProcessConn(); err == nil {
				conn.Close()
				t.Error("a closed server takes connections")
			}

			s := open(t, start(t, cfg)).Source(job.Page, job.Lane, 1)
			defer time.AfterFunc(30*time.Second, s.Stop).Stop()
			defer s.Stop()
			d, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d.ID != job.ID || string(d.Body) != "{}" || d.InDoubt {
				t.Errorf("stored was %s, got %+v", job.ID, d.Job)
			}
			if err := d.Done(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server whose JetStream cannot start is an error, and the directory is free again.
func TestStoreCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, "jetstream")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	core, lines := observer.New(zap.WarnLevel)
	if srv, err := embedded.Start(embedded.Config{Dir: dir, Log: zap.New(core)}); err == nil {
		closed(t, srv)
		t.Fatal("started")
	}
	got := lines.FilterField(zap.String("event", "nats_server")).All()
	if len(got) == 0 {
		t.Error("the server's own reason is not in the log")
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	start(t, embedded.Config{Dir: dir})
}

// The bound on bytes is the server's: a queue that asks for more is refused at once, one that asks for less fills up.
func TestMaxStore(t *testing.T) {
	t.Parallel()
	srv := start(t, embedded.Config{Dir: t.TempDir(), MaxStore: 2 << 20})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := queue.Open(ctx, queue.Config{InProcess: srv, MaxBytes: 3 << 20}); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "3145728 bytes") {
		t.Fatalf("open a queue of 3 MiB: %v", err)
	}
	q, err := queue.Open(ctx, queue.Config{InProcess: srv, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	job := &queue.Job{Page: "1029384756", Lane: queue.Bulk, Body: make([]byte, 64<<10)}
	for n := 0; ; n++ {
		job.ID = queue.NewID()
		_, err := q.Publish(ctx, job)
		if errors.Is(err, queue.ErrFull) {
			return
		}
		if err != nil || n > 32 {
			t.Fatalf("after %d jobs of 64 KiB: %v", n, err)
		}
	}
}

package embedded_test

import (
	"errors"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

const testPage = "1029384756"

func testJob() *queue.Job {
	return &queue.Job{ID: queue.NewID(), Page: testPage, Lane: queue.Bulk, Body: []byte(`{"recipient":{"id":"1"}}`)}
}

// diskServer starts a server and opens a queue on it.
func diskServer(t *testing.T, cfg embedded.Config) (*queue.Queue, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	cfg.Log = zap.New(core)
	srv, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	q, err := queue.Open(t.Context(), queue.Config{InProcess: srv, HasSpace: srv.HasSpace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q, lines
}

func logged(lines *observer.ObservedLogs, event string) int {
	return lines.FilterField(zap.String("event", event)).Len()
}

// Below the reserve nothing new is stored, and that is logged once; the server goes on.
func TestMinFree(t *testing.T) {
	q, lines := diskServer(t, embedded.Config{Dir: t.TempDir(), MinFree: math.MaxInt64})
	for range 3 {
		if _, err := q.Publish(t.Context(), testJob()); !errors.Is(err, queue.ErrFull) {
			t.Fatalf("publish: %v, want ErrFull", err)
		}
	}
	if n := logged(lines, "disk_full"); n != 1 {
		t.Errorf("%d lines disk_full, want 1", n)
	}
	if n := logged(lines, "queue_stopped"); n != 0 {
		t.Errorf("the server stopped")
	}
}

// The kernel refuses a write (by the limit on the size of files here, since a full disk needs a disk of its own): the
// server cuts its clients off, starts again by itself, and has everything that it acknowledged.
func TestFailedWrite(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	dir := t.TempDir()
	q, lines := diskServer(t, embedded.Config{Dir: dir, MinFree: 1})
	accepted := map[string]bool{}
	// The jobs are long: the limit is that of the block that they fill, and the file in which `go test` notes what the
	// tests open has to stay below it.
	text := strings.Repeat("x", 50_000)
	publish := func() {
		t.Helper()
		job := testJob()
		job.Body = []byte(`{"recipient":{"id":"1"},"message":{"text":"` + text + `"}}`)
		if _, err := q.Publish(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		accepted[job.ID] = true
	}
	for range 20 {
		publish()
	}
	// One job is being worked on when it happens, and another is published. That one cannot be written, and must not be
	// confirmed.
	source := q.Source(testPage, queue.Bulk, 1)
	d, err := source.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := os.Stat(filepath.Join(dir, "jetstream/$G/streams/BRAZIER_JOBS/msgs/1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	if stored.Size() < 1_000_000 {
		t.Fatalf("the block has %d bytes, want the 20 jobs in it", stored.Size())
	}
	lift := limitFiles(t, stored.Size())
	late := testJob()
	late.Body = []byte(`{"recipient":{"id":"1"},"message":{"text":"` + text + `"}}`)
	confirmed := make(chan error, 1)
	go func() {
		_, err := q.Publish(t.Context(), late)
		confirmed <- err
	}()
	eventually(t, "the server stops", func() bool { return logged(lines, "queue_stopped") > 0 })
	select {
	case err := <-confirmed:
		t.Fatalf("the job was confirmed, error %v, and cannot have been written", err)
	default:
	}
	lift()
	eventually(t, "the server runs again", func() bool { return logged(lines, "queue_started") > 0 })
	if err := <-confirmed; err != nil {
		t.Errorf("publish over the restart: %v", err)
	}
	accepted[late.ID] = true
	if err := d.Done(t.Context()); err != nil {
		t.Errorf("settle after the restart: %v", err)
	}
	delete(accepted, d.ID)
	publish()
	for len(accepted) > 0 {
		d, err := source.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !accepted[d.ID] {
			t.Errorf("job %s was delivered, which was settled or never accepted", d.ID)
		}
		delete(accepted, d.ID)
		if err := d.Done(t.Context()); err != nil {
			t.Error(err)
		}
	}
	source.Stop()
}

// limitFiles makes the kernel refuse to let any file of this process grow beyond size.
func limitFiles(t *testing.T, size int64) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	return lift
}

// eventually polls until ok, and fails the test after a time that no healthy run comes near.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for poll := time.NewTicker(20 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

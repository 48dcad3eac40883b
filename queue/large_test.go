package queue_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

var (
	largeJobs = flag.Int("large.jobs", 10_000, "jobs of TestLarge; its goals are for 1000000")
	largeSync = flag.String("large.sync", "interval", "when the servers of TestLarge flush: interval or always")
)

const (
	largePages = 10
	// largeAtRest and largeAtWork are bytes, for a server on a machine of 1 GiB that has more to do. With a million jobs
	// the server keeps within largeAtWork only under a limit, GOMEMLIMIT=450MiB (nats-server 2.15.2): half of it is what Go
	// lets gather between two collections.
	largeAtRest, largeAtWork = 400e6, 600e6
	largeFirst               = time.Second
	// largeTimeout is for a server to give memory back to the system. JetStream forgets the subjects of an idle block after
	// two minutes, and Go's collector runs every two minutes where nothing else calls for it.
	largeTimeout = 6 * time.Minute
)

// kindOfChild and dirOfChild make this binary a server, in a process of its own so that its memory is known.
const kindOfChild, dirOfChild = "BRAZIER_TEST_SERVER", "BRAZIER_TEST_DIR"

// serveChild runs a server until standard input ends, and prints its address.
func serveChild(kind, dir string) error {
	url := ""
	switch always := *largeSync == "always"; kind {
	case "embedded":
		srv, err := embedded.Start(embedded.Config{Dir: dir, Sync: embedded.Sync(*largeSync)})
		if err != nil {
			return err
		}
		defer srv.Close()
		if url, err = embedded.Address(dir); err != nil {
			return err
		}
	case "nats-server":
		srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, SyncAlways: always, NoSigs: true, NoLog: true})
		if err != nil {
			return err
		}
		srv.Start()
		defer srv.WaitForShutdown()
		defer srv.Shutdown()
		if !srv.ReadyForConnections(testTimeout) {
			return errors.New("the server does not listen")
		}
		url = srv.ClientURL()
	}
	fmt.Println(url)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// largeServer is a server in a process of its own.
type largeServer struct {
	kind, dir, url string
	child          *exec.Cmd
	stdin          io.Closer
}

func (s *largeServer) start(t testing.TB) {
	t.Helper()
	s.child = exec.Command(os.Args[0], "-large.sync="+*largeSync)
	s.child.Env = append(os.Environ(), kindOfChild+"="+s.kind, dirOfChild+"="+s.dir)
	s.child.Stderr = os.Stderr
	var err error
	if s.stdin, err = s.child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.child.Start(); err != nil {
		t.Fatal(err)
	}
	if s.url, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.url = strings.TrimSpace(s.url)
}

// stop ends the server in good order.
func (s *largeServer) stop(t testing.TB) {
	t.Helper()
	_ = s.stdin.Close()
	if err := s.child.Wait(); err != nil {
		t.Error(err)
	}
}

// resident is the memory of the server's process, in bytes.
func (s *largeServer) resident(t testing.TB) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(s.child.Process.Pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// rests waits until the server is down to the goal, and logs what it has.
func (s *largeServer) rests(t testing.TB, what string) {
	t.Helper()
	began, first := time.Now(), s.resident(t)
	now := first
	for poll := time.NewTicker(time.Second); now > largeAtRest && time.Since(began) < largeTimeout; <-poll.C {
		now = s.resident(t)
	}
	t.Logf("%s: %d MB, after %v %d MB", what, first/1e6, time.Since(began).Round(time.Second), now/1e6)
	if now > largeAtRest {
		t.Errorf("%s: the server has %d MB, want at most %d", what, now/1e6, int(largeAtRest/1e6))
	}
}

func (s *largeServer) config() queue.Config {
	return queue.Config{URL: s.url, Flushed: *largeSync == "always", Log: zap.NewNop()}
}

func largePage(i int) string { return strconv.Itoa(1029384700 + i%largePages) }

// TestLarge fills a queue, drains it at full speed, and lets new workers come.
func TestLarge(t *testing.T) {
	for _, kind := range []string{"nats-server", "embedded"} {
		t.Run(kind, func(t *testing.T) {
			s := &largeServer{kind: kind, dir: t.TempDir()}
			s.start(t)
			defer func() { s.stop(t) }()
			q := open(t, s.config())
			began := time.Now()
			largeFill(t, q)
			t.Logf("filled at %.0f jobs/s", float64(*largeJobs)/time.Since(began).Seconds())
			s.rests(t, "all wait")
			s.firstDelivery(t, "all wait, no consumer")
			s.drain(t, q, *largeJobs-1)
			s.rests(t, "all are settled")

			one := func() { publish(t, q, job(largePage(0), queue.Bulk)) }
			one()
			s.firstDelivery(t, "all are settled")
			js := s.jetStream(t)
			if err := js.DeleteConsumer(t.Context(), queue.StreamJobs, largePage(0)+"-bulk"); err != nil {
				t.Fatal(err)
			}
			one()
			s.firstDelivery(t, "all are settled, no consumer")
			one()
			q.Close()
			s.stop(t)
			began = time.Now()
			s.start(t)
			t.Logf("started again in %v", time.Since(began).Round(time.Millisecond))
			s.firstDelivery(t, "all are settled, after a restart")
			s.rests(t, "after a restart")
		})
	}
}

func largeFill(t testing.TB, q *queue.Queue) {
	t.Helper()
	var last atomic.Int64
	var publishing sync.WaitGroup
	for range 256 {
		publishing.Go(func() {
			for i := last.Add(1); i <= int64(*largeJobs); i = last.Add(1) {
				j := job(largePage(int(i)), queue.Bulk)
				j.Key = j.ID // a record with a key is kept for two hours
				if _, err := q.Publish(t.Context(), j); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	publishing.Wait()
}

func (s *largeServer) jetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// firstDelivery has a new worker come, and settles the first job that it gets.
func (s *largeServer) firstDelivery(t testing.TB, what string) {
	t.Helper()
	began := time.Now()
	q := open(t, s.config())
	defer q.Close()
	src := q.Source(largePage(0), queue.Bulk, 1)
	defer src.Stop()
	d := next(t, src)
	took := time.Since(began)
	t.Logf("%s: first delivery after %v", what, took.Round(time.Millisecond))
	if took > largeFirst {
		t.Errorf("%s: first delivery after %v, want it within %v", what, took, largeFirst)
	}
	done(t, d)
}

// drain settles all jobs, as fast as one worker that sends nothing can.
func (s *largeServer) drain(t testing.TB, q *queue.Queue, jobs int) {
	t.Helper()
	began, most := time.Now(), s.resident(t)
	var left atomic.Int64
	left.Store(int64(jobs))
	drained := make(chan struct{})
	var working sync.WaitGroup
	for i := range largePages {
		src := q.Source(largePage(i), queue.Bulk, 64)
		working.Go(func() {
			<-drained
			src.Stop()
		})
		working.Go(func() {
			permits := make(chan struct{}, 64)
			for {
				d, err := src.Next(t.Context())
				if err != nil {
					return
				}
				permits <- struct{}{}
				working.Go(func() {
					defer func() { <-permits }()
					if err := d.Done(t.Context()); err != nil {
						t.Error(err)
					}
					if left.Add(-1) == 0 {
						close(drained)
					}
				})
			}
		})
	}
	for poll := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-poll.C:
			most = max(most, s.resident(t))
			continue
		case <-drained:
		}
		break
	}
	t.Logf("drained at %.0f jobs/s, with %d MB at most", float64(jobs)/time.Since(began).Seconds(), most/1e6)
	if most > largeAtWork {
		t.Errorf("the server had %d MB while it was drained, want at most %d", most/1e6, int(largeAtWork/1e6))
	}
	working.Wait()
}

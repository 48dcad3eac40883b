package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// traceFlushes is off by default: it takes Linux, strace, and leave to trace a process.
var traceFlushes = flag.Bool("flush", false, "run brazier serve under strace too, and check that each 202 had its flush before it")

// TestFlush shows that power loss stands on the flush. With -flush it traces the system calls of a real brazier serve
// under load, and looks for each 202 at what had been flushed when it was written; with --sync interval the same has to
// find answers without a flush, or it would not see one. Without -flush it reads recorded traces.
func TestFlush(t *testing.T) {
	t.Run("recorded", testRecordedTraces)
	if !*traceFlushes {
		return
	}
	for _, sync := range []string{"always", "interval"} {
		t.Run(sync, func(t *testing.T) {
			got, problems := traceServe(t, sync)
			t.Logf("--sync %s: %v", sync, got)
			some := strings.Join(problems[:min(len(problems), 20)], "\n")
			switch {
			case got.blocks < 2:
				t.Errorf("the stream has %d block: it was not seen how it begins another", got.blocks)
			case got.lost > 0:
				t.Errorf("answered without having been written:\n%s", some)
			case sync == "interval" && got.early == 0:
				t.Error("no answer before its flush: the trace shows less than it should")
			case sync == "always" && (got.early > 0 || got.unstaged > 0 || got.unclaimed > 0):
				t.Errorf("not flushed:\n%s", some)
			}
		})
	}
}

// traceServe takes messages through a role that is traced, and returns what the trace says.
func traceServe(t *testing.T, sync string) (flushFigures, []string) {
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	if err := build(); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	// -D makes strace a grandchild, so that the process is brazier itself.
	p := startCommand(t, exec.Command("strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", "1000000", "-o", trace,
		"-e", "trace=write,pwrite64,fsync,fdatasync,openat", "-e", "signal=none",
		filepath.Join(bin, "brazier"), "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--sync="+sync,
		"--pages="+writePages(t, page), "--graph-url="+fb.URL(), "--log-format=json",
		"--max-queue=8388608")) // makes its blocks so small that one does not hold it all
	posts := newPoster(t, p.log.await(t, "started")["address"].(string), page)
	posts.text = strings.Repeat("x", 1900)
	answered := postForTrace(t, posts)
	eventually(t, "every accepted message is delivered", func() bool { return fb.Summary().Accepted >= len(posts.accepted()) })
	posts.client.CloseIdleConnections()
	if code := p.terminate(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}

	ended := regexp.MustCompile(fmt.Sprintf(`\n%d +\+\+\+ exited`, p.cmd.Process.Pid))
	eventually(t, "strace has written everything", func() bool { return ended.MatchString(tailOf(t, trace)) })
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ft := newFlushTrace()
	if err := ft.read(f); err != nil {
		t.Fatal(err)
	}
	if ft.figures.accepted != answered {
		t.Errorf("the trace has %d answers 202, the client got %d", ft.figures.accepted, answered)
	}
	return ft.figures, ft.problems
}

// postForTrace posts one by one and over many connections, with keys and without, and some twice at the same time. It
// returns how many answers were 202.
func postForTrace(t *testing.T, posts *poster) (answered int) {
	var mu sync.Mutex
	post := func(n int) {
		if a := posts.postNumber(n); a.status != http.StatusAccepted {
			t.Errorf("answer %d %s, error %v", a.status, a.body, a.err)
		}
		mu.Lock()
		answered++
		mu.Unlock()
	}
	for n := range 200 {
		posts.keyed = n < 100
		post(n)
	}
	for _, posts.keyed = range []bool{true, false} {
		numbers := make(chan int)
		var senders sync.WaitGroup
		for range 32 {
			senders.Go(func() {
				for n := range numbers {
					post(n)
				}
			})
		}
		for i := range 1000 {
			n := 1000 + i
			if !posts.keyed {
				n += 1000
			}
			numbers <- n
			if posts.keyed && n%10 == 0 {
				numbers <- n
			}
		}
		close(numbers)
		senders.Wait()
	}
	return answered
}

// tailOf returns the end of a file.
func tailOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, min(info.Size(), 4096))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

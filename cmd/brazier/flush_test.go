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

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// traceFlushes is off by default: it takes Linux, strace, and leave to trace a process.
var traceFlushes = flag.Bool("flush", false, "run brazier serve under strace too, and check that what it promises was flushed before")

// TestFlush checks that a power cut breaks no promise. With -flush it traces the system calls of a real brazier serve under
// load, and looks at each answer 202, each request to Facebook and each message logged as delivered for what had been
// flushed before. With --sync interval the same has to find all three without their flush, or it would not see one. Without
// -flush it reads recorded traces.
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
			case got.jobs.blocks < 2:
				t.Errorf("the stream of jobs has %d block: it was not seen how it begins another", got.jobs.blocks)
			case got.calls == got.delivered:
				t.Error("no message was sent twice: it was not seen how one is begun again")
			case got.lost > 0:
				t.Errorf("answered without having been written:\n%s", some)
			case sync == "interval" && (got.early == 0 || got.unbegun == 0 || got.unrecorded == 0):
				t.Error("no answer, no request or no delivery before its flush: the trace shows less than it should")
			case sync == "always" && len(problems) > 0:
				t.Errorf("not flushed:\n%s", some)
			}
			// Batches are made only where each message is flushed.
			for of, stored := range map[string]streamFigures{"jobs": got.jobs, "records": got.records} {
				if stored.single == 0 || sync == "always" && stored.batched == 0 {
					t.Errorf("%s: %v: it was not seen how they are stored both ways", of, stored)
				}
			}
		})
	}
}

// traceServe takes messages through a role that is traced, and returns what the trace says.
func traceServe(t *testing.T, sync string) (flushFigures, []string) {
	pages, config := make([]testPage, 8), sandbox.Config{} // one page sends too slowly for batches of records
	for i := range pages {
		pages[i] = newTestPage(fmt.Sprintf("%d", 1029384756+i), fmt.Sprintf("acme-%d", i))
		pages[i].extra = "    rate: 300\n"
		config.Pages = append(config.Pages, sandbox.Page{ID: pages[i].id, Token: pages[i].token, AppSecret: pages[i].secret, HighVolume: sandbox.Off})
	}
	fb, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	fb.Script(sandbox.Fault{Every: 100, Times: 10, Status: http.StatusInternalServerError, Code: 2})
	if err := build(); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	// -D makes strace a grandchild, so that the process is brazier itself.
	p := startCommand(t, exec.Command("strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", "1000000", "-o", trace,
		"-e", "trace=write,pwrite64,fsync,fdatasync,openat", "-e", "signal=none",
		filepath.Join(bin, "brazier"), "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--sync="+sync,
		"--pages="+writePages(t, pages...), "--graph-url="+fb.URL(), "--log-format=json",
		"--max-queue=8388608")) // makes its blocks so small that one does not hold it all
	posts := make([]*poster, len(pages))
	for i, page := range pages {
		posts[i] = newPoster(t, p.log.await(t, "started")["address"].(string), page)
		posts[i].text = strings.Repeat("x", 1900)
	}
	answered := postForTrace(t, posts)
	accepted := 0
	for _, p := range posts {
		accepted += len(p.accepted())
		p.client.CloseIdleConnections()
	}
	eventually(t, "every accepted message is delivered", func() bool { return fb.Summary().Accepted >= accepted })
	if code := p.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}

	ft := readTrace(t, trace, p.cmd.Process.Pid)
	if got := ft.figures; got.accepted != answered || got.calls != len(fb.Calls()) || got.delivered != accepted {
		t.Errorf("the trace has %d answers 202, %d requests to Facebook and %d messages delivered, instead of %d, %d and %d",
			got.accepted, got.calls, got.delivered, answered, len(fb.Calls()), accepted)
	}
	return ft.figures, ft.problems
}

// readTrace reads the trace of a process once strace has written everything.
func readTrace(t *testing.T, trace string, pid int) *flushTrace {
	t.Helper()
	ended := regexp.MustCompile(fmt.Sprintf(`\n%d +\+\+\+ exited`, pid))
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
	return ft
}

// postForTrace posts one by one and over many connections, with keys and without, and some twice at the same time. It
// returns how many answers were 202.
func postForTrace(t *testing.T, posts []*poster) (answered int) {
	var mu sync.Mutex
	post := func(n int) {
		if a := posts[n%len(posts)].postNumber(n); a.status != http.StatusAccepted {
			t.Errorf("answer %d %s, error %v", a.status, a.body, a.err)
		}
		mu.Lock()
		answered++
		mu.Unlock()
	}
	setKeyed := func(keyed bool) {
		for _, p := range posts {
			p.keyed = keyed
		}
	}
	for n := range 200 {
		setKeyed(n < 100)
		post(n)
	}
	for _, keyed := range []bool{true, false} {
		setKeyed(keyed)
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
			if !keyed {
				n += 1000
			}
			numbers <- n
			if keyed && n%10 == 0 {
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

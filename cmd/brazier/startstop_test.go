package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// A page whose token cannot be read when a process starts is held in it, and goes on once it can. Other pages do not
// notice. check calls it a fault.
func TestStartsWithoutToken(t *testing.T) {
	t.Parallel()
	acme := newTestPage("1029384756", "acme")
	broken := []testPage{newTestPage("1029384701", "missing"), newTestPage("1029384702", "empty"), newTestPage("1029384703", "directory"), newTestPage("1029384704", "secretless")}
	all := append([]testPage{acme}, broken...)
	says := map[string]string{"missing": "missing.token cannot be read", "empty": "empty.token is empty", "directory": "directory.token cannot be read",
		"secretless": "secretless.secret cannot be read"}
	for _, role := range []string{"serve", "worker"} {
		t.Run(role, func(t *testing.T) {
			s := newPacing(t, all...)
			defer s.end()
			file := func(name string) string { return filepath.Join(filepath.Dir(s.pages), name) }
			remove(t, file("missing.token"), file("directory.token"), file("secretless.secret"))
			writeFile(t, file("empty.token"), " \n")
			if err := os.Mkdir(file("directory.token"), 0o700); err != nil {
				t.Fatal(err)
			}
			code, out, _ := runCommand(t, "check", "--pages="+s.pages, "--graph-version=v99.0")
			if code != cli.ExitFailed || !strings.Contains(out, "Wrong (4):") {
				t.Errorf("check: code %d\n%s", code, out)
			}

			args := []string{role, "--pages=" + s.pages, "--graph-url=" + s.fb.URL(), "--ops-listen=off", "--log-format=json", "--slow-start=1s"}
			if role == "serve" {
				args = append(args, "--listen=127.0.0.1:0", "--data="+t.TempDir())
			} else {
				args = append(args, "--nats-url=nats://"+s.address)
			}
			p := startProcess(t, "brazier", args...)
			started := p.log.await(t, "started")
			if started["pages"] != float64(len(all)) {
				t.Errorf("started line: %v", started)
			}
			for _, page := range all {
				if role == "serve" {
					postAll(t, started["address"].(string), page, "2003"+page.id[8:], 1)
				} else {
					s.publishOne(page, queue.Bulk, "20030040050060"+page.id[8:])
				}
			}
			eventually(t, "the good page's message is delivered", func() bool { return s.fb.Counts().Accepted == 1 })
			eventually(t, "the others are held", func() bool { return len(p.log.events("held")) == len(broken) })
			for _, line := range p.log.events("held") {
				name := line["page"].(string)
				if line["class"] != "auth" || !strings.Contains(line["reason"].(string), says[name]) || says[name] == "" {
					t.Errorf("held line: %v", line)
				}
			}

			remove(t, file("directory.token"))
			for _, page := range broken {
				writeFile(t, file(page.name+".token"), page.token)
				writeFile(t, file(page.name+".secret"), page.secret)
			}
			eventually(t, "all are delivered", func() bool { return s.fb.Counts().Accepted == len(all) })
			if code := p.terminate(); code != cli.ExitOK {
				t.Errorf("exit code %d:\n%s", code, p.log.tail())
			}
			for _, page := range all {
				keepsSecrets(t, p.log.String(), page.token, page.secret)
			}
		})
	}
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// draining is a serve with a call to Facebook under way that takes latency.
func draining(t *testing.T, latency time.Duration) *proc {
	t.Helper()
	page := newTestPage("1029384756", "acme")
	fb, err := sandbox.New(sandbox.Config{Latency: latency, Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	p := startProcess(t, "brazier", "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-format=json")
	postAll(t, p.log.await(t, "started")["address"].(string), page, "2003", 1)
	eventually(t, "the call is under way", func() bool { return fb.Counts().Calls == 1 })
	return p
}

// A second signal that comes with the first leaves the drain alone.
func TestSameSignal(t *testing.T) {
	t.Parallel()
	for _, second := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) { t.Parallel(); testSameSignal(t, second) })
	}
}

func testSameSignal(t *testing.T, second os.Signal) {
	for { // until this machine is fast enough
		p := draining(t, 3*time.Second)
		began := time.Now()
		p.signal(syscall.SIGTERM)
		p.log.await(t, "draining")
		p.signal(second)
		took := time.Since(began)
		<-p.done
		if took > cli.SameSignal/2 {
			continue
		}
		if code := p.cmd.ProcessState.ExitCode(); code != cli.ExitOK || len(p.log.events("delivered")) != 1 {
			t.Errorf("SIGTERM and %v after %v: exit code %d\n%s", second, took, code, p.log.tail())
		}
		return
	}
}

// A later one ends a role that is still draining, and its log says so.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := draining(t, time.Minute)
	p.signal(syscall.SIGTERM)
	p.log.await(t, "draining")
	p.signalUntilEnd(t)
	if code := p.cmd.ProcessState.ExitCode(); code != cli.ExitUndrained {
		t.Errorf("exit code %d, want %d", code, cli.ExitUndrained)
	}
	failed := p.log.events("failed")
	if len(failed) != 1 || failed[0]["exit_code"] != float64(cli.ExitUndrained) || !strings.Contains(failed[0]["error"].(string), "a second signal") {
		t.Errorf("failed lines: %v", failed)
	}
}

func (p *proc) signalUntilEnd(t *testing.T) {
	t.Helper()
	eventually(t, "the process ends", func() bool {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
}

// SIGHUP has a role read its files again, and kills nothing, whatever runs and however far it is.
func TestHangup(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	file, both := writePages(t, acme), writePages(t, acme, nordwind)
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	p := startProcess(t, "brazier", "ingress", "--listen=127.0.0.1:0", "--ops-listen=off", "--nats-url=nats://"+address, "--pages="+file, "--log-format=json")
	p.log.await(t, "starting")
	p.signal(syscall.SIGHUP) // before it is ready
	writeFile(t, file, read(t, both))
	startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	ingress := p.log.await(t, "started")["address"].(string)
	eventually(t, "the file that was written before it was ready is taken", func() bool {
		lines := p.log.events("pages")
		return len(lines) > 0 && lines[0]["pages"] == 2.0
	})
	postAll(t, ingress, nordwind, "2004", 1)

	taken := len(p.log.events("pages"))
	p.signal(syscall.SIGHUP) // it is the same file, and it is read all the same
	eventually(t, "the file is read again", func() bool { return len(p.log.events("pages")) > taken })
	remove(t, file)
	p.signal(syscall.SIGHUP)
	p.log.await(t, "pages_error")
	if code := p.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}

	facebook := startProcess(t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=127.0.0.1:0", "--braze-control-listen=127.0.0.1:0")
	facebook.address(t, `Graph API +(http://\S+)`)
	for _, p := range []*proc{facebook} {
		for range 3 {
			p.signal(syscall.SIGHUP)
		}
		if code := p.terminate(); code != cli.ExitOK {
			t.Errorf("exit code %d:\n%s", code, p.log.tail())
		}
	}
}

// A file that was changed while a role waited for NATS is taken, without anybody saying so.
func TestPageFileChangedBeforeReady(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	file, both := writePages(t, acme), writePages(t, acme, nordwind)
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	p := startProcess(t, "brazier", "ingress", "--listen=127.0.0.1:0", "--ops-listen=off", "--nats-url=nats://"+address, "--pages="+file, "--log-format=json")
	p.log.await(t, "starting")
	writeFile(t, file, read(t, both))
	startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	p.log.await(t, "started")
	if line := p.log.await(t, "pages"); line["pages"] != 2.0 {
		t.Errorf("pages line: %v", line)
	}
}

// Who sees nothing but the log learns why a role did not start.
func TestFailedStart(t *testing.T) {
	good := writePages(t, newTestPage("1029384756", "acme"))
	bad := filepath.Join(t.TempDir(), "pages.yaml")
	writeFile(t, bad, "pages:\n  - id: acme\n    rate: 0\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	for _, c := range []struct {
		args []string
		env  string
		want string // "": no line
	}{
		{[]string{"serve", "--pages=" + bad}, "", bad + ":2: "},
		{[]string{"ingress", "--pages=" + bad, "--log-format=json"}, "", bad + ":2: "},
		{[]string{"worker", "--pages=" + good + "-not"}, "", "does not exist"},
		{[]string{"worker", "--pages=" + good, "--ops-listen=" + address}, "", "--ops-listen: "},
		{[]string{"serve", "--pages=" + good, "--ops-listen=off", "--listen=" + address, "--data=" + t.TempDir()}, "", "--listen: "},
		{[]string{"serve", "--lisen=:80"}, "", "unknown flag --lisen"},
		{[]string{"serve"}, "BRAZIER_SYNC=sometimes", "--sync must be one of"},
		{[]string{"worker", "--log-format=xml"}, "", "--log-format must be one of"},
		{[]string{"serve", "--log-format=console", "--pages=" + bad}, "", ""},
		{[]string{"serve", "--log-format=console", "--lisen=:80"}, "", ""},
		{[]string{"serve", "--lisen=:80"}, "BRAZIER_LOG_FORMAT=console", ""},
		{[]string{"sandbox", "--pages=" + bad}, "", ""},
		{[]string{"check", "--pages=" + bad}, "", ""},
	} {
		if name, value, ok := strings.Cut(c.env, "="); ok {
			t.Setenv(name, value)
		}
		code, _, complaints := runCommand(t, c.args...)
		if name, _, ok := strings.Cut(c.env, "="); ok {
			os.Unsetenv(name)
		}
		var log transcript
		log.b.WriteString(complaints)
		lines := log.events("failed")
		if c.want == "" {
			if len(lines) > 0 {
				t.Errorf("%v: %v", c.args, lines)
			}
			continue
		}
		if len(lines) != 1 || lines[0]["level"] != "error" || lines[0]["role"] != c.args[0] || lines[0]["exit_code"] != float64(code) || code != cli.ExitUsage ||
			!strings.Contains(lines[0]["error"].(string), c.want) {
			t.Errorf("%v: code %d, failed lines %v", c.args, code, lines)
		}
		if !strings.Contains(complaints, "brazier: ") {
			t.Errorf("%v: no text for people: %s", c.args, complaints)
		}
	}
}

// Whatever signal comes, and when, bench and demo end without a process and a file behind them.
func TestNothingIsLeftBehind(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   func(t *testing.T, p *proc)
		stuck bool // a child does not end when it is told to
	}{
		{name: "SIGINT", end: func(_ *testing.T, p *proc) { p.signal(syscall.SIGINT) }},
		{name: "SIGTERM", end: func(_ *testing.T, p *proc) { p.signal(syscall.SIGTERM) }},
		{name: "SIGTERM twice", end: func(_ *testing.T, p *proc) { p.signal(syscall.SIGTERM); p.signal(syscall.SIGTERM) }},
		{name: "SIGINT and SIGTERM", end: func(_ *testing.T, p *proc) { p.signal(syscall.SIGINT); p.signal(syscall.SIGTERM) }},
		{name: "SIGHUP, then SIGTERM", end: func(_ *testing.T, p *proc) {
			p.signal(syscall.SIGHUP)
			p.signal(syscall.SIGHUP)
			p.signal(syscall.SIGTERM)
		}},
		{name: "SIGTERM again and again", end: func(t *testing.T, p *proc) { p.signalUntilEnd(t) }},
		{name: "SIGTERM again and again, with a child that hangs", end: func(t *testing.T, p *proc) { p.signalUntilEnd(t) }, stuck: true},
	} {
		for _, command := range []struct {
			name string
			when string // it has come so far
		}{{"bench", "begin"}, {"bench", "load"}, {"demo", "begin"}, {"demo", "load"}} {
			if c.stuck && (command.name == "demo" || command.when == "begin") {
				continue
			}
			t.Run(c.name+" to "+command.name+" at its "+command.when, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				args := []string{"demo", "--messages=2000"}
				if command.name == "bench" {
					args = []string{"bench", "--dir=" + dir, "--messages=1000000", "--rate=200", "--connections=4", "--page-count=1"}
				}
				p := startIn(t, dir, args...)
				eventually(t, "a directory", func() bool { return len(listDir(t, dir)) > 0 })
				if command.when == "load" {
					eventually(t, "messages are accepted", func() bool { return strings.Contains(p.log.String(), "accepted") })
				}
				if c.stuck {
					for _, pid := range processesOf(dir, p.cmd.Process.Pid) {
						if err := pauseProcess(pid); err != nil {
							t.Fatal(err)
						}
					}
				}
				c.end(t, p)
				select {
				case <-p.done:
				case <-time.After(time.Minute):
					t.Fatalf("it does not end:\n%s", p.log.tail())
				}
				if left := listDir(t, dir); len(left) > 0 {
					t.Errorf("left behind: %v\n%s", left, p.log.tail())
				}
				if left := processesOf(dir, 0); len(left) > 0 {
					t.Errorf("processes left behind: %v", left)
				}
			})
		}
	}
}

// Who reads what bench and demo print may leave.
func TestOutputThatNobodyReads(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"bench", "demo"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			if err := build(); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			args := []string{"demo", "--messages=2000"}
			if command == "bench" {
				args = []string{"bench", "--dir=" + dir, "--messages=1000000", "--rate=200", "--connections=4", "--page-count=1"}
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd := commandIn(dir, args...)
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { _ = cmd.Wait(); close(done) }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
			_ = w.Close()
			if _, err := r.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			_ = r.Close()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			if left := listDir(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if left := processesOf(dir, 0); len(left) > 0 {
				t.Errorf("processes left behind: %v", left)
			}
		})
	}
}

// commandIn is a command whose temporary files go into dir.
func commandIn(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "brazier"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return cmd
}

func startIn(t *testing.T, dir string, args ...string) *proc {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return startCommand(t, commandIn(dir, args...))
}

func listDir(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// processesOf returns the processes, but for one, that were started with a path below dir.
func processesOf(dir string, but int) (pids []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no /proc as on Linux
	for _, path := range lines {
		line, _ := os.ReadFile(path) // it may have ended
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/", &pid); err == nil && pid != but && strings.Contains(string(line), "="+dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

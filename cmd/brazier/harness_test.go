package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// bin holds the real binaries that the process tests start: brazier, and nats-server of the version in go.mod.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "brazier-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin = dir
		parallel := "16" // they mostly wait
		if underRace() {
			parallel = "6" // and there they do not: what one waits for would take the others' time
		}
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(queuetest.Strays()...); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		return code
	}())
}

// underRace reports whether the race detector is on.
func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

var build = sync.OnceValue(func() error {
	for name, pkg := range map[string]string{"brazier": ".", "nats-server": "github.com/nats-io/nats-server/v2"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as in a release, and compiled once where this test is built with cgo for the race detector
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
})

// transcript is what a process or a role has written so far.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// events returns the log lines with an event's name.
func (t *transcript) events(name string) (found []map[string]any) {
	for line := range strings.Lines(t.String()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == name {
			found = append(found, e)
		}
	}
	return found
}

// eventually polls until ok, and fails the test with what after a time that no healthy run comes near.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(120 * time.Second)
	for poll := time.NewTicker(20 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (t *transcript) await(tb *testing.T, event string) map[string]any {
	tb.Helper()
	eventually(tb, "event "+event+" in\n"+t.String(), func() bool { return len(t.events(event)) > 0 })
	return t.events(event)[0]
}

// role is a command running inside the test's process.
type role struct {
	log  transcript
	stop context.CancelFunc
	code chan int
}

func startRole(t *testing.T, args ...string) *role {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &role{stop: stop, code: make(chan int, 1)}
	go func() { r.code <- execute(ctx, args, cli.Stdio{Out: &r.log, Err: &r.log}) }()
	t.Cleanup(func() { r.stop(); <-r.code })
	return r
}

// end stops the role and returns its exit code.
func (r *role) end() int {
	r.stop()
	code := <-r.code
	r.code <- code // for the cleanup
	return code
}

// proc is a command running for itself.
type proc struct {
	log  transcript
	cmd  *exec.Cmd
	done chan struct{}
}

func startProcess(t *testing.T, name string, args ...string) *proc {
	t.Helper()
	return startProcessWith(t, nil, name, args...)
}

// startProcessWith is startProcess with another environment than this process's. The test may then run beside others.
func startProcessWith(t *testing.T, environment []string, name string, args ...string) *proc {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Env = environment
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *proc {
	t.Helper()
	p := &proc{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() { p.signal(os.Kill); <-p.done })
	return p
}

func (p *proc) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended by itself

// terminate asks the process to end and returns its exit code.
func (p *proc) terminate() int {
	p.signal(syscall.SIGTERM)
	return p.exit()
}

// exit waits for the end of the process and returns its exit code.
func (p *proc) exit() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// testPage is a page with secrets of its own, and what is written of it into a page file.
type testPage struct {
	id, name, token, secret, key string
	extra                        string // more lines of YAML
}

func newTestPage(id, name string) testPage {
	return testPage{id: id, name: name, token: "tok-" + name + "-5f1c9e", secret: "app-secret-" + name + "-77ab", key: "key-" + name + "-c0ffee"}
}

func writePages(t *testing.T, pages ...testPage) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("pages:\n")
	write := func(name, value string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, p := range pages {
		digest := sha256.Sum256([]byte(p.key))
		fmt.Fprintf(&b, "  - id: %q\n    name: %s\n    token_file: %s\n    app_secret_file: %s\n    keys: [\"sha256:%s\"]\n%s",
			p.id, p.name, write(p.name+".token", p.token), write(p.name+".secret", p.secret), hex.EncodeToString(digest[:]), p.extra)
	}
	return write("pages.yaml", b.String())
}

// post sends a message to an ingress, as Braze would.
func post(client *http.Client, address string, page testPage, body string, header map[string]string) (status int, answer string, err error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+address+"/v25.0/me/messages", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+page.key)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func message(psid, text string) string {
	return fmt.Sprintf(`{"recipient":{"id":%q},"messaging_type":"UPDATE","message":{"text":%q}}`, psid, text)
}

// keepsSecrets fails the test if what was written holds any of the secrets.
func keepsSecrets(t *testing.T, written string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if i := strings.Index(written, s); i >= 0 {
			from, to := max(0, i-200), min(len(written), i+len(s)+50)
			t.Errorf("%q was written: …%s…", s, written[from:to])
		}
	}
}

// freeAddress is a loopback address that nobody listens on. A server can be stopped and started on it.
func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", queuetest.FreePort(t))
}

// marker stands in every secret of these tests, and in no message.
const marker = "MARKER"

// pageDir is a directory with secrets, beside which a page file is put.
func pageDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"acme.token":  marker + "-token-of-acme\n",
		"acme.secret": marker + "-secret-of-acme\n",
		"empty.token": " \n",
		"two.token":   marker + "-token\n" + marker + "-and-another\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// writeFile replaces a file at once, so that a process that watches it never reads a part.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	next := path + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Rename(next, path)); err != nil {
		t.Fatal(err)
	}
}

// digests replaces KEY1 and KEY2 by digests of keys.
var digests = strings.NewReplacer(
	"KEY1", fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("key 1"))),
	"KEY2", fmt.Sprintf("sha256:%X", sha256.Sum256([]byte("key 2"))),
)

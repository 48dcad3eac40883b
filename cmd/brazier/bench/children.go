package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// child is a process of this binary, so that its processor time and memory are its own.
type child struct {
	name, log string
	cmd       *exec.Cmd
	done      chan struct{} // closed when it has ended
}

// startAll starts a sandbox and a serve that sends to it. What they write goes into dir.
func (b *benchmark) startAll(ctx context.Context, dir string) error {
	pages, err := b.writePages(dir)
	if err != nil {
		return err
	}
	facebook, err := b.start(dir, "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+pages,
		"--latency=0s", "--jitter=0s", "--page-rate=-1", "--high-volume=-1")
	if err != nil {
		return err
	}
	graph, err := facebook.await(ctx, `Graph API +(http://\S+)`)
	if err != nil {
		return err
	}
	if b.Sandbox, err = facebook.await(ctx, `Control +(http://\S+)`); err != nil {
		return err
	}
	serve, err := b.start(dir, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--pages="+pages, "--graph-url="+graph,
		"--data="+filepath.Join(dir, "data"), "--sync="+b.Sync, "--log-format=json", "--log-keys=default")
	if err != nil {
		return err
	}
	target, err := serve.await(ctx, `"event":"started".*"address":"([^"]+)"`)
	b.URL = "http://" + target
	return err
}

// writePages writes a page file and keeps the keys of its pages.
func (b *benchmark) writePages(dir string) (path string, err error) {
	var text strings.Builder
	text.WriteString("pages:\n")
	for i := range b.PageCount {
		id, key := fmt.Sprint(700_000_000_000+i), rand.Text()
		b.Keys = append(b.Keys, key)
		fmt.Fprintf(&text, "  - {id: %q, token: %s, keys: [\"sha256:%x\"], rate: %d}\n", id, sandbox.DefaultToken(id), sha256.Sum256([]byte(key)), b.PageRate)
	}
	path = filepath.Join(dir, "pages.yaml")
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}

// start starts a command of this binary. The settings of the environment are not for it.
func (b *benchmark) start(dir, name string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, log: filepath.Join(dir, name+".log"), cmd: exec.Command(self, append([]string{name}, args...)...), done: make(chan struct{})}
	file, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has it
	c.cmd.Stdout, c.cmd.Stderr = file, file
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "BRAZIER_") {
			c.cmd.Env = append(c.cmd.Env, setting)
		}
	}
	b.starting.Lock()
	defer b.starting.Unlock()
	if b.killed {
		return nil, cli.ErrSecondSignal
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start brazier %s: %w", name, err)
	}
	go func() { _ = c.cmd.Wait(); close(c.done) }() // how it ended stands in its log
	b.children = append(b.children, c)
	return c, nil
}

// await waits until the child has written what a pattern's group matches.
func (c *child) await(ctx context.Context, pattern string) (string, error) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	wanted := regexp.MustCompile(pattern)
	for {
		written, err := os.ReadFile(c.log)
		if err != nil {
			return "", err
		}
		if found := wanted.FindSubmatch(written); found != nil {
			return string(found[1]), nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return "", ctx.Err()
		case <-c.done:
			if written, err = os.ReadFile(c.log); err != nil { // its last lines came after the read
				return "", err
			}
			return "", fmt.Errorf("brazier %s ended: %s", c.name, written[max(0, len(written)-1000):])
		}
	}
}

// childTimeout is how long a child may take to end in order. A serve with messages in flight takes up to its shutdown
// budget, and nobody needs what it would save.
const childTimeout = 5 * time.Second

// stop ends the children, the last one first. Their data is of no more use.
func (b *benchmark) stop() {
	for i := len(b.children) - 1; i >= 0; i-- {
		c := b.children[i]
		if c.cmd.Process.Signal(syscall.SIGTERM) != nil {
			_ = c.cmd.Process.Kill() // not every system has the signal; or it has ended by itself
		}
		timeout := time.AfterFunc(childTimeout, func() { _ = c.cmd.Process.Kill() })
		<-c.done
		timeout.Stop()
	}
}

// kill ends the children at once, from any goroutine, and lets none be started any more.
func (b *benchmark) kill() {
	b.starting.Lock()
	defer b.starting.Unlock()
	b.killed = true
	for _, c := range b.children {
		_ = c.cmd.Process.Kill() // it may have ended by itself
		<-c.done
	}
}

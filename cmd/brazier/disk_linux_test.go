package main

import (
	"bytes"
	"errors"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// fillDisk is off by default: mounting a file system needs the rights of root, or "unshare -rm".
var fillDisk = flag.Bool("disk", false, "fill the disk under a running brazier serve too, on a file system that is mounted for it")

// TestFullDisk fills the disk under a real brazier serve, first to where it stops taking messages, then to the last byte
// and under load, again and again, and once with a kill -9 and a start on the full disk. Each time the ingress has to answer
// 503, and the same process has to take and deliver messages again when there is space. Nothing accepted is lost, and
// nothing is sent twice that is not logged in doubt.
func TestFullDisk(t *testing.T) {
	if !*fillDisk {
		return
	}
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 250\n"
	fb, err := sandbox.New(sandbox.Config{Latency: 50 * time.Millisecond,
		Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	disk := mountDisk(t, 128<<20)
	args := []string{"serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data=" + filepath.Join(disk.dir, "data"), "--pages=" + writePages(t, page),
		"--graph-url=" + fb.URL(), "--log-format=json", "--log-level=debug", "--store-wait=5s"}
	p := startProcess(t, "brazier", args...)
	posts := newPoster(t, p.log.await(t, "started")["address"].(string), page)

	t.Log("nearly full: new messages are refused, and the others delivered and settled")
	posts.until(8, func(ingressAnswer) bool { return len(posts.accepted()) >= 500 })
	disk.fill(t, 16<<20)
	full := posts.until(1, func(a ingressAnswer) bool { return a.status == http.StatusServiceUnavailable })
	if after, err := strconv.Atoi(full.after); err != nil || after < 1 {
		t.Errorf("Retry-After is %q, the answer %s", full.after, full.body)
	}
	if sent := len(p.log.events("delivered")); sent >= len(posts.accepted()) {
		t.Errorf("all %d messages were delivered before the disk was nearly full", sent)
	}
	eventually(t, "what was accepted is delivered, and recorded as done", func() bool { return len(p.log.events("delivered")) >= len(posts.accepted()) })
	if len(p.log.events("queue_stopped"))+len(p.log.events("in_doubt"))+len(p.log.events("unsettled")) > 0 {
		t.Errorf("the server met a full disk although there was space:\n%s", p.log.tail())
	}
	disk.free(t)
	posts.until(1, func(a ingressAnswer) bool { return a.status == http.StatusAccepted })

	const rounds = 3
	for round := range rounds {
		t.Logf("full to the last byte, under load, round %d", round+1)
		load := inBackground(posts, 8)
		goal := len(posts.accepted()) + 500
		posts.until(8, func(ingressAnswer) bool { return len(posts.accepted()) >= goal }) // faster than they are delivered
		filling := disk.keepFull(t)
		eventually(t, "the queue stops", func() bool { return len(p.log.events("queue_stopped")) > round })
		refused := posts.post()
		if refused.status != http.StatusServiceUnavailable || refused.after == "" {
			t.Errorf("on a full disk the answer is %d %s, Retry-After %q", refused.status, refused.body, refused.after)
		}
		filling()
		disk.free(t)
		eventually(t, "the queue runs again", func() bool { return len(p.log.events("queue_started")) > round })
		goal = len(posts.accepted()) + 200
		eventually(t, "200 more are accepted", func() bool { return len(posts.accepted()) >= goal })
		load.end()
	}

	t.Log("killed and started again on a full disk")
	goal := len(posts.accepted()) + 300
	posts.until(8, func(ingressAnswer) bool { return len(posts.accepted()) >= goal })
	filling := disk.keepFull(t)
	p.signal(os.Kill)
	<-p.done
	killed := p
	p = startProcess(t, "brazier", args...)
	p.log.await(t, "disk_full")
	filling()
	disk.free(t)
	posts.address = p.log.await(t, "started")["address"].(string)
	posts.until(1, func(a ingressAnswer) bool { return a.status == http.StatusAccepted })

	kept := posts.accepted()
	lost := func() (lost []string) {
		reached := received(fb)
		for psid := range kept {
			if reached[psid] == 0 {
				lost = append(lost, psid)
			}
		}
		return lost
	}
	eventually(t, "every accepted message is delivered", func() bool { return fb.Summary().Accepted >= len(kept) && len(lost()) == 0 })
	posts.client.CloseIdleConnections()
	if code := p.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}
	twice, doubted := 0, len(killed.log.events("in_doubt"))+len(p.log.events("in_doubt"))
	for _, times := range received(fb) {
		twice += times - 1
	}
	if twice > doubted {
		t.Errorf("%d messages were delivered twice, and only %d logged in doubt", twice, doubted)
	}
	t.Logf("accepted %d, lost %d, delivered twice %d, in doubt %d; the queue stopped %d times and started again %d times",
		len(kept), len(lost()), twice, doubted, len(killed.log.events("queue_stopped")), len(killed.log.events("queue_started")))
}

// backgroundLoad posts until it is ended, at about the rate at which the messages are delivered.
type backgroundLoad struct {
	stop    chan struct{}
	posting sync.WaitGroup
}

func inBackground(posts *poster, connections int) *backgroundLoad {
	b := &backgroundLoad{stop: make(chan struct{})}
	for range connections {
		b.posting.Go(func() {
			pace := time.NewTicker(time.Duration(connections) * 4 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-b.stop:
					return
				case <-pace.C:
					posts.post()
				}
			}
		})
	}
	return b
}

func (b *backgroundLoad) end() {
	close(b.stop)
	b.posting.Wait()
}

// disk is a file system of its own.
type disk struct {
	dir, filler string
}

func mountDisk(t *testing.T, size int) *disk {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+strconv.Itoa(size), "brazier-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount a file system: %v: %s\nRun this as root, or under: unshare -rm", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount: %v: %s", err, out)
		}
	})
	return &disk{dir: dir, filler: filepath.Join(dir, "filler")}
}

// fill leaves so many bytes free.
func (d *disk) fill(t *testing.T, leave int64) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &fs); err != nil {
		t.Fatal(err)
	}
	size := int64(fs.Bavail)*fs.Bsize - leave
	if err := os.WriteFile(d.filler, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keepFull takes every byte, those too that become free, until it is told to stop.
func (d *disk) keepFull(t *testing.T) (stop func()) {
	t.Helper()
	f, err := os.Create(d.filler)
	if err != nil {
		t.Fatal(err)
	}
	var stopped atomic.Bool
	var filling sync.WaitGroup
	reached := make(chan struct{})
	filling.Go(func() {
		defer f.Close()
		full := sync.OnceFunc(func() { close(reached) })
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		again := time.NewTicker(time.Millisecond)
		defer again.Stop()
		for !stopped.Load() {
			if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
				full()
				<-again.C
			} else if err != nil {
				t.Errorf("fill the disk: %v", err)
				full()
				return
			}
		}
	})
	<-reached
	stop = func() { stopped.Store(true); filling.Wait() }
	t.Cleanup(stop)
	return stop
}

// free gives back what was taken.
func (d *disk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler); err != nil {
		t.Fatal(err)
	}
}

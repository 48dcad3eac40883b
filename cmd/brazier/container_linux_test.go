package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	withContainers  = flag.Bool("containers", false, "build the image with docker, offline, and run it alone and in deploy/compose.yaml")
	containersImage = flag.String("containers.image", "", "with -containers: run this image instead of one that is built from the working tree")
)

// TestContainers builds deploy/Dockerfile as it stands, and runs the image.
func TestContainers(t *testing.T) {
	if !*withContainers {
		return // .ci/run asks for it where docker is
	}
	e := newEngine(t, 14*time.Minute)
	began := time.Now()
	image := e.image()
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	t.Run("image", func(t *testing.T) { testImage(e.in(t), image) })
	t.Run("compose", func(t *testing.T) { testCompose(e.in(t), image) })
}

// engine is docker. Everything that it makes is removed when the test ends.
type engine struct {
	t   *testing.T
	ctx context.Context
}

// newEngine is for a test of which all together may take as long as limit. It removes what tests have left that were killed.
func newEngine(t *testing.T, limit time.Duration) *engine {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	e := &engine{t, ctx}
	if left := e.clear(func(owner string) bool { return owner != ownerOfContainers && !isAlive(owner) }); len(left) > 0 {
		t.Logf("removed what an earlier test has left: %v", left)
	}
	t.Cleanup(func() {
		cancel()
		e.ctx = context.Background()
		if left := e.clear(func(owner string) bool { return owner == ownerOfContainers }); len(left) > 0 {
			t.Errorf("the test has left %v", left)
		}
	})
	return e
}

// in is the engine for a part of the test.
func (e *engine) in(t *testing.T) *engine { return &engine{t, e.ctx} }

// containersLabel is on everything that the test makes. Its value is the process that made it, as "host/pid".
const containersLabel = "brazier-test"

var ownerOfContainers = func() string {
	host, err := os.Hostname()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}()

// isAlive reports whether the process may be running. Those of other machines may.
func isAlive(owner string) bool {
	pid, here := strings.CutPrefix(owner, strings.TrimRight(ownerOfContainers, "0123456789"))
	number, err := strconv.Atoi(pid)
	return !here || err != nil || !errors.Is(syscall.Kill(number, 0), syscall.ESRCH)
}

// clear removes what processes of this test have made, and returns what it was.
func (e *engine) clear(of func(owner string) bool) (removed []string) {
	e.t.Helper()
	for _, kind := range []struct {
		list, remove []string
		label        string
	}{
		{[]string{"container", "ls", "--all"}, []string{"container", "rm", "--force", "--volumes"}, ".Config.Labels"},
		{[]string{"network", "ls"}, []string{"network", "rm"}, ".Labels"},
		{[]string{"volume", "ls"}, []string{"volume", "rm", "--force"}, ".Labels"},
		{[]string{"image", "ls"}, []string{"image", "rm", "--force"}, ".Config.Labels"}, // the newest first, so what is built on others
	} {
		listed := strings.Fields(e.run(append(kind.list, "--quiet", "--filter", "label="+containersLabel)...))
		for i, id := range listed {
			if slices.Contains(listed[:i], id) { // an image with two names
				continue
			}
			owner, err := e.try("inspect", "--type", kind.list[0], "--format", fmt.Sprintf("{{index %s %q}}", kind.label, containersLabel), id)
			if err == nil && of(owner) { // others remove their own meanwhile
				e.run(append(kind.remove, id)...)
				removed = append(removed, kind.list[0]+" "+id)
			}
		}
	}
	return removed
}

// try runs docker and returns what it wrote to standard output, and its error with the end of what it wrote beside that.
func (e *engine) try(args ...string) (string, error) {
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(e.ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		said := complaints.String()
		return out.String(), fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, said[max(0, len(said)-4000):])
	}
	return strings.TrimSpace(out.String()), nil
}

func (e *engine) run(args ...string) string {
	e.t.Helper()
	out, err := e.try(args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// remove runs docker when the test ends, also after its time is over.
func (e *engine) remove(args ...string) {
	e.t.Cleanup(func() {
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
			e.t.Errorf("docker %v: %v\n%s", args, err, out)
		}
	})
}

// eventually is the function of the same name, but does not ask docker without a pause.
func (e *engine) eventually(what string, ok func() bool) {
	e.t.Helper()
	poll := time.NewTicker(300 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(settleTimeout); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			e.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// image builds deploy/Dockerfile as it stands and returns the image's name.
func (e *engine) image() string {
	e.t.Helper()
	if *containersImage != "" {
		return *containersImage
	}
	e.base("golang:" + regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(e.t, "../../go.mod"))[1])
	name := fmt.Sprintf("brazier-test:%d", os.Getpid())
	dir := e.checkout()
	build := func(name string, options ...string) {
		e.t.Helper()
		e.remove("image", "rm", "--force", name)
		e.run(slices.Concat([]string{"build", "--tag", name, "--file", filepath.Join(dir, "deploy", "Dockerfile")}, options, []string{dir})...)
	}
	build(name+"-build", "--target", "build") // a name for the first stage, or else its image would be left
	build(name, "--label", containersLabel+"="+ownerOfContainers)
	return name
}

// checkout is what the working tree has, in a repository of its own: that of a git worktree cannot be copied into an image.
func (e *engine) checkout() string {
	e.t.Helper()
	dir := filepath.Join(e.t.TempDir(), "brazier")
	git := func(args ...string) string {
		e.t.Helper()
		out, err := exec.Command("git", args...).Output()
		if err != nil {
			e.t.Fatalf("git %v: %v", args, err)
		}
		return string(out)
	}
	top := strings.TrimSpace(git("rev-parse", "--show-toplevel"))
	git("clone", "--quiet", "--no-hardlinks", top, dir)
	for _, name := range strings.Split(strings.TrimRight(git("-C", top, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(top, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(filepath.Join(dir, name))
		} else if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), content, 0o644))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.t.Fatal(err)
		}
	}
	return dir
}

// testImage runs the image as the head of deploy/Dockerfile shows: read-only, without privileges, as nobody in particular.
func testImage(e *engine, image string) {
	t := e.t
	var built []struct {
		Size   int64
		Config struct {
			User        string
			Healthcheck struct{ Test []string }
		}
	}
	if err := json.Unmarshal([]byte(e.run("image", "inspect", image)), &built); err != nil {
		t.Fatal(err)
	}
	t.Logf("the image has %.1f MB", float64(built[0].Size)/1e6)
	if built[0].Size > maxImage || built[0].Config.User != "65532:65532" || strings.Join(built[0].Config.Healthcheck.Test, " ") != "CMD /brazier health" {
		t.Errorf("image %+v", built[0])
	}

	page := newTestPage("1029384756", "acme")
	pages := containerPages(t, page)
	volume := fmt.Sprintf("brazier-test-%d", os.Getpid())
	e.run("volume", "create", "--label", containersLabel+"="+ownerOfContainers, volume)
	e.remove("volume", "rm", "--force", volume)
	c := e.start(image, []string{"-v", volume + ":/data", "-v", filepath.Dir(pages) + ":" + filepath.Dir(pages) + ":ro", "-v", pages + ":/etc/brazier/pages.yaml:ro",
		"-m", "256m", "-p", "127.0.0.1::8080", "-e", "BRAZIER_GRAPH_URL=http://127.0.0.1:1"})
	c.isStatic()
	c.await("healthy")
	if got, want := c.events("starting")[0]["memory_limit_bytes"], float64(256<<20*4/5); got != want {
		t.Errorf("memory limit %v, want %v", got, want)
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	status, answer, err := post(client, c.address(), page, message("2003004005006007", "Hello"), nil)
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	var accepted struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &accepted); err != nil {
		t.Fatal(err)
	}
	e.run("stop", "--time", "40", c.name)
	if code := e.run("inspect", "--format", "{{.State.ExitCode}}", c.name); code != "0" {
		t.Errorf("exit code %s after docker stop", code)
	}
	e.run("start", c.name)
	c.await("healthy")
	if out := e.run("exec", c.name, "/brazier", "trace", accepted.ID, "--data=/data"); !strings.Contains(out, accepted.ID) {
		t.Errorf("after a restart trace prints %s", out)
	}

	waiting := e.start(image, []string{"-v", filepath.Dir(pages) + ":" + filepath.Dir(pages) + ":ro"}, "ingress", "--listen=0.0.0.0:8080", "--pages="+pages, "--nats-url=nats://127.0.0.1:1")
	waiting.await("starting")
	e.eventually("the ops listener answers", func() bool { _, err := e.try("exec", waiting.name, "/brazier", "health", "--alive"); return err == nil })
	if _, err := e.try("exec", waiting.name, "/brazier", "health"); err == nil || !strings.Contains(err.Error(), "brazier: not open") {
		t.Errorf("health of an ingress without NATS: %v", err)
	}
}

// maxImage is the size in bytes that nobody has to look at: the binary with its certificates. A larger image has more in it than these.
const maxImage = 40 << 20

// containerPages writes a page file and its secrets for the image's user, who is nobody on this machine.
func containerPages(t *testing.T, page testPage) string {
	t.Helper()
	pages := writePages(t, page)
	err := filepath.WalkDir(filepath.Dir(pages), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o755))
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// box is a container of the image.
type box struct {
	*engine
	name string
}

// start runs the image without rights. options are of docker run, args of brazier; without them the image's own.
func (e *engine) start(image string, options []string, args ...string) *box {
	e.t.Helper()
	options = append([]string{"run", "--detach", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
		"--health-interval=1s", "--label", containersLabel + "=" + ownerOfContainers}, options...)
	name := e.run(append(append(options, image), args...)...)
	e.remove("rm", "--force", "--volumes", name)
	e.t.Cleanup(func() {
		if e.t.Failed() {
			out, _ := exec.Command("docker", "logs", name).CombinedOutput()
			e.t.Logf("log of %v:\n%s", args, out)
		}
	})
	return &box{e, name}
}

// await polls until docker has found the container healthy, or to be in another state of its health.
func (c *box) await(health string) {
	c.t.Helper()
	c.eventually("the container is "+health, func() bool {
		return c.run("inspect", "--format", "{{.State.Health.Status}}", c.name) == health
	})
}

func (c *box) events(name string) []map[string]any {
	c.t.Helper()
	out, err := exec.CommandContext(c.ctx, "docker", "logs", c.name).CombinedOutput()
	if err != nil {
		c.t.Fatal(err)
	}
	var log transcript
	_, _ = log.Write(out)
	found := log.events(name)
	if len(found) == 0 {
		c.t.Fatalf("no event %s in\n%s", name, out)
	}
	return found
}

// address is where port 8080 of the container is reached.
func (c *box) address() string {
	c.t.Helper()
	return c.run("port", c.name, "8080/tcp")
}

// isStatic fails the test if the binary needs a loader that the image does not have.
func (c *box) isStatic() {
	c.t.Helper()
	binary := filepath.Join(c.t.TempDir(), "brazier")
	c.run("cp", c.name+":/brazier", binary)
	if loader, err := needsLoader(binary); err != nil || loader {
		c.t.Errorf("the binary is not static, error %v", err)
	}
}

// needsLoader reports whether a program is not static.
func needsLoader(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}

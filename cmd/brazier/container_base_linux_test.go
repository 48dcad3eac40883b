package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// base makes the image that the Dockerfile builds with, unless it is there: this machine's Go, git and shell, the modules of go.sum instead
// of a network, and what this machine has compiled of them, or else the build would take minutes.
func (e *engine) base(name string) {
	e.t.Helper()
	if _, err := e.try("image", "inspect", name); err == nil {
		return
	}
	modules := filepath.Join(e.t.TempDir(), "mod")
	download := exec.CommandContext(e.ctx, "go", "mod", "download")
	download.Env = append(os.Environ(), "GOMODCACHE="+modules, "GOFLAGS=-modcacherw", "GOPROXY=file://"+goEnv(e.t, "GOMODCACHE")+"/cache/download", "GOSUMDB=off")
	if out, err := download.CombinedOutput(); err != nil {
		e.t.Fatalf("go mod download: %v\n%s", err, out)
	}
	compiled := e.compiled()
	e.load(name, []string{"ENV PATH=/usr/local/go/bin:/usr/bin:/bin", "ENV GOPATH=/go", "ENV GOPROXY=off", "ENV GOTOOLCHAIN=local", "ENV HOME=/tmp", "ENV GOCACHE=/go/cache"},
		func(r *rootfs) {
			r.fill(goEnv(e.t, "GOROOT"), filepath.Join(modules, "cache", "download"))
			for _, file := range compiled {
				r.file(file, filepath.Join("/go/cache", filepath.Base(filepath.Dir(file)), filepath.Base(file)))
			}
		})
}

// compiled returns the files of this machine's Go build cache that hold the packages of the build in the Dockerfile. It compiles what is not
// there. In the format of the cache an entry is "v1 action output size time", and the output is a file beside it. Where that is not so,
// or the build in the image asks for something else, that compiles anew.
func (e *engine) compiled() (files []string) {
	e.t.Helper()
	build := regexp.MustCompile(`(?m)^RUN (.*)go build(.*) -o \S+( \S+)`).FindStringSubmatch(read(e.t, "../../deploy/Dockerfile"))
	if build == nil {
		e.t.Fatal("no go build in the Dockerfile")
	}
	list := exec.CommandContext(e.ctx, "sh", "-c", build[1]+"go list -deps -export -f '{{.Export}}'"+build[2]+build[3])
	list.Dir, list.Env = "../..", append(os.Environ(), "GOFLAGS=")
	out, err := list.Output()
	if err != nil {
		e.t.Fatalf("%v: %v", list.Args, err)
	}
	outputs := map[string]bool{}
	for output := range strings.FieldsSeq(string(out)) {
		outputs[strings.TrimSuffix(filepath.Base(output), "-d")] = true
		files = append(files, output)
	}
	entries, err := filepath.Glob(filepath.Join(goEnv(e.t, "GOCACHE"), "*", "*-a"))
	if err != nil {
		e.t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(entry)
		if fields := strings.Fields(string(content)); err == nil && len(fields) == 5 && outputs[fields[2]] { // go may remove old ones meanwhile
			files = append(files, entry)
		}
	}
	return files
}

// load makes an image of the files that fill writes, with some instructions of a Dockerfile.
func (e *engine) load(name string, instructions []string, fill func(*rootfs)) {
	e.t.Helper()
	args := []string{"import", "--change", fmt.Sprintf("LABEL %s=%s", containersLabel, ownerOfContainers)}
	for _, instruction := range instructions {
		args = append(args, "--change", instruction)
	}
	load := exec.CommandContext(e.ctx, "docker", append(args, "-", name)...)
	var complaints bytes.Buffer
	load.Stderr = &complaints
	pipe, err := load.StdinPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := load.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.remove("image", "rm", "--force", name)
	root := &rootfs{w: tar.NewWriter(pipe), has: map[string]bool{}}
	fill(root)
	if err := errors.Join(root.err, root.w.Close(), pipe.Close(), load.Wait()); err != nil {
		e.t.Fatalf("docker import: %v\n%s", err, complaints.String())
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// rootfs writes the files of an image. After an error it writes nothing more.
type rootfs struct {
	w   *tar.Writer
	has map[string]bool
	err error
}

func (r *rootfs) fill(goRoot, modules string) {
	r.tree(goRoot, "/usr/local/go", "api", "doc", "misc", "test", "src/cmd", ".git")
	r.tree(modules, "/go/pkg/mod/cache/download")
	r.file("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	r.programs("sh", "mkdir", "git")
	r.add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
}

// programs writes programs of this machine into /bin, and the libraries that they need.
func (r *rootfs) programs(names ...string) {
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			r.err = errors.Join(r.err, err)
			return
		}
		r.file(path, "/bin/"+filepath.Base(name))
		r.libraries(path)
	}
}

// libraries writes what a program needs to be loaded, if anything.
func (r *rootfs) libraries(path string) {
	if loader, err := needsLoader(path); err != nil || !loader {
		r.err = errors.Join(r.err, err)
		return
	}
	out, err := exec.Command("ldd", path).Output()
	r.err = errors.Join(r.err, err)
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		r.file(library, library)
	}
}

// tree writes a directory without some of its entries, and without tests: each layer of a build takes docker longer, the more files there are.
func (r *rootfs) tree(from, to string, without ...string) {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || slices.ContainsFunc(without, func(name string) bool { return path == filepath.Join(from, name) })) {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() && !strings.HasSuffix(path, "_test.go") {
			r.file(path, to+strings.TrimPrefix(path, from))
		}
		return nil
	})
	r.err = errors.Join(r.err, err)
}

func (r *rootfs) file(from, to string) {
	if r.err != nil || r.has[to] {
		return
	}
	r.has[to] = true
	f, err := os.Open(from)
	if err != nil {
		r.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		r.err = err
		return
	}
	// Go would write a time to each entry of its cache that it uses and that looks old, and so have a copy of it made.
	r.add(&tar.Header{Name: strings.TrimPrefix(to, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: time.Now()}, f)
}

func (r *rootfs) add(header *tar.Header, content io.Reader) {
	if r.err != nil {
		return
	}
	if r.err = r.w.WriteHeader(header); r.err == nil && content != nil {
		_, r.err = io.Copy(r.w, content)
	}
}

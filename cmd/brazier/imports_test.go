package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/brazier-relay/brazier"

// rooms has a row for each package: what it may import of this module. Imports run one way, cmd -> worker -> queue ->
// sendapi: the left may import the right, a child its parent, and siblings never meet.
var rooms = map[string][]string{
	"cmd/brazier":     {"queue", "queue/embedded", "queue/ingress", "sendapi", "sendapi/sandbox", "worker", "worker/deliver"},
	"worker":          {"queue", "sendapi"},
	"worker/deliver":  {"queue", "sendapi", "worker"},
	"queue":           {},
	"queue/embedded":  {},
	"queue/ingress":   {"queue", "sendapi"},
	"queue/queuetest": {"queue", "queue/embedded"}, // the one meeting of siblings: a queue for tests is these two
	"sendapi":         {},
	"sendapi/sandbox": {}, // shares no code with the client that it tests
}

// forTests is what any test may import beside its package's row: real parts to test against.
var forTests = []string{"queue/queuetest", "queue/embedded", "sendapi/sandbox"}

// keepers are the packages that alone may import a library in production code.
var keepers = map[string][]string{
	"github.com/nats-io/nats.go":          {"queue"},
	"github.com/nats-io/nats-server/v2":   {"queue/embedded"},
	"github.com/prometheus/client_golang": {"queue/ingress", "worker", "cmd/brazier"},
}

// helpers are for tests alone. queue/queuetest is a helper itself, and may use them.
var helpers = []string{"testing", "net/http/httptest", "go.uber.org/zap/zaptest", "go.uber.org/goleak", "github.com/google/go-cmp",
	module + "/queue/queuetest"}

// topLevel is what stands at the top of the tree, hidden names aside.
var topLevel = []string{"cmd", "worker", "queue", "sendapi", "deploy", "go.mod", "go.sum", "README.md", "LICENSE"}

// vague names say nothing of what is in a package, and so everything ends up in it.
var vague = []string{"util", "utils", "common", "types", "models", "helpers", "misc", "lib"}

// goFile is what a file of this module imports.
type goFile struct {
	path    string // from the module's root, with slashes
	imports []string
}

func (f goFile) room() string { return path.Dir(f.path) }
func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// breaches returns what in the files is against the law, sorted.
func breaches(rooms map[string][]string, files []goFile) []string {
	found := make(map[string]bool)
	for _, f := range files {
		row, ok := rooms[f.room()]
		if !ok {
			found["package "+f.room()+" has no row in the table"] = true
			continue
		}
		for _, name := range strings.Split(f.room(), "/") {
			if slices.Contains(vague, name) {
				found["package "+f.room()+" has a name that says nothing: "+name] = true
			}
		}
		for _, imported := range f.imports {
			if why := f.breach(row, imported); why != "" {
				found[f.path+" imports "+imported+": "+why] = true
			}
		}
	}
	for room, row := range rooms {
		for _, imported := range row {
			if !runsOneWay(room, imported) {
				found["the row of "+room+" has "+imported+": that is the wrong way"] = true
			}
		}
	}
	sorted := make([]string, 0, len(found))
	for breach := range found {
		sorted = append(sorted, breach)
	}
	slices.Sort(sorted)
	return sorted
}

// breach says what is wrong with an import of the file, if anything.
func (f goFile) breach(row []string, imported string) string {
	if room, ours := strings.CutPrefix(imported, module+"/"); ours {
		allowed := slices.Contains(row, room)
		if f.isTest() {
			parent := path.Dir(f.room())
			allowed = allowed || room == f.room() || room == parent || slices.Contains(forTests, room)
		}
		if !allowed {
			return "not in its row of the table"
		}
	}
	if f.isTest() {
		return ""
	}
	for library, rooms := range keepers {
		if within(imported, library) && !slices.Contains(rooms, f.room()) {
			return "only " + strings.Join(rooms, ", ") + " may"
		}
	}
	if f.room() != "queue/queuetest" && slices.ContainsFunc(helpers, func(h string) bool { return within(imported, h) }) {
		return "it is for tests"
	}
	if strings.HasPrefix(f.path, "sendapi/") && strings.Contains(strings.Split(imported, "/")[0], ".") {
		return "sendapi needs nothing but the standard library"
	}
	return ""
}

// runsOneWay reports whether one room may import another at all.
func runsOneWay(room, imported string) bool {
	if room == "queue/queuetest" && imported == "queue/embedded" || room != "sendapi/sandbox" && imported == path.Dir(room) {
		return true
	}
	order := []string{"cmd", "worker", "queue", "sendapi"}
	top := func(room string) int { name, _, _ := strings.Cut(room, "/"); return slices.Index(order, name) }
	return top(room) >= 0 && top(room) < top(imported)
}

// within reports whether an import is of a library or of a package in it.
func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

func TestImports(t *testing.T) {
	files := readImports(t, moduleRoot(t))
	for _, breach := range breaches(rooms, files) {
		t.Error(breach)
	}
	seen := make(map[string]bool)
	for _, f := range files {
		seen[f.room()] = true
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("the table has a row for %s, which does not exist", room)
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) && !isIgnored(e.Name()) {
			t.Errorf("%s stands at the top of the tree; there are %v and hidden names", e.Name(), topLevel)
		}
	}
}

// isIgnored tells what .gitignore keeps out of the repository, and a build or a run may leave behind.
func isIgnored(name string) bool {
	return slices.Contains([]string{"brazier", "bin", "dist", "data", "brazier-data", "pages.yaml"}, name) ||
		slices.Contains([]string{".test", ".out", ".prof", ".token"}, filepath.Ext(name))
}

// moduleRoot is the directory of go.mod, here or above.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			if !strings.HasPrefix(string(b), "module "+module+"\n") {
				t.Fatalf("%s is not the module %s", dir, module)
			}
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod")
		}
	}
}

func readImports(t *testing.T, root string) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != root && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := goFile{path: filepath.ToSlash(rel)}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The law can be broken, and it is seen.
func TestBreachesAreFound(t *testing.T) {
	const (
		natsGo  = "github.com/nats-io/nats.go/jetstream"
		server  = "github.com/nats-io/nats-server/v2/server"
		noRow   = ": not in its row of the table"
		forTest = ": it is for tests"
	)
	for _, c := range []struct {
		path, imported string
		want           string // of the breach, after "imports"; empty: none
	}{
		{"queue/queue.go", natsGo, ""},
		{"queue/queue.go", "testing/fstest", forTest},
		{"queue/queue.go", module + "/sendapi", noRow},
		{"queue/queue.go", module + "/worker", noRow},
		{"queue/queue.go", module + "/queue/embedded", noRow},
		{"queue/queue_test.go", module + "/queue/embedded", ""},
		{"queue/queue_test.go", module + "/worker", noRow},
		{"queue/embedded/embedded.go", server, ""},
		{"queue/embedded/embedded.go", natsGo, ": only queue may"},
		{"queue/embedded/embedded.go", module + "/queue", noRow},
		{"queue/embedded/embedded_test.go", module + "/queue", ""},
		{"queue/ingress/door.go", module + "/queue", ""},
		{"queue/ingress/door.go", module + "/queue/embedded", noRow},
		{"queue/ingress/door.go", module + "/queue/queuetest", noRow},
		{"queue/ingress/door.go", "net/http/httptest", forTest},
		{"queue/ingress/door.go", "net/http", ""},
		{"queue/ingress/door_test.go", module + "/queue/queuetest", ""},
		{"queue/ingress/door_test.go", module + "/queue/ingress", ""},
		{"queue/ingress/door_test.go", module + "/worker", noRow},
		{"queue/ingress/door_test.go", natsGo, ""},
		{"queue/queuetest/queuetest.go", "testing", ""},
		{"queue/queuetest/queuetest.go", module + "/queue/embedded", ""},
		{"queue/queuetest/queuetest.go", server, ": only queue/embedded may"},
		{"worker/worker.go", natsGo, ": only queue may"},
		{"worker/worker.go", "github.com/nats-io/nats.go", ": only queue may"},
		{"worker/worker.go", "github.com/nats-io/nats.gopher", ""},
		{"worker/worker.go", module + "/worker/deliver", noRow},
		{"worker/worker.go", "go.uber.org/zap", ""},
		{"worker/worker.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"queue/ingress/metrics.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"queue/queue.go", "github.com/prometheus/client_golang/prometheus", ": only queue/ingress, worker, cmd/brazier may"},
		{"worker/worker.go", "go.uber.org/zap/zaptest/observer", forTest},
		{"worker/deliver/deliver.go", "github.com/google/go-cmp/cmp", forTest},
		{"worker/deliver/deliver.go", "go.uber.org/goleak", forTest},
		{"worker/deliver/deliver_test.go", "go.uber.org/goleak", ""},
		{"worker/deliver/deliver_test.go", module + "/sendapi/sandbox", ""},
		{"cmd/brazier/demo.go", module + "/sendapi/sandbox", ""},
		{"cmd/brazier/demo.go", module + "/queue/queuetest", noRow},
		{"sendapi/client.go", module + "/sendapi/sandbox", noRow},
		{"sendapi/client.go", "go.uber.org/zap", ": sendapi needs nothing but the standard library"},
		{"sendapi/sandbox/sandbox.go", module + "/sendapi", noRow},
		{"sendapi/sandbox/sandbox.go", "encoding/json", ""},
		{"sendapi/sandbox/sandbox_test.go", module + "/sendapi", ""},
	} {
		var want []string
		if c.want != "" {
			want = []string{c.path + " imports " + c.imported + c.want}
		}
		got := breaches(rooms, []goFile{{c.path, []string{c.imported}}})
		if !slices.Equal(got, want) {
			t.Errorf("%s imports %s: %q, want %q", c.path, c.imported, got, want)
		}
	}

	files := []goFile{{"worker/capture/capture.go", nil}, {"queue/util/util.go", nil}, {"tools/tool.go", nil}}
	table := map[string][]string{
		"queue/util":      {},
		"sendapi":         {"queue"},
		"sendapi/sandbox": {"sendapi"},
		"worker/deliver":  {"worker/capture", "worker", "queue/ingress"},
		"worker":          {"worker/deliver", "cmd/brazier"},
		"cmd/brazier":     {"cmd/other"},
	}
	want := []string{
		"package queue/util has a name that says nothing: util",
		"package tools has no row in the table",
		"package worker/capture has no row in the table",
		"the row of cmd/brazier has cmd/other: that is the wrong way",
		"the row of sendapi has queue: that is the wrong way",
		"the row of sendapi/sandbox has sendapi: that is the wrong way",
		"the row of worker has cmd/brazier: that is the wrong way",
		"the row of worker has worker/deliver: that is the wrong way",
		"the row of worker/deliver has worker/capture: that is the wrong way",
	}
	if diff := cmp.Diff(want, breaches(table, files)); diff != "" {
		t.Errorf("breaches (-want +got):\n%s", diff)
	}
}

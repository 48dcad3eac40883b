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

// mayImport has a row for each package: what it may import of this module. Imports run one way, cmd -> worker -> queue ->
// sendapi: the left may import the right, a child its parent, and siblings never meet.
var mayImport = map[string][]string{
	"cmd/brazier/cli":      {},
	"cmd/brazier/pagefile": {"cmd/brazier/cli", "queue", "queue/ingress", "sendapi", "sendapi/webhook", "worker", "worker/braze", "worker/capture", "worker/deliver"},
	"cmd/brazier/process":  {"cmd/brazier/cli", "cmd/brazier/pagefile", "queue", "queue/embedded", "queue/ingress", "sendapi", "sendapi/webhook", "worker", "worker/braze", "worker/capture", "worker/deliver", "worker/subscription"},
	"cmd/brazier/admin":    {"cmd/brazier/cli", "cmd/brazier/pagefile", "cmd/brazier/process", "queue", "queue/embedded", "sendapi", "sendapi/webhook", "worker/capture", "worker/subscription"},
	"cmd/brazier/bench":    {"cmd/brazier/cli", "cmd/brazier/pagefile", "sendapi/sandbox"},
	"cmd/brazier/demo":     {"cmd/brazier/cli", "cmd/brazier/pagefile", "cmd/brazier/process", "queue", "sendapi", "sendapi/sandbox", "sendapi/webhook", "worker", "worker/braze/sandbox", "worker/capture", "worker/deliver"},
	"cmd/brazier":          {"cmd/brazier/admin", "cmd/brazier/bench", "cmd/brazier/cli", "cmd/brazier/demo", "cmd/brazier/pagefile", "cmd/brazier/process", "queue", "queue/embedded", "queue/ingress", "sendapi", "sendapi/sandbox", "sendapi/webhook", "worker/braze/sandbox", "worker/deliver"},
	"worker":               {"queue", "sendapi"},
	"worker/deliver":       {"queue", "sendapi", "worker"},
	"worker/capture":       {"queue", "sendapi", "sendapi/webhook", "worker"},
	"worker/braze":         {"queue", "worker"},
	"worker/subscription":  {"queue", "sendapi"},
	"worker/braze/sandbox": {}, // shares no code with the client that it tests
	"queue":                {},
	"queue/embedded":       {},
	"queue/ingress":        {"queue", "sendapi", "sendapi/webhook"},
	"queue/queuetest":      {"queue", "queue/embedded"}, // the one meeting of siblings: a queue for tests is these two
	"sendapi":              {},
	"sendapi/webhook":      {},
	"sendapi/sandbox":      {}, // shares no code with the client that it tests
}

// forTests is what any test may import beside its package's row: real parts to test against. The end-to-end tests in
// cmd/brazier may import everything.
var forTests = []string{"queue/queuetest", "queue/embedded", "sendapi/sandbox", "worker/braze/sandbox"}

// keepers are the packages that alone may import a library in production code.
var keepers = map[string][]string{
	"github.com/nats-io/nats.go":          {"queue"},
	"github.com/nats-io/nats-server/v2":   {"queue/embedded"},
	"github.com/prometheus/client_golang": {"queue/ingress", "worker", "worker/braze", "worker/capture", "worker/subscription", "cmd/brazier/process"},
}

// helpers are for tests alone. queue/queuetest is a helper itself, and may use them.
var helpers = []string{"testing", "net/http/httptest", "go.uber.org/zap/zaptest", "go.uber.org/goleak", "github.com/google/go-cmp",
	module + "/queue/queuetest"}

// jsonLibrary reads JSON. The standard library has it from Go 1.27 on.
const jsonLibrary = "github.com/go-json-experiment/json"

// topLevel is what stands at the top of the tree, hidden names aside.
var topLevel = []string{"cmd", "worker", "queue", "sendapi", "deploy", "go.mod", "go.sum", "README.md", "LICENSE"}

// vague names say nothing of what is in a package, and so everything ends up in it.
var vague = []string{"util", "utils", "common", "types", "models", "helpers", "misc", "lib"}

// goFile is what a file of this module imports.
type goFile struct {
	path    string // from the module's root, with slashes
	imports []string
}

func (f goFile) pkg() string  { return path.Dir(f.path) }
func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// breaches returns what in the files breaks the rules, sorted.
func breaches(table map[string][]string, files []goFile) []string {
	found := make(map[string]bool)
	for _, f := range files {
		row, ok := table[f.pkg()]
		if !ok {
			found["package "+f.pkg()+" has no row in the table"] = true
			continue
		}
		for _, name := range strings.Split(f.pkg(), "/") {
			if slices.Contains(vague, name) {
				found["package "+f.pkg()+" has a name that says nothing: "+name] = true
			}
		}
		for _, imported := range f.imports {
			if why := f.breach(row, imported); why != "" {
				found[f.path+" imports "+imported+": "+why] = true
			}
		}
	}
	for pkg, row := range table {
		for _, imported := range row {
			if !runsOneWay(pkg, imported) {
				found["the row of "+pkg+" has "+imported+": that is the wrong way"] = true
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
	if pkg, ours := strings.CutPrefix(imported, module+"/"); ours {
		allowed := slices.Contains(row, pkg)
		if f.isTest() {
			parent := path.Dir(f.pkg())
			allowed = allowed || pkg == f.pkg() || pkg == parent || slices.Contains(forTests, pkg) || f.pkg() == "cmd/brazier"
		}
		if !allowed {
			return "not in its row of the table"
		}
	}
	if f.isTest() {
		return ""
	}
	for library, keeps := range keepers {
		if within(imported, library) && !slices.Contains(keeps, f.pkg()) {
			return "only " + strings.Join(keeps, ", ") + " may"
		}
	}
	if f.pkg() != "queue/queuetest" && slices.ContainsFunc(helpers, func(h string) bool { return within(imported, h) }) {
		return "it is for tests"
	}
	if strings.HasPrefix(f.path, "sendapi/") && strings.Contains(strings.Split(imported, "/")[0], ".") && !within(imported, jsonLibrary) {
		return "sendapi needs nothing but the standard library and " + jsonLibrary
	}
	return ""
}

// commandOrder is the order of the packages of the command: each may import those after it, but for its own row's.
var commandOrder = [][]string{{"cmd/brazier"}, {"cmd/brazier/admin", "cmd/brazier/bench", "cmd/brazier/demo"},
	{"cmd/brazier/process"}, {"cmd/brazier/pagefile"}, {"cmd/brazier/cli"}}

// runsOneWay reports whether one package may import another at all.
func runsOneWay(pkg, imported string) bool {
	if within(pkg, "cmd/brazier") && within(imported, "cmd/brazier") {
		rank := func(name string) int {
			return slices.IndexFunc(commandOrder, func(row []string) bool { return slices.Contains(row, name) })
		}
		return rank(pkg) >= 0 && rank(pkg) < rank(imported)
	}
	if pkg == "queue/queuetest" && imported == "queue/embedded" || pkg != "sendapi/sandbox" && imported == path.Dir(pkg) {
		return true
	}
	order := []string{"cmd", "worker", "queue", "sendapi"}
	top := func(pkg string) int { name, _, _ := strings.Cut(pkg, "/"); return slices.Index(order, name) }
	return top(pkg) >= 0 && top(pkg) < top(imported)
}

// within reports whether an import is of a library or of a package in it.
func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

func TestImports(t *testing.T) {
	files := readImports(t, moduleRoot(t))
	for _, breach := range breaches(mayImport, files) {
		t.Error(breach)
	}
	seen := make(map[string]bool)
	for _, f := range files {
		seen[f.pkg()] = true
	}
	for pkg := range mayImport {
		if !seen[pkg] {
			t.Errorf("the table has a row for %s, which does not exist", pkg)
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

// A broken rule is found.
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
		{"queue/ingress/server.go", module + "/queue", ""},
		{"queue/ingress/server.go", module + "/queue/embedded", noRow},
		{"queue/ingress/server.go", module + "/queue/queuetest", noRow},
		{"queue/ingress/server.go", "net/http/httptest", forTest},
		{"queue/ingress/server.go", "net/http", ""},
		{"queue/ingress/server_test.go", module + "/queue/queuetest", ""},
		{"queue/ingress/server_test.go", module + "/queue/ingress", ""},
		{"queue/ingress/server_test.go", module + "/worker", noRow},
		{"queue/ingress/server_test.go", natsGo, ""},
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
		{"queue/queue.go", "github.com/prometheus/client_golang/prometheus", ": only queue/ingress, worker, worker/braze, worker/capture, worker/subscription, cmd/brazier/process may"},
		{"worker/worker.go", "go.uber.org/zap/zaptest/observer", forTest},
		{"worker/deliver/deliver.go", "github.com/google/go-cmp/cmp", forTest},
		{"worker/deliver/deliver.go", "go.uber.org/goleak", forTest},
		{"worker/deliver/deliver_test.go", "go.uber.org/goleak", ""},
		{"worker/deliver/deliver_test.go", module + "/sendapi/sandbox", ""},
		{"cmd/brazier/demo/demo.go", module + "/sendapi/sandbox", ""},
		{"cmd/brazier/demo/demo.go", module + "/queue/queuetest", noRow},
		{"cmd/brazier/main.go", module + "/worker", noRow},
		{"cmd/brazier/scenario_test.go", module + "/queue", ""},
		{"cmd/brazier/admin/status.go", module + "/cmd/brazier/process", ""},
		{"cmd/brazier/admin/status.go", module + "/cmd/brazier/bench", noRow},
		{"cmd/brazier/process/ops.go", "github.com/prometheus/client_golang/prometheus/promhttp", ""},
		{"cmd/brazier/admin/status.go", "github.com/prometheus/client_golang/prometheus", ": only queue/ingress, worker, worker/braze, worker/capture, worker/subscription, cmd/brazier/process may"},
		{"sendapi/client.go", module + "/sendapi/sandbox", noRow},
		{"sendapi/client.go", "go.uber.org/zap", ": sendapi needs nothing but the standard library and " + jsonLibrary},
		{"sendapi/scan.go", jsonLibrary + "/jsontext", ""},
		{"sendapi/sandbox/sandbox.go", module + "/sendapi", noRow},
		{"sendapi/sandbox/sandbox.go", "encoding/json", ""},
		{"sendapi/sandbox/sandbox_test.go", module + "/sendapi", ""},
	} {
		var want []string
		if c.want != "" {
			want = []string{c.path + " imports " + c.imported + c.want}
		}
		got := breaches(mayImport, []goFile{{c.path, []string{c.imported}}})
		if !slices.Equal(got, want) {
			t.Errorf("%s imports %s: %q, want %q", c.path, c.imported, got, want)
		}
	}

	files := []goFile{{"worker/capture/capture.go", nil}, {"queue/util/util.go", nil}, {"tools/tool.go", nil}}
	table := map[string][]string{
		"queue/util":          {},
		"sendapi":             {"queue"},
		"sendapi/sandbox":     {"sendapi"},
		"worker/deliver":      {"worker/capture", "worker", "queue/ingress"},
		"worker":              {"worker/deliver", "cmd/brazier"},
		"cmd/brazier":         {"cmd/other"},
		"cmd/brazier/cli":     {"cmd/brazier/pagefile"},
		"cmd/brazier/process": {"cmd/brazier/admin", "cmd/brazier/cli"},
		"cmd/brazier/demo":    {"cmd/brazier/bench"},
	}
	want := []string{
		"package queue/util has a name that says nothing: util",
		"package tools has no row in the table",
		"package worker/capture has no row in the table",
		"the row of cmd/brazier has cmd/other: that is the wrong way",
		"the row of cmd/brazier/cli has cmd/brazier/pagefile: that is the wrong way",
		"the row of cmd/brazier/demo has cmd/brazier/bench: that is the wrong way",
		"the row of cmd/brazier/process has cmd/brazier/admin: that is the wrong way",
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

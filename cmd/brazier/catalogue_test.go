package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// names is a set of keys.
type names map[string]bool

func (n names) add(other names) { maps.Copy(n, other) }

// function is what a function of the code says of log lines.
type function struct {
	events, keys names
	calls        names            // functions and methods, by name
	lines        map[string]names // the keys that stand in the same call as the event
	texts        names            // all that it quotes: a key may come from a table
}

// loggedKeys reads the code: the functions of each package, by name. Methods of the same name count as one.
func loggedKeys(t *testing.T) map[string]map[string]*function {
	t.Helper()
	packages := map[string]map[string]*function{}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		in := filepath.Dir(path)
		if packages[in] == nil {
			packages[in] = map[string]*function{}
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				of := packages[in][f.Name.Name]
				if of == nil {
					of = &function{events: names{}, keys: names{}, calls: names{}, lines: map[string]names{}, texts: names{}}
					packages[in][f.Name.Name] = of
				}
				of.read(f.Body)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// read adds a body to the function.
func (f *function) read(body ast.Node) {
	ast.Inspect(body, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, _ := strconv.Unquote(literal.Value)
			f.texts[text] = true
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if key, event := field(call); key == "event" && event != "" {
			f.events[event] = true
		} else if key != "" && key != "event" {
			f.keys[key] = true
		}
		switch to := call.Fun.(type) {
		case *ast.Ident:
			f.calls[to.Name] = true
		case *ast.SelectorExpr:
			f.calls[to.Sel.Name] = true
			if slices.Contains([]string{"Debug", "Info", "Warn", "Error", "Log"}, to.Sel.Name) {
				f.line(call)
			}
		}
		return true
	})
}

// line notes the keys of a call that logs.
func (f *function) line(call *ast.CallExpr) {
	keys, event := names{}, ""
	ast.Inspect(call, func(n ast.Node) bool {
		if inner, ok := n.(*ast.CallExpr); ok {
			if key, value := field(inner); key == "event" {
				event = value
			} else if key != "" {
				keys[key] = true
			}
		}
		return true
	})
	if event == "" {
		return
	}
	if f.lines[event] == nil {
		f.lines[event] = names{}
	}
	f.lines[event].add(keys)
}

// field returns the key of a call that makes a field, and its value if that is a literal.
func field(call *ast.CallExpr) (key, value string) {
	to, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	if pkg, ok := to.X.(*ast.Ident); !ok || pkg.Name != "zap" {
		return "", ""
	}
	text := func(i int) string {
		if i < len(call.Args) {
			if literal, ok := call.Args[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				s, _ := strconv.Unquote(literal.Value)
				return s
			}
		}
		return ""
	}
	if to.Sel.Name == "Error" && len(call.Args) == 1 {
		return "error", ""
	}
	return text(0), text(1)
}

// reach adds the keys of a function and of those that it calls in its package, some levels deep.
func reach(functions map[string]*function, name string, depth int, to names) {
	f := functions[name]
	if f == nil || depth == 0 {
		return
	}
	to.add(f.keys)
	for called := range f.calls {
		reach(functions, called, depth-1, to)
	}
}

// row is what the catalogue says of an event.
type row struct {
	keys      names // that it lists
	mentioned names // all words that it quotes
}

// catalogueRows reads deploy/LOGS.md. The keys stand before the colon of the last column, with notes in parentheses.
func catalogueRows(t *testing.T) map[string]row {
	t.Helper()
	rows := map[string]row{}
	quoted := regexp.MustCompile("`([a-z0-9_]+)`")
	notes := regexp.MustCompile(`\([^()]*\)`)
	for line := range strings.Lines(read(t, "../../deploy/LOGS.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !regexp.MustCompile(`^ (debug|info|warn|error)`).MatchString(cells[2]) {
			continue
		}
		listed := notes.ReplaceAllString(notes.ReplaceAllString(cells[3], ""), "")
		listed, _, _ = strings.Cut(listed, ":")
		for _, event := range quoted.FindAllStringSubmatch(cells[1], -1) {
			r := row{names{}, names{}}
			for _, m := range quoted.FindAllStringSubmatch(listed, -1) {
				r.keys[m[1]] = true
			}
			for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
				r.mentioned[m[1]] = true
			}
			rows[event[1]] = r
		}
	}
	return rows
}

// everywhere are keys that loggers have from their makers.
var everywhere = names{"component": true, "page": true, "page_id": true, "workspace": true, "role": true, "version": true}

// TestLogCatalogueKeys compares the keys of each event in the code with deploy/LOGS.md, both ways. What a function adds to a line by
// way of other functions is found as far as names tell.
func TestLogCatalogueKeys(t *testing.T) {
	t.Parallel()
	rows := catalogueRows(t)
	possible := map[string]names{} // by event, of the functions that name it and of what they call
	for _, functions := range loggedKeys(t) {
		for name, f := range functions {
			for event := range f.events {
				if possible[event] == nil {
					possible[event] = names{}
				}
				possible[event].add(everywhere)
				possible[event].add(f.texts)
				reach(functions, name, 3, possible[event])
				for caller, by := range functions { // fields that are passed on
					if by.calls[name] {
						reach(functions, caller, 3, possible[event])
					}
				}
			}
			for event, keys := range f.lines {
				for key := range keys {
					if !rows[event].mentioned[key] && !everywhere[key] {
						t.Errorf("event %s has key %s in the code, and not in deploy/LOGS.md", event, key)
					}
				}
			}
			if len(f.events) == 1 {
				for event := range f.events {
					for key := range f.keys {
						if !rows[event].mentioned[key] && !everywhere[key] {
							t.Errorf("event %s may have key %s in the code (%s), and not in deploy/LOGS.md", event, key, name)
						}
					}
				}
			}
		}
	}
	for event, r := range rows {
		for key := range r.keys {
			if _, isEvent := rows[key]; possible[event] != nil && !possible[event][key] && !isEvent {
				t.Errorf("deploy/LOGS.md says that event %s has key %s, which nothing in the code adds", event, key)
			}
		}
	}
}

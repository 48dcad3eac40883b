package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// pageConfig is one page of the page file, as read.
type pageConfig struct {
	ID, Name        string
	Secrets         secrets
	Keys            [][sha256.Size]byte
	Rate, MediaRate float64
	MaxInFlight     int
	InDoubt         deliver.InDoubt
	Expire          time.Duration

	line int
}

// problem is something wrong with the page file, with its remedy in the text.
type problem struct {
	file string
	line int
	text string
}

func (p problem) String() string { return fmt.Sprintf("%s:%d: %s", p.file, p.line, p.text) }

// problems are all that is wrong with a page file.
type problems []problem

func (ps problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// readPages reads a page file strictly. The error is problems where the file could be read: every one of them, with its
// line. The pages are returned as far as they could be understood.
func readPages(path string) ([]pageConfig, error) {
	source, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("page file %s does not exist: name yours with --pages; the README shows one to copy", path)
	}
	if err != nil {
		return nil, fmt.Errorf("page file: %w", err)
	}
	r := &pageReader{file: path}
	pages := r.read(source)
	if len(r.found) > 0 {
		slices.SortStableFunc(r.found, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
		return pages, r.found
	}
	return pages, nil
}

// pageReader walks the file's syntax tree, so that each problem has its line and none hides another.
type pageReader struct {
	file  string
	found problems
}

func (r *pageReader) problem(line int, format string, args ...any) {
	r.found = append(r.found, problem{r.file, line, fmt.Sprintf(format, args...)})
}

func (r *pageReader) read(source []byte) []pageConfig {
	file, err := parser.ParseBytes(source, 0)
	if err != nil {
		line, text := syntaxError(err)
		r.problem(line, "not valid YAML: %s", text)
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		r.problem(1, "no pages: begin with \"pages:\" and a list of them")
		return nil
	}
	if len(file.Docs) > 1 {
		r.problem(line(file.Docs[1].Body), "a second YAML document: put all pages into one list")
	}
	var pages []pageConfig
	root := file.Docs[0].Body
	r.fields(root, "the file", map[string]func(ast.Node){
		"pages": func(n ast.Node) {
			list, ok := n.(*ast.SequenceNode)
			if !ok {
				r.problem(line(n), "pages is not a list: begin each page with \"- id:\"")
				return
			}
			for _, item := range list.Values {
				pages = append(pages, r.page(item))
			}
		},
	})
	if len(pages) == 0 && len(r.found) == 0 {
		r.problem(line(root), "no pages: add at least one to the list \"pages\"")
	}
	r.unique(pages)
	return pages
}

func (r *pageReader) page(n ast.Node) pageConfig {
	p := pageConfig{line: line(n), Rate: worker.DefaultRate, MediaRate: worker.DefaultMediaRate,
		MaxInFlight: worker.DefaultMaxInFlight, InDoubt: deliver.Resend, Expire: 24 * time.Hour}
	r.fields(n, "a page", map[string]func(ast.Node){
		"id":              func(n ast.Node) { p.ID = r.pageID(n) },
		"name":            func(n ast.Node) { p.Name = r.name(n) },
		"token":           func(n ast.Node) { p.Secrets.Token = r.secret(n) },
		"token_file":      func(n ast.Node) { p.Secrets.TokenFile = r.path(n) },
		"app_secret_file": func(n ast.Node) { p.Secrets.AppSecretFile = r.path(n) },
		"keys":            func(n ast.Node) { p.Keys = r.keys(n) },
		"rate":            func(n ast.Node) { p.Rate = r.rate(n, "rate", sendapi.MaxCallsPerSecond) },
		"media_rate":      func(n ast.Node) { p.MediaRate = r.rate(n, "media_rate", sendapi.MaxMediaCallsPerSecond) },
		"max_in_flight":   func(n ast.Node) { p.MaxInFlight = r.count(n, "max_in_flight", 10_000) },
		"in_doubt":        func(n ast.Node) { p.InDoubt = r.inDoubt(n) },
		"expire":          func(n ast.Node) { p.Expire = r.expire(n) },
	})
	if p.Name == "" {
		p.Name = p.ID
	}
	r.complete(&p)
	return p
}

// complete checks what no single field shows.
func (r *pageReader) complete(p *pageConfig) {
	name := cmp.Or(p.Name, "without id")
	if p.ID == "" {
		r.problem(p.line, "page %s: id is missing: add the Facebook page id, in quotes", name)
	}
	switch s := p.Secrets; {
	case s.Token == "" && s.TokenFile == "":
		r.problem(p.line, "page %s: token is missing: add token_file with a path, or token: ${VARIABLE}", name)
	case s.Token != "" && s.TokenFile != "":
		r.problem(p.line, "page %s: both token and token_file are set: keep one", name)
	default:
		if _, err := s.read(); err != nil {
			r.problem(p.line, "page %s: %v", name, err)
		}
	}
	if len(p.Keys) == 0 {
		r.problem(p.line, "page %s: keys is missing: nobody could send for it; add the SHA-256 of a key as \"sha256:HEX\"", name)
	}
}

// unique refuses what may stand once only.
func (r *pageReader) unique(pages []pageConfig) {
	ids, names, keys := map[string]int{}, map[string]int{}, map[[sha256.Size]byte]int{}
	for _, p := range pages {
		if first, ok := ids[p.ID]; ok && p.ID != "" {
			r.problem(p.line, "page id %s stands in line %d already: remove one of the two", p.ID, first)
			continue
		}
		ids[p.ID] = p.line
		if first, ok := names[p.Name]; ok && p.Name != "" {
			r.problem(p.line, "page name %s stands in line %d already: choose another", p.Name, first)
		}
		names[p.Name] = p.line
		for _, k := range p.Keys {
			if first, ok := keys[k]; ok {
				r.problem(p.line, "page %s: a key is the same as one of the page in line %d: a key names one page", p.Name, first)
			}
			keys[k] = p.line
		}
	}
}

// fields hands the value of each known field to its reader and reports the others.
func (r *pageReader) fields(n ast.Node, what string, known map[string]func(ast.Node)) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.problem(line(n), "%s is not a list of \"name: value\" lines", what)
		return
	}
	seen := map[string]bool{}
	for _, v := range m.Values {
		name := v.Key.String()
		read, ok := known[name]
		switch {
		case !ok:
			r.problem(line(v.Key), "unknown field %q in %s: known are %s", name, what, strings.Join(sortedKeys(known), ", "))
		case seen[name]:
			r.problem(line(v.Key), "field %q stands twice in %s: remove one", name, what)
		default:
			seen[name] = true
			read(v.Value)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// text returns a scalar as it is written. Numbers keep their digits: a page id without quotes is still an id.
func (r *pageReader) text(n ast.Node, field string) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	case *ast.NullNode:
		r.problem(line(n), "%s is empty: give it a value or remove the line", field)
	default:
		r.problem(line(n), "%s is not a single value", field)
	}
	return ""
}

func (r *pageReader) pageID(n ast.Node) string {
	id := r.text(n, "id")
	if id != "" && strings.Trim(id, "0123456789") != "" {
		r.problem(line(n), "id %q is not a Facebook page id: digits only, as in the page's About section", id)
	}
	return id
}

// name is used in logs and on command lines.
func (r *pageReader) name(n ast.Node) string {
	name := r.text(n, "name")
	if strings.ContainsAny(name, " \t\n/\"'") || len(name) > 64 {
		r.problem(line(n), "name %q does not fit logs and commands: at most 64 characters, no spaces, quotes or slashes", name)
	}
	return name
}

// secret is a value that may be ${VARIABLE}. Its text stands in no problem.
func (r *pageReader) secret(n ast.Node) string {
	v := r.text(n, "token")
	name, isVariable := strings.CutPrefix(v, "${")
	if !isVariable {
		return v
	}
	name = strings.TrimSuffix(name, "}")
	value, ok := os.LookupEnv(name)
	if !ok || strings.TrimSpace(value) == "" {
		r.problem(line(n), "token: the variable %s is not set: export it before the start", name)
		return "unset" // told already; not missing too
	}
	return strings.TrimSpace(value)
}

// path is relative to the page file, wherever the process was started.
func (r *pageReader) path(n ast.Node) string {
	path := r.text(n, "path")
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(r.file), path)
}

func (r *pageReader) keys(n ast.Node) [][sha256.Size]byte {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.problem(line(n), "keys is not a list: write keys: [\"sha256:HEX\"]")
		return nil
	}
	keys := make([][sha256.Size]byte, 0, len(list.Values))
	for _, item := range list.Values {
		digest, isDigest := strings.CutPrefix(r.text(item, "key"), "sha256:")
		b, err := hex.DecodeString(digest)
		if !isDigest || err != nil || len(b) != sha256.Size {
			r.problem(line(item), "a key is not \"sha256:\" and 64 hexadecimal digits: take the output of printf %%s KEY | sha256sum")
			continue
		}
		keys = append(keys, [sha256.Size]byte(b))
	}
	return keys
}

func (r *pageReader) rate(n ast.Node, field string, ceiling int) float64 {
	v := r.text(n, field)
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f > 0) || f > float64(ceiling) {
		r.problem(line(n), "%s %q is not a number above 0 and up to %d, Facebook's limit of calls a second", field, v, ceiling)
		return 0
	}
	return f
}

func (r *pageReader) count(n ast.Node, field string, ceiling int) int {
	v := r.text(n, field)
	i, err := strconv.Atoi(v)
	if err != nil || i < 1 || i > ceiling {
		r.problem(line(n), "%s %q is not a whole number from 1 to %d", field, v, ceiling)
		return 0
	}
	return i
}

func (r *pageReader) inDoubt(n ast.Node) deliver.InDoubt {
	v := deliver.InDoubt(r.text(n, "in_doubt"))
	if v != deliver.Resend && v != deliver.Park {
		r.problem(line(n), "in_doubt %q is neither resend nor park", v)
	}
	return v
}

func (r *pageReader) expire(n ast.Node) time.Duration {
	v := r.text(n, "expire")
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 || d > queue.MaxExpire {
		r.problem(line(n), "expire %q is no time up to %v: write it like 90m or 24h", v, queue.MaxExpire)
	}
	return d
}

// syntaxError takes line and reason out of the parser's error, and leaves out the excerpt of the file, which may hold
// secrets.
func syntaxError(err error) (line int, text string) {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
		return syntax.GetToken().Position.Line, syntax.GetMessage()
	}
	return 1, "it cannot be read"
}

// Package pagefile reads the YAML file of Facebook pages: ids, names, where secrets are, keys of callers, rates.
//
// Reading is strict: an unknown field is a fault, and every fault comes with its line and its remedy, all of them at once.
// No fault holds a secret or a part of one. A page has every setting: what the file leaves out has its default. The package
// knows neither when a file has changed nor what is done with the pages.
package pagefile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/capture"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// Page is one page of the page file, as read.
type Page struct {
	ID, Name, App   string
	Secrets         Secrets
	Keys            [][sha256.Size]byte
	Rate, MediaRate float64
	MaxInFlight     int
	InDoubt         deliver.InDoubt
	Repeats         int // of a message in doubt, with deliver.Resend
	Metadata        bool
	Expire          time.Duration
	QueueShare      float64

	// Webhooks and Braze are where what people do on the page comes from, and where it goes; nil: nowhere.
	Webhooks   *App
	Braze      *Workspace
	References References
	Aliases    bool // people whom no reference links get a profile of their own
	Attributes capture.Attributes

	Line      int // where it begins in the file
	brazeName string
}

// Fault is something wrong with the page file, with its remedy in the text.
type Fault struct {
	File string
	Line int // where it begins in the file
	Text string
}

func (p Fault) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Faults are all that is wrong with a page file.
type Faults []Fault

func (ps Faults) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Options say what of a page file the reader needs. The zero value is the strictest: everything has to be good now.
type Options struct {
	// WithoutSecrets is for those who never use tokens and app secrets, as the ingress: they need not be there, and are not
	// looked at where they are.
	WithoutSecrets bool
	// SecretsLater is for those who read the files of tokens and app secrets again and again, and hold a page while they
	// cannot: a file that is missing or broken, as in the middle of a rotation, is no fault of the page file, and stops no
	// other page.
	SecretsLater bool
	// LiftedRates has MaxRate as the highest rate instead of Facebook's ceilings.
	LiftedRates bool
}

// ForIngress returns the options of the ingress. It does not know whom its workers call: they judge the rates.
func ForIngress() Options { return Options{WithoutSecrets: true, LiftedRates: true} }

// ForWorker returns the options of who calls the Send API at graphURL. Facebook's ceilings on rates hold for Facebook; a
// simulated Send API may be called as fast as it can take, to measure what Brazier does.
func ForWorker(graphURL string) Options {
	return Options{SecretsLater: true, LiftedRates: !sendapi.IsFacebook(graphURL)}
}

// Read reads a page file strictly. The error is Faults where the file could be read: every one of them, with its line. The
// pages are returned as far as they could be understood.
func Read(path string, o Options) ([]Page, error) {
	source, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("page file %s does not exist: name yours with --pages; the README shows one to copy", path)
	}
	if err != nil {
		return nil, fmt.Errorf("page file: %w", err)
	}
	return Parse(path, source, o)
}

// Parse is Read of a file's content. Paths in it are relative to the directory of path.
func Parse(path string, source []byte, o Options) ([]Page, error) {
	r := &reader{Options: o, file: path}
	pages := r.read(source)
	if len(r.found) > 0 {
		slices.SortStableFunc(r.found, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
		return pages, r.found
	}
	return pages, nil
}

// reader walks the file's syntax tree, so that each fault has its line and none hides another.
type reader struct {
	Options
	file  string
	found Faults
}

func (r *reader) fault(line int, format string, args ...any) {
	r.found = append(r.found, Fault{r.file, line, fmt.Sprintf(format, args...)})
}

func (r *reader) read(source []byte) []Page {
	source = bytes.TrimPrefix(source, []byte("\ufeff")) // Windows editors begin UTF-8 with it
	file, err := parser.ParseBytes(source, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, text := syntaxError(err)
		r.fault(line, "not valid YAML: %s: check quotes, colons and indentation here and in the line before", text)
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		r.fault(1, "no pages: begin with \"pages:\" and a list of them")
		return nil
	}
	for _, doc := range file.Docs[1:] {
		if doc.Body != nil {
			r.fault(line(doc.Body), "a second YAML document: put all pages into one list")
		}
	}
	var pages []Page
	var back roadBack
	root := file.Docs[0].Body
	r.fields(root, "the file", "pages:", map[string]func(ast.Node){
		"pages": func(n ast.Node) {
			for _, item := range r.list(n, "pages", "begin each page with \"- id:\"") {
				pages = append(pages, r.page(item))
			}
		},
		"apps": func(n ast.Node) {
			for _, item := range r.list(n, "apps", "begin each app with \"- name:\"") {
				back.apps = append(back.apps, r.app(item))
			}
		},
		"braze": func(n ast.Node) {
			for _, item := range r.list(n, "braze", "begin each workspace with \"- name:\"") {
				back.workspaces = append(back.workspaces, r.workspace(item))
			}
		},
	})
	if len(pages) == 0 && len(r.found) == 0 {
		r.fault(line(root), "no pages: add at least one to the list \"pages\"")
	}
	r.unique(pages)
	r.connect(pages, back)
	return pages
}

func (r *reader) page(n ast.Node) Page {
	p := Page{Line: line(n), Rate: worker.DefaultRate, MediaRate: worker.DefaultMediaRate,
		InDoubt: deliver.Resend, Repeats: deliver.DefaultRepeats, Expire: ingress.DefaultExpire, QueueShare: queue.DefaultShare}
	known := r.roadBackFields(&p)
	maps.Copy(known, map[string]func(ast.Node){
		"id":               func(n ast.Node) { p.ID = r.pageID(n) },
		"in_doubt_repeats": func(n ast.Node) { p.Repeats = r.repeats(n) },
		"name":             func(n ast.Node) { p.Name = r.name(n, "name") },
		"app":              func(n ast.Node) { p.App = r.name(n, "app") },
		"token":            func(n ast.Node) { p.Secrets.Token, p.Secrets.Variable = r.secret(n, "token") },
		"token_file":       func(n ast.Node) { p.Secrets.TokenFile = r.secretFile(n, "token_file") },
		"app_secret_file":  func(n ast.Node) { p.Secrets.AppSecretFile = r.secretFile(n, "app_secret_file") },
		"keys":             func(n ast.Node) { p.Keys = r.keys(n) },
		"rate":             func(n ast.Node) { p.Rate = r.rate(n, "rate", sendapi.MaxCallsPerSecond) },
		"media_rate":       func(n ast.Node) { p.MediaRate = r.rate(n, "media_rate", sendapi.MaxMediaCallsPerSecond) },
		"max_in_flight":    func(n ast.Node) { p.MaxInFlight = r.count(n, "max_in_flight", 10_000) },
		"in_doubt":         func(n ast.Node) { p.InDoubt = r.inDoubt(n) },
		"metadata":         func(n ast.Node) { p.Metadata = r.flag(n, "metadata") },
		"expire":           func(n ast.Node) { p.Expire = r.expire(n) },
		"queue_share":      func(n ast.Node) { p.QueueShare = r.percent(n, "queue_share") },
	})
	at := r.fields(n, "a page", "- id:", known)
	if p.Name == "" {
		p.Name = p.ID
	}
	if at != nil {
		r.complete(&p, at)
	}
	return p
}

// complete checks what no single field shows. at has the line of each field that is there.
func (r *reader) complete(p *Page, at map[string]int) {
	page := "page"
	if p.Name != "" {
		page += " " + p.Name
	}
	if at["id"] == 0 {
		r.fault(p.Line, "%s: id is missing: add the Facebook page id, in quotes", page)
	}
	if p.Repeats == 0 {
		p.InDoubt = deliver.Park
	}
	if parks := at["in_doubt"] != 0 && p.InDoubt == deliver.Park; parks && at["in_doubt_repeats"] != 0 && p.Repeats > 0 {
		r.fault(at["in_doubt_repeats"], "%s: in_doubt_repeats does nothing with in_doubt: park: remove one of the two", page)
	}
	if at["max_in_flight"] == 0 {
		p.MaxInFlight = worker.DefaultMaxInFlight(p.Rate)
	}
	switch token, file := at["token"], at["token_file"]; {
	case token == 0 && file == 0 && r.WithoutSecrets:
	case token == 0 && file == 0:
		r.fault(p.Line, "%s: token is missing: add token_file with a path, or token: ${VARIABLE}", page)
	case token != 0 && file != 0:
		r.fault(max(token, file), "%s: both token and token_file are set: keep one", page)
	}
	if at["keys"] == 0 {
		r.fault(p.Line, "%s: keys is missing: nobody could send for it; add the SHA-256 of a key as \"sha256:HEX\"", page)
	}
}

// unique refuses what may stand once only.
func (r *reader) unique(pages []Page) {
	ids, names, keys := map[string]int{}, map[string]int{}, map[[sha256.Size]byte]int{}
	for _, p := range pages {
		if first, ok := ids[p.ID]; ok && p.ID != "" {
			r.fault(p.Line, "duplicate page id %s (first on line %d): remove one of the two", p.ID, first)
			continue
		}
		ids[p.ID] = p.Line
		if first, ok := names[p.Name]; ok && p.Name != "" {
			r.fault(p.Line, "duplicate page name %s (first on line %d): choose another", p.Name, first)
		}
		names[p.Name] = p.Line
		for _, k := range p.Keys {
			if first, ok := keys[k]; ok {
				r.fault(p.Line, "page %s: duplicate key (first on line %d): a key can only name one page", p.Name, first)
			}
			keys[k] = p.Line
		}
	}
}

// fields calls the reader of each known field with its value, reports the others, and returns the line of each known field
// that is there: nil where n has no fields at all.
func (r *reader) fields(n ast.Node, what, begin string, known map[string]func(ast.Node)) map[string]int {
	if !r.plain(n, what) {
		return nil
	}
	m, ok := n.(*ast.MappingNode)
	if !ok {
		r.fault(line(n), "%s does not consist of \"name: value\" lines: begin with %q", what, begin)
		return nil
	}
	at := make(map[string]int)
	for _, v := range m.Values {
		name := v.Key.GetToken().Value // without the quotes it may have
		read, ok := known[name]
		switch {
		case name == "<<":
			r.fault(line(v.Key), "a YAML merge (<<) is not read here: write the fields out")
		case !ok:
			r.fault(line(v.Key), "unknown field %s in %s: known are %s", shown(name), what, strings.Join(sortedKeys(known), ", "))
		case at[name] != 0:
			r.fault(line(v.Key), "duplicate field %q (first on line %d): remove one", name, at[name])
		default:
			at[name] = line(v.Key)
			read(v.Value)
		}
	}
	return at
}

// list returns the items of a list.
func (r *reader) list(n ast.Node, field, remedy string) []ast.Node {
	if !r.plain(n, field) {
		return nil
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.fault(line(n), "%s is not a list: %s", field, remedy)
		return nil
	}
	return list.Values
}

// plain refuses what lets one line of the file stand for another: who looks for the page that holds a token or a key
// finds it where it stands.
func (r *reader) plain(n ast.Node, what string) bool {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.fault(line(n), "%s has a YAML anchor, alias or tag (&, *, !), which are not read here: write the value out, in quotes if it begins with one of these", what)
		return false
	}
	return true
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

// syntaxError takes line and reason out of the parser's error. It leaves out the excerpt of the file, which may hold
// secrets, and any reason that quotes it.
func syntaxError(err error) (line int, text string) {
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil || syntax.GetToken().Position == nil {
		return 1, "it cannot be read"
	}
	line, text = syntax.GetToken().Position.Line, syntax.GetMessage()
	switch {
	case strings.Contains(text, "'\t'"):
		text = "a tab where YAML wants spaces"
	case strings.Contains(text, "\""):
		text = "it cannot be read"
	}
	return line, text
}

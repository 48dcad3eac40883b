package pagefile

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/capture"
)

// App is a Facebook app whose webhooks are taken.
type App struct {
	Name            string
	SecretFiles     []string // of the app secret, several while one is replaced
	VerifyTokenFile string

	Line int // where it begins in the file
}

// Workspace is a Braze workspace to which people are written.
type Workspace struct {
	Name, URL, KeyFile string
	RepeatEvents       bool
	Events             map[capture.EventKind]string // the names of the events that are told; others are not

	Line int // where it begins in the file
}

// References are the references that a page accepts.
type References struct {
	SecretFiles []string // several while one is replaced
	MaxAge      time.Duration
	Endless     bool // those without an end too
	Reusable    bool // one may move from one person to another
}

// HasRoadBack reports whether the webhooks of any page are taken.
func HasRoadBack(pages []Page) bool {
	return slices.ContainsFunc(pages, func(p Page) bool { return p.Webhooks != nil })
}

// HasReceipts reports whether Braze is told what Facebook's receipts say of the page's messages.
func (p *Page) HasReceipts() bool {
	return p.Braze != nil && (&capture.Page{Events: p.Braze.Events}).Receipts()
}

// Apps returns the apps of pages whose webhooks are taken, each once, in the order of the pages.
func Apps(pages []Page) (apps []*App) {
	for _, p := range pages {
		if p.Webhooks != nil && !slices.Contains(apps, p.Webhooks) {
			apps = append(apps, p.Webhooks)
		}
	}
	return apps
}

// Workspaces returns the workspaces of pages, each once, in the order of the pages.
func Workspaces(pages []Page) (found []*Workspace) {
	for _, p := range pages {
		if p.Braze != nil && !slices.Contains(found, p.Braze) {
			found = append(found, p.Braze)
		}
	}
	return found
}

// ReadSecrets returns the secrets in files, as read has them. Errors name files, never what is in them.
func ReadSecrets(field string, paths []string, read func(path string) ([]byte, error)) ([][]byte, error) {
	var secrets [][]byte
	for _, path := range paths {
		s, err := readSecret(field, path, read)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, []byte(s))
	}
	return secrets, nil
}

// roadBack has the apps and the Braze workspaces of the file.
type roadBack struct {
	apps       []*App
	workspaces []*Workspace
}

func (r *reader) app(n ast.Node) *App {
	a := &App{Line: line(n)}
	at := r.fields(n, "an app", "- name:", map[string]func(ast.Node){
		"name":              func(n ast.Node) { a.Name = r.name(n, "name") },
		"secret_files":      func(n ast.Node) { a.SecretFiles = r.secretFiles(n, "secret_files") },
		"verify_token_file": func(n ast.Node) { a.VerifyTokenFile = r.secretFile(n, "verify_token_file") },
	})
	r.require(at, a.Line, "app", "name", "secret_files", "verify_token_file")
	return a
}

func (r *reader) workspace(n ast.Node) *Workspace {
	w := &Workspace{Line: line(n)}
	events := eventNames{kinds: []capture.EventKind{capture.EventFailed}, prefix: capture.DefaultEventPrefix}
	at := r.fields(n, "a Braze workspace", "- name:", map[string]func(ast.Node){
		"name":          func(n ast.Node) { w.Name = r.workspaceName(n) },
		"url":           func(n ast.Node) { w.URL = r.restURL(n) },
		"key_file":      func(n ast.Node) { w.KeyFile = r.secretFile(n, "key_file") },
		"repeat_events": func(n ast.Node) { w.RepeatEvents = r.flag(n, "repeat_events") },
		"events":        func(n ast.Node) { events.kinds = r.eventKinds(n) },
		"event_prefix":  func(n ast.Node) { events.prefix, _ = r.text(n, "event_prefix") },
		"event_names":   func(n ast.Node) { events.names = r.eventNames(n) },
	})
	r.require(at, w.Line, "Braze workspace", "name", "url", "key_file")
	w.Events = r.namedEvents(w.Line, events)
	return w
}

// require refuses what lacks a field.
func (r *reader) require(at map[string]int, first int, what string, fields ...string) {
	for _, field := range fields {
		if at != nil && at[field] == 0 {
			r.fault(first, "%s: %s is missing: add it", what, field)
		}
	}
}

// workspaceName is a part of the names of streams' subjects.
func (r *reader) workspaceName(n ast.Node) string {
	name, ok := r.text(n, "name")
	if ok && (len(name) > 32 || strings.ContainsFunc(name, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_'
	})) {
		r.fault(line(n), "name %s of a Braze workspace must have at most 32 letters, digits, - and _", shown(name))
		return ""
	}
	return name
}

func (r *reader) restURL(n ast.Node) string {
	v, ok := r.text(n, "url")
	if !ok {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		r.fault(line(n), "url must be the REST endpoint of the Braze instance, such as https://rest.fra-01.braze.eu")
		return ""
	}
	return strings.TrimSuffix(v, "/")
}

// secretFiles is a list of paths of secrets.
func (r *reader) secretFiles(n ast.Node, field string) (paths []string) {
	for _, item := range r.list(n, field, "write "+field+": [secrets/FILE]") {
		if path := r.secretFile(item, field); path != "" {
			paths = append(paths, path)
		}
	}
	if s, ok := n.(*ast.SequenceNode); ok && len(s.Values) == 0 {
		r.fault(line(n), "%s is empty: name at least one file", field)
	}
	return paths
}

// age is how long references are accepted.
func (r *reader) age(n ast.Node, field string) time.Duration {
	v, ok := r.text(n, field)
	d, err := duration(v)
	if ok && (err != nil || d < time.Minute || d > 10*365*24*time.Hour) {
		r.fault(line(n), "%s must be between 1m and 3650d (got %s)", field, shown(v))
		return 0
	}
	return d
}

// duration is a time, also in days.
func duration(v string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && n > 100_000 {
			err = errors.New("too long")
		}
		return time.Duration(n * float64(24*time.Hour)), err
	}
	return time.ParseDuration(v)
}

// attribute is the name of a custom attribute.
func (r *reader) attribute(n ast.Node, field string) string {
	v, ok := r.text(n, field)
	if err := braze.CheckAttributeName(v); ok && err != nil {
		r.fault(line(n), "%s %v", field, err)
		return ""
	}
	return v
}

// roadBackFields are the fields of a page for webhooks and Braze.
func (r *reader) roadBackFields(p *Page) map[string]func(ast.Node) {
	return map[string]func(ast.Node){
		"braze":                  func(n ast.Node) { p.brazeName = r.name(n, "braze") },
		"ref_secret_files":       func(n ast.Node) { p.References.SecretFiles = r.secretFiles(n, "ref_secret_files") },
		"ref_max_age":            func(n ast.Node) { p.References.MaxAge = r.age(n, "ref_max_age") },
		"ref_endless":            func(n ast.Node) { p.References.Endless = r.flag(n, "ref_endless") },
		"ref_reusable":           func(n ast.Node) { p.References.Reusable = r.flag(n, "ref_reusable") },
		"alias_users":            func(n ast.Node) { p.Aliases = r.flag(n, "alias_users") },
		"messenger_id":           func(n ast.Node) { p.Attributes.MessengerID = r.attribute(n, "messenger_id") },
		"messenger_window_until": func(n ast.Node) { p.Attributes.Window = r.attribute(n, "messenger_window_until") },
		"messenger_reachable":    func(n ast.Node) { p.Attributes.Reachable = r.attribute(n, "messenger_reachable") },
	}
}

// connect finds the app and the workspace of each page.
func (r *reader) connect(pages []Page, back roadBack) {
	apps, workspaces := map[string]*App{}, map[string]*Workspace{}
	for _, a := range back.apps {
		if first := apps[a.Name]; first != nil && a.Name != "" {
			r.fault(a.Line, "duplicate app name %q (first on line %d)", a.Name, first.Line)
		}
		apps[a.Name] = a
	}
	for _, w := range back.workspaces {
		if first := workspaces[w.Name]; first != nil && w.Name != "" {
			r.fault(w.Line, "duplicate name %q of a Braze workspace (first on line %d)", w.Name, first.Line)
		}
		workspaces[w.Name] = w
	}
	for i := range pages {
		p := &pages[i]
		if p.brazeName == "" {
			continue
		}
		switch p.Braze, p.Webhooks = workspaces[p.brazeName], apps[p.App]; {
		case p.Braze == nil:
			r.fault(p.Line, "page %s: braze is %q, and no workspace of that name is in the list \"braze\"", p.Name, p.brazeName)
		case p.Webhooks == nil:
			r.fault(p.Line, "page %s: braze needs the page's app in the list \"apps\", whose secret verifies webhooks (app is %q)", p.Name, p.App)
		case len(p.References.SecretFiles) == 0:
			r.fault(p.Line, "page %s: braze needs ref_secret_files, which verify the references in m.me links", p.Name)
		}
		p.References.MaxAge = cmp.Or(p.References.MaxAge, webhook.DefaultMaxAge)
		a := &p.Attributes
		*a = capture.Attributes{MessengerID: cmp.Or(a.MessengerID, capture.DefaultMessengerID),
			Window: cmp.Or(a.Window, capture.DefaultWindow), Reachable: cmp.Or(a.Reachable, capture.DefaultReachable)}
		if a.MessengerID == a.Window || a.MessengerID == a.Reachable || a.Window == a.Reachable {
			r.fault(p.Line, "page %s: messenger_id, messenger_window_until and messenger_reachable must have different names", p.Name)
		}
	}
}

package pagefile

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/capture"
)

// eventNames are the fields of a workspace about custom events, as they were read.
type eventNames struct {
	kinds  []capture.EventKind
	prefix string
	names  map[capture.EventKind]string // that are not the prefix and the kind
}

// eventKinds is the list of the events that are told. An empty one tells none.
func (r *reader) eventKinds(n ast.Node) (kinds []capture.EventKind) {
	for _, item := range r.list(n, "events", "write events: ["+strings.Join(knownEvents(), ", ")+"], or fewer of them") {
		v, ok := r.text(item, "events")
		switch kind := capture.EventKind(v); {
		case !ok:
		case !slices.Contains(capture.EventKinds(), kind):
			r.fault(line(item), "events has %s: known are %s", shown(v), strings.Join(knownEvents(), ", "))
		case slices.Contains(kinds, kind):
			r.fault(line(item), "events has %s twice: remove one", v)
		default:
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func knownEvents() (names []string) {
	for _, kind := range capture.EventKinds() {
		names = append(names, string(kind))
	}
	return names
}

// eventNames are names for single events.
func (r *reader) eventNames(n ast.Node) map[capture.EventKind]string {
	names, known := map[capture.EventKind]string{}, map[string]func(ast.Node){}
	for _, kind := range capture.EventKinds() {
		known[string(kind)] = func(n ast.Node) {
			if v, ok := r.text(n, "event_names: "+string(kind)); ok {
				names[kind] = v
			}
		}
	}
	r.fields(n, "event_names", "failed: NAME", known)
	return names
}

// namedEvents gives each kind that is told its name.
func (r *reader) namedEvents(first int, e eventNames) map[capture.EventKind]string {
	named, kinds := map[capture.EventKind]string{}, map[string]capture.EventKind{}
	for _, kind := range capture.EventKinds() {
		if e.names[kind] != "" && !slices.Contains(e.kinds, kind) {
			r.fault(first, "Braze workspace: event_names has %s, and events has not: add it there", kind)
		}
	}
	for _, kind := range e.kinds {
		name := e.names[kind]
		if name == "" {
			name = e.prefix + string(kind)
		}
		switch err := braze.CheckEventName(name); {
		case err != nil:
			r.fault(first, "Braze workspace: name %s of the event %s %v", shown(name), kind, err)
		case kinds[name] != "":
			r.fault(first, "Braze workspace: the events %s and %s have the same name %s", kinds[name], kind, shown(name))
		}
		named[kind], kinds[name] = name, kind
	}
	return named
}

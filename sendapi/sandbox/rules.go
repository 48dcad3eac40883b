package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// rules checks a request against Meta's pages. It keeps the first fault and drops later ones, so that a rule can continue after a
// fault.
type rules struct{ err *graphError }

// node is an object of a request with its path in Facebook's errors, such as message[attachment]. The path of a template's payload
// is empty: errors say [elements][0][title] (broidHQ/integrations#137).
type node struct {
	at string
	m  map[string]any
}

func (n node) path(key string) string { return n.at + "[" + key + "]" }

// has reports whether a member is there and not null.
func (n node) has(key string) bool { return n.m[key] != nil }

// fail refuses the request, unless it is refused already. The message follows the code, as in "(#100) …".
func (r *rules) fail(code, subcode int, format string, a ...any) {
	if r.err == nil {
		r.err = invalid(code, subcode, fmt.Sprintf("(#%d) ", code)+fmt.Sprintf(format, a...))
	}
}

func (r *rules) missing(param string) {
	if name, ok := strings.CutPrefix(param, "["); ok && strings.Count(param, "[") == 1 {
		param = strings.TrimSuffix(name, "]") // restfb/restfb#592
	}
	if r.err == nil {
		r.err = missing(param)
	}
}

// text is a member that is text of at most most characters, 0 for no known limit; empty if there is none.
func (r *rules) text(n node, key string, most int) string {
	if !n.has(key) {
		return ""
	}
	t, ok := asText(n.m[key])
	switch {
	case !ok:
		r.fail(100, 0, "Param %s must be a string.", n.path(key))
	case most > 0 && runes(t) > most:
		r.fail(100, 0, "Length of param %s must be less than or equal to %d", n.path(key), most)
	}
	return t
}

// need is a text that must be there and not be blank.
func (r *rules) need(n node, key string, most int) string {
	t := r.text(n, key, most)
	switch {
	case !n.has(key):
		r.missing(n.path(key))
	case blank(t):
		r.empty(n.path(key))
	}
	return t
}

func (r *rules) empty(param string) {
	r.fail(100, 0, "Param %s must be a non-empty UTF-8 encoded string", param) // paked/messenger#25
}

// keyword is a member that is one of the known values, in lower case; empty if there is none. Upper case is taken too: Meta's
// references write enumerations in capitals, its guides write the same ones in lower case.
func (r *rules) keyword(n node, key string, known ...string) string {
	w := strings.ToLower(r.text(n, key, 0))
	if n.has(key) && !slices.Contains(known, w) {
		r.fail(100, 0, "Param %s must be one of {%s}", n.path(key), strings.ToUpper(strings.Join(known, ", ")))
	}
	return w
}

// id is a member that is an id of Facebook's: digits. subcode is that of its refusal.
func (r *rules) id(n node, key string, subcode int) {
	if id := r.text(n, key, 0); n.has(key) && !isID(id) {
		r.notID(n.path(key), subcode)
	}
}

func (r *rules) notID(param string, subcode int) {
	r.fail(100, subcode, `Param %s must be a valid ID string (e.g., "123")`, param)
}

// file is a member that is the URL of a file, which Facebook fetches; empty if there is none.
func (r *rules) file(n node, key string) string {
	u := r.text(n, key, 0)
	if u != "" && (!isURL(u) || !isWeb(u)) {
		r.fail(100, 0, "Param %s must be a valid URL.", n.path(key))
	}
	return u
}

// link is a member that is a URL for the person's device, of whatever scheme; empty if there is none.
func (r *rules) link(n node, key string) string {
	u := r.text(n, key, 0)
	if u != "" && !isURL(u) {
		r.fail(100, 0, "Param %s must be a valid URL.", n.path(key))
	}
	return u
}

// object is a member that is an object.
func (r *rules) object(n node, key string) (node, bool) {
	if !n.has(key) {
		return node{}, false
	}
	m, ok := n.m[key].(map[string]any)
	if !ok {
		r.fail(100, 0, "Param %s must be a JSON object.", n.path(key))
	}
	return node{n.path(key), m}, ok
}

// list is a member that is a list of least to most objects, most 0 for no known limit.
func (r *rules) list(n node, key string, least, most int) []node {
	if !n.has(key) && least == 0 {
		return nil
	}
	list, ok := n.m[key].([]any)
	switch {
	case !ok, len(list) == 0 && least > 0:
		r.fail(100, 0, "Param %s must be a non-empty array.", n.path(key))
	case len(list) < least:
		r.fail(100, 0, "Param %s must have at least %d elements.", n.path(key), least)
	case most > 0 && len(list) > most:
		r.fail(105, 0, "param %s has too many elements.", cmp.Or(n.at, "name_placeholder")+"["+key+"]") // botman/botman#694
	}
	nodes := make([]node, 0, len(list))
	for i, v := range list {
		at := n.path(key) + "[" + strconv.Itoa(i) + "]"
		m, ok := v.(map[string]any)
		if !ok {
			r.fail(100, 0, "Param %s must be a JSON object.", at)
		}
		nodes = append(nodes, node{at, m})
	}
	return nodes
}

// filled is a list that may be missing, and has an entry if it is there (tgallice/fb-messenger-sdk#13).
func (r *rules) filled(n node, key string, most int) []node {
	if !n.has(key) {
		return nil
	}
	return r.list(n, key, 1, most)
}

// only refuses members that are not among the keys (botpress/botpress#2227, rehabstudio/fbmessenger#63).
func (r *rules) only(n node, keys ...string) {
	var unknown []string
	for k := range n.m {
		if n.has(k) && !slices.Contains(keys, k) {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		r.fail(100, 0, "Invalid keys %q were found in param %q.", clip(strings.Join(unknown, ", "), 100), n.at)
	}
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// isID reports whether s is an id as Facebook gives them: a number above 0, as digits.
func isID(s string) bool { return len(s) <= 32 && digits(s) && strings.Trim(s, "0") != "" }

// isURL reports whether s is a URL: a scheme, then a host or, outside the web, anything, and no white space.
func isURL(s string) bool {
	scheme, rest, found := strings.Cut(s, ":")
	if !found || scheme == "" || rest == "" || strings.ContainsFunc(s, unicode.IsSpace) {
		return false
	}
	if !isWeb(s) {
		return strings.IndexFunc(scheme, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) < 0
	}
	host, found := strings.CutPrefix(rest, "//")
	return found && host != "" && !strings.ContainsRune("/?#:.", rune(host[0]))
}

func isWeb(s string) bool {
	scheme, _, _ := strings.Cut(s, ":")
	return strings.EqualFold(scheme, "https") || strings.EqualFold(scheme, "http")
}

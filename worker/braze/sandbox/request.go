package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// arrays are those of a call, in the order in which Braze writes them.
var arrays = []string{"attributes", "events", "purchases"}

// request is a call as read: what each array holds.
type request struct {
	given   map[string]int // objects by array, of arrays that were sent
	objects []object       // those that are valid
	errors  []objectError
}

// total is how many objects were sent.
func (r *request) total() int {
	n := 0
	for _, array := range arrays {
		n += r.given[array]
	}
	return n
}

// object is a valid entry of an array.
type object struct {
	array  string
	user   identity
	update bool // update-only
	// fields are attributes, or the properties of an event.
	fields map[string]any
	name   string // of an event, or a purchase's product
	at     time.Time
}

// identity is how an object names its user.
type identity struct {
	kind string // braze_id, external_id, user_alias, email or phone
	id   string
	Alias
}

func (i identity) String() string {
	if i.kind == "user_alias" {
		return "user_alias:" + i.Alias.Label + "/" + i.Alias.Name
	}
	return i.kind + ":" + i.id
}

// objectError is what is wrong with an object, in Braze's form.
type objectError struct {
	Type  string `json:"type"`
	Array string `json:"input_array"`
	Index int    `json:"index"`
}

// refusal is an answer to a call of which nothing was taken.
type refusal struct {
	status  int
	message string // empty: no body
}

// noData is the message of a call without a valid object.
const noData = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."

// checkHead looks at what is known before the body. The key must be in the header.
func (s *Sandbox) checkHead(r *http.Request) *refusal {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case scheme != "Bearer" || key == "" || len(s.cfg.Keys) > 0 && !slices.Contains(s.cfg.Keys, key):
		return &refusal{http.StatusUnauthorized, "Invalid API Key"}
	case err != nil || media != "application/json":
		return &refusal{http.StatusBadRequest, "Content-Type must be application/json"}
	case r.Header.Get("Content-Encoding") != "":
		return &refusal{http.StatusBadRequest, "the sandbox takes no compressed body"}
	case r.URL.RawQuery != "":
		return &refusal{http.StatusBadRequest, "the sandbox takes no parameters in the query"}
	}
	return nil
}

// readBody reads a body up to one byte beyond the limit.
func (s *Sandbox) readBody(r *http.Request) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r.Body, int64(s.cfg.MaxBytes)+1))
}

// parse reads and checks a body.
func (s *Sandbox) parse(body []byte, now time.Time) (*request, *refusal) {
	var top map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &top) != nil || top == nil {
		return nil, &refusal{http.StatusBadRequest, "Bad Request"}
	}
	req := &request{given: map[string]int{}}
	lists := map[string][]any{}
	for array, raw := range top {
		if !slices.Contains(arrays, array) {
			return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("the sandbox knows no field %q", array)}
		}
		list, ok := decode(raw).([]any)
		if !ok {
			return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("'%s' must be an array", array)}
		}
		lists[array], req.given[array] = list, len(list)
	}
	if req.total() > s.cfg.MaxObjects {
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("a request must have at most %d objects", s.cfg.MaxObjects)}
	}
	for _, array := range arrays {
		for i, entry := range lists[array] {
			o, problem := s.check(array, entry, now)
			if problem != "" {
				req.errors = append(req.errors, objectError{problem, array, i})
				continue
			}
			req.objects = append(req.objects, o)
		}
	}
	return req, nil
}

// decode reads JSON with its numbers as they are, and returns nil for what is none.
func decode(raw []byte) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// check returns an entry as an object, or what is wrong with it.
func (s *Sandbox) check(array string, entry any, now time.Time) (object, string) {
	fields, ok := entry.(map[string]any)
	if !ok {
		return object{}, "an object is expected"
	}
	o := object{array: array}
	var problem string
	if o.user, problem = s.identify(fields); problem != "" {
		return o, problem
	}
	// Alone of all identifiers an alias is update-only unless the flag says otherwise.
	o.update = o.user.kind == "user_alias"
	if flag, given := fields["_update_existing_only"]; given {
		if o.update, ok = flag.(bool); !ok {
			return o, "'_update_existing_only' is not valid"
		}
	}
	switch array {
	case "attributes":
		return o, o.checkAttributes(fields)
	case "events":
		return o, o.checkEvent(fields, now)
	}
	return o, o.checkPurchase(fields, now)
}

const noIdentifier = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"

// identify returns the user that an object names.
func (s *Sandbox) identify(fields map[string]any) (identity, string) {
	var found []identity
	for _, kind := range []string{"external_id", "braze_id"} {
		v, given := fields[kind]
		if !given {
			continue
		}
		id, ok := v.(string)
		switch {
		case !ok || id == "":
			return identity{}, "'" + kind + "' is not valid"
		case kind == "external_id" && len(id) >= 988:
			return identity{}, "'external_id' must be fewer than 988 bytes"
		case kind == "external_id" && slices.Contains(s.cfg.Blocked, id):
			return identity{}, "provided external_id is blacklisted and disallowed"
		}
		found = append(found, identity{kind: kind, id: id})
	}
	if v, given := fields["user_alias"]; given {
		m, _ := v.(map[string]any)
		name, named := m["alias_name"].(string)
		label, labelled := m["alias_label"].(string)
		if !named || !labelled || len(m) != 2 || name == "" || label == "" || len(name) > 236 || len(label) > 236 {
			return identity{}, "'user_alias' is not valid"
		}
		found = append(found, identity{kind: "user_alias", Alias: Alias{name, label}})
	}
	if len(found) == 0 {
		for _, kind := range []string{"email", "phone"} {
			if id, ok := fields[kind].(string); ok && id != "" {
				return identity{kind: kind, id: id}, ""
			}
		}
		return identity{}, noIdentifier
	}
	if len(found) > 1 {
		return identity{}, "the sandbox takes one identifier an object"
	}
	return found[0], ""
}

// reserved are the fields of an object that are no attributes.
var reserved = []string{"external_id", "braze_id", "user_alias", "_update_existing_only", "app_id"}

func (o *object) checkAttributes(fields map[string]any) string {
	o.fields = map[string]any{}
	for name, value := range fields {
		if slices.Contains(reserved, name) {
			continue
		}
		if problem := checkField(name, value); problem != "" {
			return problem
		}
		if text, ok := value.(string); name == "email" && ok && !strings.Contains(text, "@") {
			return "The value provided for the 'email' field is not a valid email."
		}
		o.fields[name] = value
	}
	if len(o.fields) == 0 {
		return "an attribute is required"
	}
	return ""
}

func (o *object) checkEvent(fields map[string]any, now time.Time) string {
	name, ok := fields["name"].(string)
	if !ok || name == "" || utf8.RuneCountInString(name) > longestName {
		return "'name' is not valid"
	}
	if strings.HasPrefix(name, "ecommerce.") {
		return "The property '#/' did not contain a required property of 'product_id'"
	}
	if o.at, ok = readTime(fields["time"]); !ok {
		return "'time' is not valid"
	}
	if o.name = name; o.at.After(now) {
		o.at = now
	}
	for field := range fields {
		if !slices.Contains(reserved, field) && field != "name" && field != "time" && field != "properties" && field != "email" && field != "phone" {
			return fmt.Sprintf("the sandbox knows no field %q of an event", field)
		}
	}
	properties, given := fields["properties"]
	if !given {
		return ""
	}
	if o.fields, ok = properties.(map[string]any); !ok {
		return "'properties' is not valid"
	}
	for name, value := range o.fields {
		if name == "time" || name == "event_name" {
			return fmt.Sprintf("property '%s' is reserved", name)
		}
		if problem := checkField(name, value); problem != "" {
			return problem
		}
	}
	return ""
}

func (o *object) checkPurchase(fields map[string]any, now time.Time) string {
	var ok bool
	if o.name, ok = fields["product_id"].(string); !ok || o.name == "" {
		return "'product_id' is not valid"
	}
	if _, ok := fields["price"].(json.Number); !ok {
		return "'price' is not valid"
	}
	if currency, ok := fields["currency"].(string); !ok || len(currency) != 3 {
		return "'currency' is not valid"
	}
	if q, given := fields["quantity"]; given {
		if _, ok := q.(json.Number); !ok {
			return "'quantity' is not valid"
		}
	}
	if o.at, ok = readTime(fields["time"]); !ok {
		return "'time' is not valid"
	}
	return ""
}

// longestName and longestString are in characters.
const (
	longestName   = 255
	longestString = 255
)

// checkField looks at an attribute or a property.
func checkField(name string, value any) string {
	switch {
	case name == "" || utf8.RuneCountInString(name) > longestName:
		return fmt.Sprintf("a name must have between 1 and %d characters", longestName)
	case name[0] == '$':
		return "a name must not begin with $"
	}
	if text, ok := value.(string); ok && utf8.RuneCountInString(text) > longestString {
		return fmt.Sprintf("'%s' must have at most %d characters", name, longestString)
	}
	return ""
}

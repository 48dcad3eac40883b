package braze

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Object is one entry of a call: attributes of a user, or an event. Exactly one of them is set. It may be stored as JSON, and prints
// without values.
type Object struct {
	User UserID `json:"user"`
	// Attributes are custom attributes by name. A value is a string of at most 255 characters, a bool, a number, a time.Time, or
	// nil, which removes the attribute. A string that reads as an ISO 8601 time becomes a time at Braze, and the first value that an
	// attribute ever gets decides its type: a PSID must come as a string.
	Attributes map[string]any `json:"attributes,omitempty"`
	Event      *Event         `json:"event,omitempty"`
}

// Event is a custom event.
type Event struct {
	Name string `json:"name"`
	// Time is when it happened. Braze sets a time in the future to now.
	Time time.Time `json:"time"`
	// Properties are by name; values as of attributes, without nil.
	Properties map[string]any `json:"properties,omitempty"`
}

// String names what is written and to whom, without values: a PSID is one.
func (o Object) String() string {
	if o.Event != nil {
		return fmt.Sprintf("event %q of %s", cut(o.Event.Name, 40), o.User)
	}
	return fmt.Sprintf("attributes %q of %s", slices.Sorted(maps.Keys(o.Attributes)), o.User)
}

// GoString is String, so that %#v shows no more.
func (o Object) GoString() string { return o.String() }

// Validate returns what Braze would refuse, without repeating a value: names of attributes, events and properties are in it.
func (o Object) Validate() error {
	_, err := o.encode(false)
	return err
}

// maxChars is Braze's limit for names and for string values, in characters (event object, user attributes object).
const maxChars = 255

// timeForm is ISO 8601 in UTC with milliseconds, as Braze's own examples have it.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// updateOnly keeps Braze from making a profile for an id that it does not know.
const updateOnly = "_update_existing_only"

// encode returns the object as Braze reads it. create lets Braze make a profile for an alias that it does not know, which it does for
// attributes alone (/users/track page).
func (o Object) encode(create bool) ([]byte, error) {
	if err := o.User.Validate(); err != nil {
		return nil, err
	}
	fields := map[string]any{updateOnly: !create || o.User.Alias == Alias{} || o.Event != nil}
	switch {
	case (o.Event == nil) == (len(o.Attributes) == 0):
		return nil, errors.New("object: exactly one of attributes and event must be set")
	case o.Event != nil:
		if err := o.Event.encode(fields); err != nil {
			return nil, err
		}
	default:
		for name, value := range o.Attributes {
			if err := CheckAttributeName(name); err != nil {
				return nil, fmt.Errorf("attribute %q: %w", cut(name, 40), err)
			}
			if err := encodeValue(value, &value); err != nil {
				return nil, fmt.Errorf("attribute %q: %w", name, err)
			}
			fields[name] = value
		}
	}
	switch {
	case o.User.BrazeID != "":
		fields["braze_id"] = o.User.BrazeID
	case o.User.ExternalID != "":
		fields["external_id"] = o.User.ExternalID
	default:
		fields["user_alias"] = o.User.Alias
	}
	return json.Marshal(fields)
}

// encode adds the event's own fields.
func (e *Event) encode(fields map[string]any) error {
	if err := CheckEventName(e.Name); err != nil {
		return fmt.Errorf("event %q: %w", cut(e.Name, 40), err)
	}
	fields["name"] = e.Name
	if e.Time.IsZero() {
		return fmt.Errorf("event %q: time must be set", e.Name)
	}
	var at any
	if err := encodeValue(e.Time, &at); err != nil {
		return fmt.Errorf("event %q: time: %w", e.Name, err)
	}
	fields["time"] = at
	if len(e.Properties) == 0 {
		return nil
	}
	properties := make(map[string]any, len(e.Properties))
	for name, value := range e.Properties {
		if err := checkPropertyName(name); err != nil {
			return fmt.Errorf("event %q: property %q: %w", e.Name, cut(name, 40), err)
		}
		if value == nil {
			return fmt.Errorf("event %q: property %q: must have a value", e.Name, name)
		}
		if err := encodeValue(value, &value); err != nil {
			return fmt.Errorf("event %q: property %q: %w", e.Name, name, err)
		}
		properties[name] = value
	}
	fields["properties"] = properties
	return nil
}

// encodeValue sets wire to the value as Braze reads it. Only flat values are taken: one null or one malformed time within a nested
// attribute makes Braze drop all nested attributes of the call, and tells nobody (/users/track page).
func encodeValue(value any, wire *any) error {
	switch v := value.(type) {
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		*wire = v
	case string:
		if n := utf8.RuneCountInString(v); n > maxChars {
			return fmt.Errorf("must have at most %d characters (got %d)", maxChars, n)
		}
		if !utf8.ValidString(v) {
			return errors.New("must be valid UTF-8")
		}
		*wire = v
	case float32:
		return encodeValue(float64(v), wire)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.New("must be a finite number")
		}
		*wire = v
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return errors.New("must be a finite number")
		}
		*wire = v
	case time.Time:
		v = v.UTC()
		if v.Year() < 1 || v.Year() > 9999 {
			return errors.New("must be a time between the years 1 and 9999")
		}
		*wire = v.Format(timeForm)
	default:
		return fmt.Errorf("must be a string, a bool, a number, a time or nil (got %T)", value)
	}
	return nil
}

// standard are the names that Braze gives a meaning of its own (standard attributes page, user attributes object). A PSID written to
// one of them would replace a person's e-mail address, say.
var standard = strings.Fields(`external_id braze_id user_alias email phone ` + updateOnly + ` _merge_objects push_token_import app_id
	first_name last_name dob gender country home_city language time_zone current_location bio name image_url
	alias_name alias_label date_of_first_session date_of_last_session email_subscribe email_open_tracking_disabled
	email_click_tracking_disabled facebook twitter marked_email_as_spam_at push_subscribe push_tokens subscription_groups`)

// CheckAttributeName returns what keeps a name from being a custom attribute's, for who reads it from a configuration.
func CheckAttributeName(name string) error {
	if slices.Contains(standard, name) {
		return fmt.Errorf("must not be one of Braze's own attributes (got %q)", name)
	}
	return checkName(name)
}

// CheckEventName returns what keeps a name from being a custom event's, for who reads it from a configuration.
func CheckEventName(name string) error {
	if strings.HasPrefix(strings.ToLower(name), "ecommerce.") {
		return fmt.Errorf("must not begin with ecommerce., whose events Braze holds to a schema of their own (got %q)", cut(name, 40))
	}
	return checkName(name)
}

// checkPropertyName also refuses the two names that Braze reserves (event object).
func checkPropertyName(name string) error {
	if name == "time" || name == "event_name" {
		return fmt.Errorf("must not be one of Braze's own properties (got %q)", name)
	}
	return checkName(name)
}

func checkName(name string) error {
	switch n := utf8.RuneCountInString(name); {
	case strings.TrimSpace(name) == "":
		return errors.New("must not be blank")
	case !utf8.ValidString(name):
		return errors.New("must be valid UTF-8")
	case n > maxChars:
		return fmt.Errorf("must have at most %d characters (got %d)", maxChars, n)
	case name[0] == '$':
		return errors.New("must not begin with $")
	}
	return nil
}

// secrets returns what must not be repeated of an object: ids and string values.
func (o Object) secrets() []string {
	found := []string{o.User.BrazeID, o.User.ExternalID, o.User.Alias.Name}
	values := slices.Collect(maps.Values(o.Attributes))
	if o.Event != nil {
		values = slices.AppendSeq(values, maps.Values(o.Event.Properties))
	}
	for _, value := range values {
		if s, ok := value.(string); ok {
			found = append(found, s)
		}
	}
	return found
}

// cut returns at most n characters.
func cut(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

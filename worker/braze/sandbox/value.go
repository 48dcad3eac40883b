package sandbox

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"
)

// timeForms are those in which ISO 8601 times were seen.
var timeForms = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z0700"}

// readTime reads an ISO 8601 time with its zone.
func readTime(v any) (time.Time, bool) {
	text, ok := v.(string)
	if !ok {
		return time.Time{}, false
	}
	for _, form := range timeForms {
		if at, err := time.Parse(form, text); err == nil {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}

// typeOf is the type that a first value gives its attribute.
func typeOf(v any) Type {
	switch v.(type) {
	case json.Number:
		return Number
	case bool:
		return Boolean
	case []any:
		return Array
	case map[string]any:
		return Nested
	}
	if _, ok := readTime(v); ok {
		return Time
	}
	return String
}

// fit returns a value as one of an attribute's type. Where it is of another one it is converted or passed over: Braze's pages disagree,
// and nobody should rely on either.
func fit(v any, typ Type, rnd *rand.Rand) (_ any, kept bool) {
	have := typeOf(v)
	if at, ok := readTime(v); ok && typ == Time {
		return at.Format(time.RFC3339Nano), true
	}
	if text, ok := v.(string); ok && typ == String {
		return text, true // a time in an attribute of strings stays a string
	}
	if have == typ {
		return v, true
	}
	if rnd.IntN(2) == 0 {
		return nil, false
	}
	return convert(v, typ)
}

func convert(v any, typ Type) (any, bool) {
	switch v := v.(type) {
	case json.Number:
		return v.String(), typ == String
	case bool:
		return strconv.FormatBool(v), typ == String
	case string:
		if typ == Number {
			_, err := strconv.ParseFloat(v, 64)
			return json.Number(v), err == nil && json.Valid([]byte(v))
		}
		if b, err := strconv.ParseBool(v); err == nil && typ == Boolean {
			return b, true
		}
	}
	return nil, false
}

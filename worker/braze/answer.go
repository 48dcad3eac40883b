package braze

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// position is where an object is in a call.
type position struct {
	array string // attributes or events
	index int
}

// answer is what Braze's body says.
type answer struct {
	// taken says that Braze took the call: the message says so, or there is a counter of what was processed. A 2xx of anybody else,
	// such as a portal, an empty one, or one that was cut says nothing of what Braze did.
	taken   bool
	message string // empty where there is none or it is no text
	// attributes and events are those counters, -1 where there is none. Only those of arrays that were sent are certain to be there,
	// and not even these are.
	attributes, events int
	named              map[position][]string // errors of objects
	unattributed       []string              // errors that name no object
}

// decodeAnswer reads a body, whatever it is. Of what it cannot read it makes nothing, and an error in an unknown form is unattributed.
func decodeAnswer(body []byte) answer {
	a := answer{attributes: -1, events: -1}
	var raw struct {
		Message    json.RawMessage `json:"message"`
		Errors     json.RawMessage `json:"errors"`
		Attributes json.RawMessage `json:"attributes_processed"`
		Events     json.RawMessage `json:"events_processed"`
	}
	if len(body) == 0 || json.Unmarshal(body, &raw) != nil || strings.TrimLeft(string(body), " \t\r\n")[0] != '{' {
		return a
	}
	a.message = text(raw.Message)
	a.taken = strings.EqualFold(a.message, "success") || strings.EqualFold(a.message, "queued")
	for _, counter := range []struct {
		raw json.RawMessage
		n   *int
	}{{raw.Attributes, &a.attributes}, {raw.Events, &a.events}} {
		if n, ok := number(counter.raw); ok {
			*counter.n, a.taken = n, true
		}
	}
	a.addErrors(raw.Errors)
	return a
}

// addErrors reads the value of errors: objects, as of /users/track; texts, as of other endpoints; or neither.
func (a *answer) addErrors(raw json.RawMessage) {
	var list []json.RawMessage
	if len(raw) == 0 || string(raw) == "null" {
		return
	}
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	for _, entry := range list {
		var e struct {
			Type  json.RawMessage `json:"type"`
			Array json.RawMessage `json:"input_array"`
			Index json.RawMessage `json:"index"`
		}
		if json.Unmarshal(entry, &e) != nil {
			e.Type = entry
		}
		reason := text(e.Type)
		if reason == "" {
			reason = "an error in an unknown form"
		}
		array := text(e.Array)
		index, ok := number(e.Index)
		if !ok || array == "" {
			a.unattributed = append(a.unattributed, reason)
			continue
		}
		if a.named == nil {
			a.named = map[position][]string{}
		}
		a.named[position{array, index}] = append(a.named[position{array, index}], reason)
	}
}

// hide makes everything that the answer says fit for logs.
func (a *answer) hide(secrets []string) {
	a.message = clean(a.message, secrets)
	for i := range a.unattributed {
		a.unattributed[i] = clean(a.unattributed[i], secrets)
	}
	named := make(map[position][]string, len(a.named))
	for p, list := range a.named {
		for i := range list {
			list[i] = clean(list[i], secrets)
		}
		if p.array != "attributes" && p.array != "events" {
			p.array = clean(p.array, secrets)
		}
		named[p] = list
	}
	a.named = named
}

// text returns a JSON string, and "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// number returns a whole number from 0, whether it came as a number or as a text.
func number(raw json.RawMessage) (int, bool) {
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	return n, err == nil && n >= 0
}

// maxText bounds a text of somebody else's, in characters: long enough for every one of Braze's that is known.
const maxText = 200

// clean makes a text of somebody else's fit for logs: one line, no secret, no id of a person.
func clean(s string, secrets []string) string {
	s = cut(s, 10*maxText)
	for _, secret := range secrets {
		if len(secret) >= 3 { // anything shorter gives nobody away, and would take letters out of every name
			s = strings.ReplaceAll(s, secret, "…")
		}
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	return cut(hideNumbers(s), maxText)
}

// hideNumbers removes runs of ten digits and more: no limit or code is so long, but PSIDs and phone numbers are.
func hideNumbers(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		start := strings.IndexFunc(s, isDigit)
		if start < 0 {
			break
		}
		b.WriteString(s[:start])
		s = s[start:]
		end := strings.IndexFunc(s, func(r rune) bool { return !isDigit(r) })
		if end < 0 {
			end = len(s)
		}
		if end >= 10 {
			b.WriteString("…")
		} else {
			b.WriteString(s[:end])
		}
		s = s[end:]
	}
	return b.String() + s
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

// reasons joins the errors of one object.
func reasons(list []string) string {
	if len(list) > 3 {
		list = append(list[:3:3], fmt.Sprintf("%d more", len(list)-3))
	}
	return strings.Join(list, "; ")
}

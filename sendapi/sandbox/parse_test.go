package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/sendapi"
)

// leftToFacebook are kinds of refusals that sendapi.Parse leaves to Facebook, each with the reason. Of everything else that the
// sandbox refuses Parse must warn.
var leftToFacebook = map[string]string{
	"must be one of":           "Facebook adds values to its enumerations faster than a release knows them",
	"Invalid keys":             "Facebook adds keys of a message faster than a release knows them",
	"must be a valid ID":       "the form of the ids of files, products, personas and stickers may change",
	"must be a string":         "a boolean for a text is what a form would make of it",
	"must be a non-empty stri": "a boolean for a recipient's token, likewise",
	"must be a valid URL":      "a number or a boolean for a URL, likewise",
	"[payload][url] is requir": "Facebook may have another way to name a file",
	"[fallback_url]":           "only seen by devices that cannot show the page",
	"[default_action]":         "its form is not known beyond its url",
	"[content_type]":           "older quick replies had none",
	"parameter payload is":     "the Page messages reference calls a reaction's payload a string",
	"less payload":             "how many parameters a template takes only Facebook knows",
	"[parameters]":             "how many parameters a template takes only Facebook knows",
	"[attachment][payload] mu": "the Page messages reference calls an attachment's payload a string",
}

// kinds tells what a request is: the same change of two requests of a kind is tried once.
var kinds = regexp.MustCompile(`"(?:template_type|sender_action|messaging_type|tag)": ?"\w+"|"attachment": ?\{"type": ?"\w+"`)

// TestParseAndSandboxOnMutations changes every member of every known good request in a dozen ways and gives each to Parse and to the
// sandbox, which share no code. What Parse refuses, the sandbox must refuse too; otherwise one of the two misreads Facebook.
func TestParseAndSandboxOnMutations(t *testing.T) {
	mutated := 0
	left, tried := map[string]bool{}, map[string]bool{}
	for _, body := range goodBodies(t) {
		d := json.NewDecoder(strings.NewReader(body))
		d.UseNumber()
		var request map[string]any
		if err := d.Decode(&request); err != nil {
			t.Fatal(err)
		}
		kind := fmt.Sprint(kinds.FindAllString(body, -1))
		mutate(request, "", func(any) {}, func(what string) {
			if tried[what+kind] {
				return
			}
			tried[what+kind] = true
			mutated++
			text, err := json.Marshal(request)
			if err != nil {
				t.Fatal(err)
			}
			_, parsed := sendapi.Parse("application/json", text)
			p := params{}
			if err := p.addJSON(text); err != nil {
				t.Fatal(err)
			}
			_, refused := p.check()
			switch {
			case (parsed == nil) == (refused == nil):
			case parsed != nil:
				t.Errorf("%s: Parse refuses what the sandbox takes: %v\n%.300s", what, parsed, text)
			default:
				known := false
				for kind := range leftToFacebook {
					if strings.Contains(refused.message, kind) {
						known, left[kind] = true, true
					}
				}
				if !known {
					t.Errorf("%s: the sandbox refuses what Parse takes: %s\n%.300s", what, refused.message, text)
				}
			}
		})
	}
	for kind := range leftToFacebook {
		if !left[kind] {
			t.Errorf("%q is left to Facebook, and never was", kind)
		}
	}
	if t.Logf("%d mutations", mutated); mutated < 4000 {
		t.Error("too few")
	}
}

// goodBodies are known requests that Parse and the sandbox accept, one of each shape.
func goodBodies(t *testing.T) []string {
	t.Helper()
	var bodies []string
	shapes := map[string]bool{}
	for _, file := range []string{"client_bodies", "ingress_cases"} {
		data, err := os.ReadFile("../testdata/" + file + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var b struct{ Body string }
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				t.Fatal(err)
			}
			var request map[string]any
			if json.Unmarshal([]byte(b.Body), &request) != nil || strings.Contains(b.Body, `"airline_`) {
				continue // airline templates are large, and neither judge has a rule for what is in them
			}
			p := params{}
			if err := p.addJSON([]byte(b.Body)); err != nil {
				t.Fatal(err)
			}
			_, refused := p.check()
			if _, err := sendapi.Parse("application/json", []byte(b.Body)); err != nil || refused != nil || shapes[shape(request)] {
				continue
			}
			shapes[shape(request)] = true
			bodies = append(bodies, b.Body)
		}
	}
	return bodies
}

// shape names the members of a value, and of enumerations the value.
func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		s := ""
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if s += k + shape(v[k]); strings.HasSuffix(k, "type") {
				s += fmt.Sprint("=", v[k])
			}
		}
		return "{" + s + "}"
	case []any:
		entries := map[string]bool{}
		for _, entry := range v {
			entries[shape(entry)] = true
		}
		return fmt.Sprint(slices.Sorted(maps.Keys(entries)))
	}
	return "."
}

// mutate replaces a value by others, takes its members away, and does the same to what is in it. After each change it calls try.
func mutate(v any, path string, put func(any), try func(what string)) {
	for _, other := range []any{nil, "", " ", "x", "0", json.Number("7"), true, map[string]any{}, []any{}, characters(2100), map[string]any{"a": "b"}, []any{"a"}} {
		if path == "" {
			break // the request itself stays an object
		}
		put(other)
		try(fmt.Sprintf("%s is %.20v", path, other))
		put(v)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			member := v[k]
			delete(v, k)
			try(path + "." + k + " is gone")
			v[k] = member
			mutate(member, path+"."+k, func(other any) { v[k] = other }, try)
		}
	case []any:
		for i, entry := range v {
			mutate(entry, fmt.Sprintf("%s[%d]", path, i), func(other any) { v[i] = other }, try)
		}
	}
}

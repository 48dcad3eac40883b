package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whom a call makes and whom it passes over: by identifier, flag and array. Passed over and made are answered alike.
func TestUpdateOnly(t *testing.T) {
	const (
		external = `"external_id":"new"`
		braze    = `"braze_id":"5f3c6c1a2b3c4d5e6f708192"`
		alias    = `"user_alias":{"alias_name":"n","alias_label":"l"}`
		mail     = `"email":"new@example.com"`
		when     = `"name":"n","time":"2026-11-26T10:00:00Z"`
	)
	for _, c := range []struct {
		array, id, flag string
		made            bool
	}{
		{"attributes", external, `true`, false}, {"attributes", external, `false`, true}, {"attributes", external, ``, true},
		{"events", external, `true`, false}, {"events", external, `false`, true}, {"events", external, ``, true},
		{"attributes", alias, `true`, false}, {"attributes", alias, `false`, true}, {"attributes", alias, ``, false},
		{"events", alias, `true`, false}, {"events", alias, `false`, false}, {"events", alias, ``, false},
		{"attributes", braze, `true`, false}, {"attributes", braze, `false`, false}, {"attributes", braze, ``, false},
		{"attributes", mail, `true`, false}, {"attributes", mail, `false`, false},
	} {
		t.Run(c.array+" "+c.id+" "+c.flag, func(t *testing.T) {
			r := start(t, Config{})
			object := "{" + c.id
			if c.flag != "" {
				object += `,"_update_existing_only":` + c.flag
			}
			if c.array == "events" {
				object += "," + when + "}"
			} else {
				object += `,"x":1}`
			}
			got := r.post(`{"` + c.array + `":[` + object + `]}`)
			if want := fmt.Sprintf(`{"%s_processed":1,"message":"success"}`, c.array); got.body != want || got.status != 201 {
				t.Errorf("%d %s, want %s", got.status, got.body, want)
			}
			sum, want := r.Summary(), 0
			if c.made {
				want = 1
			}
			if sum.Profiles != want || sum.Created != want || sum.Ignored != 1-want || sum.Attributes+sum.Events != want {
				t.Errorf("%+v, want %d made", sum, want)
			}
			if list := r.Profiles(); c.made && (len(list[0].BrazeID) != 24 || len(list[0].Attributes)+len(list[0].Events) != 1) {
				t.Errorf("made %+v", list)
			}
		})
	}
}

// An alias that attributes of a call make has its events of the same call, since attributes come first.
func TestAttributesComeFirst(t *testing.T) {
	r := start(t, Config{})
	const alias = `"user_alias":{"alias_name":"n","alias_label":"l"},"_update_existing_only":false`
	r.taken(`{"events":[{` + alias + `,"name":"e","time":"2026-11-26T10:00:00Z"}],"attributes":[{` + alias + `,"x":1}]}`)
	p, err := r.ByAlias(Alias{"n", "l"})
	if err != nil || len(p.Events) != 1 || p.Attributes["x"] != json.Number("1") {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := r.ByAlias(Alias{"N", "l"}); !errors.Is(err, ErrNoProfile) {
		t.Errorf("another case: %v", err)
	}
}

// A profile is the same by each of its ids.
func TestProfileByEachID(t *testing.T) {
	r := start(t, Config{})
	made, err := r.Create(Profile{ExternalID: "jon", Aliases: []Alias{{"n", "l"}, {"n", "other"}}})
	if err != nil {
		t.Fatal(err)
	}
	r.taken(attributes(`{"external_id":"jon","a":1}`, `{"braze_id":"`+made.BrazeID+`","b":"2"}`,
		`{"user_alias":{"alias_name":"n","alias_label":"other"},"c":true}`))
	want := Profile{BrazeID: made.BrazeID, ExternalID: "jon", Aliases: []Alias{{"n", "l"}, {"n", "other"}},
		Attributes: map[string]any{"a": json.Number("1"), "b": "2", "c": true}}
	for _, id := range []string{"jon", made.BrazeID} {
		if diff := cmp.Diff(want, r.profile(id)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
	if _, err := r.Profile("n"); !errors.Is(err, ErrNoProfile) {
		t.Errorf("an alias as id: %v", err)
	}
}

// null removes, the last write wins, and what a call does not name stays.
func TestAttributes(t *testing.T) {
	r := start(t, Config{})
	r.make("a")
	r.taken(attributes(attribute("a", `"x":"1","y":"1","z":1.50`)))
	r.taken(attributes(attribute("a", `"x":"2","y":null`), attribute("a", `"x":"3","nothing":null`)))
	if diff := cmp.Diff(map[string]any{"x": "3", "z": json.Number("1.50")}, r.profile("a").Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if sum := r.Summary(); sum.Attributes != 3 || sum.TypeConflicts != 0 {
		t.Errorf("%+v", sum)
	}
}

// The first value decides an attribute's type, for all profiles; a declared type does so beforehand, and null does not.
func TestTypes(t *testing.T) {
	r := start(t, Config{Types: map[string]Type{"messenger_id": String}})
	r.make("a", "b")
	r.taken(attributes(attribute("a", `"messenger_id":"24689753102468975","s":"text","n":1,"b":true,"t":"2026-11-26T11:00:00+01:00","l":["x"],"o":{"x":1},"none":null`)))
	want := map[string]Type{"messenger_id": String, "s": String, "n": Number, "b": Boolean, "t": Time, "l": Array, "o": Nested}
	if diff := cmp.Diff(want, r.Types()); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if got := r.profile("a").Attributes["t"]; got != "2026-11-26T10:00:00Z" {
		t.Errorf("time %v", got)
	}
	// A time that comes for an attribute of strings is a string, and no conflict.
	r.taken(attributes(attribute("b", `"s":"2026-11-26T11:00:00+01:00"`)))
	if got, sum := r.profile("b").Attributes["s"], r.Summary(); got != "2026-11-26T11:00:00+01:00" || sum.TypeConflicts != 0 {
		t.Errorf("%v, %+v", got, sum)
	}
	r.taken(attributes(attribute("b", `"none":7`)))
	if typ := r.Types()["none"]; typ != Number {
		t.Errorf("null gave a type: %s", typ)
	}
}

// A value of another type is never an error, counted, and either converted or passed over: both happen.
func TestWrongTypes(t *testing.T) {
	for _, c := range []struct {
		typ         Type
		value       string
		converted   any // nil: never
		description string
	}{
		{String, `24689753102468975`, "24689753102468975", "a PSID as a number"},
		{String, `true`, "true", "a bool as a string"},
		{Number, `"12"`, json.Number("12"), "digits as a number"},
		{Number, `"a"`, nil, "text as a number"},
		{Number, `"0x1p-2"`, nil, "no number of JSON"},
		{Boolean, `"true"`, true, "a text as a bool"},
		{Boolean, `1`, nil, "a number as a bool"},
		{Time, `"soon"`, nil, "a text as a time"},
		{Array, `"x"`, nil, "a string as a list"},
		{String, `["x"]`, nil, "a list as a string"},
	} {
		seen := map[string]bool{}
		for seed := range uint64(40) {
			s, err := New(Config{Types: map[string]Type{"x": c.typ}, Seed: seed + 1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Create(Profile{ExternalID: "a"}); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.set(s.profiles.external["a"], "x", decode([]byte(c.value)))
			s.mu.Unlock()
			p, err := s.Profile("a")
			if err != nil {
				t.Fatal(err)
			}
			got, kept := p.Attributes["x"]
			if kept && got != c.converted {
				t.Errorf("%s: %v, want %v", c.description, got, c.converted)
			}
			if seen[fmt.Sprint(kept)] = true; s.Summary().TypeConflicts != 1 {
				t.Errorf("%s: not counted", c.description)
			}
		}
		if !seen["false"] || seen["true"] != (c.converted != nil) {
			t.Errorf("%s: %v", c.description, seen)
		}
	}
}

// Events are kept in their order with their properties; one in the future is now; the same again is stored again, and counted.
func TestEvents(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r := start(t, Config{Now: func() time.Time { return now }})
	r.make("a", "b")
	const one = `{"external_id":"a","name":"messenger_failed","time":"2026-11-26T10:00:00+01:00","properties":{"class":"recipient","code":551}}`
	r.taken(events(one, `{"external_id":"a","name":"late","time":"2027-01-01T00:00:00Z"}`))
	r.taken(events(one, strings.Replace(one, `"a"`, `"b"`, 1), strings.Replace(one, "551", "552", 1)))
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	props := func(code string) map[string]any {
		return map[string]any{"class": "recipient", "code": json.Number(code)}
	}
	want := []Event{{"messenger_failed", at, props("551"), 1}, {"late", now, nil, 1}, {"messenger_failed", at, props("551"), 2},
		{"messenger_failed", at, props("552"), 2}}
	if diff := cmp.Diff(want, r.profile("a").Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if sum := r.Summary(); sum.Events != 5 || sum.DuplicateEvents != 1 {
		t.Errorf("%+v", sum)
	}
}

// What the library gives away can be changed without changing what it has.
func TestProfilesAreCopies(t *testing.T) {
	r := start(t, Config{})
	given := Profile{ExternalID: "a", Aliases: []Alias{{"n", "l"}}, Attributes: map[string]any{"x": 1}}
	got, err := r.Create(given)
	if err != nil {
		t.Fatal(err)
	}
	given.Attributes["x"], given.Aliases[0].Name = 2, "changed"
	got.Attributes["x"], got.Aliases[0].Name = 3, "changed"
	list := r.Profiles()
	list[0].Attributes["x"], list[0].ExternalID = 4, "changed"
	want := Profile{BrazeID: got.BrazeID, ExternalID: "a", Aliases: []Alias{{"n", "l"}}, Attributes: map[string]any{"x": json.Number("1")}}
	if diff := cmp.Diff(want, r.profile("a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Two profiles have no id in common.
func TestCreateRefuses(t *testing.T) {
	r := start(t, Config{})
	made, err := r.Create(Profile{ExternalID: "a", Aliases: []Alias{{"n", "l"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Profile
		want string
	}{
		{Profile{BrazeID: made.BrazeID}, "sandbox: create: BrazeID: is another profile's"},
		{Profile{ExternalID: "a"}, "sandbox: create: ExternalID: is another profile's"},
		{Profile{Aliases: []Alias{{"n", "l"}}}, "sandbox: create: Aliases: is another profile's"},
		{Profile{Aliases: []Alias{{"n", ""}}}, "sandbox: create: Aliases: must have a name and a label"},
	} {
		if _, err := r.Create(c.p); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.p, err, c.want)
		}
	}
	if n := len(r.Profiles()); n != 1 {
		t.Errorf("%d profiles", n)
	}
}

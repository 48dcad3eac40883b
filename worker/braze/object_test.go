package braze_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
)

func TestObjectValidate(t *testing.T) {
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	attrs := func(name string, value any) braze.Object {
		return braze.Object{User: user("a"), Attributes: map[string]any{name: value}}
	}
	ev := func(name string, at time.Time, properties map[string]any) braze.Object {
		return braze.Object{User: user("a"), Event: &braze.Event{Name: name, Time: at, Properties: properties}}
	}
	prop := func(name string, value any) braze.Object { return ev("x", now, map[string]any{name: value}) }
	long := strings.Repeat("é", 255)
	for _, c := range []struct {
		name   string
		object braze.Object
		want   string // of the error; empty: none
	}{
		{"a string", attrs("messenger_id", "123"), ""},
		{"an empty string", attrs("messenger_id", ""), ""},
		{"null", attrs("messenger_id", nil), ""},
		{"a number of JSON", attrs("x", json.Number("12.5")), ""},
		{"unsigned", attrs("x", uint64(math.MaxUint64)), ""},
		{"a short float", attrs("x", float32(1)), ""},
		{"a time", attrs("messenger_window_until", now), ""},
		{"the longest string", attrs("x", long), ""},
		{"the longest name", attrs(long, 1), ""},
		{"a name with spaces", attrs("Messenger ID", "1"), ""},
		{"an event", ev("messenger_failed", now, nil), ""},
		{"properties", prop("class", "recipient"), ""},
		{"a property called name", prop("name", "x"), ""},

		{"neither", braze.Object{User: user("a")}, "object: exactly one of attributes and event must be set"},
		{"both", braze.Object{User: user("a"), Attributes: map[string]any{"x": 1}, Event: &braze.Event{Name: "x", Time: now}},
			"object: exactly one of attributes and event must be set"},
		{"a string too long", attrs("x", long+"x"), `attribute "x": must have at most 255 characters (got 256)`},
		{"a name too long", attrs(long+"x", 1), `attribute "` + strings.Repeat("é", 40) + `…": must have at most 255 characters (got 256)`},
		{"no name", attrs(" ", 1), `attribute " ": must not be blank`},
		{"a dollar", attrs("$x", 1), `attribute "$x": must not begin with $`},
		{"a name that is no text", attrs("a\xff", 1), `attribute "a\xff": must be valid UTF-8`},
		{"a string that is no text", attrs("x", "\xff"), `attribute "x": must be valid UTF-8`},
		{"Braze's own", attrs("email", "a@example.com"), `attribute "email": must not be one of Braze's own attributes (got "email")`},
		{"an identifier", attrs("braze_id", "x"), `attribute "braze_id": must not be one of Braze's own attributes (got "braze_id")`},
		{"the flag", attrs("_update_existing_only", false), `attribute "_update_existing_only": must not be one of Braze's own attributes (got "_update_existing_only")`},
		{"not a number", attrs("x", math.NaN()), `attribute "x": must be a finite number`},
		{"infinite", attrs("x", math.Inf(1)), `attribute "x": must be a finite number`},
		{"no number", attrs("x", json.Number("secret")), `attribute "x": must be a finite number`},
		{"nested", attrs("x", map[string]any{"y": nil}), `attribute "x": must be a string, a bool, a number, a time or nil (got map[string]interface {})`},
		{"a list", attrs("x", []string{"secret"}), `attribute "x": must be a string, a bool, a number, a time or nil (got []string)`},
		{"a late year", attrs("x", now.AddDate(8000, 0, 0)), `attribute "x": must be a time between the years 1 and 9999`},
		{"an early year", attrs("x", now.AddDate(-3000, 0, 0)), `attribute "x": must be a time between the years 1 and 9999`},
		{"no event name", ev("", now, nil), `event "": must not be blank`},
		{"an event name too long", ev(strings.Repeat("x", 256), now, nil), `event "` + strings.Repeat("x", 40) + `…": must have at most 255 characters (got 256)`},
		{"ecommerce", ev("ecommerce.order_placed", now, nil),
			`event "ecommerce.order_placed": must not begin with ecommerce., whose events Braze holds to a schema of their own (got "ecommerce.order_placed")`},
		{"no time", ev("x", time.Time{}, nil), `event "x": time must be set`},
		{"a property that Braze has", prop("event_name", "x"), `event "x": property "event_name": must not be one of Braze's own properties (got "event_name")`},
		{"another", prop("time", now), `event "x": property "time": must not be one of Braze's own properties (got "time")`},
		{"a property with a dollar", prop("$x", 1), `event "x": property "$x": must not begin with $`},
		{"a property without a value", prop("y", nil), `event "x": property "y": must have a value`},
		{"a property too long", prop("y", strings.Repeat("x", 256)), `event "x": property "y": must have at most 255 characters (got 256)`},
		{"no user", braze.Object{Attributes: map[string]any{"x": 1}}, "user: exactly one of braze_id, external_id and user_alias must be set (got 0)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.object.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("%q repeats a value", got)
			}
			if n := braze.Size(c.object); (n == 0) != (c.want != "") {
				t.Errorf("size %d", n)
			}
		})
	}
}

// The names that a configuration may hold are those that an object may have.
func TestNames(t *testing.T) {
	for _, name := range []string{"messenger_id", "messenger_id_de", "Messenger ID", "messenger.id", "x"} {
		if err := braze.CheckAttributeName(name); err != nil {
			t.Errorf("attribute %q: %v", name, err)
		}
		if err := braze.CheckEventName(name); err != nil {
			t.Errorf("event %q: %v", name, err)
		}
	}
	for _, name := range []string{"", " ", "$id", "first_name", "external_id", "subscription_groups", strings.Repeat("x", 256)} {
		if braze.CheckAttributeName(name) == nil {
			t.Errorf("attribute %q is taken", name)
		}
	}
	for _, name := range []string{"", "$x", "ecommerce.x", "Ecommerce.X", strings.Repeat("x", 256)} {
		if braze.CheckEventName(name) == nil {
			t.Errorf("event %q is taken", name)
		}
	}
}

// lengths is a transport that keeps the length of each body.
type lengths struct{ of []int64 }

func (l *lengths) RoundTrip(r *http.Request) (*http.Response, error) {
	l.of = append(l.of, r.ContentLength)
	return pretend(func(body) (int, string) { return 201, success }).RoundTrip(r)
}

// What Size says of objects, and the arrays around them, is what a body takes at most.
func TestSize(t *testing.T) {
	const arrays = int64(len(`{"attributes":[],"events":[]}`))
	for _, objects := range [][]braze.Object{many(1), many(75), {event("b")}, {attribute("a"), event("b"), event("c")}} {
		want := arrays
		for _, o := range objects {
			want += int64(braze.Size(o))
		}
		var sent lengths
		track(t, client(t, "http://127.0.0.1", func(c *braze.Config) { c.Transport = &sent }), objects...)
		if n := sent.of[0]; n > want || n < want-20 {
			t.Errorf("%d objects: %d bytes, told %d", len(objects), n, want)
		}
	}
}

func TestUserID(t *testing.T) {
	alias := func(name, label string) braze.UserID {
		return braze.UserID{Alias: braze.Alias{Name: name, Label: label}}
	}
	for _, c := range []struct {
		name string
		id   braze.UserID
		want string // of the error
	}{
		{"braze_id", braze.UserID{BrazeID: "5f3c6c1a2b3c4d5e6f708192"}, ""},
		{"external_id", braze.UserID{ExternalID: "jon@example.com"}, ""},
		{"the longest", braze.UserID{ExternalID: strings.Repeat("x", 987)}, ""},
		{"alias", alias("24689753102468975", "messenger_id"), ""},
		{"none", braze.UserID{}, "user: exactly one of braze_id, external_id and user_alias must be set (got 0)"},
		{"two", braze.UserID{BrazeID: "secret", ExternalID: "secret"}, "user: exactly one of braze_id, external_id and user_alias must be set (got 2)"},
		{"blank", braze.UserID{ExternalID: " \t"}, "user: external_id must not be blank"},
		{"too long", braze.UserID{ExternalID: strings.Repeat("x", 988)}, "user: external_id must have at most 987 bytes (got 988)"},
		{"not text", braze.UserID{BrazeID: "\xff"}, "user: braze_id must be valid UTF-8"},
		{"no label", alias("secret", ""), "user: alias_label must not be blank"},
		{"no name", alias("", "messenger_id"), "user: alias_name must not be blank"},
		{"name too long", alias(strings.Repeat("é", 119), "x"), "user: alias_name must have at most 236 bytes (got 238)"},
	} {
		got := ""
		if err := c.id.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Users print without what names them to others, whatever the verb, and are stored whole.
func TestUserIDPrints(t *testing.T) {
	for _, id := range []braze.UserID{{ExternalID: "jon@example.com"}, {Alias: braze.Alias{Name: "jon@example.com", Label: "mail"}}} {
		o := braze.Object{User: id, Event: &braze.Event{}}
		for _, verb := range []string{"%v", "%+v", "%s", "%q", "%#v"} {
			for _, v := range []any{id, &id, o, []braze.UserID{id}, map[string]braze.UserID{"a": id}} {
				if s := fmt.Sprintf(verb, v); strings.Contains(s, "jon") {
					t.Errorf("%s of %T: %s", verb, v, s)
				}
			}
		}
		if s := fmt.Sprintf("%v %#v", id.Alias, id.Alias); strings.Contains(s, "jon") {
			t.Error(s)
		}
		raw, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var back braze.UserID
		if err := json.Unmarshal(raw, &back); err != nil || back != id {
			t.Errorf("%s came back as another: %v", raw, err)
		}
	}
	if a, b := user("a").String(), user("b").String(); a == b || !strings.HasPrefix(a, "external_id #") {
		t.Errorf("%s and %s", a, b)
	}
	if s := (braze.UserID{BrazeID: "5f3c"}).String(); s != "braze_id 5f3c" {
		t.Error(s)
	}
	if s := (braze.UserID{}).String(); s != "no user" {
		t.Error(s)
	}
}

// Objects print without values, whatever the verb.
func TestObjectPrints(t *testing.T) {
	attributes, event := attribute("jon"), event("jon")
	event.Event.Properties["psid"] = "24689753102468975"
	for _, verb := range []string{"%v", "%+v", "%s", "%#v"} {
		for _, v := range []any{attributes, &attributes, event, []braze.Object{attributes, event}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "24689753102468975") || strings.Contains(s, "jon") {
				t.Errorf("%s of %T: %s", verb, v, s)
			}
		}
	}
	if got := attributes.String(); got != `attributes ["messenger_id"] of `+user("jon").String() {
		t.Error(got)
	}
	if got := event.String(); got != `event "messenger_failed" of `+user("jon").String() {
		t.Error(got)
	}
}

// Braze's own examples of a body are what objects make, but for the e-mail address, which is a standard attribute.
func TestPublishedBodies(t *testing.T) {
	f, err := os.Open("testdata/braze_bodies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		var l struct{ Name, Body string }
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		var want body
		if err := json.Unmarshal([]byte(l.Body), &want); err != nil {
			t.Fatal(err)
		}
		delete(want.Attributes[0], "email")
		want.Attributes[0]["messenger_id"] = "123"
		var got body
		c := client(t, "http://127.0.0.1", func(c *braze.Config) {
			c.CreateAliases = true
			c.Transport = pretend(func(b body) (int, string) { got = b; return 201, success })
		})
		track(t, c, braze.Object{User: braze.UserID{Alias: braze.Alias{Name: "example_name", Label: "example_label"}},
			Attributes: map[string]any{"messenger_id": "123"}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", l.Name, diff)
		}
	}
	if n != 1 {
		t.Errorf("%d bodies", n)
	}
}

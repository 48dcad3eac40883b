package sandbox

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is wrong with a call as a whole: its answer, and that nothing of it was written.
func TestCallsAreRefused(t *testing.T) {
	const good = `{"attributes":[{"external_id":"a","x":1}]}`
	for _, c := range []struct {
		name   string
		body   string
		header []string
		want   string // status and message; several are separated by |
	}{
		{"no key", good, []string{"Authorization", ""}, "401 Invalid API Key"},
		{"another key", good, []string{"Authorization", "Bearer other"}, "401 Invalid API Key"},
		{"a key without Bearer", good, []string{"Authorization", "key"}, "401 Invalid API Key"},
		{"basic", good, []string{"Authorization", "Basic a2V5"}, "401 Invalid API Key"},
		{"an empty key", good, []string{"Authorization", "Bearer "}, "401 Invalid API Key"},
		{"no type", good, []string{"Content-Type", ""}, "400 Content-Type must be application/json"},
		{"a form", good, []string{"Content-Type", "application/x-www-form-urlencoded"}, "400 Content-Type must be application/json"},
		{"compressed", good, []string{"Content-Encoding", "gzip"}, "400 the sandbox takes no compressed body"},
		{"empty", "", nil, "400 Bad Request"},
		{"not JSON", `{"attributes":[`, nil, "400 Bad Request"},
		{"two values", good + good, nil, "400 Bad Request"},
		{"not text", "{\"attributes\":[{\"external_id\":\"a\",\"x\":\"\xff\"}]}", nil, "400 Bad Request"},
		{"null", "null", nil, "400 Bad Request"},
		{"an array", "[]", nil, "400 Bad Request"},
		{"nothing", "{}", nil, "400 " + noData},
		{"empty arrays", `{"attributes":[],"events":[]}`, nil, "400 " + noData},
		{"an unknown array", `{"carts":[{"external_id":"a"}]}`, nil, `400 the sandbox knows no field "carts"`},
		{"a key in the body", `{"api_key":"key","attributes":[{"external_id":"a","x":1}]}`, nil, `400 the sandbox knows no field "api_key"`},
		{"no array", `{"attributes":{"external_id":"a","x":1}}`, nil, "400 'attributes' must be an array"},
		{"an array of null", `{"attributes":null}`, nil, "400 'attributes' must be an array"},
		{"too many", `{"attributes":[` + strings.Repeat(`{"external_id":"a","x":1},`, 39) + `{"external_id":"a","x":1}],"events":[` +
			strings.Repeat(event("a", "e")+",", 35) + event("a", "e") + `]}`, nil, "400 a request must have at most 75 objects"},
		{"too large", `{"attributes":[{"external_id":"a","x":"` + strings.Repeat("x", 50_000) + `"}]}`, nil, "413 |400 Max Input Length Exceeded"},
		{"all bad", `{"attributes":[{"x":1}]}`, nil, "400 " + noData},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, Config{Keys: []string{"key", "second"}, MaxBytes: 40_000})
			r.make("a")
			got := r.post(c.body, c.header...)
			if text := fmt.Sprintf("%d %s", got.status, got.message()); !contains(c.want, text) {
				t.Errorf("%s, want %s", text, c.want)
			}
			p := r.profile("a")
			if sum := r.Summary(); len(p.Attributes)+len(p.Events) > 0 || sum.Calls != 1 || sum.Statuses[got.status] != 1 || r.Calls()[0].Written {
				t.Errorf("%+v, %+v", p, sum)
			}
		})
	}
}

// contains reports whether a text is one of those in a list.
func contains(list, text string) bool {
	for _, one := range strings.Split(list, "|") {
		if one == text {
			return true
		}
	}
	return false
}

// Where the call goes matters too.
func TestPaths(t *testing.T) {
	r := start(t, Config{})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/users/track", 405}, {"PUT", "/users/track", 405},
		{"POST", "/users/track/", 404}, {"POST", "//users/track", 404}, {"POST", "/users/track/sync", 404}, {"POST", "/users/alias/new", 404},
		{"GET", "/", 404}, {"POST", "/v1/users/track", 404}, {"GET", "/controls", 404},
	} {
		if status, _ := r.ask(c.method, c.path, "{}"); status != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, status, c.want)
		}
	}
	req := r.request(attributes(attribute("a", `"x":1`)))
	req.URL.RawQuery = "api_key=key"
	if got, err := r.do(req); err != nil || got.status != 400 {
		t.Errorf("a key in the query: %+v, %v", got, err)
	}
	for _, second := range []string{"second", "key"} {
		keyed := start(t, Config{Keys: []string{"key", "second"}})
		if got := keyed.post(attributes(attribute("a", `"x":1`)), "Authorization", "Bearer "+second); got.status != 201 {
			t.Errorf("key %s: %d", second, got.status)
		}
	}
}

// What is wrong with a single object: it is named, and the good one beside it is taken.
func TestObjectsAreRefused(t *testing.T) {
	long := strings.Repeat("é", 256)
	const when = `"time":"2026-11-26T10:00:00Z"`
	for _, c := range []struct {
		name, array, object string
		want                string // empty: taken
	}{
		{"an attribute", "attributes", `{"external_id":"a","x":1}`, ""},
		{"null", "attributes", `{"external_id":"a","x":null}`, ""},
		{"nested", "attributes", `{"external_id":"a","x":{"y":[1]}}`, ""},
		{"an app", "attributes", `{"external_id":"a","x":1,"app_id":"app"}`, ""},
		{"braze_id", "attributes", `{"braze_id":"5f3c6c1a2b3c4d5e6f708192","x":1}`, ""},
		{"an alias", "attributes", `{"user_alias":{"alias_name":"n","alias_label":"l"},"x":1}`, ""},
		{"e-mail alone", "attributes", `{"email":"a@example.com"}`, ""},
		{"the longest string", "attributes", `{"external_id":"a","x":"` + long[2:] + `"}`, ""},
		{"an event", "events", `{"external_id":"a","name":"n",` + when + `,"app_id":"x"}`, ""},
		{"properties", "events", `{"external_id":"a","name":"n",` + when + `,"properties":{"x":"y","n":1,"b":false}}`, ""},
		{"a zone", "events", `{"external_id":"a","name":"n","time":"2026-11-26T10:00:00.123+01:00"}`, ""},
		{"a zone without a colon", "events", `{"external_id":"a","name":"n","time":"2026-11-26T10:00:00+0100"}`, ""},
		{"a purchase", "purchases", `{"external_id":"a","product_id":"p","currency":"EUR","price":1.5,"quantity":2,` + when + `}`, ""},

		{"a text", "attributes", `"a"`, "an object is expected"},
		{"no identifier", "attributes", `{"x":1}`, noIdentifier},
		{"no identifier of an event", "events", `{"name":"n",` + when + `}`, noIdentifier},
		{"a null identifier", "attributes", `{"external_id":null,"x":1}`, "'external_id' is not valid"},
		{"an empty identifier", "attributes", `{"external_id":"","x":1}`, "'external_id' is not valid"},
		{"a number", "attributes", `{"external_id":7,"x":1}`, "'external_id' is not valid"},
		{"an empty braze_id", "attributes", `{"braze_id":"","x":1}`, "'braze_id' is not valid"},
		{"too long", "attributes", `{"external_id":"` + strings.Repeat("x", 988) + `","x":1}`, "'external_id' must be fewer than 988 bytes"},
		{"blocked", "attributes", `{"external_id":"dummy","x":1}`, "provided external_id is blacklisted and disallowed"},
		{"two identifiers", "attributes", `{"external_id":"a","braze_id":"b","x":1}`, "the sandbox takes one identifier an object"},
		{"an alias without a label", "attributes", `{"user_alias":{"alias_name":"n"},"x":1}`, "'user_alias' is not valid"},
		{"an alias with more", "attributes", `{"user_alias":{"alias_name":"n","alias_label":"l","x":1},"x":1}`, "'user_alias' is not valid"},
		{"an alias too long", "attributes", `{"user_alias":{"alias_name":"` + strings.Repeat("x", 237) + `","alias_label":"l"},"x":1}`, "'user_alias' is not valid"},
		{"an alias as text", "attributes", `{"user_alias":"n","x":1}`, "'user_alias' is not valid"},
		{"the flag as text", "attributes", `{"external_id":"a","x":1,"_update_existing_only":"true"}`, "'_update_existing_only' is not valid"},
		{"the flag null", "attributes", `{"external_id":"a","x":1,"_update_existing_only":null}`, "'_update_existing_only' is not valid"},
		{"no attribute", "attributes", `{"external_id":"a","_update_existing_only":true}`, "an attribute is required"},
		{"a string too long", "attributes", `{"external_id":"a","x":"` + long + `"}`, "'x' must have at most 255 characters"},
		{"a name too long", "attributes", `{"external_id":"a","` + long + `":1}`, "a name must have between 1 and 255 characters"},
		{"an empty name", "attributes", `{"external_id":"a","":1}`, "a name must have between 1 and 255 characters"},
		{"a dollar", "attributes", `{"external_id":"a","$x":1}`, "a name must not begin with $"},
		{"no address", "attributes", `{"external_id":"a","email":"nobody"}`, "The value provided for the 'email' field is not a valid email."},
		{"no event name", "events", `{"external_id":"a",` + when + `}`, "'name' is not valid"},
		{"an event name too long", "events", `{"external_id":"a","name":"` + long + `",` + when + `}`, "'name' is not valid"},
		{"an e-commerce event", "events", `{"external_id":"a","name":"ecommerce.product_viewed",` + when + `}`,
			"The property '#/' did not contain a required property of 'product_id'"},
		{"no time", "events", `{"external_id":"a","name":"n"}`, "'time' is not valid"},
		{"a time without a zone", "events", `{"external_id":"a","name":"n","time":"2026-11-26T10:00:00"}`, "'time' is not valid"},
		{"a time in seconds", "events", `{"external_id":"a","name":"n","time":1795600000}`, "'time' is not valid"},
		{"a day", "events", `{"external_id":"a","name":"n","time":"2026-11-26"}`, "'time' is not valid"},
		{"properties as text", "events", `{"external_id":"a","name":"n",` + when + `,"properties":"x"}`, "'properties' is not valid"},
		{"a reserved property", "events", `{"external_id":"a","name":"n",` + when + `,"properties":{"time":1}}`, "property 'time' is reserved"},
		{"another", "events", `{"external_id":"a","name":"n",` + when + `,"properties":{"event_name":1}}`, "property 'event_name' is reserved"},
		{"a property with a dollar", "events", `{"external_id":"a","name":"n",` + when + `,"properties":{"$x":1}}`, "a name must not begin with $"},
		{"a property too long", "events", `{"external_id":"a","name":"n",` + when + `,"properties":{"x":"` + long + `"}}`, "'x' must have at most 255 characters"},
		{"an unknown field", "events", `{"external_id":"a","name":"n",` + when + `,"messenger_id":"1"}`, `the sandbox knows no field "messenger_id" of an event`},
		{"no product", "purchases", `{"external_id":"a","currency":"EUR","price":1,` + when + `}`, "'product_id' is not valid"},
		{"no price", "purchases", `{"external_id":"a","product_id":"p","currency":"EUR","price":"1",` + when + `}`, "'price' is not valid"},
		{"no currency", "purchases", `{"external_id":"a","product_id":"p","price":1,` + when + `}`, "'currency' is not valid"},
		{"a bad quantity", "purchases", `{"external_id":"a","product_id":"p","currency":"EUR","price":1,"quantity":"2",` + when + `}`, "'quantity' is not valid"},
		{"no time of a purchase", "purchases", `{"external_id":"a","product_id":"p","currency":"EUR","price":1}`, "'time' is not valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, Config{Blocked: []string{"dummy"}})
			r.make("a", "good")
			good := map[string]string{"attributes": attribute("good", `"ok":true`), "events": event("good", "ok"),
				"purchases": `{"external_id":"good","product_id":"p","currency":"EUR","price":1,` + when + `}`}[c.array]
			got := r.post(`{"` + c.array + `":[` + good + `,` + c.object + `]}`)
			var want map[string]string
			processed := 2
			if c.want != "" {
				want, processed = map[string]string{c.array + " 1": c.want}, 1
			}
			if diff := cmp.Diff(want, got.errors()); diff != "" || got.status != 201 || got.message() != "success" {
				t.Errorf("%d %s\n%s", got.status, got.body, diff)
			}
			if counter := fmt.Sprintf(`"%s_processed":%d`, c.array, processed); !strings.Contains(got.body, counter) {
				t.Errorf("%s, want %s", got.body, counter)
			}
			if p := r.profile("good"); len(p.Attributes)+len(p.Events)+p.Purchases != 1 {
				t.Errorf("the good object was not taken: %+v", p)
			}
			if call := r.Calls()[0]; call.Invalid != len(want) || !call.Written || call.Attributes+call.Events+call.Purchases != 2 {
				t.Errorf("%+v", call)
			}
			alone := r.post(`{"` + c.array + `":[` + c.object + `]}`)
			if c.want != "" && (alone.status != 400 || alone.message() != noData || alone.errors()[c.array+" 0"] != c.want) {
				t.Errorf("alone: %d %s", alone.status, alone.body)
			}
		})
	}
}

// Counters are there for the arrays that were sent, and only those.
func TestCounters(t *testing.T) {
	r := start(t, Config{})
	for body, want := range map[string]string{
		attributes(attribute("a", `"x":1`)):                                                   `{"attributes_processed":1,"message":"success"}`,
		events(event("a", "n"), event("b", "n")):                                              `{"events_processed":2,"message":"success"}`,
		`{"attributes":[` + attribute("a", `"x":1`) + `],"events":[]}`:                        `{"attributes_processed":1,"events_processed":0,"message":"success"}`,
		`{"events":[` + event("a", "n") + `],"attributes":[` + attribute("a", `"x":1`) + `]}`: `{"attributes_processed":1,"events_processed":1,"message":"success"}`,
	} {
		if got := r.post(body); got.body != want || got.status != http.StatusCreated || got.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %+v, want %s", body, got, want)
		}
	}
}

// FuzzBody: whatever is posted, the sandbox answers, and its counts add up.
func FuzzBody(f *testing.F) {
	f.Add(attributes(attribute("a", `"x":1`)))
	f.Add(events(event("a", "n")))
	f.Add(`{"purchases":[{"external_id":"a","product_id":"p","currency":"EUR","price":1,"time":"2026-11-26T10:00:00Z"}]}`)
	f.Add(`{"attributes":[{"user_alias":{"alias_name":"n","alias_label":"l"},"_update_existing_only":false,"x":null}]}`)
	f.Add(`{"attributes":[{"external_id":"b","x":{"inc":1}},7,null,[]]}`)
	f.Fuzz(func(t *testing.T, body string) {
		s, err := New(Config{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: "POST", Header: http.Header{"Authorization": {"Bearer key"}, "Content-Type": {"application/json"}}}
		flight := s.judge(req, http.Header{}, []byte(body), nil)
		sum, call := s.Summary(), flight.call
		objects := call.Attributes + call.Events + call.Purchases
		if flight.status != 201 && flight.status != 400 || (flight.status == 201) != call.Written {
			t.Errorf("%d for %q: %+v", flight.status, body, call)
		}
		if call.Written && (objects <= call.Invalid || objects-call.Invalid-call.Ignored != sum.Attributes+sum.Events+written(s)) {
			t.Errorf("%q: %+v, %+v", body, call, sum)
		}
		if sum.Created != sum.Profiles || sum.Calls != 1 {
			t.Errorf("%q: %+v", body, sum)
		}
	})
}

// written counts purchases.
func written(s *Sandbox) int {
	n := 0
	for _, p := range s.Profiles() {
		n += p.Purchases
	}
	return n
}

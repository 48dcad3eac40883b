package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each action: what the caller sees, what is written, what the record says.
func TestActions(t *testing.T) {
	const none = 0 // no whole answer
	for _, c := range []struct {
		fault   Fault
		status  int
		body    string // part of it
		written bool
		lost    bool
	}{
		{Fault{Action: Pass}, 201, `"success"`, true, false},
		{Fault{Action: Pass, Delay: time.Millisecond}, 201, `"success"`, true, false},
		{Fault{Status: 500}, 500, "", false, false},
		{Fault{Status: 500, Accept: true}, 500, "", true, true},
		{Fault{Status: 401, Message: "Invalid API Key"}, 401, `{"message":"Invalid API Key"}`, false, false},
		{Fault{Status: 201, Body: `{"message":"success","errors":["odd"]}`}, 201, `["odd"]`, false, false},
		{Fault{Status: 302, Header: http.Header{"Location": {"https://elsewhere.example/"}}}, 302, "", false, false},
		{Fault{Action: HTML}, 502, "simulated front end failed", false, false},
		{Fault{Action: HTML, Status: 200, Body: "<p>sign in"}, 200, "<p>sign in", false, false},
		{Fault{Action: Empty}, 201, "", false, false},
		{Fault{Action: Empty, Status: 204, Accept: true}, 204, "", true, true},
		{Fault{Action: Reset}, none, "", false, false},
		{Fault{Action: Reset, Accept: true}, none, "", true, true},
		{Fault{Action: ResetEarly}, none, "", false, false},
		{Fault{Action: Hang, Delay: time.Millisecond}, none, "", false, false},
		{Fault{Action: Hang, Delay: time.Millisecond, Accept: true}, none, "", true, true},
		{Fault{Action: CutBody, Accept: true}, none, "", true, true},
	} {
		t.Run(fmt.Sprintf("%s %d %v", c.fault.Action, c.fault.Status, c.fault.Accept), func(t *testing.T) {
			r := start(t, Config{})
			r.make("a")
			id := r.Script(c.fault)
			req := r.request(attributes(attribute("a", `"x":1`)))
			req.Close = true
			got, err := r.do(req)
			if (err == nil) != (c.status != none) || err == nil && (got.status != c.status || !strings.Contains(got.body, c.body)) {
				t.Errorf("%+v, %v", got, err)
			}
			if written := len(r.profile("a").Attributes) == 1; written != c.written {
				t.Errorf("written %v", written)
			}
			call, sum := r.Calls()[0], r.Summary()
			if call.Status != c.status || call.Written != c.written || call.Lost != c.lost || call.Fault != id || sum.Statuses[c.status] != 1 {
				t.Errorf("%+v, %+v", call, sum)
			}
			r.taken(attributes(attribute("a", `"x":2`))) // it strikes once
			if f := r.Faults()[0]; f.Hits != 1 || f.Seen != 1 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// a header of a fault replaces the sandbox's own, whatever the case.
func TestFaultHeader(t *testing.T) {
	r := start(t, Config{})
	r.Script(Fault{Status: 429, Header: http.Header{"X-Ratelimit-Reset": {"1795600003"}, "Content-Type": {"text/plain"}}})
	got := r.post(attributes(attribute("a", `"x":1`)))
	if v := got.header.Values("X-RateLimit-Reset"); len(v) != 1 || v[0] != "1795600003" || got.header.Get("Content-Type") != "text/plain" {
		t.Errorf("%v", got.header)
	}
	if got.header.Get("X-RateLimit-Limit") == "" {
		t.Error("the others are gone")
	}
}

// A call that hangs ends with Clear, with Close, and when its caller is gone.
func TestHangEnds(t *testing.T) {
	for _, how := range []string{"clear", "close", "caller"} {
		r := start(t, Config{})
		hit := make(chan struct{})
		id := r.Script(Fault{Action: Hang, OnHit: func(Call) { close(hit) }})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error)
		go func() {
			_, err := r.do(r.request(attributes(attribute("a", `"x":1`))).WithContext(ctx))
			ended <- err
		}()
		<-hit
		switch how {
		case "clear":
			if n := r.Clear(id); n != 1 {
				t.Errorf("%d cleared", n)
			}
		case "close":
			r.Close()
		default:
			cancel()
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: answered", how)
		}
	}
}

// OnHit runs once the call is in the record, and before its answer.
func TestOnHit(t *testing.T) {
	r := start(t, Config{})
	r.make("a")
	calls := make(chan Call, 1)
	r.Script(Fault{Action: Pass, OnHit: func(c Call) {
		if n := len(r.Calls()); n != 1 {
			t.Errorf("%d calls in the record", n)
		}
		calls <- c
	}})
	r.taken(attributes(attribute("a", `"x":1`)))
	if c := <-calls; c.Seq != 1 || c.Attributes != 1 || !c.Written {
		t.Errorf("%+v", c)
	}
}

// Calls that are refused for other reasons do not use a fault up.
func TestFaultsSeeValidCallsOnly(t *testing.T) {
	r := start(t, Config{Keys: []string{"key"}, Hourly: 4, Burst: Off})
	r.Script(Fault{Status: 500})
	for i, c := range []struct {
		body, key string
		want      int
	}{
		{attributes(attribute("a", `"x":1`)), "wrong", 401},
		{"{}", "key", 400},
		{attributes(`{"x":1}`), "key", 400},
		{attributes(attribute("a", `"x":1`)), "key", 500},
		{attributes(attribute("a", `"x":1`)), "key", 201},
		{attributes(attribute("a", `"x":1`)), "key", 429},
	} {
		if got := r.post(c.body, "Authorization", "Bearer "+c.key); got.status != c.want {
			t.Errorf("call %d: %d, want %d", i+1, got.status, c.want)
		}
	}
}

// TestScriptIsAsDocumented compares random scripts with what the comments of Fault promise: of several faults that match a call, the
// first scripted strikes; one counts the calls that it sees, strikes every Nth of them, and is used up after Times.
func TestScriptIsAsDocumented(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 13))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	for round := range 200 {
		s, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		script := make([]Fault, 1+rnd.IntN(5))
		for i := range script {
			script[i] = Fault{Status: 500 + i, User: pick("", "", "jo", "jon", "al"), Name: pick("", "", "x", "y", "e"), Every: rnd.IntN(4),
				Times: []int{0, 1, 3, Standing}[rnd.IntN(4)]}
			s.Script(script[i])
		}
		seen, hits := make([]int, len(script)), make([]int, len(script))
		for range 60 {
			o := object{array: "attributes", user: identity{kind: "external_id", id: pick("jo", "jon", "alice")}, fields: map[string]any{pick("x", "y"): 1}}
			if rnd.IntN(2) == 0 {
				o = object{array: "events", user: identity{kind: "user_alias", Alias: Alias{pick("jo", "jon", "alice"), "l"}}, name: pick("e", "f"),
					fields: map[string]any{"x": 1}} // a property is no name of the call's
			}
			want := 0
			for i, f := range script {
				name := o.name
				if o.array == "attributes" {
					for k := range o.fields {
						name = k
					}
				}
				matches := strings.HasPrefix(o.user.id+o.user.Alias.Name, f.User) && (f.Name == "" || f.Name == name)
				if !matches || f.Times != Standing && hits[i] >= max(f.Times, 1) {
					continue
				}
				seen[i]++
				if seen[i]%max(f.Every, 1) == 0 {
					hits[i]++
					want = f.Status
					break
				}
			}
			got := 0
			if a := s.strike(false, []object{o}); a != nil {
				got = a.Fault.Status
			}
			if got != want {
				t.Fatalf("round %d: fault %d struck, want %d: %+v", round, got, want, script)
			}
		}
		for i, f := range s.Faults() {
			if f.Seen != seen[i] || f.Hits != hits[i] {
				t.Errorf("round %d: fault %d saw %d and struck %d, want %d and %d", round, i+1, f.Seen, f.Hits, seen[i], hits[i])
			}
		}
	}
}

func TestFaultIsChecked(t *testing.T) {
	for _, c := range []struct {
		f    Fault
		want string
	}{
		{Fault{}, "Status: must be set for an answer, and only one of Message and Body"},
		{Fault{Status: 400, Message: "a", Body: "b"}, "Status: must be set for an answer, and only one of Message and Body"},
		{Fault{Action: "explode"}, `Action: must be one of [pass answer html empty hang reset reset_before_body cut_body] (got "explode")`},
		{Fault{Action: Pass, Status: 500}, "Status, Message, Body: pass gives no answer of its own"},
		{Fault{Action: Hang, Message: "x"}, "Status, Message, Body: hang gives no answer of its own"},
		{Fault{Action: Empty, Body: "x"}, "Status, Message, Body: empty gives no answer of its own"},
		{Fault{Action: HTML, Message: "x"}, "Status, Message, Body: html gives no answer of its own"},
		{Fault{Action: ResetEarly, User: "a"}, "Action: reset_before_body strikes before the body is known: no User, Name or Accept"},
		{Fault{Action: ResetEarly, Accept: true}, "Action: reset_before_body strikes before the body is known: no User, Name or Accept"},
		{Fault{Status: 100}, "Status: must be between 200 and 599 (got 100)"},
		{Fault{Status: 500, Every: -1}, "Every: must not be negative (got -1)"},
		{Fault{Status: 500, Times: -2}, "Times: must be at least -1 (got -2)"},
		{Fault{Status: 500, Delay: 25 * time.Hour}, "Delay: must be between 0 and 24h0m0s (got 25h0m0s)"},
	} {
		s, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.script(c.f); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.f, err, c.want)
		}
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != "sandbox: Script: "+c.want {
					t.Errorf("panic %q", got)
				}
			}()
			s.Script(c.f)
		}()
	}
}

// A fault scripted over the control path is the fault that the library would have been given, and is shown as it was given.
func TestControlFaultsAreFaults(t *testing.T) {
	r := start(t, Config{})
	given := `{"user":"jo","name":"messenger_id","every":3,"times":-1,"action":"answer","accept":true,"delay":"1.5s","status":503,` +
		`"message":"m","header":{"Retry-After":"7"}}`
	if status, body := r.ask("POST", "/control/faults", given); status != 200 || body != "{\"id\":\"f1\"}\n" {
		t.Fatal(status, body)
	}
	want := Fault{User: "jo", Name: "messenger_id", Every: 3, Times: Standing, Action: Answer, Accept: true, Delay: 1500 * time.Millisecond,
		Status: 503, Message: "m", Header: http.Header{"Retry-After": {"7"}}}
	if diff := cmp.Diff(want, r.Faults()[0].Fault, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "OnHit" }, cmp.Ignore())); diff != "" {
		t.Errorf("scripted (-want +got):\n%s", diff)
	}
	_, body := r.ask("GET", "/control/faults", "")
	var list []struct{ Fault json.RawMessage }
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 {
		t.Fatalf("%s: %v", body, err)
	}
	var shown, scripted any
	if json.Unmarshal(list[0].Fault, &shown) != nil || json.Unmarshal([]byte(given), &scripted) != nil {
		t.Fatal(body)
	}
	if diff := cmp.Diff(scripted, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

// The other half of what CutBody sends is missing.
func TestCutBody(t *testing.T) {
	r := start(t, Config{})
	r.Script(Fault{Action: CutBody})
	resp, err := r.client.Do(r.request(attributes(attribute("a", `"x":1`))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil || resp.StatusCode != 201 || len(body) == 0 || json.Valid(body) {
		t.Errorf("%d %q, %v", resp.StatusCode, body, err)
	}
}

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// get asks the control path for JSON.
func (r *rig) get(path string, v any) {
	r.t.Helper()
	status, body := r.ask("GET", path, "")
	if err := json.Unmarshal([]byte(body), v); status != 200 || err != nil {
		r.t.Fatalf("%s: %d %s %v", path, status, body, err)
	}
}

func TestControlProfiles(t *testing.T) {
	r := start(t, Config{})
	status, body := r.ask("POST", "/control/profiles", `{"external_id":"jon/doe@example.com","user_aliases":[{"alias_name":"n","alias_label":"l"}],
		"custom_attributes":{"messenger_id":"24689753102468975","n":1}}`)
	var made Profile
	if err := json.Unmarshal([]byte(body), &made); status != 200 || err != nil || len(made.BrazeID) != 24 {
		t.Fatal(status, body, err)
	}
	status, body = r.ask("POST", "/control/profiles", ` [{"external_id":"u1"},{"external_id":"u2","braze_id":"5f3c6c1a2b3c4d5e6f708192"}]`)
	if status != 200 || strings.Count(body, `"braze_id"`) != 2 {
		t.Fatal(status, body)
	}
	r.taken(events(event("u2", "e")))
	for path, want := range map[string]string{
		"/control/profiles/u1":                                "u1",
		"/control/profiles/5f3c6c1a2b3c4d5e6f708192":          "u2",
		"/control/profiles/jon%2Fdoe%40example.com":           "jon/doe@example.com",
		"/control/profiles/" + made.BrazeID:                   "jon/doe@example.com",
		"/control/profiles?alias_label=l&alias_name=n":        "jon/doe@example.com",
		"/control/profiles?alias_label=l&alias_name=n&limit=": "jon/doe@example.com",
	} {
		var p Profile
		if r.get(path, &p); p.ExternalID != want {
			t.Errorf("%s: %+v", path, p)
		}
	}
	var p map[string]any
	r.get("/control/profiles/u2", &p)
	want := map[string]any{"braze_id": "5f3c6c1a2b3c4d5e6f708192", "external_id": "u2",
		"custom_events": []any{map[string]any{"name": "e", "time": "2026-11-26T10:00:00Z", "call": 1.0}}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("u2 (-want +got):\n%s", diff)
	}
	for query, want := range map[string]int{"": 3, "?limit=": 3, "?limit=2": 2, "?limit=0": 3, "?limit=9": 3} {
		var list []Profile
		if r.get("/control/profiles"+query, &list); len(list) != want || list[len(list)-1].ExternalID != "u2" {
			t.Errorf("%q: %d profiles", query, len(list))
		}
	}
	var types map[string]Type
	if r.get("/control/types", &types); types["messenger_id"] != String || types["n"] != Number {
		t.Errorf("types %v", types)
	}
	if status, body := r.ask("DELETE", "/control/profiles", ""); status != 200 || body != "{\"removed\":3}\n" {
		t.Error(status, body)
	}
	if list := r.Profiles(); len(list) != 0 || len(r.Types()) != 0 {
		t.Errorf("%+v, %v left", list, r.Types())
	}
}

// What is wrong is told with its field, and changes nothing.
func TestControlRefuses(t *testing.T) {
	r := start(t, Config{Types: map[string]Type{"x": String}})
	r.make("a")
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/control/profiles/nobody", "", 404, "no such profile"},
		{"GET", "/control/profiles?alias_label=l&alias_name=n", "", 404, "no such profile"},
		{"GET", "/control/profiles?limit=x", "", 400, `limit: must be a number from 0 (got \"x\")`},
		{"GET", "/control/record?limit=-1", "", 400, `limit: must be a number from 0 (got \"-1\")`},
		{"POST", "/control/profiles", `{"external_id":"a"}`, 400, "externalid: is another profile's"},
		{"POST", "/control/profiles", `[{"external_id":"b"},{"external_id":"a"}]`, 400, "externalid: is another profile's"},
		{"POST", "/control/profiles", `{"name":"x"}`, 400, `body: unknown field \"name\"`},
		{"POST", "/control/profiles", ``, 400, "body: EOF"},
		{"POST", "/control/profiles", `{} {}`, 400, "body: must be one JSON value"},
		{"POST", "/control/profiles", `[{`, 400, "body: unexpected EOF"},
		{"POST", "/control/faults", `{"action":"explode"}`, 400, "action: must be one of"},
		{"POST", "/control/faults", `{"code":613}`, 400, `unknown field \"code\"`},
		{"POST", "/control/faults", `{"delay":"soon"}`, 400, "invalid duration"},
		{"DELETE", "/control/faults/f9", ``, 404, "no such fault"},
		{"PUT", "/control/latency", `{"latency":"-1s"}`, 400, "latency: must be between 0 and 24h0m0s (got -1s)"},
		{"PUT", "/control/latency", `{"latency":1}`, 400, "body:"},
		{"PUT", "/control/reorder", `{"reorder":"yes"}`, 400, "body:"},
		{"GET", "/control/nothing", "", 404, ""},
		{"POST", "/control/record", "", 405, ""},
	} {
		status, body := r.ask(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
	if len(r.Faults()) != 0 || r.Summary().Calls != 0 {
		t.Errorf("%+v, %+v", r.Faults(), r.Summary())
	}
}

// What the control path tells is what the library tells.
func TestControlTellsTheRecord(t *testing.T) {
	r := start(t, Config{})
	r.make("a")
	r.Script(Fault{Status: 500, Name: "bad"})
	r.taken(attributes(attribute("a", `"x":1`), attribute("nobody", `"x":1`)))
	r.post(events(event("a", "bad")))
	r.post(attributes(`{"x":1}`), "User-Agent", "brazier/1")
	var got struct {
		Summary Summary
		Calls   []Call
	}
	r.get("/control/record", &got)
	same := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	if diff := cmp.Diff(r.Summary(), got.Summary); diff != "" {
		t.Errorf("summary (-library +control):\n%s", diff)
	}
	if diff := cmp.Diff(r.Calls(), got.Calls, same); diff != "" || len(got.Calls) != 3 {
		t.Errorf("calls (-library +control):\n%s", diff)
	}
	want := Summary{Calls: 3, Statuses: map[int]int{201: 1, 500: 1, 400: 1}, Attributes: 1, Ignored: 1, Invalid: 1, Profiles: 1, MaxObjects: 2}
	if diff := cmp.Diff(want, got.Summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	r.get("/control/record?limit=1", &got)
	if len(got.Calls) != 1 || got.Calls[0].Seq != 3 || got.Calls[0].UserAgent != "brazier/1" || got.Calls[0].Bytes != len(attributes(`{"x":1}`)) {
		t.Errorf("%+v", got.Calls)
	}
	if status, _ := r.ask("POST", "/control/reset", ""); status != 200 || len(r.Faults()) != 0 || len(r.Calls()) != 0 || r.Summary().Calls != 0 {
		t.Errorf("after reset: %+v, %+v", r.Faults(), r.Summary())
	}
	if r.profile("a").Attributes["x"] == nil {
		t.Error("reset removed a profile")
	}
}

// The record keeps the newest calls and counts all.
func TestRecordLimit(t *testing.T) {
	r := start(t, Config{RecordLimit: 3})
	for n := range 20 {
		r.taken(attributes(attribute("a", `"x":1`)))
		calls := r.Calls()
		if len(calls) != min(n+1, 3) || calls[len(calls)-1].Seq != int64(n+1) || calls[0].Seq != int64(max(1, n-1)) {
			t.Fatalf("after %d calls: %+v", n+1, calls)
		}
	}
	if sum := r.Summary(); sum.Calls != 20 || sum.Ignored != 20 {
		t.Errorf("%+v", sum)
	}
}

// The control path works while calls come in, and changes what they meet. Run with -race.
func TestControlUnderLoad(t *testing.T) {
	r := start(t, Config{Hourly: Off, Burst: Off, RecordLimit: 50})
	r.make("a", "b")
	stop := make(chan struct{})
	done := make(chan struct{})
	for i := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = r.do(r.request(attributes(attribute(string(rune('a'+i)), `"x":1`))))
				}
			}
		}()
	}
	for i := range 20 {
		seen := r.Summary().Calls
		if err := r.Wait(within(t), func(s Summary) bool { return s.Calls > seen }); err != nil {
			t.Fatal(err)
		}
		id := r.Script(Fault{Action: []Action{Answer, Reset, Pass}[i%3], Status: []int{500, 0, 0}[i%3], User: "a", Times: 3})
		for _, path := range []string{"/control/record", "/control/profiles", "/control/profiles/a", "/control/types", "/control/faults", "/control/"} {
			if status, body := r.ask("GET", path, ""); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		for path, body := range map[string]string{"/control/latency": `{"latency":"1us"}`, "/control/reorder": fmt.Sprintf(`{"reorder":%v}`, i%2 == 0)} {
			if status, body := r.ask("PUT", path, body); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		r.ask("DELETE", "/control/faults/"+id, "")
	}
	close(stop)
	<-done
	<-done
	sum := r.Summary()
	total := 0
	for _, n := range sum.Statuses {
		total += n
	}
	if total != sum.Calls || len(r.Calls()) != min(50, sum.Calls) || sum.Overlaps != 0 {
		t.Errorf("%+v", sum)
	}
}

// Each command of the help works exactly as it is printed.
func TestHelpWorks(t *testing.T) {
	r := start(t, Config{})
	r.make("other")
	status, help := r.ask("GET", "/control/", "")
	if status != 200 || help != Help {
		t.Fatal(status)
	}
	commands := regexp.MustCompile(`(?m)^  (curl .*)$`).FindAllStringSubmatch(help, -1)
	if len(commands) != 18 {
		t.Fatalf("%d commands", len(commands))
	}
	setup := `{"external_id":"jon","user_aliases":[{"alias_name":"123","alias_label":"messenger_id"}]}`
	if status, body := r.ask("POST", "/control/profiles", setup); status != 200 {
		t.Fatal(body)
	}
	for _, c := range commands {
		command := strings.ReplaceAll(c[1], "CONTROL", r.url)
		if strings.Contains(command, `"external_id":"jon"`) {
			if _, body := r.ask("DELETE", "/control/profiles", ""); body == "" {
				t.Error("profiles stay")
			}
		}
		out, err := exec.CommandContext(within(t), "sh", "-c", strings.Replace(command, "curl ", "curl -sS --fail-with-body ", 1)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		if !json.Valid(out) {
			t.Errorf("%s: %s", command, out)
		}
	}
}

// API and Control are halves of the whole, for listeners of their own.
func TestHandlersApart(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(control bool, method, path string) int {
		h := s.API()
		if control {
			h = s.Control()
		}
		w := httptest.NewRecorder()
		req := httptest.NewRequest(method, path, strings.NewReader(attributes(attribute("a", `"x":1`))))
		req.Header.Set("Authorization", "Bearer key")
		req.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, req)
		if w.Header()["X-Sandbox"] == nil {
			t.Errorf("%s: no X-Sandbox", path)
		}
		return w.Code
	}
	for _, c := range []struct {
		control      bool
		method, path string
		want         int
	}{
		{false, "POST", "/users/track", 201}, {false, "GET", "/control/record", 404},
		{true, "POST", "/users/track", 404}, {true, "GET", "/control/record", 200},
	} {
		if got := ask(c.control, c.method, c.path); got != c.want {
			t.Errorf("control %v, %s: %d, want %d", c.control, c.path, got, c.want)
		}
	}
}

// Latency passes before an answer, and can be changed.
func TestLatency(t *testing.T) {
	r := start(t, Config{Latency: time.Hour})
	r.make("a")
	ended := make(chan error)
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		_, err := r.do(r.request(attributes(attribute("a", `"x":1`))).WithContext(ctx))
		ended <- err
	}()
	if err := r.Wait(within(t), func(s Summary) bool { return s.Attributes == 1 }); err != nil {
		t.Fatal(err) // it is written before the latency has passed
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("answered at once")
	}
	if err := r.SetLatency(0, 0); err != nil {
		t.Fatal(err)
	}
	r.taken(attributes(attribute("a", `"x":2`)))
	if err := r.SetLatency(-1, 0); err == nil || err.Error() != "sandbox: set latency: Latency: must be between 0 and 24h0m0s (got -1ns)" {
		t.Error(err)
	}
	gone, end := context.WithCancel(context.Background())
	end()
	if err := r.Wait(gone, func(Summary) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

package sandbox

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The calls that are described beside the answers on file, so far as one can make them.
var described = map[string]string{
	"success_attributes": attributes(attribute("a", `"x":1`), attribute("b", `"x":1`)),
	"success_events":     `{"attributes":[` + attribute("a", `"x":1`) + `],"events":[` + event("a", "n") + `,` + event("b", "n") + `]}`,
	"partial_event_without_id": `{"events":[` + event("a", "n") + `,{"name":"n","time":"2026-11-26T10:00:00Z"}],
		"purchases":[{"external_id":"a","product_id":"p","currency":"EUR","price":1,"quantity":"two","time":"2026-11-26T10:00:00Z"}]}`,
	"partial_attributes":   attributes(attribute("a", `"email":"nobody"`), attribute("b", `"email":"nothing"`), attribute("c", `"email":"c@example.com"`)),
	"partial_blocked_user": attributes(attribute("dummy", `"x":1`), attribute("a", `"x":1`)),
	"partial_schema":       events(event("a", "ecommerce.product_viewed"), event("a", "n")),
	"all_invalid": `{"events":[{"name":"n","time":"2026-11-26T10:00:00Z"},{"name":"n","time":"2026-11-26T10:00:00Z"}],
		"purchases":[{"external_id":"a","product_id":"p","currency":"EUR","price":1,"quantity":"two","time":"2026-11-26T10:00:00Z"}]}`,
	"bad_json":    `{"attributes":`,
	"invalid_key": attributes(attribute("a", `"x":1`)),
}

// The sandbox gives the answers that Braze gave, field by field, but for the counters that are not on file.
func TestAnswersOnFile(t *testing.T) {
	f, err := os.Open("../testdata/braze_answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	compared := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var l struct {
			Name    string
			Status  int
			Headers map[string]string
			Body    string
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		body, ok := described[l.Name]
		if !ok {
			continue
		}
		compared++
		r := start(t, Config{Keys: []string{"key"}, Blocked: []string{"dummy"}, Hourly: 3000, Burst: Off})
		r.make("a", "b", "c")
		key := "key"
		if l.Name == "invalid_key" {
			key = "revoked"
		}
		got := r.post(body, "Authorization", "Bearer "+key)
		if got.status != l.Status {
			t.Errorf("%s: %d, want %d", l.Name, got.status, l.Status)
		}
		if diff := cmp.Diff(fields(t, l.Body, nil), fields(t, got.body, []byte(l.Body))); diff != "" {
			t.Errorf("%s: body (-on file +sandbox):\n%s", l.Name, diff)
		}
		for name := range l.Headers {
			if got.header.Get(name) == "" {
				t.Errorf("%s: no %s", l.Name, name)
			}
		}
	}
	if compared != len(described) {
		t.Errorf("%d answers compared, want %d", compared, len(described))
	}
}

// fields returns a body's, without counters that like has not.
func fields(t *testing.T, body string, like []byte) map[string]any {
	t.Helper()
	var all, known map[string]any
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if like == nil {
		return all
	}
	if err := json.Unmarshal(like, &known); err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if _, ok := known[name]; !ok && strings.HasSuffix(name, "_processed") {
			delete(all, name)
		}
	}
	return all
}

// Braze's own example of an alias that makes a profile makes one.
func TestPublishedBodies(t *testing.T) {
	f, err := os.Open("../testdata/braze_bodies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := start(t, Config{})
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var l struct{ Body string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		r.taken(l.Body)
	}
	p, err := r.ByAlias(Alias{"example_name", "example_label"})
	if n != 1 || err != nil || p.Attributes["email"] != "email@example.com" || r.Summary().Created != 1 {
		t.Errorf("%d bodies, %+v, %v", n, p, err)
	}
}

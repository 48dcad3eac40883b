package sendapi

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestParseBrazeBodies reads bodies that Braze's documentation and its sample bot show, as they stand and as Liquid would
// render them, and the ways in which a template commonly goes wrong.
func TestParseBrazeBodies(t *testing.T) {
	data, err := os.ReadFile("testdata/braze_bodies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var tc struct {
			Name        string
			ContentType string `json:"content_type"`
			Body        string
			Accept      bool
			Field       string // at fault
			Hint        string // found in the error
			Sent        string // if it is not Body
		}
		if err := json.Unmarshal([]byte(line), &tc); err != nil {
			t.Fatal(err)
		}
		t.Run(tc.Name, func(t *testing.T) {
			if !tc.Accept {
				refused(t, tc.ContentType, tc.Body, tc.Field, tc.Hint)
				return
			}
			want := tc.Sent
			if want == "" {
				want = tc.Body
			}
			if got := accepted(t, tc.ContentType, tc.Body); string(got.Body) != want {
				t.Errorf("Body = %s\nwant   %s", got.Body, want)
			}
		})
	}
}

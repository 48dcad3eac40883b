package ingress_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestBrazeBodies posts the bodies that Braze's documentation and its sample bot show, unrendered and as Liquid renders
// them, and bodies of templates with common mistakes.
func TestBrazeBodies(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../sendapi/testdata/braze_bodies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	h := open(t)
	posted := 0
	for line := range strings.Lines(string(data)) {
		var tc struct {
			Name        string
			ContentType string `json:"content_type"`
			Body        string
			Accept      bool
			Hint        string // found in the answer
			Sent        string // if it is not Body
		}
		if err := json.Unmarshal([]byte(line), &tc); err != nil {
			t.Fatal(err)
		}
		posted++
		t.Run(tc.Name, func(t *testing.T) {
			h := h.in(t)
			as := with("Content-Type", tc.ContentType)
			if tc.ContentType == "" {
				as = without("Content-Type")
			}
			a := h.post(as, withBody(tc.Body))
			if !tc.Accept {
				h.refused(a, http.StatusBadRequest)
				if !strings.Contains(a.Error.Message, tc.Hint) {
					t.Errorf("no %q in %s", tc.Hint, a.body)
				}
				return
			}
			h.accepted(a, "queued")
			want := tc.Sent
			if want == "" {
				want = tc.Body
			}
			if job := h.only(acme); string(job.Body) != want {
				t.Errorf("stored is %s\nwant %s", job.Body, want)
			}
		})
	}
	if posted < 15 {
		t.Errorf("only %d bodies were posted", posted)
	}
}

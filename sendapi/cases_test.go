package sendapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Answers that users received, and the class that each must have. Class is empty for a message that
// counts as sent.
func TestAnswerCases(t *testing.T) {
	data, err := os.ReadFile("testdata/answer_cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); n++ {
		var c struct {
			ID, What string
			Response struct {
				Status  int
				Headers map[string]string
				Body    json.RawMessage
			}
			Class    Class
			Says     string
			AboutOne bool `json:"about_one"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.ID, func(t *testing.T) {
			body := []byte(c.Response.Body)
			var text string
			if json.Unmarshal(body, &text) == nil {
				body = []byte(text) // it is no JSON
			}
			header := http.Header{}
			for name, value := range c.Response.Headers {
				header.Set(name, value)
			}
			receipt, e := decodeAnswer(c.Response.Status, header, body, time.Now())
			if e == nil {
				if c.Class != "" || !receipt.Unnamed() {
					t.Errorf("%s: taken for sent, want %s", c.What, c.Class)
				}
				return
			}
			if e.Class != c.Class || !strings.Contains(e.Error(), c.Says) || e.AboutOne() != c.AboutOne {
				t.Errorf("%s: %v, about one %v; want %s, %q, %v", c.What, e, e.AboutOne(), c.Class, c.Says, c.AboutOne)
			}
		})
	}
	if n < 39 {
		t.Errorf("%d cases, want all 39", n)
	}
}

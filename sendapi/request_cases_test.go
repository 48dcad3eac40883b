package sendapi

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// bodyCase is a line of testdata/client_bodies.jsonl or testdata/ingress_cases.jsonl: what somebody posts, and the answer.
//
// The first file has bodies of client libraries, with what the ingress has to answer. Where that is not what the
// collection of these bodies says, differs tells why. The second has faults that users reported, each with
// its variants, under the id of the report.
type bodyCase struct {
	ID, Name, Source string
	ContentType      string `json:"content_type"`
	ContentEncoding  string `json:"content_encoding"`
	Query            string
	Body             string
	Base64           []byte // instead of Body, where that is not UTF-8

	Status  int    // HTTP
	Message string // the whole error
	Says    string // a part of it
	Cause   Cause
	Sent    string // if it is not Body
	Equal   bool   // Sent is equal as JSON, not byte by byte
	Differs string
}

func (c *bodyCase) bytes() []byte {
	if c.Base64 != nil {
		return c.Base64
	}
	return []byte(c.Body)
}

// bodyCases reads a file of testdata, which has at least least lines.
func bodyCases(t testing.TB, file string, least int) (cases []bodyCase) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var c bodyCase
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%s: %v: %s", file, err, line)
		}
		cases = append(cases, c)
	}
	if len(cases) < least {
		t.Fatalf("%s has %d lines, want %d or more", file, len(cases), least)
	}
	return cases
}

func TestParseClientBodies(t *testing.T) { testBodies(t, bodyCases(t, "client_bodies.jsonl", 120)) }

func TestParseIngressCases(t *testing.T) { testBodies(t, bodyCases(t, "ingress_cases.jsonl", 150)) }

func testBodies(t *testing.T, cases []bodyCase) {
	for i, tc := range cases {
		if tc.ContentEncoding != "" || tc.Query != "" {
			continue // the ingress judges them
		}
		t.Run(fmt.Sprintf("%d %s %s", i+1, tc.ID, tc.Name), func(t *testing.T) {
			got, err := Parse(tc.ContentType, tc.bytes())
			if tc.Status != 202 {
				checkRefusal(t, tc, err)
				return
			}
			if err != nil {
				t.Fatalf("refused: %v\n%s", err, tc.Body)
			}
			want := tc.Body
			if tc.Sent != "" {
				want = tc.Sent
			}
			if tc.Equal {
				var gotJSON, wantJSON any
				if err := unmarshal(got.Body, &gotJSON); err != nil {
					t.Fatal(err)
				}
				if err := unmarshal([]byte(want), &wantJSON); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(gotJSON, wantJSON) {
					t.Errorf("Body = %s\nwant   %s", got.Body, want)
				}
			} else if string(got.Body) != want {
				t.Errorf("Body = %s\nwant   %s", got.Body, want)
			}
		})
	}
}

func checkRefusal(t *testing.T, tc bodyCase, err error) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted: %s", tc.Body)
	}
	if tc.Message != "" && err.Error() != tc.Message {
		t.Errorf("error %q\nwant  %q", err, tc.Message)
	}
	if !strings.Contains(err.Error(), tc.Says) {
		t.Errorf("error %q\nwant in it %q", err, tc.Says)
	}
	if cause := err.(*InvalidError).Cause; tc.Cause != "" && cause != tc.Cause {
		t.Errorf("cause %q, want %q (%v)", cause, tc.Cause, err)
	}
	if (tc.Status == 401) != (err.(*InvalidError).Cause == CauseToken) {
		t.Errorf("cause %q for HTTP status %d", err.(*InvalidError).Cause, tc.Status)
	}
}

// TestRemediesSpeakOfLiquid checks that a remedy names Liquid only where an attribute can be the cause.
func TestRemediesSpeakOfLiquid(t *testing.T) {
	for _, tc := range append(bodyCases(t, "client_bodies.jsonl", 120), bodyCases(t, "ingress_cases.jsonl", 150)...) {
		_, err := Parse(tc.ContentType, tc.bytes())
		if err == nil {
			continue
		}
		switch invalid := err.(*InvalidError); invalid.Cause {
		case causeEscape, causeLiquid, causeEmpty, causeRecipient, causeURL, causeLimit:
		default:
			if strings.Contains(invalid.Remedy, "Liquid") && !strings.Contains(invalid.Reason, "value is missing") {
				t.Errorf("%s %s: %v", tc.ID, tc.Name, err)
			}
		}
		if n := len(err.Error()); n > 200 {
			t.Errorf("%s %s: the error has %d bytes, more than Braze shows: %v", tc.ID, tc.Name, n, err)
		}
	}
}

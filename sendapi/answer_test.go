package sendapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorded is a line of testdata/sendapi_errors.jsonl: an answer that somebody
// pasted, that Meta documents, or that was rebuilt from a description.
type recorded struct {
	Status *int            `json:"status"`
	Body   json.RawMessage `json:"body"`
	Raw    string          `json:"raw"` // instead of Body, where that is no JSON
	Source string          `json:"source"`
	Class  Class           `json:"class"`
}

func readRecorded(t testing.TB) []recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/sendapi_errors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Raw != "" {
			r.Body = []byte(r.Raw)
		}
		all = append(all, r)
	}
	return all
}

func TestRecordedAnswers(t *testing.T) {
	all := readRecorded(t)
	if len(all) < 42 {
		t.Fatalf("%d answers, want all 42", len(all))
	}
	for i, r := range all {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			statuses := []int{400}
			if r.Status != nil {
				statuses = []int{*r.Status}
			}
			for n := 0; n < len(statuses); n++ {
				e := decodeFailure(t, statuses[n], string(r.Body))
				if e.Class != r.Class {
					t.Errorf("%s\nHTTP %d: class %s, want %s", r.Source, statuses[n], e.Class, r.Class)
				}
				// Where the table has the code, the status changes nothing.
				if _, ok := Explain(e.Code, e.Subcode, e.Type); ok && len(statuses) == 1 {
					statuses = append(statuses, 200, 403, 500, 502)
				}
				var body struct{ Error struct{ Message string } }
				if json.Unmarshal(r.Body, &body) == nil && body.Error.Message != "" {
					mustHide(t, e, body.Error.Message)
				}
			}
		})
	}
}

// decodeFailure decodes an answer that must be an error.
func decodeFailure(t testing.TB, status int, body string) *Error {
	t.Helper()
	receipt, e := decodeAnswer(status, nil, []byte(body), time.Now())
	if e == nil {
		t.Fatalf("HTTP %d %q: receipt %v, want an error", status, body, receipt)
	}
	if !slices.Contains(Classes(), e.Class) {
		t.Fatalf("HTTP %d %q: class %q is not in the set", status, body, e.Class)
	}
	return e
}

// mustHide fails if any of the secrets shows in any form in which a value is
// printed or logged.
func mustHide(t testing.TB, v any, secrets ...string) {
	t.Helper()
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, v))
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, string(encoded))
	for err, _ := v.(error); err != nil; err = errors.Unwrap(err) {
		shown = append(shown, err.Error())
	}
	for _, s := range shown {
		for _, secret := range secrets {
			if strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
				t.Errorf("%T shows %q in %q", v, secret, s)
			}
		}
	}
}

func TestDecodeOddAnswers(t *testing.T) {
	const html = "<html><body>Sorry, something went wrong.</body></html>"
	tests := []struct {
		name   string
		status int
		body   string
		want   Class
	}{
		{"200 empty", 200, "", ClassInDoubt},
		{"200 HTML", 200, html, ClassInDoubt},
		{"200 cut short", 200, `{"recipient_id":"1","mess`, ClassInDoubt},
		{"200 array", 200, `[{"message_id":"m_1"}]`, ClassInDoubt},
		{"200 string", 200, `"ok"`, ClassInDoubt},
		{"200 null", 200, `null`, ClassInDoubt},
		{"204", 204, "", ClassInDoubt},
		{"200 error", 200, `{"error":{"message":"x","code":36000}}`, ClassMessage},
		{"200 error with ids", 200, `{"message_id":"m_1","error":{"code":613}}`, ClassInDoubt},
		{"200 error for a sent message with ids", 200, `{"message_id":"m_1","error":{"code":1,"error_subcode":1357046}}`, ClassDeliveredAnyway},
		{"200 error with recipient alone", 200, `{"recipient_id":"1","error":{"code":551}}`, ClassRecipient},
		{"200 error without code", 200, `{"error":{"message":"x"}}`, ClassInDoubt},
		{"302", 302, "", ClassTransient},
		{"304", 304, "", ClassTransient},
		{"400 empty", 400, "", ClassTransient},
		{"400 HTML", 400, html, ClassTransient},
		{"400 cut short", 400, `{"error":{"message":"(#190) Err`, ClassTransient},
		{"400 JSON without error", 400, `{"message_id":"m_1"}`, ClassTransient},
		{"400 error as a string", 400, `{"error":"Bad Request"}`, ClassMessage},
		{"400 error as an array", 400, `{"error":[1]}`, ClassMessage},
		{"400 error empty", 400, `{"error":{}}`, ClassMessage},
		{"400 error_data an object", 400, `{"error":{"code":100,"error_data":{"blame_field_specs":[["recipient"]]}}}`, ClassMessage},
		{"400 code as a string", 400, `{"error":{"code":"190","error_subcode":"463"}}`, ClassAuth},
		{"400 code as a fraction", 400, `{"error":{"code":190.0}}`, ClassAuth},
		{"400 code no whole number", 400, `{"error":{"code":190.5}}`, ClassMessage},
		{"400 code as large as a PSID", 400, `{"error":{"code":1254477777772919}}`, ClassMessage},
		{"400 code of another type", 400, `{"error":{"code":{"n":190}}}`, ClassMessage},
		{"400 code null", 400, `{"error":{"code":null,"is_transient":true}}`, ClassTransient},
		{"400 code twice", 400, `{"error":{"code":100,"code":190}}`, ClassAuth},
		{"400 is_transient as a string", 400, `{"error":{"code":777777,"is_transient":"true"}}`, ClassTransient},
		{"400 is_transient as a number", 400, `{"error":{"code":777777,"is_transient":1}}`, ClassTransient},
		{"400 code and text disagree", 400, `{"error":{"message":"(#190) Invalid OAuth access token.","code":100}}`, ClassMessage},
		{"400 text alone names the recipient", 400, `{"error":{"message":"No matching user found","code":100}}`, ClassMessage},
		{"401 HTML", 401, html, ClassTransient},
		{"403 HTML", 403, html, ClassTransient},
		{"404 HTML", 404, html, ClassTransient},
		{"405 HTML", 405, html, ClassTransient},
		{"407 HTML", 407, html, ClassTransient},
		{"408 empty", 408, "", ClassTransient},
		{"413 HTML", 413, html, ClassMessage},
		{"429 empty", 429, "", ClassThrottle},
		{"500 empty", 500, "", ClassInDoubt},
		{"500 JSON without error", 500, `{"message_id":"m_1"}`, ClassInDoubt},
		{"501 empty", 501, "", ClassTransient},
		{"500 window", 500, `{"error":{"code":10,"error_subcode":2018278}}`, ClassWindow},
		{"502 HTML", 502, html, ClassInDoubt},
		{"503 empty", 503, "", ClassTransient},
		{"504 HTML", 504, html, ClassInDoubt},
		{"505 empty", 505, "", ClassTransient},
		{"511 HTML", 511, html, ClassTransient},
		{"524 HTML", 524, html, ClassInDoubt},
		{"599", 599, "", ClassInDoubt},
		{"status 0", 0, "", ClassInDoubt},
		{"status 1000", 1000, `{"message_id":"m_1"}`, ClassInDoubt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if e := decodeFailure(t, tt.status, tt.body); e.Class != tt.want {
				t.Errorf("got %s (%v), want %s", e.Class, e, tt.want)
			}
		})
	}
}

func TestDecodeErrorFields(t *testing.T) {
	header := http.Header{"X-Business-Use-Case-Usage": {`{"1":[{"call_count":107,"estimated_time_to_regain_access":5}]}`}}
	body := `{"error":{"message":"(#613) Calls to this api have exceeded the rate limit.","type":"OAuthException",
		"code":613,"error_subcode":4711,"is_transient":true,"fbtrace_id":"A/vnkB0t+7Fk_-="}}`
	_, e := decodeAnswer(400, header, []byte(body), time.Now())
	want := &Error{
		Status: 400, Code: 613, Subcode: 4711, Class: ClassThrottle, Type: "OAuthException", Transient: true,
		TraceID: "A/vnkB0t+7Fk_-=", Usage: Usage{Page: 107, RegainAfter: 5 * time.Minute},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	const text = "sendapi: throttle: too many calls in a short time; subcode 4711 is not known " +
		"(code 613/4711, HTTP 400, OAuthException, fbtrace_id A/vnkB0t+7Fk_-=)"
	if e.Error() != text {
		t.Errorf("got  %s\nwant %s", e.Error(), text)
	}
}

// What a caller sent, or is secret, comes back in Facebook's sentences, and in
// fields where only an identifier belongs.
func TestErrorShowsNothingOfTheRequest(t *testing.T) {
	const psid, text, token = "1254477777772919", "Dear Ms Example, your parcel", "EAAtokenEAAtoken"
	quotes := []string{
		`{"error":{"message":"(#100) Invalid fbid 1254477777772919","code":100,"error_user_title":"Dear Ms Example, your parcel","error_user_msg":"1254477777772919","error_data":{"blame":"Dear Ms Example, your parcel"}}}`,
		`{"error":{"message":"Dear Ms Example, your parcel","type":"Dear Ms Example, your parcel","code":1254477777772919,"error_subcode":"1254477777772919","fbtrace_id":"1254477777772919"}}`,
		`{"error":{"message":"Malformed access token EAAtokenEAAtoken","type":"OAuthException","code":190}}`,
		`{"error":{"message":"(#100) Param recipient[1254477777772919] param message[Dear Ms Example, your parcel] parameter \"EAAtokenEAAtoken\"","code":100}}`,
		`{"error":"1254477777772919 Dear Ms Example, your parcel"}`,
		`Dear Ms Example, your parcel 1254477777772919`,
		`{"recipient_id":"1254477777772919"`,
	}
	for _, body := range quotes {
		for _, status := range []int{200, 400, 500} {
			mustHide(t, decodeFailure(t, status, body), psid, text, token)
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	for _, r := range readRecorded(f) {
		f.Add(400, []byte(r.Body))
	}
	f.Add(200, []byte(`{"recipient_id":"1254477777772919","message_id":"m_1","attachment_id":"2"}`))
	f.Add(200, []byte(`{"message_id":12,"error":{"code":"-1","is_transient":1}}`))
	f.Add(500, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		receipt, e := decodeAnswer(status, nil, body, time.Now())
		if e == nil {
			var object map[string]json.RawMessage
			if status < 200 || status > 299 || receipt.Unnamed() && (json.Unmarshal(body, &object) != nil || object == nil) {
				t.Errorf("HTTP %d %q taken for sent", status, body)
			}
			return
		}
		if receipt != (Receipt{}) {
			t.Errorf("a receipt with an error: %#v", receipt)
		}
		if !slices.Contains(Classes(), e.Class) || e.Class == ClassExpired {
			t.Fatalf("not a class of an answer: %#v", e)
		}
		// The error is the same when Facebook's sentences are not there, so nothing of
		// them is in it. Param alone comes from one, and is made of known names.
		var answer map[string]json.RawMessage
		var inner map[string]json.RawMessage
		if json.Unmarshal(body, &answer) != nil || json.Unmarshal(answer["error"], &inner) != nil {
			return
		}
		for _, k := range []string{"message", "error_user_title", "error_user_msg", "error_data"} {
			delete(inner, k)
		}
		answer["error"], _ = json.Marshal(inner)
		without, _ := json.Marshal(answer)
		e.Param = ""
		if _, e2 := decodeAnswer(status, nil, without, time.Now()); e2 != nil {
			e2.Param = "" // of a key in another case
			if e.Error() != e2.Error() {
				t.Errorf("%s\nwithout its sentences: %s", e, e2)
			}
		}
	})
}

package sendapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// marker is the value of every caller's field in the seeds. No error may contain it.
const marker = "zq9secret"

func seedParse(f *testing.F) {
	bodies := []string{benchNested, benchFlat, benchForm, benchCarousel,
		say(`"text":"` + marker + `"`),
		say(`"text":"` + marker + ` {{x}}"`),
		say(`"text":"` + marker + `" ` + marker + `"`),
		say(`"text":"` + strings.Repeat(marker, 300) + `"`),
		say(`"` + marker + `":{"` + marker + `":"{{"}`),
		say(`"text":"Hi","` + marker + `":"\u007b%"`),
		to(`"access_token":"` + marker + `"`),
		to(`"messaging_type":"` + marker + `","tag":"` + marker + `","sender_action":"` + marker + `"`),
		`{"recipient":{"id":"` + marker + ` "},"message":{"text":"Hi"}}`,
		`{"recipient":{"id":1254477777772919},"message":{"text":"` + marker + `"}}`,
		`{"recipient":{"` + marker + `":"1"},"message":{"text":"` + marker + `"}}`,
		`{"recipient":"` + marker + `","message":"` + marker + `"}`,
		`{"recipient":"{\"id\":\"` + marker + `\"}","message":"{\"text\":\"` + marker + `"}"}`,
		`recipient={'id':'12'}&message={'text':'` + marker + `'}&` + marker + `=%zz`,
		`recipient[` + marker + `]=1`, marker + `[]=` + marker, marker, `{` + marker,
		attach("receipt", receiptFields+`,"summary":{"total_cost":1}`),
		attach("customer_feedback", feedbackFields+","+screens),
		attach("image_grid", `"elements":[{`+list("images", 2, gridImage)+`}]`),
		attach("media", `"elements":[{"media_type":"video","url":"`+marker+`"}]`),
		say(`"template":{"name":"` + marker + `","language":{"code":"en"},"components":[{"type":"body","parameters":[{"type":"text"}]}]}`),
		say(`"text":"?",` + quickReplies(2)),
		to(`"sender_action":"react","payload":{"message_id":"m"}`),
	}
	data, err := os.ReadFile("testdata/braze_bodies.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var body struct{ Body string }
		if err := json.Unmarshal([]byte(line), &body); err != nil {
			f.Fatal(err)
		}
		bodies = append(bodies, body.Body)
	}
	for _, tc := range append(bodyCases(f, "client_bodies.jsonl", 120), bodyCases(f, "ingress_cases.jsonl", 150)...) {
		bodies = append(bodies, string(tc.bytes()))
	}
	for _, body := range bodies {
		f.Add("", []byte(body))
	}
	f.Add("multipart/form-data; boundary="+marker, []byte(marker))
}

// FuzzParse checks that whatever is accepted is JSON that parses again to itself, and that no error quotes the caller.
func FuzzParse(f *testing.F) {
	seedParse(f)
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		before := bytes.Clone(body)
		r, err := Parse(contentType, body)
		if !bytes.Equal(before, body) {
			t.Fatal("Parse changed its input")
		}
		if err != nil {
			checkInvalid(t, err)
			return
		}
		if !json.Valid(r.Body) || !utf8.Valid(r.Body) {
			t.Fatalf("Body is no JSON: %q", r.Body)
		}
		again, err := Parse("", r.Body)
		if err != nil {
			t.Fatalf("Body does not parse again: %v: %q", err, r.Body)
		}
		if !bytes.Equal(again.Body, r.Body) || fmt.Sprint(fields(again)) != fmt.Sprint(fields(r)) {
			t.Fatalf("parsed again:\n%v %q\nfrom\n%v %q", fields(again), again.Body, fields(r), r.Body)
		}
		checkRecipient(t, r)
	})
}

func checkInvalid(t *testing.T, err error) {
	invalid, ok := err.(*InvalidError)
	if !ok {
		t.Fatalf("%T, want an *InvalidError", err)
	}
	if invalid.Reason == "" || invalid.Cause == "" || strings.Contains(fmt.Sprintf("%+v %v", *invalid, err), marker) {
		t.Fatalf("error quotes the caller or says nothing: %v", err)
	}
	if (invalid.Line > 0) != (invalid.Column > 0) {
		t.Fatalf("line %d, column %d", invalid.Line, invalid.Column)
	}
	for name := range strings.SplitSeq(invalid.Field, ".") {
		name, _, _ = strings.Cut(name, "[")
		if name != "" && name != "*" && knownField(name) == "*" {
			t.Fatalf("field %q holds a name of the caller", invalid.Field)
		}
	}
}

// checkRecipient compares what Parse read with what encoding/json reads from the body.
func checkRecipient(t *testing.T, r *Request) {
	var body map[string]any // of no struct, whose field names would match in either case
	if err := unmarshal(r.Body, &body); err != nil {
		t.Fatal(err)
	}
	value, ok := body["recipient"].(map[string]any)[string(r.Recipient.Kind)].(string)
	if !ok || value != r.Recipient.Value || strings.TrimSpace(value) == "" {
		t.Fatalf("recipient %s %q, JSON has %q", r.Recipient.Kind, r.Recipient.Value, value)
	}
}

// unmarshal is json.Unmarshal for numbers that no float64 can hold.
func unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

// FuzzScan compares scan with encoding/json: what both accept, and what they decode.
func FuzzScan(f *testing.F) {
	for _, src := range []string{`{"a":[1,-2.5e+7,true,false,null,"\ud83d\ude00\n"],"b":{}}`, `[[],{},""]`, `"\u00e4"`, `-0`, `{"a":1,"a":2}`,
		`{"a":01}`, "\"\x01\"", `[1,]`, `{"a":"b"c"}`, "\xff", strings.Repeat("[", 40), benchCarousel} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		tree, syntax := scan(src)
		if syntax != nil {
			if syntax.fault != notUTF8 && syntax.fault != tooDeep && json.Valid(src) {
				t.Fatalf("refused (%d at %d), encoding/json accepts: %q", syntax.fault, syntax.offset, src)
			}
			syntax.invalid("", src)
			return
		}
		if !json.Valid(src) {
			t.Fatalf("accepted, encoding/json refuses: %q", src)
		}
		for i := range tree.nodes {
			checkNode(t, &tree, int32(i))
		}
	})
}

func checkNode(t *testing.T, tree *tree, n int32) {
	val := tree.nodes[n].val
	var want any
	if err := unmarshal(tree.src[val.start:val.end], &want); err != nil {
		t.Fatalf("node %d is no value: %v", n, err)
	}
	count := 0
	for child := range tree.children(n) {
		if tree.nodes[child].parent != n {
			t.Fatalf("child %d of %d has parent %d", child, n, tree.nodes[child].parent)
		}
		count++
	}
	switch want := want.(type) {
	case string:
		if got := string(tree.text(n)); got != want {
			t.Fatalf("string %q, encoding/json has %q", got, want)
		}
		if liquid := strings.Contains(want, "{{"); liquid && indexLiquid(tree.text(n)) < 0 {
			t.Fatalf("indexLiquid(%q) finds none", want)
		}
	case []any:
		if count != len(want) {
			t.Fatalf("%d elements, encoding/json has %d", count, len(want))
		}
	case map[string]any:
		if count < len(want) {
			t.Fatalf("%d members, encoding/json has %d", count, len(want))
		}
	}
}

// FuzzForm checks that a form is read as the JSON it was made from.
func FuzzForm(f *testing.F) {
	f.Add(`{"id":"12"}`, `{"text":"Hi & \"Ann\" + 100% äöü \\ \n"}`, "UPDATE")
	f.Add(`{"id":12}`, `{"text":"it's"}`, " a b\x00\"\\")
	f.Fuzz(func(t *testing.T, recipient, message, persona string) {
		form := "recipient=" + url.QueryEscape(recipient) + "&message=" + url.QueryEscape(message) + "&persona_id=" + url.QueryEscape(persona)
		r, err := Parse("", []byte(form))
		if err != nil {
			checkInvalid(t, err)
			return
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(r.Body, &got); err != nil {
			t.Fatalf("Body is no JSON: %v: %q", err, r.Body)
		}
		if single := strings.Contains(message, "'"); !single && string(got["message"]) != strings.Trim(message, " \t\r\n") {
			t.Fatalf("message %s, sent %s", got["message"], message)
		}
	})
}

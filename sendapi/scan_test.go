package sendapi

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestScanAgreesWithJSON(t *testing.T) {
	for _, src := range []string{
		``, ` `, `{`, `}`, `[`, `]`, `{}`, `[]`, `{ }`, `[ ]`, `[1,]`, `[,1]`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`, `[1 2]`,
		`0`, `-0`, `00`, `01`, `-`, `1.`, `.1`, `1.5`, `1e`, `1e5`, `1E+5`, `1e-`, `+1`, `1e5.5`, `- 1`, `0x1`, `Infinity`, `NaN`,
		`true`, `tru`, `truely`, `false`, `null`, `nul`, `TRUE`,
		`"`, `""`, `"\"`, `"\""`, `"\u12"`, `"\u12G4"`, `"\u12aF"`, `"\x"`, `"\'"`, "\"\n\"", "\"\t\"", "\"\x7f\"", "\"\x00\"", `'a'`, `{'a':1}`,
		`{"a":1}{}`, `{} x`, "{}\v", "\u00a0{}", `{"a":"b":"c"}`, `{1:2}`, `{null:1}`, `["\ud800"]`, `"ä😀"`, `// x`, `{"a":1}//`,
	} {
		_, err := scan([]byte(src))
		if ok := err == nil; ok != json.Valid([]byte(src)) {
			t.Errorf("scan(%q) accepts: %v, encoding/json: %v", src, ok, !ok)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	tests := []struct {
		name, body   string
		line, column int
		hint         string
	}{
		{"quote", `{"recipient":{"id":"1"},"message":{"text":"Hi "Ann""}}`, 1, 48, "json_escape"},
		{"quote before a comma", "{\n \"a\":\"x\"y\",\"b\":1}", 2, 9, "json_escape"},
		{"line break", "{\"a\":\"line1\nline2\"}", 1, 12, "json_escape"},
		{"carriage return on the third line", "{\n\n \"a\":\"b\r\"}", 3, 8, "json_escape"},
		{"backslash", `{"a":"C:\dir"}`, 1, 10, "json_escape"},
		{"column in characters", `{"ä😀":x}`, 1, 7, "check its braces"},
		{"ends", `{"a":`, 1, 6, "ends too early"},
		{"ends in a string", `{"a":"b`, 1, 8, "ends too early"},
		{"ends after a value", `{"a":"b"`, 1, 9, "ends too early"},
		{"ends in a literal", `{"a":tr`, 1, 8, "ends too early"},
		{"comma before a brace", `{"a":1,}`, 1, 8, "remove that comma"},
		{"comma before a bracket", `{"a":[1,]}`, 1, 9, "remove that comma"},
		{"value missing", `{"a":,"b":1}`, 1, 6, "default"},
		{"last value missing", `{"a":}`, 1, 6, "default"},
		{"single quotes", `{'a':1}`, 1, 2, "double quotes"},
		{"single quotes of a value", `{"a":'b'}`, 1, 6, "double quotes"},
		{"more", `{"a":1} {"b":2}`, 1, 9, "remove what follows"},
		{"comma missing", `{"a":1 "b":2}`, 1, 8, "a comma is missing"},
		{"comma missing behind a brace", `{"a":{} "b":2}`, 1, 9, "a comma is missing"},
		{"comma missing behind a string", `{"a":"x" "b":2}`, 1, 10, "a comma is missing"},
		{"comma missing behind a string within", `{"a":["x"] "b":2}`, 1, 12, "a comma is missing"},
		{"comma missing between strings", `["a" "b"]`, 1, 6, "a comma is missing"},
		{"comma missing between objects", `["a",{"b":"c"}{}]`, 1, 15, "a comma is missing"},
		{"quote before a colon without a string", `{"a":"x" b":2}`, 1, 10, "json_escape"},
		{"quotes inside, one behind the other", `{"a":"x ""y"" z"}`, 1, 10, "json_escape"},
		{"quotes inside, at the end", `{"a":"x "y""}`, 1, 10, "json_escape"},
		{"two commas", `{"a":1,,"b":2}`, 1, 8, "an extra comma"},
		{"comma first", `[,1]`, 1, 2, "an extra comma"},
		{"comment", `{"a":1, // one` + "\n" + `"b":2}`, 1, 9, "because of a comment"},
		{"comment behind a string", `{"a":"x" /* one */, "b":2}`, 1, 10, "because of a comment"},
		{"comment behind all", `{"a":1} // one`, 1, 9, "remove what follows"},
		{"a slash that is no comment", `{"a":/1}`, 1, 6, "check its braces"},
		{"typographic quotes", `{“a”:1}`, 1, 2, "typographic quotes"},
		{"typographic quotes of a value", `{"a":„b“}`, 1, 6, "typographic quotes"},
		{"unlike brackets", `{"a":[1}`, 1, 8, "check its braces"},
		{"unlike brackets behind a string", `{"a":["x"}`, 1, 10, "check its braces"},
		{"colon missing", `{"a" 1}`, 1, 6, "check its braces"},
		{"no UTF-8", "{\"a\":\"\xc3\"}", 1, 7, "UTF-8"},
		{"Liquid first", "{\n{% assign a = \"b\" %}\n\"a\":x}", 2, 1, "Liquid"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := refused(t, jsonType, tc.body, "", tc.hint)
			if err.Line != tc.line || err.Column != tc.column {
				t.Errorf("line %d, column %d, want %d, %d (%v)", err.Line, err.Column, tc.line, tc.column, err)
			}
			if !strings.Contains(err.Error(), "(line ") {
				t.Errorf("%v does not say where", err)
			}
		})
	}
}

func TestSyntaxErrorInField(t *testing.T) {
	body := `{"recipient":"{\"id\":\"12\"}","message":"{\n \"text\": x}"}`
	err := refused(t, jsonType, body, "message", "message is not JSON (line 2, column 10)")
	if err.Line != 2 || err.Column != 10 {
		t.Errorf("line %d, column %d, want 2, 10: within the field", err.Line, err.Column)
	}
}

func TestStringText(t *testing.T) {
	for _, tc := range []struct{ raw, want string }{
		{``, ""},
		{`plain ä`, "plain ä"},
		{`\"\\\/\b\f\n\r\t`, "\"\\/\b\f\n\r\t"},
		{`\u00e4\uD83D\uDE00\ufffd`, "ä😀\ufffd"},
	} {
		tree, syntax := scan([]byte(`{"` + tc.raw + `":"` + tc.raw + `"}`))
		if syntax != nil {
			t.Fatal(syntax)
		}
		if name, text := string(tree.name(1)), string(tree.text(1)); name != tc.want || text != tc.want || tree.nodes[1].text.halfPair {
			t.Errorf("%s: name %q, text %q, want %q", tc.raw, name, text, tc.want)
		}
	}
	for _, half := range []string{`\ud83d`, `\ude00`, `\ud83d\ud83d`, `\ud83dx`, `a\ud83d\n`} {
		tree, syntax := scan([]byte(`["` + half + `"]`))
		if syntax != nil || !tree.nodes[1].text.halfPair {
			t.Errorf("%s is not known for half a surrogate pair (%v)", half, syntax)
		}
	}
}

func TestEqualsFold(t *testing.T) {
	for _, tc := range []struct {
		text, ascii string
		want        bool
	}{
		{"image", "image", true},
		{"IMAGE", "image", true},
		{"images", "image", false},
		{"imag", "image", false},
		{"", "", true},
		{"typing\x7fon", "typing_on", false}, // '_' and DEL differ by the bit that makes a character lower-case
		{"ımage", "image", false},
		{"mar\u212a_seen", "mark_seen", false}, // the Kelvin sign folds to k
	} {
		if got := equalsFold([]byte(tc.text), tc.ascii); got != tc.want {
			t.Errorf("equalsFold(%q, %q) = %v", tc.text, tc.ascii, got)
		}
	}
}

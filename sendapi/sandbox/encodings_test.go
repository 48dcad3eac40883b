package sandbox

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

// Whatever the encoding, a request is judged alike, with the same digest: nested JSON, JSON in strings, a form, and a query are four
// ways to write the same parameters.
func TestEncodingsAreJudgedAlike(t *testing.T) {
	data, err := os.ReadFile("../testdata/braze_bodies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for line := range strings.Lines(string(data)) {
		var b struct{ Body string }
		if err := json.Unmarshal([]byte(line), &b); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, b.Body)
	}
	bodies = append(bodies, message(`{"text":"ü \"x\" & = + % 😀 <>"}`), message(`{}`), card(goodCard), card(`{"title":"t"}`), button(``), quickReply(goodReply),
		utility(`{"name":"n","language":{"code":"en"}}`), beside(`"tag":"ACCOUNT_UPDATE"`), toOne(`"sender_action":"typing_on"`), recipient(`{"id":12}`),
		recipient(`{}`), attachment(goodImage), template(`"receipt"`), toOne(`"message":{"text":"x"},"reply_to":{"mid":"m"},"persona_id":12`))

	r := start(t, Config{AnyPage: Page{Rate: Off, HighVolume: Off}})
	post := func(query, contentType, body string) (string, Digest) {
		t.Helper()
		rep, err := r.do(r.request("/me/messages?access_token=token"+query, contentType, body))
		if err != nil {
			t.Fatal(err)
		}
		return rep.code(), r.Find(Query{Limit: 1})[0].Body
	}
	compared := 0
	for _, body := range bodies {
		var raw map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &raw) != nil {
			continue // no JSON: no other way to write it
		}
		compared++
		flat, form := map[string]string{}, url.Values{}
		for k, v := range raw {
			text := string(v)
			if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &text) != nil {
				t.Fatal(body)
			}
			flat[k] = text
			form.Set(k, text)
		}
		inStrings, err := json.Marshal(flat)
		if err != nil {
			t.Fatal(err)
		}
		want, digest := post("", jsonBody, body)
		for way, got := range map[string]func() (string, Digest){
			"JSON in strings": func() (string, Digest) { return post("", jsonBody, string(inStrings)) },
			"form":            func() (string, Digest) { return post("", formBody, form.Encode()) },
			"query":           func() (string, Digest) { return post("&"+form.Encode(), "", "") },
		} {
			if code, d := got(); code != want || d != digest {
				t.Errorf("%s: %s, as nested JSON %s; digests %s and %s: %.200s", way, code, want, d, digest, body)
			}
		}
	}
	if compared < 20 {
		t.Errorf("only %d bodies compared", compared)
	}
}

// A compressed or unreadable body is refused; the sandbox decompresses nothing.
func TestBodiesThatCannotBeRead(t *testing.T) {
	r := start(t, Config{})
	good := textBody("1", "x")
	for _, tt := range []struct{ name, header, value, body, want string }{
		{"gzip", "Content-Encoding", "gzip", good, "400 100/0"},
		{"deflate", "Content-Encoding", "deflate", good, "400 100/0"},
		{"identity", "Content-Encoding", "identity", good, "200"},
		{"multipart", "Content-Type", "multipart/form-data; boundary=x", "--x--", "400 100/0"},
		{"type of its own", "Content-Type", "application/x-own", good, "200"},
		{"type that is none", "Content-Type", ";;;", good, "200"},
		{"form under the name of JSON", "Content-Type", jsonBody, "recipient=1", "400 100/0"},
		{"two values", "Content-Type", jsonBody, good + good, "400 100/0"},
		{"a list", "Content-Type", jsonBody, "[" + good + "]", "400 100/0"},
		{"half", "Content-Type", jsonBody, good[:len(good)/2], "400 100/0"},
		{"UTF-16", "Content-Type", jsonBody, "\xff\xfe{\x00}\x00", "400 100/0"},
	} {
		req := r.request("/me/messages?access_token=token", jsonBody, tt.body)
		req.Header.Set(tt.header, tt.value)
		if rep, err := r.do(req); err != nil || rep.code() != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, rep.raw, err, tt.want)
		}
	}
}

// Every media type that the sandbox chooses is one, whatever the header says.
func TestMediaType(t *testing.T) {
	for _, header := range []string{"", "application/json", "Application/JSON; charset=utf-8", "text/plain", "multipart/form-data; boundary=x", "nonsense/", formBody} {
		for _, body := range []string{"", " {", "a=b", "\xff"} {
			got := mediaType(header, []byte(body))
			if _, _, err := mime.ParseMediaType(got); err != nil {
				t.Errorf("%q, %q: %q", header, body, got)
			}
			if named, _, err := mime.ParseMediaType(header); err == nil && slices.Contains([]string{jsonBody, formBody, "multipart/form-data"}, named) && got != named {
				t.Errorf("%q, %q: %q", header, body, got)
			}
		}
	}
}

func TestDoubleQuotes(t *testing.T) {
	for given, want := range map[string]string{
		`{'id':'1'}`:             `{"id":"1"}`,
		`{"id":"it's"}`:          `{"id":"it's"}`,
		`{'text':'it\'s'}`:       `{"text":"it's"}`,
		`{'text':'say "hi"'}`:    `{"text":"say \"hi\""}`,
		`{'text':'back\\slash'}`: `{"text":"back\\slash"}`,
		`{'a':"b",'c':'d'}`:      `{"a":"b","c":"d"}`,
		`'`:                      `"`,
		`\`:                      `\`,
	} {
		if got := doubleQuotes(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for given, want := range map[string]struct {
		version, known bool
		served         string
	}{
		"v26.0": {true, true, "v26.0"}, "v21.0": {true, true, "v21.0"}, "v20.0": {true, true, "v21.0"}, "v2.6": {true, true, "v21.0"},
		"v27.0": {true, false, "v27.0"}, "v1.0": {true, false, "v21.0"}, "v99999999999999999999.0": {true, false, "v21.0"},
		"26.0": {}, "v26": {}, "v.0": {}, "v26.": {}, "vx.0": {}, "me": {}, "": {},
	} {
		if got := isVersion(given); got != want.version {
			t.Errorf("%q is a version: %t", given, got)
		}
		if !want.version {
			continue
		}
		if got := knownVersion(given); got != want.known {
			t.Errorf("%s is known: %t", given, got)
		}
		if got := servedVersion(given); got != want.served {
			t.Errorf("%s is served as %s", given, got)
		}
	}
}

func TestIsURL(t *testing.T) {
	for u, want := range map[string]bool{
		"https://example.com": true, "http://example.com/a?b=c#d": true, "HTTPS://EXAMPLE.COM": true, "https://example.com:8443/x": true,
		"https://münchen.example/ä": true, "https://example.com/100%": true, "https://127.0.0.1": true,
		"": false, "/a": false, "//example.com": false, "example.com": false, "www.example.com/a": false, "https://": false, "https:///a": false,
		"tel:+16505551234": true, "mailto:a@example.com": true, "fb-messenger://user/1": true,
		"https://?q": false, "https:example.com": false, "http:/example.com": false, "example.com:443/a": false, "tel:": false, ":a": false,
		"https://example.com/a b": false, " https://example.com": false, "https://example.com\n": false, "https://exa mple.com": false,
	} {
		if got := isURL(u); got != want {
			t.Errorf("%q: %t", u, got)
		}
	}
}

// The parameters that a path, a query and a body give are read by the same rules; the body's win.
func TestBodyOverridesQuery(t *testing.T) {
	r := start(t, Config{})
	query := url.Values{"access_token": {"token"}, "recipient": {`{"id":"1"}`}, "message": {`{"text":"from the query"}`}}
	rep, err := r.do(r.request("/me/messages?"+query.Encode(), jsonBody, `{"recipient":{"id":"2"}}`))
	if err != nil || rep.status != http.StatusOK {
		t.Fatalf("%s, %v", rep.raw, err)
	}
	c := r.Find(Query{Limit: 1})[0]
	if c.Recipient != "2" || c.Body != textDigest(t, "from the query") {
		t.Errorf("recorded as %+v", c)
	}
}

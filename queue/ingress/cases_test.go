package ingress_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue/ingress"
)

// bodyCase is a line of client_bodies.jsonl or ingress_cases.jsonl, as the tests of package sendapi describe them.
type bodyCase struct {
	ID, Name        string
	ContentType     string `json:"content_type"`
	ContentEncoding string `json:"content_encoding"`
	Query           string
	Body            string
	Base64          []byte
	Status          int
	Message, Says   string
	Sent            string
	Equal           bool
}

// TestClientBodies posts what client libraries post, and bodies with faults that people have reported, and compares each
// answer and each stored message.
func TestClientBodies(t *testing.T) {
	t.Parallel()
	for file, least := range map[string]int{"client_bodies.jsonl": 120, "ingress_cases.jsonl": 150} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile("../../sendapi/testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			h := open(t)
			posted := 0
			for line := range strings.Lines(string(data)) {
				var tc bodyCase
				if err := json.Unmarshal([]byte(line), &tc); err != nil {
					t.Fatal(err)
				}
				posted++
				t.Run(fmt.Sprintf("%d %s %s", posted, tc.ID, tc.Name), func(t *testing.T) { h.in(t).postCase(tc) })
			}
			if posted < least {
				t.Errorf("only %d bodies were posted", posted)
			}
		})
	}
}

func (h *harness) postCase(tc bodyCase) {
	h.t.Helper()
	body := tc.Body
	if tc.Base64 != nil {
		body = string(tc.Base64)
	}
	options := []func(*http.Request){at(messages + tc.Query), with("Content-Type", tc.ContentType), withBody(body)}
	if tc.ContentEncoding != "" {
		options = append(options, with("Content-Encoding", tc.ContentEncoding))
	}
	a := h.post(options...)
	if tc.Status == http.StatusAccepted {
		h.accepted(a, "queued")
		want := tc.Body
		if tc.Sent != "" {
			want = tc.Sent
		}
		job := h.only(acme)
		if tc.Equal {
			if diff := cmp.Diff(parsed(h.t, []byte(want)), parsed(h.t, job.Body)); diff != "" {
				h.t.Errorf("body (-want +stored):\n%s", diff)
			}
		} else if string(job.Body) != want {
			h.t.Errorf("stored is %s\nwant      %s", job.Body, want)
		}
		return
	}
	h.refused(a, tc.Status)
	if tc.Message != "" && a.Error.Message != tc.Message {
		h.t.Errorf("message %q\nwant    %q", a.Error.Message, tc.Message)
	}
	if !strings.Contains(a.Error.Message, tc.Says) {
		h.t.Errorf("message %q\nwant in it %q", a.Error.Message, tc.Says)
	}
	if wants := a.header.Get("WWW-Authenticate"); (wants != "") != (tc.Status == http.StatusUnauthorized) {
		h.t.Errorf("WWW-Authenticate is %q", wants)
	}
}

// The 401 names a key that is in the body instead of the Authorization header, however the body is encoded.
func TestKeyInBody(t *testing.T) {
	t.Parallel()
	h := open(t)
	form := "recipient=%7B%22id%22%3A%221%22%7D&message=%7B%22text%22%3A%22Hi%22%7D&access_token=" + acmeKey
	for name, body := range map[string]string{
		"JSON":      strings.Replace(nested, "{", `{"access_token":"`+acmeKey+`",`, 1),
		"form":      form,
		"multipart": "--x\r\nContent-Disposition: form-data; name=\"access_token\"\r\n\r\n" + acmeKey + "\r\n--x--\r\n",
		"no key":    nested,
		"empty":     "",
	} {
		for _, chunked := range []bool{false, true} {
			a := h.post(without("Authorization"), withBody(body), func(r *http.Request) {
				if chunked {
					r.ContentLength = -1
				}
			})
			h.refused(a, http.StatusUnauthorized)
			want := "the key is in the body: send it in the header Authorization"
			if name == "no key" || name == "empty" {
				want = "no key: send a Brazier key in the header Authorization"
			}
			if !strings.HasPrefix(a.Error.Message, want) {
				t.Errorf("%s, chunked %v: %s", name, chunked, a.body)
			}
		}
	}
	h.nothingStored()
}

// The 404 names the features of Graph that are not supported.
func TestPathsOfGraph(t *testing.T) {
	t.Parallel()
	h := open(t)
	for path, want := range map[string]string{
		"/":                             "batches are not supported here",
		"/v25.0":                        "batches are not supported here",
		"/v25.0/?batch=[]":              "batches are not supported here",
		"/v25.0/me/message_attachments": "uploads are not supported here",
		"/me/message_attachments":       "uploads are not supported here",
		"/v25.0/me/messenger_profile":   "no such path",
	} {
		a := h.post(at(path))
		h.refused(a, http.StatusNotFound)
		if !strings.HasPrefix(a.Error.Message, want) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}

// The log line of a refusal has campaign, dispatch and user as far as the request's headers have them, and a cause.
func TestRejectedLines(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.DebugLevel)
	h := openOn(t, ingress.Config{Log: zap.New(seen)}, fresh(t))
	tracked := []func(*http.Request){with("X-Brazier-Campaign", "spring"), with("X-Brazier-Dispatch", " d1 "), with("X-Brazier-User", "u1")}
	all := map[string]any{"campaign": "spring", "dispatch": "d1", "user": "u1"}
	for _, c := range []struct {
		name, cause string
		change      func(*http.Request)
		want        map[string]any
	}{
		{"not a PSID", "recipient", withBody(strings.Replace(nested, psid, "PSID", 1)), all},
		{"no JSON", "syntax", withBody("{"), all},
		{"key in the body", "token", withBody(strings.Replace(nested, "{", `{"access_token":"x",`, 1)), all},
		{"compressed", "encoding", with("Content-Encoding", "br"), all},
		{"unknown key", "key", with("Authorization", "Bearer "+unknownKey), all},
		{"another path", "path", at("/elsewhere"), all},
		{"too large", "too_large", withBody(strings.Repeat(" ", 1<<20)), all},
		{"header that is refused", "header", with("X-Brazier-User", "{{${braze_id}}}"), map[string]any{"campaign": "spring", "dispatch": "d1"}},
		{"header too long", "header", with("X-Brazier-Campaign", strings.Repeat("x", 257)), map[string]any{"dispatch": "d1", "user": "u1"}},
		{"headers missing", "syntax", func(r *http.Request) {
			withBody("{")(r)
			for _, name := range []string{"X-Brazier-Campaign", "X-Brazier-Dispatch", "X-Brazier-User"} {
				r.Header.Del(name)
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			before := lines.FilterField(zap.String("event", "rejected")).Len()
			h.post(slices.Concat(tracked, []func(*http.Request){c.change})...)
			rejected := lines.FilterField(zap.String("event", "rejected")).All()
			if len(rejected) != before+1 {
				t.Fatalf("%d lines say rejected, want 1", len(rejected)-before)
			}
			got := rejected[before].ContextMap()
			if got["cause"] != c.cause {
				t.Errorf("cause %v, want %s", got["cause"], c.cause)
			}
			for _, key := range []string{"campaign", "dispatch", "user"} {
				if got[key] != c.want[key] {
					t.Errorf("%s is %v, want %v", key, got[key], c.want[key])
				}
			}
		})
	}
}

// The catalogue lists the causes of the code and no others.
func TestCausesInCatalogue(t *testing.T) {
	t.Parallel()
	var want, got []string
	for file, pattern := range map[string]string{
		"refusal.go":                     `(?m)^\treason\w+ += "(\w+)"`,
		"../../sendapi/invalid_error.go": `(?m)^\t[Cc]ause\w+ +Cause = "(\w+)"`,
	} {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(readFile(t, file), -1) {
			want = append(want, m[1])
		}
	}
	_, table, ok := strings.Cut(readFile(t, "../../deploy/LOGS.md"), "| `cause` | the request |\n")
	if !ok {
		t.Fatal("deploy/LOGS.md has no table of causes")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		names, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(names, -1) {
			got = append(got, m[1])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("causes (-code +catalogue):\n%s", diff)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Unusual requests that people have reported (K1-22) are accepted, or refused with a remedy.
func TestReportedRequests(t *testing.T) {
	t.Parallel()
	h := open(t)
	rest := fmt.Sprintf("Host: brazier.example\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", acmeKey, len(nested), nested)
	for _, line := range []string{"POST " + messages + " HTTP/1.0", "POST http://brazier.example" + messages + " HTTP/1.1", "POST /v2.6/me/messages HTTP/1.1"} {
		if status, body := h.raw(line+"\r\n"+rest, false); status != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", line, status, body)
		}
		h.only(acme)
	}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   string // in the refusal; empty: accepted
	}{
		{"expecting", with("Expect", "100-continue"), ""},
		{"emoji in a header", with("X-Brazier-Campaign", "spring 🌷"), ""},
		{"key in the query", func(r *http.Request) { without("Authorization")(r); at(messages + "?access_token=" + acmeKey)(r) }, ""},
		{"scheme OAuth", with("Authorization", "OAuth "+acmeKey), "Authorization: Bearer"},
		{"expiry in days", with("X-Brazier-Expire", "1d"), "such as 30m or 6h"},
	} {
		a := h.post(c.change)
		if c.want == "" {
			h.accepted(a, "queued")
			h.only(acme)
		} else if a.status == http.StatusAccepted || !strings.Contains(a.Error.Message, c.want) {
			t.Errorf("%s: no %q in %d %s", c.name, c.want, a.status, a.body)
		}
	}
}

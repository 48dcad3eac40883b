package ingress_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// On everything that is not in these two tables the ingress and the sandbox agree: what one of them takes the other takes too.

// refusedHere are bodies that Facebook takes and the ingress refuses, each with the reason.
var refusedHere = map[string]string{
	"K1-16 Liquid of another API":        "Facebook delivers the braces as they stand; a campaign that goes out like that cannot be called back",
	"K1-10 template beside message":      "Facebook ignores what it does not know beside message, and delivers without it",
	"K1-10 quick_replies beside message": "Facebook ignores what it does not know beside message, and delivers without it",
	"K1-10 text beside message":          "Facebook ignores what it does not know beside message, and delivers without it",
	"K1-10 attachment beside message":    "Facebook ignores what it does not know beside message, and delivers without it",
	"form with access_token in it":       "Facebook takes its token from there; a key of the ingress does not belong into what is stored",
	"JSON with access_token in it":       "Facebook takes its token from there; a key of the ingress does not belong into what is stored",
	"13.3 key in the body":               "Facebook takes its token from there; a key of the ingress does not belong into what is stored",
	"13.3 key in a form":                 "Facebook takes its token from there; a key of the ingress does not belong into what is stored",
	"query parameters, no body":          "Facebook reads the query like a form; the ingress stores bodies, and a query ends up in the logs of proxies",
}

// leftToFacebook are bodies that the ingress takes and Facebook refuses, each with the reason.
var leftToFacebook = map[string]string{
	"K1-05 tag not known":            "Facebook may have new tags before the ingress knows them",
	"K1-20 placeholder for the type": "Facebook may have new messaging types before the ingress knows them",
	"K1-10 names not known":          "Facebook may have new keys of a message before the ingress knows them",
	"K1-10 null at the wrong level":  "a name with nothing in it is what a template leaves of an optional part",
	"Send a Sticker":                 "a type of attachment that only Instagram has",
	"Published Post":                 "a type of attachment that only Instagram has",
	byteOrderMark:                    "the ingress takes it off: editors write it, JSON forbids it",
}

const byteOrderMark = "K1-19 byte order mark"

// known is a body of the test data with what is right for it.
type known struct {
	ID, Name, Query, Body, Base64 string
	ContentType                   string `json:"content_type"`
	ContentEncoding               string `json:"content_encoding"`
	Status                        int    // of the ingress
	Accept                        bool   // in braze_bodies.jsonl, instead of Status
}

// knownBodies reads what client libraries, bug reports and Braze's documentation send.
func knownBodies(t *testing.T) []known {
	t.Helper()
	var bodies []known
	for _, file := range []string{"client_bodies", "ingress_cases", "braze_bodies"} {
		data, err := os.ReadFile("../../sendapi/testdata/" + file + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			k := known{ContentType: "application/json"}
			if err := json.Unmarshal([]byte(line), &k); err != nil {
				t.Fatal(err)
			}
			switch {
			case k.Accept:
				k.Status = http.StatusAccepted
			case k.Status == 0:
				k.Status = http.StatusBadRequest
			}
			if k.Base64 != "" {
				raw, err := base64.StdEncoding.DecodeString(k.Base64)
				if err != nil {
					t.Fatal(err)
				}
				k.Body = string(raw)
			}
			k.Name = strings.TrimSpace(k.ID + " " + k.Name)
			bodies = append(bodies, k)
		}
	}
	if len(bodies) < 300 {
		t.Fatalf("only %d bodies", len(bodies))
	}
	return bodies
}

// TestSandboxAgrees posts every body that is known to the ingress and to the simulated Facebook. The two were written from the same
// facts and share no code, so that each is a test of the other: what the ingress refuses, Facebook must refuse, or a message is lost
// that could be sent; what the ingress takes, Facebook must take, or a message dies that could be mended.
func TestSandboxAgrees(t *testing.T) {
	t.Parallel()
	h := open(t)
	facebook := simulated(t)
	stored := make(map[string]string) // names by the ids of their jobs
	differ := make(map[string]bool)
	for _, k := range knownBodies(t) {
		a := h.in(t).post(at(messages+k.Query), withBody(k.Body), contentOf(k))
		if a.status != k.Status {
			t.Errorf("%s: the ingress answers %d, want %d: %s", k.Name, a.status, k.Status, a.body)
		}
		accepted := a.status == http.StatusAccepted
		if accepted {
			stored[a.ID] = k.Name
		}
		taken, answered := facebook(messages+k.Query, contentOf(k), k.Body)
		if taken == accepted {
			continue
		}
		allowed := refusedHere
		if accepted {
			allowed = leftToFacebook
		}
		if differ[k.Name] = true; allowed[k.Name] == "" {
			t.Errorf("%s: the ingress answers %d %s, the sandbox %s\n%.300s", k.Name, a.status, a.body, answered, k.Body)
		}
	}
	for _, table := range []map[string]string{refusedHere, leftToFacebook} {
		for name := range table {
			if !differ[name] {
				t.Errorf("%s: in a table of differences, and the two agree", name)
			}
		}
	}

	// What was stored is what a worker sends.
	jobs := h.take(acme)
	if len(jobs) != len(stored) {
		t.Errorf("%d jobs of %d accepted bodies", len(jobs), len(stored))
	}
	for _, job := range jobs {
		name := stored[job.ID]
		taken, answered := facebook(messages, with("Content-Type", "application/json"), string(job.Body))
		if taken == differ[name] && name != byteOrderMark {
			t.Errorf("%s: as stored, the sandbox answers %s\n%.300s", name, answered, job.Body)
		}
	}
}

// contentOf sets the headers that say what a body is.
func contentOf(k known) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", k.ContentType)
		if k.ContentType == "" {
			r.Header.Del("Content-Type")
		}
		if k.ContentEncoding != "" {
			r.Header.Set("Content-Encoding", k.ContentEncoding)
		}
	}
}

// simulated starts a sandbox without limits and returns how to post to it.
func simulated(t *testing.T) func(path string, content func(*http.Request), body string) (taken bool, answered string) {
	t.Helper()
	fb, err := sandbox.New(sandbox.Config{Control: "off", AnyPage: sandbox.Page{Rate: sandbox.Off, MediaRate: sandbox.Off, HighVolume: sandbox.Off}})
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := fb.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return func(path string, content func(*http.Request), body string) (bool, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fb.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer token-of-acme")
		content(r)
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode == http.StatusOK, string(answer)
	}
}

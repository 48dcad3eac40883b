package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each signature that is known to be right is the one that the sandbox makes.
func TestSignatureVectors(t *testing.T) {
	data, err := os.ReadFile("../webhook/testdata/signature_vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		var v struct {
			Name    string
			Secrets []string `json:"app_secrets"`
			Body    string   `json:"body_base64"`
			Header  string
			Accept  any
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Accept != true {
			continue
		}
		n++
		body, err := base64.StdEncoding.DecodeString(v.Body)
		if err != nil {
			t.Fatal(err)
		}
		signed := false
		for _, secret := range v.Secrets {
			h := http.Header{}
			sign(h, secret, body)
			signed = signed || h.Get("X-Hub-Signature-256") == v.Header
		}
		if !signed {
			t.Errorf("%s: no secret gives %s", v.Name, v.Header)
		}
	}
	if n < 7 {
		t.Errorf("only %d vectors", n)
	}
}

// The older signature is that of Meta's SHA-1 vector.
func TestOldSignature(t *testing.T) {
	h := http.Header{}
	sign(h, "app-secret-for-tests", []byte(`{"object":"page","entry":[]}`))
	if got, want := h.Get("X-Hub-Signature"), "sha1=b24ed28b82e60821a0436174b75a5ca152c56208"; got != want {
		t.Errorf("X-Hub-Signature is %s, want %s", got, want)
	}
}

func TestAsFacebook(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"plain <b> 100% @"}`:   `{"a":"plain <b> 100% @"}`,
		`"äöå / 日本 😀"`:               `"\u00e4\u00f6\u00e5 \/ \u65e5\u672c \ud83d\ude00"`,
		`"a\\\"\n\u0001"`:            `"a\\\"\n\u0001"`,
		"\"\u2028\uffff\U0010ffff\"": `"\u2028\uffff\udbff\udfff"`,
		"\"\xff\"":                   `"\ufffd"`,
		``:                           ``,
	} {
		if got := string(asFacebook([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzAsFacebook(f *testing.F) {
	f.Add("äöå / 日本 😀 <>&\u2028\x00\\\"")
	f.Add("\xff\xc0/")
	f.Fuzz(func(t *testing.T, s string) {
		in := encodeString(s)
		out := asFacebook([]byte(in))
		for _, c := range out {
			if c >= 0x80 {
				t.Fatalf("%q is not ASCII", out)
			}
		}
		var want, got string
		if err := json.Unmarshal([]byte(in), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &got); err != nil || got != want {
			t.Fatalf("%q became %q: %v", want, got, err)
		}
	})
}

// An envelope has its events in order, under entries of their pages.
func TestEnvelope(t *testing.T) {
	s := newSandbox(Config{})
	a, b := &page{}, &page{}
	list := []hookEvent{{page: a, pageID: "1", json: `{"n":1}`}, {page: a, pageID: "1", json: `{"n":2}`}, {page: b, pageID: "2", json: `{"n":3}`},
		{page: a, pageID: "1", json: `{"n":4}`}}
	shapes := map[int]bool{}
	for n := range uint64(32) {
		var e struct {
			Object string
			Entry  []struct {
				ID        string
				Time      int64
				Messaging []struct{ N int }
			}
		}
		body := envelope(s.bodyRand(n), time.UnixMilli(1795600000523), list)
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		shapes[len(e.Entry)] = true
		var got []string
		for _, entry := range e.Entry {
			if entry.Time != 1795600000523 {
				t.Errorf("time %d", entry.Time)
			}
			for _, m := range entry.Messaging {
				got = append(got, entry.ID+":"+string(rune('0'+m.N)))
			}
		}
		if diff := cmp.Diff([]string{"1:1", "1:2", "2:3", "1:4"}, got); diff != "" || e.Object != "page" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	if !shapes[3] || !shapes[4] || len(shapes) != 2 {
		t.Errorf("numbers of entries %v, want 3 and 4", shapes)
	}
}

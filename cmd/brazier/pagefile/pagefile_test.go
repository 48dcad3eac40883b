package pagefile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// marker stands in every secret of these tests, and in no message.
const marker = "MARKER"

// pageDir is a directory with secrets, beside which a page file is put.
func pageDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"acme.token":  marker + "-token-of-acme\n",
		"acme.secret": marker + "-secret-of-acme\n",
		"empty.token": " \n",
		"two.token":   marker + "-token\n" + marker + "-and-another\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// digests replaces KEY1 and KEY2 by digests of keys.
var digests = strings.NewReplacer(
	"KEY1", fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("key 1"))),
	"KEY2", fmt.Sprintf("sha256:%X", sha256.Sum256([]byte("key 2"))),
)

// keepsSecrets fails the test if what was written holds any of the secrets.
func keepsSecrets(t *testing.T, written string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		if i := strings.Index(written, s); i >= 0 {
			from, to := max(0, i-200), min(len(written), i+len(s)+50)
			t.Errorf("%q was written: …%s…", s, written[from:to])
		}
	}
}

func TestPageFile(t *testing.T) {
	t.Setenv("BRAZIER_TEST_TOKEN", " "+marker+"-token-from-variable\n")
	dir := pageDir(t)
	path := filepath.Join(dir, "pages.yaml")
	writeFile(t, path, digests.Replace(`# All fields, and as few as possible.
pages:
  - id: "1029384756"
    name: acme
    token_file: acme.token
    app_secret_file: `+filepath.Join(dir, "acme.secret")+`
    keys: ["KEY1", "KEY2"]
    rate: 12.5
    media_rate: "2"
    max_in_flight: 8
    in_doubt: park
    expire: 90m
    queue_share: 25%
  - {"id": 00005647382910, "token": "${BRAZIER_TEST_TOKEN}", "keys": ["sha256:`+strings.Repeat("0a", 32)+`"], "in_doubt_repeats": 3, "rate": 300}
`))
	got, err := Read(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Page{
		{
			ID: "1029384756", Name: "acme",
			Secrets: Secrets{TokenFile: filepath.Join(dir, "acme.token"), AppSecretFile: filepath.Join(dir, "acme.secret")},
			Keys:    [][sha256.Size]byte{sha256.Sum256([]byte("key 1")), sha256.Sum256([]byte("key 2"))},
			Rate:    12.5, MediaRate: 2, MaxInFlight: 8, InDoubt: deliver.Park, Repeats: 1, Expire: 90 * time.Minute, QueueShare: 0.25,
			Line: 3,
		},
		{
			ID: "00005647382910", Name: "00005647382910", // a number keeps its digits
			Secrets: Secrets{Token: marker + "-token-from-variable", Variable: "BRAZIER_TEST_TOKEN"},
			Keys:    [][sha256.Size]byte{[sha256.Size]byte([]byte(strings.Repeat("\n", 32)))},
			Rate:    300, MediaRate: 10, MaxInFlight: 480, InDoubt: deliver.Resend, Repeats: 3, Expire: 24 * time.Hour, QueueShare: 0.5,
			Line: 14,
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Page{})); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	cred, err := got[0].Secrets.Read()
	if err != nil || cred.Token != marker+"-token-of-acme" || cred.AppSecret != marker+"-secret-of-acme" {
		t.Errorf("the credentials are not those of the files, error %v", err)
	}
}

// Each case has one fault, or several that are told at once. A message is the file, the line, what is wrong, and what to
// do about it.
func TestPageFileFaults(t *testing.T) {
	const (
		head  = "pages:\n  - id: \"1\"\n    keys: [KEY1]\n" // token and the rest follow, from line 4
		token = "    token: " + marker + "-token\n"
		page  = head + token // the rest follows from line 5
		known = "known are alias_users, app, app_secret_file, braze, expire, id, in_doubt, in_doubt_repeats, keys, max_in_flight, media_rate, messenger_id, messenger_reachable, messenger_window_until, metadata, name, queue_share, rate, ref_endless, ref_max_age, ref_reusable, ref_secret_files, token, token_file"
		look  = ": check quotes, colons and indentation here and in the line before"
		long  = marker + "-and-so-on-as-long-as-a-token"

		aKey     = `a key is not "sha256:" and 64 hexadecimal digits: take it from brazier keys new, or from printf %s KEY | sha256sum`
		plain    = " has a YAML anchor, alias or tag (&, *, !), which are not read here: write the value out, in quotes if it begins with one of these"
		rate     = "rate must be between 0.1 and 300, Facebook's limit of calls a second"
		media    = "media_rate must be between 0.1 and 10, Facebook's limit of calls a second"
		inFlight = "max_in_flight must be a whole number between 1 and 10000"
		expire   = "expire must be between 1s and 168h, such as 90m, 24h or 3d"
		variable = "token is no variable: write ${NAME} with capitals, digits and _, and nothing beside it"
		empty    = " is empty: give it a value or remove the line"
	)
	t.Setenv("BRAZIER_TEST_BLANK", " ")
	t.Setenv("BRAZIER_TEST_SPACED", marker+" "+marker)
	dir := pageDir(t)
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		// The file as a whole.
		{"empty", "", []string{`1: no pages: begin with "pages:" and a list of them`}},
		{"comment", "# none yet\n", []string{`1: no pages: begin with "pages:" and a list of them`}},
		{"no list", "pages:\n", []string{`1: pages is not a list: begin each page with "- id:"`}},
		{"empty list", "\npages: []\n", []string{`2: no pages: add at least one to the list "pages"`}},
		{"list at the top", "- id: \"1\"\n", []string{`1: the file does not consist of "name: value" lines: begin with "pages:"`}},
		{"text", "pages\n", []string{`1: the file does not consist of "name: value" lines: begin with "pages:"`}},
		{"no list of pages", "pages: acme\n", []string{`1: pages is not a list: begin each page with "- id:"`}},
		{"page without fields", "pages:\n  - acme\n", []string{`2: a page does not consist of "name: value" lines: begin with "- id:"`}},
		{"unknown field of the file", page + "defaults: {}\n", []string{`5: unknown field "defaults" in the file: known are apps, braze, pages`}},
		{"second document", page + "---\n" + page, []string{`6: a second YAML document: put all pages into one list`}},
		{"end of the document", page + "---\n", nil},
		{"mark of an editor", "\ufeff" + page, nil},
		{"lines of Windows", strings.ReplaceAll(page+"    rate: 0\n", "\n", "\r\n"), []string{`5: ` + rate + ` (got "0")`}},

		// No YAML.
		{"tab", "pages:\n\t- id: \"1\"\n", []string{`2: not valid YAML: a tab where YAML wants spaces` + look}},
		{"open quote", head + "    token: \"" + marker + "\n    rate: 5\n", []string{`4: not valid YAML: could not find end character of double-quoted text` + look}},
		{"open bracket", head + "    token: [" + marker + "\n", []string{`4: not valid YAML: sequence end token ']' not found` + look}},
		{"no space after the colon", head + "    token:" + marker + "\n    rate: 5\n", []string{`4: not valid YAML: non-map value is specified` + look}},
		{"no colon", head + "    token " + marker + "\n    rate: 5\n", []string{`4: not valid YAML: non-map value is specified` + look}},
		{"two colons", head + "    token: " + marker + ": x\n", []string{`4: not valid YAML: mapping value is not allowed in this context` + look}},
		{"reserved character", head + "    token: @" + marker + "\n", []string{`4: not valid YAML: '@' is a reserved character` + look}},
		{"unknown escape", head + "    token: \"\\q" + marker + "\"\n", []string{`4: not valid YAML: found unknown escape character 'q'` + look}},
		{"reason that quotes the file", "%YAML " + marker + "\n---\n" + page, []string{`1: not valid YAML: it cannot be read` + look}},

		// Forms that are not read.
		{"anchor", "pages:\n  - id: &id \"1\"\n    keys: [KEY1]\n" + token, []string{`2: id` + plain}},
		{"alias", page + "    name: *" + marker + "\n", []string{`5: name` + plain}},
		{"tag", page + "    name: !!str acme\n", []string{`5: name` + plain}},
		{"anchor of a page", "pages:\n  - &acme\n    id: \"1\"\n" + token, []string{`2: a page` + plain}},
		{"alias of a list", head + token + "  - id: \"2\"\n    keys: *k\n" + token, []string{`6: keys` + plain}},
		{"merge", page + "    <<: {rate: 5}\n", []string{`5: a YAML merge (<<) is not read here: write the fields out`}},
		{"secret that begins like an alias", head + "    token: *" + marker + "\n", []string{`4: token` + plain}},

		// Fields.
		{"unknown field", page + "    pace: 5\n", []string{`5: unknown field "pace" in a page: ` + known}},
		{"unknown field that may be a secret", page + "    " + long + ": 5\n", []string{`5: unknown field (35 characters) in a page: ` + known}},
		{"field twice", page + "    name: a\n    name: b\n", []string{`6: duplicate field "name" (first on line 5): remove one`}},
		{"no value", page + "    name:\n    rate: \"\"\n", []string{`5: name` + empty, `6: rate` + empty}},
		{"list for a value", page + "    name: [a]\n", []string{`5: name is not a single value: write it in the same line`}},
		{"no id", "pages:\n  - name: acme\n    keys: [KEY1]\n" + token, []string{`2: page acme: id is missing: add the Facebook page id, in quotes`}},
		{"no id and no name", "pages:\n  - keys: [KEY1]\n" + token, []string{`2: page: id is missing: add the Facebook page id, in quotes`}},
		{"empty id", "pages:\n  - id: \"\"\n    keys: [KEY1]\n" + token, []string{`2: id` + empty}},
		{"name for an id", "pages:\n  - id: acme\n    keys: [KEY1]\n" + token, []string{`2: id "acme" is not a Facebook page id: digits only, as in the page's About section`}},
		{"id with a point", "pages:\n  - id: 1.0\n    keys: [KEY1]\n" + token, []string{`2: id "1.0" is not a Facebook page id: digits only, as in the page's About section`}},
		{"token for an id", "pages:\n  - id: " + long + "\n    keys: [KEY1]\n" + token, []string{`2: id (35 characters) is not a Facebook page id: digits only, as in the page's About section`}},
		{"name with spaces", page + "    name: Acme Inc\n", []string{`5: name "Acme Inc" does not fit logs and commands: at most 64 characters, no spaces, quotes or slashes`}},
		{"token that continues a name", page + "    name: acme\n      token " + marker + "-and-so-on\n",
			[]string{`5: name (27 characters) does not fit logs and commands: at most 64 characters, no spaces, quotes or slashes`}},
		{"long name", page + "    name: " + strings.Repeat("n", 65) + "\n", []string{`5: name (65 characters) does not fit logs and commands: at most 64 characters, no spaces, quotes or slashes`}},

		// Secrets.
		{"no token", head, []string{`2: page 1: token is missing: add token_file with a path, or token: ${VARIABLE}`}},
		{"empty token", head + "    token:\n", []string{`4: token` + empty}},
		{"both", page + "    token_file: acme.token\n", []string{`5: page 1: both token and token_file are set: keep one`}},
		{"variable that is not set", head + "    token: ${BRAZIER_TEST_UNSET}\n", []string{`4: token: the variable BRAZIER_TEST_UNSET is not set: export it before the start`}},
		{"variable that is blank", head + "    token: ${BRAZIER_TEST_BLANK}\n", []string{`4: token: the variable BRAZIER_TEST_BLANK is not set: export it before the start`}},
		{"variable with a space", head + "    token: ${BRAZIER_TEST_SPACED}\n", []string{`4: token holds spaces, line breaks or other characters that no secret has: keep the secret alone`}},
		{"variable without braces", head + "    token: $BRAZIER_TEST_BLANK\n", []string{`4: ` + variable}},
		{"variable without its end", head + "    token: ${BRAZIER_TEST_BLANK\n", []string{`4: ` + variable}},
		{"variable and more", head + "    token: x${BRAZIER_TEST_BLANK}\n", []string{`4: ` + variable}},
		{"variable without a name", head + "    token: ${}\n", []string{`4: ` + variable}},
		{"secret in braces", head + "    token: ${" + marker + "abc}\n", []string{`4: ` + variable}},
		{"token with spaces", head + "    token: " + marker + " " + marker + "\n", []string{`4: token holds spaces, line breaks or other characters that no secret has: keep the secret alone`}},
		{"no such file", head + "    token_file: none.token\n", []string{`4: token_file: ` + dir + `/none.token cannot be read, check the path and its permissions: no such file or directory`}},
		{"directory for a file", head + "    token_file: .\n", []string{`4: token_file: ` + dir + ` cannot be read, check the path and its permissions: is a directory`}},
		{"empty file", head + "    token_file: empty.token\n", []string{`4: token_file: ` + dir + `/empty.token is empty: put the secret into it`}},
		{"two tokens in a file", head + "    token_file: two.token\n", []string{`4: token_file: ` + dir + `/two.token holds spaces, line breaks or other characters that no secret has: keep the secret alone`}},
		{"no such app secret", page + "    app_secret_file: /none\n", []string{`5: app_secret_file: /none cannot be read, check the path and its permissions: no such file or directory`}},

		// Keys.
		{"no keys", "pages:\n  - id: \"1\"\n" + token, []string{`2: page 1: keys is missing: nobody could send for it; add the SHA-256 of a key as "sha256:HEX"`}},
		{"empty keys", "pages:\n  - id: \"1\"\n    keys: []\n" + token, []string{`3: keys is empty, nobody could send for the page: write keys: ["sha256:HEX"]`}},
		{"one key, no list", "pages:\n  - id: \"1\"\n    keys: KEY1\n" + token, []string{`3: keys is not a list: write keys: ["sha256:HEX"]`}},
		{"bad digests", "pages:\n  - id: \"1\"\n" + token + "    keys:\n      - " + marker + "-key\n      - sha256:" + marker + "\n      - sha256:0a0b\n      - KEY1\n      - KEY1ff\n      - md5:0a0b\n",
			[]string{`5: ` + aKey, `6: ` + aKey, `7: ` + aKey, `9: ` + aKey, `10: ` + aKey}},

		// Numbers and choices.
		{"rate 0", page + "    rate: 0\n", []string{`5: ` + rate + ` (got "0")`}},
		{"rate under 0", page + "    rate: -1\n", []string{`5: ` + rate + ` (got "-1")`}},
		{"least rates", page + "    rate: 0.1\n    media_rate: 0.1\n", nil},
		{"rates under the least", page + "    rate: 0.099\n    media_rate: 0.001\n", []string{`5: ` + rate + ` (got "0.099")`, `6: ` + media + ` (got "0.001")`}},
		{"rate over Facebook's", page + "    rate: 301\n", []string{`5: ` + rate + ` (got "301")`}},
		{"rate at Facebook's", page + "    rate: 300\n    media_rate: 10\n", nil},
		{"rate as text", page + "    rate: fast\n", []string{`5: ` + rate + ` (got "fast")`}},
		{"rate NaN", page + "    rate: NaN\n", []string{`5: ` + rate + ` (got "NaN")`}},
		{"rate .nan", page + "    rate: .nan\n    media_rate: .inf\n", []string{`5: ` + rate + ` (got ".nan")`, `6: ` + media + ` (got ".inf")`}},
		{"media rate over Facebook's", page + "    media_rate: 11\n", []string{`5: ` + media + ` (got "11")`}},
		{"in flight", page + "    max_in_flight: 0\n", []string{`5: ` + inFlight + ` (got "0")`}},
		{"repetitions", page + "    in_doubt_repeats: 4\n", []string{`5: in_doubt_repeats must be from 0 to 3 (got "4")`}},
		{"repetitions, parked", page + "    in_doubt: park\n    in_doubt_repeats: 2\n", []string{`6: page 1: in_doubt_repeats does nothing with in_doubt: park: remove one of the two`}},
		{"in flight, a fraction", page + "    max_in_flight: 1.5\n", []string{`5: ` + inFlight + ` (got "1.5")`}},
		{"in flight, too many", page + "    max_in_flight: 10001\n", []string{`5: ` + inFlight + ` (got "10001")`}},
		{"in doubt", page + "    in_doubt: wait\n", []string{`5: in_doubt must be resend or park (got "wait")`}},
		{"expire without a unit", page + "    expire: 24\n", []string{`5: ` + expire + ` (got "24")`}},
		{"expire in days", page + "    expire: 8d\n", []string{`5: ` + expire + ` (got "8d")`}},
		{"expire at once", page + "    expire: 0s\n", []string{`5: ` + expire + ` (got "0s")`}},
		{"expire in the past", page + "    expire: -1h\n", []string{`5: ` + expire + ` (got "-1h")`}},
		{"expire after too long", page + "    expire: 169h\n", []string{`5: ` + expire + ` (got "169h")`}},

		// Several pages.
		{"same id", page + strings.Replace(page[len("pages:\n"):], "KEY1", "KEY2", 1), []string{`5: duplicate page id 1 (first on line 2): remove one of the two`}},
		{"same name", page + "    name: a\n  - id: \"2\"\n    name: a\n    keys: [KEY2]\n" + token, []string{`6: duplicate page name a (first on line 2): choose another`}},
		{"same key", page + "  - id: \"2\"\n    keys: [KEY2, KEY1]\n" + token, []string{`5: page 2: duplicate key (first on line 2): a key can only name one page`}},
		{"all at once", "pages:\n  - name: acme\n    pace: 1\n    token: ${BRAZIER_TEST_UNSET}\n    rate: 999\n  - id: x\n    in_doubt: no\n", []string{
			`2: page acme: id is missing: add the Facebook page id, in quotes`,
			`2: page acme: keys is missing: nobody could send for it; add the SHA-256 of a key as "sha256:HEX"`,
			`3: unknown field "pace" in a page: ` + known,
			`4: token: the variable BRAZIER_TEST_UNSET is not set: export it before the start`,
			`5: ` + rate + ` (got "999")`,
			`6: id "x" is not a Facebook page id: digits only, as in the page's About section`,
			`6: page: token is missing: add token_file with a path, or token: ${VARIABLE}`,
			`6: page: keys is missing: nobody could send for it; add the SHA-256 of a key as "sha256:HEX"`,
			`7: in_doubt must be resend or park (got "no")`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "pages.yaml")
			writeFile(t, path, digests.Replace(c.file))
			pages, err := Read(path, Options{})
			if len(c.want) == 0 {
				if err != nil || len(pages) != 1 {
					t.Errorf("%d pages, error %v", len(pages), err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			var found Faults
			if !errors.As(err, &found) {
				t.Fatalf("error is %T: %v", err, err)
			}
			want := path + ":" + strings.Join(c.want, "\n"+path+":")
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			keepsSecrets(t, err.Error(), marker)
		})
	}
}

// Facebook's ceilings hold where Facebook is called, and for who cannot tell.
func TestLiftedRates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pages.yaml")
	const page = "pages:\n  - {id: \"1\", token: token-of-a-test, keys: [\"KEY1\"], rate: 20000, media_rate: 20}\n"
	for _, c := range []struct {
		as   Options
		want string // of the error
	}{
		{Options{}, "and 300, Facebook's limit"},
		{ForWorker(sendapi.DefaultGraphURL), "and 300, Facebook's limit"},
		{ForWorker("https://GRAPH.facebook.com./"), "and 300, Facebook's limit"},
		{ForWorker("https://graph-video.facebook.com:443"), "and 300, Facebook's limit"},
		{ForWorker(""), "and 300, Facebook's limit"},
		{ForWorker("://"), "and 300, Facebook's limit"},
		{ForWorker("ftp://127.0.0.1"), "and 300, Facebook's limit"},
		{ForWorker("http:///v25.0"), "and 300, Facebook's limit"},
		{ForWorker("http://127.0.0.1:9090"), ""},
		{ForWorker("https://facebook.com.example"), ""},
		{ForIngress(), ""},
	} {
		writeFile(t, path, digests.Replace(page))
		pages, err := Read(path, c.as)
		switch {
		case c.want == "" && (err != nil || len(pages) != 1 || pages[0].Rate != 20000 || pages[0].MediaRate != 20):
			t.Errorf("%+v, error %v", pages, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	writeFile(t, path, digests.Replace(strings.Replace(page, "20000", "100001", 1)))
	if _, err := Read(path, ForIngress()); err == nil || !strings.Contains(err.Error(), `rate must be between 0.1 and 100000, the most of calls a second (got "100001")`) {
		t.Errorf("over what can be paced: %v", err)
	}
}

// A page in the slow start, or near one of Facebook's limits, makes a tenth of its rate, and still has to be paced.
func TestLeastRateCanBePaced(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it would take some minutes
	pace := queuetest.New(t).Pace("1029384756", "text")
	if _, err := pace.Reserve(ctx, worker.MinRate/10, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a tenth of the least rate: %v", err)
	}
	if _, err := pace.Reserve(ctx, worker.MinRate/1000, 1); errors.Is(err, context.Canceled) {
		t.Error("the queue paces anything: is there need of a least rate?")
	}
}

func TestPageFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "does not exist: name yours with --pages",
		dir:                             "is a directory",
	} {
		if _, err := Read(path, Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

const refBrazeID = "6650f1a2b3c4d5e6f7a8b9c0"

// refPages writes a page file with three pages, of which the first two accept references, and returns its path. No token is there.
func refPages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, secret := range map[string]string{"app.secret": "app", "verify.token": "verify", "ref.secret": "new", "ref-old.secret": "old"} {
		writeFile(t, filepath.Join(dir, name), marker+"-"+secret)
	}
	path := filepath.Join(dir, "pages.yaml")
	writeFile(t, path, digests.Replace(`apps:
  - {name: acme-app, secret_files: [app.secret], verify_token_file: verify.token}
braze:
  - {name: eu, url: "https://rest.fra-01.braze.eu", key_file: braze.key}
pages:
  - {id: "1029384756", name: acme, token_file: acme.token, keys: ["KEY1"], app: acme-app, braze: eu, ref_secret_files: [ref.secret, ref-old.secret]}
  - {id: "5647382910", name: nordwind, token_file: nordwind.token, app_secret_file: nordwind.secret, keys: ["KEY2"], app: acme-app, braze: eu, ref_secret_files: [ref.secret], ref_endless: true}
  - {id: "777", name: plain, token_file: plain.token, keys: ["sha256:`+strings.Repeat("7", 64)+`"]}
  - {id: "778", name: missing, token_file: plain.token, keys: ["sha256:`+strings.Repeat("8", 64)+`"], app: acme-app, braze: eu, ref_secret_files: [none.secret]}
`))
	return path
}

// A reference that ref new makes is one that ref check accepts, alone and within its link.
func TestRefNewAndCheck(t *testing.T) {
	t.Parallel()
	file := refPages(t)
	for name, c := range map[string]struct {
		user  string
		flags string
		form  string // how the reference begins
		says  string // of the user
	}{
		"a braze_id":              {refBrazeID, "--page=acme", "b1-" + refBrazeID + "-", `braze_id     "` + refBrazeID + `"`},
		"by the page's id":        {refBrazeID, "--page=1029384756", "b1-", `page         acme (1029384756)`},
		"an external id":          {"ada@example.com", "--page=acme", "e1-YWRhQGV4YW1wbGUuY29t-", `external_id  "ada@example.com"`},
		"an external id as hex":   {refBrazeID, "--page=acme --form=e1", "e1-", `external_id  "` + refBrazeID + `"`},
		"an external id as it is": {"user-17", "--page=acme --form=x1", "x1-user-17-", `external_id  "user-17"`},
		"without an end":          {"user-17", "--page=nordwind --endless", "e1-dXNlci0xNw-0-", "expires      never"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := append(strings.Fields(c.flags), "--pages="+file)
			code, out, complaints := runCommand(t, append([]string{"ref", "new", c.user}, flags...)...)
			ref, link, _ := strings.Cut(strings.TrimSpace(out), "\n")
			if code != cli.ExitOK || complaints != "" || !strings.HasPrefix(ref, c.form) || !strings.HasPrefix(link, "https://m.me/") || !strings.HasSuffix(link, "?ref="+ref) {
				t.Fatalf("ref new: code %d, %q, %q", code, out, complaints)
			}
			keepsSecrets(t, out, marker)
			page := strings.Fields(c.flags)[0]
			for _, arg := range []string{ref, link, " " + link + "\n"} {
				code, out, complaints := runCommand(t, "ref", "check", arg, page, "--pages="+file)
				if code != cli.ExitOK || complaints != "" || !strings.Contains(out, c.says) || !strings.Contains(out, "fingerprint") {
					t.Errorf("ref check %s: code %d, %q, %q", arg, code, out, complaints)
				}
			}
		})
	}
}

// What a page does not accept is refused with the reason.
func TestRefCheckRefuses(t *testing.T) {
	t.Parallel()
	file := refPages(t)
	made := func(secret string, at time.Time) string {
		ref, err := webhook.NewRef([]byte(marker+"-"+secret), webhook.FormBrazeID, refBrazeID, at)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	now := time.Now()
	for name, c := range map[string]struct {
		ref, page string
		code      int
		says      string
	}{
		"the secret before":      {made("old", now), "acme", cli.ExitOK, ""},
		"of another page":        {made("old", now), "nordwind", cli.ExitFailed, "page nordwind: reference refused (forged)"},
		"too old":                {made("new", now.Add(-64*24*time.Hour)), "acme", cli.ExitFailed, "(expired)"},
		"made in the future":     {made("new", now.Add(time.Hour)), "acme", cli.ExitFailed, "(future)"},
		"never expires":          {made("new", time.Time{}), "acme", cli.ExitFailed, "(endless)"},
		"never expires, allowed": {made("new", time.Time{}), "nordwind", cli.ExitOK, ""},
		"no reference":           {"summer_sale", "acme", cli.ExitFailed, "(not_ours)"},
		"a page without secrets": {made("new", now), "plain", cli.ExitUsage, "page plain has no ref_secret_files"},
		"no such page":           {made("new", now), "nobody", cli.ExitUsage, `--page: "nobody" is neither an id nor a name`},
		"a missing secret":       {made("new", now), "missing", cli.ExitUsage, "none.secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, complaints := runCommand(t, "ref", "check", c.ref, "--page="+c.page, "--pages="+file)
			if code != c.code || !strings.Contains(complaints, c.says) || (c.code == cli.ExitOK) != (out != "") {
				t.Errorf("code %d, %q, %q", code, out, complaints)
			}
			keepsSecrets(t, out+complaints, marker)
		})
	}
}

func TestRefNewRefuses(t *testing.T) {
	t.Parallel()
	file := refPages(t)
	for _, c := range []struct{ user, flags, says string }{
		{"", "--page=acme", "it names nobody"},
		{"ada@example.com", "--page=acme --form=x1", "use form e1"},
		{"user-17", "--page=acme --form=b1", "24 hexadecimal digits"},
		{"user-17", "--page=acme --form=z1", "--form must be one of"},
		{"user-17", "", "--page"},
	} {
		code, out, complaints := runCommand(t, append([]string{"ref", "new", c.user, "--pages=" + file}, strings.Fields(c.flags)...)...)
		if code != cli.ExitUsage || out != "" || !strings.Contains(complaints, c.says) {
			t.Errorf("%q %s: code %d, %q, %q", c.user, c.flags, code, out, complaints)
		}
	}
	code, out, complaints := runCommand(t, "ref", "new", refBrazeID, "--page=acme", "--endless", "--pages="+file)
	if code != cli.ExitOK || !strings.HasPrefix(out, fmt.Sprintf("b1-%s-0-", refBrazeID)) || !strings.Contains(complaints, "ref_endless") {
		t.Errorf("endless where the page does not allow it: code %d, %q, %q", code, out, complaints)
	}
}

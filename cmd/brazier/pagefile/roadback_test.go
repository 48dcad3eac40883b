package pagefile

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/capture"
)

// roadBackFile has an app, a workspace and a page of both. Each line can be replaced in tests.
const roadBackFile = `apps:
  - name: acme-app
    secret_files: [app.secret, app-old.secret]
    verify_token_file: verify.token
braze:
  - name: eu
    url: https://rest.fra-01.braze.eu/
    key_file: braze.key
pages:
  - id: "1029384756"
    token_file: acme.token
    keys: [KEY1]
    app: acme-app
    braze: eu
    ref_secret_files: [ref.secret]
  - id: "5647382910"
    token_file: acme.token
    keys: [KEY2]
`

func roadBackDir(t *testing.T) string {
	dir := pageDir(t)
	for _, name := range []string{"app.secret", "app-old.secret", "verify.token", "braze.key", "ref.secret"} {
		writeFile(t, filepath.Join(dir, name), marker+"-"+name)
	}
	return dir
}

func TestRoadBack(t *testing.T) {
	t.Parallel()
	dir := roadBackDir(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	path := file("pages.yaml")
	writeFile(t, path, digests.Replace(roadBackFile))
	pages, err := Read(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	app := &App{Name: "acme-app", SecretFiles: []string{file("app.secret"), file("app-old.secret")}, VerifyTokenFile: file("verify.token"), Line: 2}
	workspace := &Workspace{Name: "eu", URL: "https://rest.fra-01.braze.eu", KeyFile: file("braze.key"), Line: 6,
		Events: map[capture.EventKind]string{capture.EventFailed: "messenger_failed"}}
	if diff := cmp.Diff([]*App{app}, Apps(pages)); diff != "" {
		t.Errorf("apps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]*Workspace{workspace}, Workspaces(pages)); diff != "" {
		t.Errorf("workspaces (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(References{SecretFiles: []string{file("ref.secret")}, MaxAge: 63 * 24 * time.Hour}, pages[0].References); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(capture.Attributes{MessengerID: "messenger_id", Window: "messenger_window_until", Reachable: "messenger_reachable"}, pages[0].Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if pages[1].Webhooks != nil || pages[1].Braze != nil || !HasRoadBack(pages) || HasRoadBack(pages[1:]) {
		t.Errorf("the page without braze: %+v", pages[1])
	}
}

func TestRoadBackFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ old, new, want string }{
		"no such app":             {"app: acme-app", "app: another", `10: page 1029384756: braze needs the page's app in the list "apps", whose secret verifies webhooks (app is "another")`},
		"no such workspace":       {"braze: eu", "braze: us", `10: page 1029384756: braze is "us", and no workspace of that name is in the list "braze"`},
		"no references":           {"    ref_secret_files: [ref.secret]\n", "", `10: page 1029384756: braze needs ref_secret_files, which verify the references in m.me links`},
		"an empty list":           {"ref_secret_files: [ref.secret]", "ref_secret_files: []", `15: ref_secret_files is empty: name at least one file`},
		"a missing file":          {"[ref.secret]", "[none.secret]", `15: ref_secret_files: `},
		"no key":                  {"    key_file: braze.key\n", "", `6: Braze workspace: key_file is missing: add it`},
		"no secret":               {"    secret_files: [app.secret, app-old.secret]\n", "", `2: app: secret_files is missing: add it`},
		"a URL without a scheme":  {"https://rest.fra-01.braze.eu/", "rest.fra-01.braze.eu", `7: url must be the REST endpoint of the Braze instance, such as https://rest.fra-01.braze.eu`},
		"a bad name":              {"name: eu", "name: e.u", `6: name "e.u" of a Braze workspace must have at most 32 letters, digits, - and _`},
		"Braze's own attribute":   {"braze: eu", "braze: eu\n    messenger_id: email", `15: messenger_id must not be one of Braze's own attributes (got "email")`},
		"one name twice":          {"braze: eu", "braze: eu\n    messenger_id: messenger_reachable", `10: page 1029384756: messenger_id, messenger_window_until and messenger_reachable must have different names`},
		"an unknown event":        {"key_file: braze.key", "key_file: braze.key\n    events: [failed, opened]", `9: events has "opened": known are sent, failed, delivered, read, linked, inbound`},
		"an event twice":          {"key_file: braze.key", "key_file: braze.key\n    events: [failed, failed]", `9: events has failed twice: remove one`},
		"events that are no list": {"key_file: braze.key", "key_file: braze.key\n    events: failed", `9: events is not a list: write events: [sent, failed, delivered, read, linked, inbound], or fewer of them`},
		"a name for nothing":      {"key_file: braze.key", "key_file: braze.key\n    event_names: {sent: fb_sent}", `6: Braze workspace: event_names has sent, and events has not: add it there`},
		"a name of no event":      {"key_file: braze.key", "key_file: braze.key\n    event_names: {opened: x}", `9: unknown field "opened" in event_names: known are delivered, failed, inbound, linked, read, sent`},
		"events of one name":      {"key_file: braze.key", "key_file: braze.key\n    events: [sent, read]\n    event_names: {sent: x, read: x}", `6: Braze workspace: the events sent and read have the same name "x"`},
		"a prefix of Braze's":     {"key_file: braze.key", "key_file: braze.key\n    event_prefix: $", `6: Braze workspace: name "$failed" of the event failed `},
		"an age of nothing":       {"braze: eu", "braze: eu\n    ref_max_age: 0d", `15: ref_max_age must be between 1m and 3650d (got "0d")`},
		"two apps of one name":    {"braze:\n  - name: eu", "  - name: acme-app\n    secret_files: [app.secret]\n    verify_token_file: verify.token\nbraze:\n  - name: eu", `5: duplicate app name "acme-app" (first on line 2)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := roadBackDir(t)
			path := filepath.Join(dir, "pages.yaml")
			if !strings.Contains(roadBackFile, tt.old) {
				t.Fatalf("the file has no %q", tt.old)
			}
			writeFile(t, path, digests.Replace(strings.Replace(roadBackFile, tt.old, tt.new, 1)))
			_, err := Read(path, Options{})
			if err == nil || !strings.Contains(err.Error(), path+":"+tt.want) || strings.Contains(err.Error(), marker) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]map[capture.EventKind]string{
		"":                     {"failed": "messenger_failed"},
		"events: []":           {},
		"events: [read, sent]": {"read": "messenger_read", "sent": "messenger_sent"},
		"event_prefix: fb.\n    events: [failed, inbound]\n    event_names: {failed: Bounced}": {"failed": "Bounced", "inbound": "fb.inbound"},
	} {
		path := filepath.Join(roadBackDir(t), "pages.yaml")
		writeFile(t, path, digests.Replace(strings.Replace(roadBackFile, "key_file: braze.key", "key_file: braze.key\n    "+fields, 1)))
		pages, err := Read(path, Options{})
		if err != nil {
			t.Fatalf("%q: %v", fields, err)
		}
		if diff := cmp.Diff(want, pages[0].Braze.Events); diff != "" {
			t.Errorf("%q (-want +got):\n%s", fields, diff)
		}
		if receipts := want[capture.EventRead] != ""; pages[0].HasReceipts() != receipts || pages[1].HasReceipts() {
			t.Errorf("%q: receipts %v and %v", fields, pages[0].HasReceipts(), pages[1].HasReceipts())
		}
	}
}

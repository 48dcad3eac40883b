package main

import (
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestLogCatalogue compares the events in the code with deploy/LOGS.md.
func TestLogCatalogue(t *testing.T) {
	logged := map[string]bool{}
	inCode := regexp.MustCompile(`"event", "([a-z_]+)"`)
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range inCode.FindAllStringSubmatch(string(source), -1) {
			logged[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	logged["accepted"], logged["duplicate"] = true, true // named by a variable in ingress
	catalogued := map[string]bool{}
	events := regexp.MustCompile("(?m)^\\| ((?:`[a-z_]+`(?:, )?)+) \\| (?:debug|info|warn|error)")
	for _, m := range events.FindAllStringSubmatch(read(t, "../../deploy/LOGS.md"), -1) {
		for _, name := range strings.Split(m[1], ", ") {
			catalogued[strings.Trim(name, "`")] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(catalogued)), slices.Sorted(maps.Keys(logged)); !slices.Equal(got, want) {
		t.Errorf("deploy/LOGS.md has %v,\nthe code logs %v", got, want)
	}
}

// TestREADMEForBraze posts what the README says to copy into Braze, as Braze would render it.
func TestREADMEForBraze(t *testing.T) {
	page := newTestPage("1029384756", "acme")
	readme := read(t, "../../README.md")
	liquid := strings.NewReplacer(
		"YOUR-KEY", page.key,
		"{{campaign.${api_id}}}", "campaign-api-id", "{{canvas.${api_id}}}", "",
		"{{campaign.${dispatch_id}}}", "dispatch-id", "{{campaign.${message_api_id}}}", "message-id",
		"{{${braze_id}}}", "braze-id", "{{custom_attribute.${messenger_id}}}", "2003004005006007",
		"{{${first_name} | default: 'there' | json_escape}}", `Ada \"the Countess\"`,
	)
	header := map[string]string{}
	for line := range strings.Lines(block(t, readme, "headers")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		header[strings.TrimSuffix(name, ":")] = liquid.Replace(value)
	}
	body := liquid.Replace(block(t, readme, "body"))

	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-format=json")
	client := &http.Client{}
	defer client.CloseIdleConnections()
	status, answer, err := post(client, r.log.await(t, "started")["address"].(string), page, body, header)
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	delivered := r.log.await(t, "delivered")
	if delivered["campaign"] != "campaign-api-id" || delivered["dispatch"] != "dispatch-id" || delivered["user"] != "braze-id" {
		t.Errorf("delivered line: %v", delivered)
	}
	if strings.Contains(body, "{{") {
		t.Errorf("the README has Liquid that this test does not know: %s", body)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// block is the fenced block of the README after the comment <!-- test: name -->.
func block(t *testing.T, readme, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readme, "<!-- test: "+name+" -->\n```\n")
	text, _, ok2 := strings.Cut(rest, "\n```")
	if !ok || !ok2 {
		t.Fatalf("the README has no block %s", name)
	}
	return text
}

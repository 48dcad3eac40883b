package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// TestLogCatalogue compares the events in the code with deploy/LOGS.md, which says what to do about each warning and error.
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
			if catalogued[strings.Trim(name, "`")] {
				t.Errorf("deploy/LOGS.md has %s twice", name)
			}
			catalogued[strings.Trim(name, "`")] = true
		}
	}
	alarming := regexp.MustCompile("(?m)^\\| (`[a-z_`, ]+`) \\| [a-z, ]*(?:warn|error)[a-z, ]* \\| (.*)$")
	for _, m := range alarming.FindAllStringSubmatch(read(t, "../../deploy/LOGS.md"), -1) {
		if !strings.Contains(strings.ToLower(m[2]), "to do") {
			t.Errorf("deploy/LOGS.md does not say what to do about %s", m[1])
		}
	}
	if got, want := slices.Sorted(maps.Keys(catalogued)), slices.Sorted(maps.Keys(logged)); !slices.Equal(got, want) {
		t.Errorf("deploy/LOGS.md has %v,\nthe code logs %v", got, want)
	}
}

// TestREADMEForBraze posts what the README says to copy into Braze, as Braze would render it.
func TestREADMEForBraze(t *testing.T) {
	t.Parallel()
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

// block is the fenced block of the README after the comment <!-- test: name -->, without its indentation.
func block(t *testing.T, readme, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)\n( *)<!-- test: " + name + " -->\n *```[a-z]*\n(.*?)\n *```").FindStringSubmatch(readme)
	if m == nil {
		t.Fatalf("the README has no block %s", name)
	}
	return strings.ReplaceAll(strings.TrimPrefix(m[2], m[1]), "\n"+m[1], "\n")
}

// TestREADMEForWebhooks serves with the page file that the README has for webhooks and the page of the section before, and
// verifies the URL of the webhook as Facebook does.
func TestREADMEForWebhooks(t *testing.T) {
	t.Parallel()
	readme := read(t, "../../README.md")
	_, first, _ := strings.Cut(readme, "<!-- ci: pages.yaml -->\n```yaml\n")
	first, _, ok := strings.Cut(first, "```")
	before, page, ok2 := strings.Cut(block(t, readme, "webhooks"), "pages:\n")
	if !ok || !ok2 {
		t.Fatal("the README has no page file, or none for webhooks")
	}
	id, fields, _ := strings.Cut(page, "\n")
	if !strings.HasPrefix(strings.TrimPrefix(first, "pages:\n"), id) {
		t.Errorf("the page for webhooks begins %q, and the page file is\n%s", id, first)
	}
	content := before + strings.ReplaceAll(first, "sha256:HEX", "sha256:"+strings.Repeat("0a", 32)) + fields + "\n"
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range regexp.MustCompile(`secrets/[a-z.-]+`).FindAllString(content, -1) {
		writeFile(t, filepath.Join(dir, file), "secret\n")
		if file != "secrets/acme.token" && !strings.Contains(readme, "> "+file) {
			t.Errorf("the README has no command that makes %s", file)
		}
	}
	path := filepath.Join(dir, "pages.yaml")
	writeFile(t, path, content)
	pages, err := pagefile.Read(path, pagefile.Options{})
	if err != nil || len(pages) != 1 || !pagefile.HasRoadBack(pages) {
		t.Fatalf("%d pages, error %v, of\n%s", len(pages), err, content)
	}
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+path,
		"--graph-url=http://127.0.0.1:1", "--log-format=json")
	at := r.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + at + "/webhook?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=secret")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if challenge, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(challenge) != "1158201444" {
		t.Errorf("Facebook is answered %d %q, error %v", resp.StatusCode, challenge, err)
	}
}

// TestREADMELink renders the Liquid of the README's link to Messenger, and checks the reference in it.
func TestREADMELink(t *testing.T) {
	t.Parallel()
	const user, secret = "5d1f2a3b4c5d6e7f8a9b0c1d", "a secret of the page"
	liquid := strings.NewReplacer("{{${braze_id}}}", "'"+user+"'", "REF-SECRET", secret).Replace(block(t, read(t, "../../README.md"), "link"))
	now := time.Now()
	link := renderLiquid(t, liquid, now)
	u, err := url.Parse(link)
	if err != nil || u.Host != "m.me" {
		t.Fatalf("link %q, error %v", link, err)
	}
	policy := webhook.RefPolicy{Secrets: [][]byte{[]byte(secret)}}
	if ref, err := policy.Check(u.Query().Get("ref"), now); err != nil || ref.ID != user || ref.Form != webhook.FormBrazeID || ref.Made.Unix() != now.Unix() {
		t.Errorf("reference %+v, error %v, of %s", ref, err, link)
	}
}

// renderLiquid knows as much of Liquid as the README's link needs: assign, output, and the filters of Braze's documentation.
func renderLiquid(t *testing.T, source string, now time.Time) string {
	t.Helper()
	variables := map[string]string{"'now'": now.String()}
	value := func(text string) string {
		if v, ok := variables[text]; ok {
			return v
		}
		if !strings.HasPrefix(text, "'") || !strings.HasSuffix(text, "'") {
			t.Fatalf("Liquid has no variable %s", text)
		}
		return strings.Trim(text, "'")
	}
	expression := func(text string) string {
		steps := strings.Split(text, "|")
		result := value(strings.TrimSpace(steps[0]))
		for _, step := range steps[1:] {
			name, argument, _ := strings.Cut(strings.TrimSpace(step), ": ")
			switch argument = value(argument); {
			case name == "append":
				result += argument
			case name == "date" && argument == "%s":
				result = strconv.FormatInt(now.Unix(), 10)
			case name == "hmac_sha256_hex":
				mac := hmac.New(sha256.New, []byte(argument))
				mac.Write([]byte(result))
				result = hex.EncodeToString(mac.Sum(nil))
			default:
				t.Fatalf("unknown filter %q", step)
			}
		}
		return result
	}
	tag := regexp.MustCompile(`\{% assign (\w+) = (.*?) %\}|\{\{(.*?)\}\}`)
	return tag.ReplaceAllStringFunc(source, func(found string) string {
		m := tag.FindStringSubmatch(found)
		if m[1] == "" {
			return expression(m[3])
		}
		variables[m[1]] = expression(m[2])
		return ""
	})
}

// TestDocLinks follows the links from document to document, and to headings.
func TestDocLinks(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../../deploy/*.md")
	if err != nil {
		t.Fatal(err)
	}
	documents = append(documents, "../../README.md")
	headings := map[string]map[string]bool{} // by path
	notInAnchor := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, path := range documents {
		headings[path] = map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(read(t, path), -1) {
			headings[path][strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
	}
	for _, path := range documents {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(read(t, path), -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, m[1])
			} else if m[2] != "" && !headings[target][m[2]] {
				t.Errorf("%s links to the heading #%s, which %s does not have", path, m[2], target)
			}
		}
	}
}

package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// serve and the commands beside it open a directory with its key alone, and name the flag and the remedy otherwise. The key is in no log.
func TestDataKeyFile(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	dir := t.TempDir()
	pages, data := "--pages="+writePages(t, page), filepath.Join(dir, "data")
	keyFile := func(name, content string) string {
		writeFile(t, filepath.Join(dir, name), content+"\n")
		return "--data-key-file=" + filepath.Join(dir, name)
	}
	right, wrong := keyFile("right", strings.Repeat("5ecret", 8)), keyFile("wrong", strings.Repeat("0ther0", 8))
	serve := func(args ...string) *role {
		return startRole(t, append([]string{"serve", "--listen=127.0.0.1:0", "--ops-listen=off", pages, "--graph-url=http://127.0.0.1:1", "--log-format=json"}, args...)...)
	}
	r := serve("--data="+data, right)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	if status, answer, err := post(client, r.log.await(t, "started")["address"].(string), page, message("2003004005006007", "Hello-Ada"), nil); err != nil || status != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	if got := command(t, "", "status", pages, "--data="+data); got.code != cli.ExitOK || !regexp.MustCompile(`acme +open +1 `).MatchString(got.out) {
		t.Errorf("status beside serve needs no key: %+v", got)
	}
	if code := r.end(); code != cli.ExitOK {
		t.Fatalf("exit code %d", code)
	}
	keepsSecrets(t, r.log.String(), "5ecret5ecret")
	if out, err := exec.Command("grep", "-rla", "Hello-Ada", data).CombinedOutput(); err == nil {
		t.Errorf("readable in %s", out)
	}

	plain := filepath.Join(dir, "plain")
	unencrypted := serve("--data=" + plain)
	unencrypted.log.await(t, "started")
	unencrypted.end()
	for _, c := range []struct{ data, key, want string }{
		{data, "", "--data: embedded: " + data + ": its files are encrypted: name the file of their key with --data-key-file"},
		{data, wrong, "--data-key-file: embedded: " + data + ": its files are encrypted with another key: name the file with the key"},
		{plain, right, "--data-key-file: embedded: " + plain + ": its files are not encrypted, and cannot be encrypted in place"},
	} {
		given := slices.DeleteFunc([]string{"--data=" + c.data, c.key}, func(arg string) bool { return arg == "" })
		refused := serve(given...)
		refused.log.await(t, "failed")
		if code := refused.end(); code != cli.ExitUsage || !strings.Contains(refused.log.String(), c.want) {
			t.Errorf("serve %s %s: code %d, no %q in\n%s", c.data, c.key, code, c.want, refused.log.String())
		}
		if got := command(t, "", append([]string{"status", pages}, given...)...); got.code != cli.ExitUsage || !strings.Contains(got.err, c.want) {
			t.Errorf("status %s %s: %+v", c.data, c.key, got)
		}
	}
	if got := command(t, "", "status", pages, "--data="+data, right); !regexp.MustCompile(`acme +open +1 `).MatchString(got.out) {
		t.Errorf("status with the key: %+v", got)
	}
}

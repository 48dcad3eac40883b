package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// The password of a user of deploy/nats-users.conf comes from a file, for roles and for commands. It is in no log and no output, and a
// wrong one ends the role with the remedy.
func TestNATSPasswordFile(t *testing.T) {
	t.Parallel()
	address, _ := startDeployedNATS(t)
	dir := t.TempDir()
	page := newTestPage("1029384756", "acme")
	pages, url := "--pages="+writePages(t, page), "--nats-url=nats://"+address
	as := func(user, password string) []string {
		path := filepath.Join(dir, password)
		writeFile(t, path, password+"\n")
		return []string{url, "--nats-user=" + user, "--nats-password-file=" + path}
	}
	if printed := runSetup(t, cli.ExitOK, as("operator", "poperator")...); len(printed) == 0 {
		t.Error("setup prints nothing")
	}
	ingress := []string{"ingress", pages, "--listen=127.0.0.1:0", "--ops-listen=off", "--log-format=json"}
	r := startRole(t, append(ingress, as("ingress", "pingress")...)...)
	r.log.await(t, "started")
	got := command(t, "", append([]string{"status", pages}, as("operator", "poperator")...)...)
	if got.code != cli.ExitOK || !strings.Contains(got.out, "Nothing needs a person.") {
		t.Errorf("status: %+v", got)
	}
	code, out, _ := runCommand(t, append([]string{"check", pages, "--graph-version=v99.0"}, as("ingress", "pingress")...)...)
	rows := settings(out)
	if code != cli.ExitOK || rows["nats-user"] != "ingress" || rows["nats-password-file"] != filepath.Join(dir, "pingress") {
		t.Errorf("check: code %d\n%s", code, out)
	}
	wrong := startRole(t, append(ingress, as("ingress", "wrong-secret")...)...)
	wrong.log.await(t, "stopped")
	if code := wrong.end(); code != cli.ExitFailed {
		t.Errorf("a wrong password: exit code %d, log\n%s", code, wrong.log.String())
	}
	keepsSecrets(t, wrong.log.String(), `"wrong-secret"`, "wrong-secret@")
	for _, both := range [][]string{{"--nats-url=nats://u:p@" + address}, {"--nats-nkey=" + filepath.Join(dir, "none")}} {
		got := command(t, "", append(append([]string{"status", pages}, as("operator", "poperator")...), both...)...)
		if got.code != cli.ExitUsage || !strings.Contains(got.err, "must not be set beside") {
			t.Errorf("with %s: %+v", both, got)
		}
	}
}

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
)

// serve tells systemd that it is open, again and again that it lives, and that it stops.
func TestSystemdIsTold(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	page := newTestPage("1029384756", "acme")
	environment := append(os.Environ(), "NOTIFY_SOCKET="+at, "WATCHDOG_USEC=200000")
	p := startProcessWith(t, environment, "brazier", "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--pages="+writePages(t, page),
		"--data="+t.TempDir(), "--graph-url=http://127.0.0.1:1", "--log-format=json")
	told := func() string {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(settleTimeout)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatalf("nothing is told: %v, log\n%s", err, p.log.String())
		}
		return string(b[:n])
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
		p.log.await(t, "started")
	}
	p.signal(os.Interrupt)
	for told() != "STOPPING=1" {
	}
	if code := p.exit(); code != cli.ExitOK || len(p.log.events("systemd_error")) > 0 {
		t.Errorf("exit code %d, log\n%s", code, p.log.String())
	}
}

// deploy/brazier.service is a unit that systemd takes, runs what this program knows, and leaves it few rights.
func TestDeploySystemd(t *testing.T) {
	unit := read(t, "../../deploy/brazier.service")
	setting := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("no %s", name)
		}
		return m[1]
	}
	command := strings.Fields(setting("ExecStart"))
	flags := parseFlags(t, command[1:])
	if !slices.Contains(command, "--data-key-file=${CREDENTIALS_DIRECTORY}/secrets_data.key") || flags["data"] != "/var/lib/"+setting("StateDirectory") {
		t.Errorf("flags %v", flags)
	}
	for name, least := range map[string]time.Duration{"TimeoutStopSec": process.ShutdownBudget, "WatchdogSec": 10 * time.Second} {
		if d, err := time.ParseDuration(setting(name)); err != nil || d <= least {
			t.Errorf("%s is %v, %v: must be above %v", name, d, err, least)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("systemd-analyze is not on this machine: the unit was read by this test alone")
		return
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "brazier.service")
	writeFile(t, path, strings.Replace(unit, command[0], filepath.Join(bin, "brazier"), 1))
	for _, args := range [][]string{{"verify", path}, {"security", "--offline=true", "--no-pager", "--threshold=20", path}} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %v: %v\n%s", args, err, out)
		}
	}
}

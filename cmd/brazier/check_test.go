package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/google/go-cmp/cmp"
)

// runCommand runs a command to its end and returns what it wrote.
func runCommand(t *testing.T, args ...string) (code int, out, complaints string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = execute(t.Context(), args, cli.Stdio{Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

// goodPages writes a page file without a fault and returns its path.
func goodPages(t *testing.T) string {
	t.Helper()
	t.Setenv("BRAZIER_TEST_TOKEN", marker+"-token-from-variable")
	path := filepath.Join(pageDir(t), "pages.yaml")
	writeFile(t, path, digests.Replace(`pages:
  - id: "1029384756"
    name: acme
    token_file: acme.token
    app_secret_file: acme.secret
    keys: [KEY1, KEY2]
    rate: 12.5
  - id: "5647382910"
    token: ${BRAZIER_TEST_TOKEN}
    keys: ["sha256:`+strings.Repeat("0a", 32)+`"]
    in_doubt: park
    expire: 1h
`))
	return path
}

// settings reads what check prints: the rows before the pages, and those of each page under its name.
func settings(out string) map[string]string {
	rows := make(map[string]string)
	page := ""
	row := regexp.MustCompile(`^( *\S.*?)  +(.*)$`)
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "page "); ok {
			page = name
		} else if m := row.FindStringSubmatch(line); m != nil {
			name := strings.TrimSpace(m[1])
			if m[1] != name {
				name = page + " " + name
			}
			rows[name] = m[2]
		}
	}
	return rows
}

func TestCheckPrintsSettings(t *testing.T) {
	pages := goodPages(t)
	t.Setenv("BRAZIER_STORE_WAIT", "20s")
	t.Setenv("BRAZIER_LOG_LEVEL", "debug")
	t.Setenv("BRAZIER_LISTEN", "0.0.0.0:80")
	t.Setenv("BRAZIER_NATS_URL", "nats://brazier:"+marker+"@nats-1:4222,"+marker+"@nats-2:4222, nats-3")
	t.Setenv("BRAZIER_NATS_CREDS", filepath.Join(filepath.Dir(pages), "acme.secret"))
	t.Setenv("BRAZIER_GRAPH_INSECURE", "true")
	t.Setenv("BRAZIER_ALLOW_FROM", "203.0.113.0/24, 2001:db8::1")
	// A flag counts where both are set. The version is one that will be long in coming.
	code, out, complaints := runCommand(t, "check", "--pages="+pages, "--listen=0.0.0.0:8443", "--graph-version=v99.0", "--data=/var/lib/brazier", "--sync=interval")
	if code != cli.ExitOK || complaints != "" {
		t.Errorf("code %d, complaints %q\n%s", code, complaints, out)
	}
	keepsSecrets(t, out, marker, fmt.Sprintf("%x", sha256.Sum256([]byte("key 1"))), strings.Repeat("0a", 32))
	dir := filepath.Dir(pages)
	want := map[string]string{
		"version": cli.Version(), "listen": "0.0.0.0:8443", "tls-cert": "none", "tls-key": "none", "allow-from": "203.0.113.0/24,2001:db8::1/128", "trusted-proxy": "none",
		"max-body": "256KiB", "max-waiting": "8192", "max-waiting-bytes": "64MiB", "max-connections": "16384", "pprof": "false", "store-wait": "20s", "ops-listen": "127.0.0.1:8081",
		"graph-url": "https://graph.facebook.com", "graph-version": "v99.0", "graph-insecure": "true", "send-timeout": "1m30s", "slow-start": "1m0s", "graph-slow": "5s", "probe-every": "30m0s",
		"nats-url":   "nats://xxxxx@nats-1:4222,nats://xxxxx@nats-2:4222,nats://nats-3  (ingress and worker)",
		"nats-creds": dir + "/acme.secret", "nats-ca": "none", "replicas": "0",
		"nats-user": "none", "nats-password-file": "none", "nats-nkey": "none", "nats-cert": "none", "nats-key": "none",
		"data": "/var/lib/brazier  (serve)", "data-key-file": "none  (serve)", "sync": "interval  (serve)", "max-queue": "10GiB", "dead-age": "720h0m0s", "max-updates": "4GiB", "receipts-for": "168h0m0s", "key-window": "2h0m0s",
		"log-level": "debug", "log-format": "auto", "log-keys": "default", "pages": pages,
		"acme id": "1029384756", "acme token": "from " + dir + "/acme.token", "acme app secret": "from " + dir + "/acme.secret",
		"acme keys": "2", "acme rate": "12.5 calls/s, all workers together", "acme media rate": "10 calls/s, all workers together", "acme metadata": "false",
		"acme queue share": "50% of what other pages leave", "5647382910 queue share": "50% of what other pages leave",
		"acme max in flight": "64", "acme in doubt": "resend, 1 times at most, then park", "acme expire": "24h0m0s",
		"5647382910 id": "5647382910", "5647382910 token": "set, masked", "5647382910 keys": "1",
		"5647382910 rate": "40 calls/s, all workers together", "5647382910 media rate": "10 calls/s, all workers together", "5647382910 metadata": "false",
		"5647382910 max in flight": "64", "5647382910 in doubt": "park", "5647382910 expire": "1h0m0s",
	}
	if diff := cmp.Diff(want, settings(out)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(out, "\nNothing is wrong.\n") {
		t.Errorf("the end is %q", out[max(0, len(out)-100):])
	}
}

func TestCheckFindsAllFaults(t *testing.T) {
	pages := filepath.Join(pageDir(t), "pages.yaml")
	writeFile(t, pages, "pages:\n  - id: acme\n    token: "+marker+"\n    rate: 999\n    keys: ["+marker+"]\n")
	args := []string{"check", "--pages=" + pages, "--listen=8080", "--ops-listen=localhost:http-ops", "--graph-url=ftp://u:" + marker + "@graph.example?access_token=" + marker,
		"--max-waiting=0", "--max-waiting-bytes=1", "--max-connections=0", "--tls-cert=/none",
		"--graph-version=v2.7", "--nats-url=nats://,nats://u:" + marker + ",x@y:4222", "--nats-ca=/none", "--store-wait=2m", "--max-body=2"}
	t.Setenv("BRAZIER_LISTENS", marker)
	code, out, complaints := runCommand(t, args...)
	if code != cli.ExitFailed || complaints != "" {
		t.Errorf("code %d, complaints %q", code, complaints)
	}
	_, wrong, _ := strings.Cut(out, "\nWrong (")
	for _, want := range []string{
		pages + `:2: id "acme" is not a Facebook page id: digits only, as in the page's About section`,
		pages + `:4: rate must be between 0.1 and 300, Facebook's limit of calls a second (got "999")`,
		pages + `:5: a key is not "sha256:" and 64 hexadecimal digits: take it from brazier keys new, or from printf %s KEY | sha256sum`,
		`--graph-url: `,
		`--listen: must be HOST:PORT (got "8080")`,
		`--ops-listen: must be HOST:PORT or off (got "localhost:http-ops")`,
		`--nats-url: must be addresses of the form nats://HOST:PORT, separated by commas`,
		`--nats-ca: open /none: no such file or directory: check the path and its permissions`,
		`--store-wait: must be at most 1m20s, since Braze abandons a request after 90s (got 2m0s)`,
		`--max-waiting: must be above 0 (got 0)`,
		`--max-waiting-bytes: must be at least the size of the largest body, 2, or that body is never accepted (got 1)`,
		`--max-connections: must be above 0 (got 0)`,
		`--tls-key: is required with --tls-cert`,
	} {
		if !strings.Contains(wrong, "\n  "+want) {
			t.Errorf("not found: %s", want)
		}
	}
	if !strings.HasPrefix(wrong, "13):\n") || strings.Count(wrong, "\n  ") != 13 {
		t.Errorf("the number is not 13: %s", wrong)
	}
	for _, want := range []string{"--graph-version: Graph API v2.7 ended long ago: choose a newer version", "BRAZIER_LISTENS: no flag has this variable: check its spelling, or unset it"} {
		if before, _, _ := strings.Cut(out, "\nWrong ("); !strings.Contains(before, "\n  "+want) {
			t.Errorf("no warning: %s", want)
		}
	}
	keepsSecrets(t, out, marker)
	if _, again, _ := runCommand(t, args...); again != out {
		t.Errorf("the second time it prints something else:\n%s\n%s", out, again)
	}
}

// A page whose max_in_flight caps its rate gets a warning from check and from the roles that send, and is no fault.
func TestCappedRates(t *testing.T) {
	path := filepath.Join(pageDir(t), "pages.yaml")
	page := func(id, name, extra string) string {
		return fmt.Sprintf("  - {id: %q, name: %s, token: %s-token, keys: [\"sha256:%064s\"]%s}\n", id, name, marker, id, extra)
	}
	writeFile(t, path, "pages:\n"+page("1", "capped", ", rate: 300, max_in_flight: 64")+page("2", "enough", ", rate: 80, max_in_flight: 64")+
		page("3", "left-out", ", rate: 300")+page("4", "media", ", rate: 1, max_in_flight: 7"))
	want := []string{
		path + ":2: page capped: max_in_flight 64 caps rate 300 at 80 calls/s for each worker, since a call takes Facebook about 800ms: leave max_in_flight out, or make it 240 or more",
		path + ":5: page media: max_in_flight 7 caps media_rate 10 at 8.75 calls/s for each worker, since a call takes Facebook about 800ms: leave max_in_flight out, or make it 8 or more",
	}
	code, out, _ := runCommand(t, "check", "--pages="+path, "--graph-version=v99.0", "--graph-url=http://127.0.0.1:1")
	if code != cli.ExitOK || !strings.Contains(out, "\nWarnings (2):\n  "+want[0]+"\n  "+want[1]+"\n\nNothing is wrong.\n") {
		t.Errorf("code %d\n%s", code, out)
	}
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+path, "--graph-url=http://127.0.0.1:1", "--log-format=json")
	r.log.await(t, "started")
	lines := r.log.events("rate_capped")
	if len(lines) != 2 || lines[0]["page"] != "capped" || lines[0]["setting"] != "rate" || lines[0]["capped_at"] != 80.0 || lines[0]["needed"] != 240.0 || lines[1]["page"] != "media" {
		t.Errorf("rate_capped lines: %v", lines)
	}
}

func TestCheckAddresses(t *testing.T) {
	pages := goodPages(t)
	for _, c := range []struct {
		listen, ops string
		want        string
	}{
		{"127.0.0.1:0", "127.0.0.1:0", ""},
		{":8080", "off", ""},
		{"[::1]:8080", "localhost:http", ""},
		{":8080", ":8080", `--ops-listen: must not be the address of --listen (got ":8080")`},
		{"off", "off", `--listen: must be HOST:PORT (got "off")`},
		{"127.0.0.1:70000", "off", `--listen: must have a port between 0 and 65535 (got "127.0.0.1:70000")`},
		{"127.0.0.1", "off", `--listen: must be HOST:PORT (got "127.0.0.1")`},
	} {
		code, out, _ := runCommand(t, "check", "--pages="+pages, "--graph-version=v99.0", "--listen="+c.listen, "--ops-listen="+c.ops)
		if (code == cli.ExitOK) != (c.want == "") || !strings.Contains(out, c.want) {
			t.Errorf("--listen %s --ops-listen %s: code %d\n%s", c.listen, c.ops, code, out)
		}
	}
}

func TestCheckWithoutPageFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pages.yaml")
	code, out, _ := runCommand(t, "check", "--pages="+path)
	if code != cli.ExitFailed || !strings.Contains(out, "--pages: page file "+path+" does not exist: name yours with --pages; the README shows one to copy") {
		t.Errorf("code %d\n%s", code, out)
	}
}

// The roles refuse what check refuses, before they start anything.
func TestRolesRefuseWrongSettings(t *testing.T) {
	good := goodPages(t)
	bad := filepath.Join(t.TempDir(), "pages.yaml")
	writeFile(t, bad, "pages:\n  - id: acme\n    token: "+marker+"-token\n    rate: 0\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	data := t.TempDir()
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"serve", "--pages=" + bad}, []string{bad + ":2: ", bad + ":4: "}},
		{[]string{"ingress", "--pages=" + bad}, []string{bad + ":2: ", bad + ":4: "}},
		{[]string{"worker", "--pages=" + bad}, []string{bad + ":2: ", bad + ":4: "}},
		{[]string{"sandbox", "--pages=" + bad}, []string{bad + ":2: ", bad + ":4: "}},
		{[]string{"serve", "--pages=" + good + "-not"}, []string{good + "-not does not exist"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--graph-url=http://graph.example"}, []string{"--graph-url", "https://"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=" + address}, []string{"--ops-listen: ", address, "give this process another address, or off"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--listen=" + address}, []string{"--listen: ", address}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--max-waiting=-1"}, []string{"--max-waiting: must not be negative (got -1)"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--max-waiting-bytes=1"}, []string{"--max-waiting-bytes: must be at least the size of the largest body, 262144"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--max-connections=-1"}, []string{"--max-connections: must not be negative (got -1)"}},
		{[]string{"serve", "--pages=" + good, "--data=" + data, "--ops-listen=off", "--tls-key=" + good}, []string{"--tls-cert: is required with --tls-key"}},
		{[]string{"demo", "--messages=1"}, []string{"--messages: must be between 20 and 100000 (got 1)"}},
	} {
		code, out, complaints := runCommand(t, c.args...)
		if code != cli.ExitUsage || out != "" {
			t.Errorf("%v: code %d, out %q", c.args, code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(complaints, want) {
				t.Errorf("%v: complaints do not hold %q:\n%s", c.args, want, complaints)
			}
		}
		keepsSecrets(t, complaints, marker)
	}
}

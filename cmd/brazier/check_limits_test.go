package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// check and the roles judge every flag alike, at its limits and on both sides of them.
func TestCheckAgreesWithRoles(t *testing.T) {
	t.Parallel()
	pages := goodTokenPages(t)
	file := filepath.Join(filepath.Dir(pages), "acme.token")
	known := newParser(t).Model.Children
	all := []string{"serve", "ingress", "worker"}
	accepts, stores, sends, nats, serve := all[:2], all, []string{"serve", "worker"}, all[1:], all[:1]
	for _, c := range []struct {
		roles     []string
		flag      string
		good, bad []string
	}{
		{roles: accepts, flag: "--listen", good: []string{"127.0.0.1:0", ":0", "[::1]:0"}, bad: []string{"", "off", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1"}},
		{roles: accepts, flag: "--max-body", good: []string{"1", "64MiB"}, bad: []string{"0", "-1", "ten"}},
		{roles: accepts, flag: "--max-waiting", good: []string{"1"}, bad: []string{"0", "-1", "1.5"}},
		{roles: accepts, flag: "--max-waiting-bytes", good: []string{"256KiB", "262144"}, bad: []string{"0", "-1", "262143"}},
		{roles: accepts, flag: "--max-connections", good: []string{"1"}, bad: []string{"0", "-1"}},
		{roles: accepts, flag: "--store-wait", good: []string{"1ns", "80s"}, bad: []string{"0s", "-1s", "80001ms", "1"}},
		{roles: accepts, flag: "--allow-from", good: []string{"203.0.113.7", "203.0.113.0/24,::1"}, bad: []string{"203.0.113", "here"}},
		{roles: accepts, flag: "--trusted-proxy", good: []string{"203.0.113.7"}, bad: []string{"203.0.113.0/33"}},
		{roles: accepts, flag: "--tls-cert", bad: []string{file, filepath.Join(filepath.Dir(file), "none")}},
		{roles: accepts, flag: "--tls-key", bad: []string{file}},
		{roles: sends, flag: "--graph-url", good: []string{"http://127.0.0.1:1", "https://graph.example"}, bad: []string{"http://graph.example", "graph.example", "ftp://graph.example", "https://graph.example/v25.0"}},
		{roles: sends, flag: "--graph-version", good: []string{"v99.0"}, bad: []string{"25", "v25", "latest"}},
		{roles: sends, flag: "--send-timeout", good: []string{"1ns", "1d"}, bad: []string{"0s", "-1s"}},
		{roles: sends, flag: "--graph-slow", good: []string{"1ms", "1m"}, bad: []string{"0s", "-1s"}},
		{roles: sends, flag: "--slow-start", good: []string{"0s", "1h"}, bad: []string{"-1s"}},
		{roles: sends, flag: "--probe-every", good: []string{"1ns", "3d"}, bad: []string{"0s", "-1s"}},
		{roles: nats, flag: "--nats-url", good: []string{"nats://127.0.0.1:1", "127.0.0.1:1, 127.0.0.1:2"}, bad: []string{"nats://", "nats://127.0.0.1:1,", "nats://a b"}},
		{roles: nats, flag: "--nats-creds", bad: []string{filepath.Join(filepath.Dir(file), "none")}},
		{roles: nats, flag: "--nats-user", bad: []string{"worker"}}, // without a password
		{roles: nats, flag: "--nats-password-file", bad: []string{file, filepath.Join(filepath.Dir(file), "none")}},
		{roles: nats, flag: "--nats-nkey", bad: []string{file, filepath.Join(filepath.Dir(file), "none")}},
		{roles: nats, flag: "--nats-cert", bad: []string{file, filepath.Join(filepath.Dir(file), "none")}},
		{roles: nats, flag: "--nats-key", bad: []string{file}},
		{roles: nats, flag: "--nats-ca", bad: []string{filepath.Join(filepath.Dir(file), "none")}},
		{roles: nats, flag: "--replicas", good: []string{"0", "1", "5"}, bad: []string{"-1", "6"}},
		{roles: stores, flag: "--max-queue", good: []string{"1MiB", "1TiB"}, bad: []string{"0", "-1", "1048575"}},
		{roles: stores, flag: "--dead-age", good: []string{"1m", "52w"}, bad: []string{"0s", "-1m", "59s"}},
		{roles: stores, flag: "--key-window", good: []string{"1s", "3d"}, bad: []string{"0s", "-1s", "999ms"}},
		{roles: stores, flag: "--ops-listen", good: []string{"off", "127.0.0.1:0"}, bad: []string{"on", "127.0.0.1", "127.0.0.1:65536"}},
		{roles: serve, flag: "--data-key-file", bad: []string{file, filepath.Join(filepath.Dir(file), "none")}}, // too short, and missing
		{roles: serve, flag: "--sync", good: []string{"always", "interval"}, bad: []string{"never", "sometimes"}},
	} {
		if underRace() { // it makes each of them ten times as slow, and has nothing to find in the others
			c.good, c.bad = c.good[:min(len(c.good), 1)], c.bad[:min(len(c.bad), 1)]
		}
		for _, value := range append(c.good, c.bad...) {
			bad := len(c.bad) > 0 && strings.Contains("\n"+strings.Join(c.bad, "\n")+"\n", "\n"+value+"\n")
			args := []string{"--pages=" + pages, "--ops-listen=off", "--graph-url=http://127.0.0.1:1", "--listen=127.0.0.1:0", c.flag + "=" + value}
			code, out, complaints := runCommand(t, append([]string{"check"}, args...)...)
			if (code != cli.ExitOK) != bad || bad && !strings.Contains(out+complaints, c.flag) {
				t.Errorf("check %s=%s: code %d\n%s%s", c.flag, value, code, out, complaints)
			}
			for _, role := range c.roles {
				if refused := refusedBy(t, known, role, c.flag, args); refused != bad {
					t.Errorf("%s %s=%s: refused %v, by check %v", role, c.flag, value, refused, bad)
				}
			}
		}
	}
}

// refusedBy reports whether a role refuses a flag before it starts anything. Its page file is missing, so that it starts
// nothing in any case.
func refusedBy(t *testing.T, roles []*kong.Node, role, flag string, args []string) bool {
	t.Helper()
	taken := []string{role}
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if hasFlag(roles, role, name) && name != "pages" {
			taken = append(taken, arg)
		}
	}
	code, out, complaints := runCommand(t, append(taken, "--pages="+filepath.Join(t.TempDir(), "none.yaml"))...)
	if code != cli.ExitUsage || out != "" {
		t.Errorf("%v: code %d %s", taken, code, out)
	}
	return strings.Contains(complaints, flag)
}

func hasFlag(roles []*kong.Node, role, name string) bool {
	for _, node := range roles {
		if node.Name == role {
			return slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name })
		}
	}
	return false
}

// goodTokenPages is a page file for any Send API.
func goodTokenPages(t *testing.T) string {
	t.Helper()
	return writePages(t, newTestPage("1029384756", "acme"))
}

// check warns of what works, and most likely not as it was meant to.
func TestCheckWarns(t *testing.T) {
	t.Parallel()
	pages := goodTokenPages(t)
	dir := filepath.Dir(pages)
	if err := os.Chmod(filepath.Join(dir, "acme.secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	warned := func(args ...string) string {
		code, out, complaints := runCommand(t, append([]string{"check", "--pages=" + pages, "--graph-version=v99.0", "--data=" + filepath.Join(dir, "none")}, args...)...)
		if code != cli.ExitOK {
			t.Errorf("%v: code %d\n%s%s", args, code, out, complaints)
		}
		return out
	}
	out := warned()
	for _, want := range []string{
		"page acme: the token is not of the form of a page access token (EAA and many more characters): is it a placeholder?",
		"page acme: every user of this machine can read " + filepath.Join(dir, "acme.secret") + ": run chmod o-r on it",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no warning: %s\n%s", want, out)
		}
	}
	keepsSecrets(t, out, newTestPage("1029384756", "acme").token)
	writeFile(t, filepath.Join(dir, "acme.token"), "EAA"+strings.Repeat("x", 60))
	if err := os.Chmod(filepath.Join(dir, "acme.secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	if out := warned(); strings.Contains(out, "Warnings") {
		t.Errorf("without a reason:\n%s", out)
	}

	shared := filepath.Join(dir, "shared")
	writeFile(t, shared, strings.Repeat("0a", 32))
	if err := os.Chmod(shared, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--nats-password-file", "--data-key-file"} {
		args := []string{flag + "=" + shared}
		if flag == "--nats-password-file" {
			args = append(args, "--nats-user=worker")
		}
		if want := flag + ": every user of this machine can read " + shared; !strings.Contains(warned(args...), want) {
			t.Errorf("no warning: %s", want)
		}
	}

	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for left, want := range map[time.Duration]string{
		-time.Hour: "--tls-cert: the certificate has expired at ", 13 * 24 * time.Hour: ", in 13 days: renew it", 15 * 24 * time.Hour: "",
	} {
		certPEM, keyPEM := newPair(t, time.Now().Add(left+time.Minute))
		writeFile(t, cert, certPEM)
		writeFile(t, key, keyPEM)
		if out := warned("--tls-cert="+cert, "--tls-key="+key); !strings.Contains(out, want) || strings.Contains(out, "Warnings") != (want != "") {
			t.Errorf("a certificate of %v: no %q\n%s", left, want, out)
		}
	}
}

// check compares the flags with the streams where NATS runs.
func TestCheckWarnsOfDrift(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	server := startProcess(t, "nats-server", "-js", "-sd", t.TempDir(), "-a", host, "-p", port)
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://" + address, MaxBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	args := []string{"check", "--pages=" + goodTokenPages(t), "--graph-url=http://127.0.0.1:1", "--data=" + t.TempDir(), "--nats-url=nats://" + address}
	eventually(t, "a warning of another size", func() bool { // check gives NATS 2 s to answer
		_, out, _ := runCommand(t, append(args, "--max-queue=3MiB")...)
		return strings.Contains(out, "BRAZIER_JOBS: max_bytes is 2097152, not 3145728 as the flags say: change it with \"brazier setup\", or correct the flag")
	})
	if _, out, _ := runCommand(t, append(args, "--max-queue=2MiB")...); strings.Contains(out, "Warnings") {
		t.Errorf("without a reason:\n%s", out)
	}
}

// version says what the binary was built of.
func TestVersion(t *testing.T) {
	t.Parallel()
	code, out, complaints := runCommand(t, "version")
	for _, want := range []string{"brazier ", "commit ", "Go ", "NATS server  v2.", "NATS client  v1."} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q: code %d\n%s%s", want, code, out, complaints)
		}
	}
}

// newPair makes a certificate for 127.0.0.1 that signs itself, and its key, as PEM.
func newPair(t *testing.T, notAfter time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "brazier.example"}, NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", secret)
}

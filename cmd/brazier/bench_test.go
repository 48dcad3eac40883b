package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/bench"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestBench runs the command as people do, with processes of its own, and leaves nothing behind.
func TestBench(t *testing.T) {
	t.Parallel()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	const messages = 300
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "brazier"), "bench", "--messages="+strconv.Itoa(messages), "--connections=16", "--page-count=3", "--rate=2000", "--json", "--dir="+dir)
	cmd.Env = append(os.Environ(), "BRAZIER_MAX_QUEUE=nonsense") // what it starts has its own settings
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), complaints.String())
	}
	var got bench.Figures
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Messages != messages || got.Accepted != messages || got.Duplicate+got.Refused+got.Unanswered != 0 {
		t.Errorf("figures %+v: want %d accepted", got, messages)
	}
	if a := got.Arrived; a == nil || a.Delivered != messages || a.Twice != 0 || a.Missing != 0 || a.PerSecond <= 0 {
		t.Errorf("arrived: %+v, want %d once", a, messages)
	}
	if l := got.Latency; l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
		t.Errorf("latencies %+v do not grow", l)
	}
	if got.Seconds < float64(messages-1)/2000 {
		t.Errorf("%d messages at 2000 a second in %v s", messages, got.Seconds)
	}
	names := ""
	for _, p := range got.Processes {
		names += p.Name + " "
		if runtime.GOOS == "linux" && (p.CPU == nil || p.Peak == nil || *p.Peak < 1<<20) {
			t.Errorf("process %s: CPU %v, peak %v", p.Name, p.CPU, p.Peak)
		}
	}
	if names != "serve sandbox bench " {
		t.Errorf("processes %q", names)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// TestBenchRunningIngress drives an ingress that others run, and counts at a sandbox that has taken messages before.
func TestBenchRunningIngress(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	serve := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-format=json")
	ingress := "http://" + serve.log.await(t, "started")["address"].(string)
	args := []string{"bench", "--url=" + ingress, "--messages=40", "--connections=4"}

	for range 2 {
		code, out, complaints := runCommand(t, append(args, "--key="+page.key, "--sandbox="+fb.ControlURL())...)
		if code != cli.ExitOK || !strings.Contains(out, "40, of them 0 more than once; 0 missing") {
			t.Fatalf("code %d:\n%s%s", code, out, complaints)
		}
	}
	code, out, complaints := runCommand(t, append(args, "--key="+page.key, "--json")...)
	var got bench.Figures
	if err := json.Unmarshal([]byte(out), &got); code != cli.ExitOK || err != nil || got.Accepted != 40 || got.Arrived != nil {
		t.Errorf("without a sandbox: code %d, error %v\n%s%s", code, err, out, complaints)
	}
	code, out, complaints = runCommand(t, append(args, "--key=wrong-key-c0ffee")...)
	if code != cli.ExitFailed || !strings.Contains(complaints, "the ingress answers 401: ") || out != "" {
		t.Errorf("a wrong key: code %d, %q %q", code, out, complaints)
	}
	keepsSecrets(t, complaints, page.key, "wrong-key-c0ffee")
	if code, _, complaints := runCommand(t, append(args, "--key="+page.key, "--sandbox="+ingress)...); code != cli.ExitFailed || !strings.Contains(complaints, "is no sandbox's control address") {
		t.Errorf("an ingress for a sandbox: code %d, %q", code, complaints)
	}
}

func TestBenchSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--messages=0", "--messages: must be between 1 and 1000000 (got 0)"},
		{"--messages=1000001", "--messages: must be between 1 and 1000000 (got 1000001)"},
		{"--rate=-1", "--rate: must be between 0 and 1000000 (got -1)"},
		{"--rate=NaN", "--rate: must be between 0 and 1000000 (got NaN)"},
		{"--connections=0", "--connections: must be between 1 and 20000 (got 0)"},
		{"--duration=-1s", "--duration: must not be negative (got -1s)"},
		{"--page-count=0", "--page-count: must be between 1 and 1000 (got 0)"},
		{"--page-rate=0", "--page-rate: must be between 1 and 100000 (got 0)"},
		{"--page-rate=100001", "--page-rate: must be between 1 and 100000 (got 100001)"},
		{"--key=k", "--key: is of use with --url only"},
		{"--sandbox=http://127.0.0.1:9091", "--sandbox: is of use with --url only"},
		{"--url=http://127.0.0.1:1", "--key: is required with --url"},
		{"--url=127.0.0.1:8080 --key=k", "--url: must be a URL such as"},
		{"--url=http://127.0.0.1:1 --key=k --sandbox=9091", "--sandbox: must be a URL such as"},
		{"--dir=/does/not/exist", "--dir: "},
	} {
		code, out, complaints := runCommand(t, append([]string{"bench"}, strings.Fields(c.args)...)...)
		if code != cli.ExitUsage || out != "" || !strings.Contains(complaints, c.want) {
			t.Errorf("%s: code %d, %q, want %d and %q", c.args, code, out+complaints, cli.ExitUsage, c.want)
		}
	}
	if code, _, complaints := runCommand(t, "bench", "--url=http://"+freeAddress(t), "--key=k"); code != cli.ExitFailed || !strings.Contains(complaints, "--url: cannot connect to the ingress") {
		t.Errorf("no ingress: code %d, %q", code, complaints)
	}
}

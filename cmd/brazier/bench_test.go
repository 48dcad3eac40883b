package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestBench runs the command as people do, with processes of its own, and leaves nothing behind.
func TestBench(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	const messages = 300
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "brazier"), "bench", "--messages="+strconv.Itoa(messages), "--connections=16", "--pages=3", "--rate=2000", "--json", "--dir="+dir)
	cmd.Env = append(os.Environ(), "BRAZIER_MAX_QUEUE=nonsense") // what it starts has its own settings
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), complaints.String())
	}
	var got benchFigures
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

// TestBenchRunningDoor drives a door that others run, and counts at a sandbox that has taken messages before.
func TestBenchRunningDoor(t *testing.T) {
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	serve := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-format=json")
	door := "http://" + serve.log.await(t, "started")["address"].(string)
	args := []string{"bench", "--url=" + door, "--messages=40", "--connections=4"}

	for range 2 {
		code, out, complaints := runCommand(t, append(args, "--key="+page.key, "--sandbox="+fb.ControlURL())...)
		if code != exitOK || !strings.Contains(out, "40, of them 0 more than once; 0 missing") {
			t.Fatalf("code %d:\n%s%s", code, out, complaints)
		}
	}
	code, out, complaints := runCommand(t, append(args, "--key="+page.key, "--json")...)
	var got benchFigures
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil || got.Accepted != 40 || got.Arrived != nil {
		t.Errorf("without a sandbox: code %d, error %v\n%s%s", code, err, out, complaints)
	}
	code, out, complaints = runCommand(t, append(args, "--key=wrong-key-c0ffee")...)
	if code != exitFailed || !strings.Contains(complaints, "the door answers 401: ") || out != "" {
		t.Errorf("a wrong key: code %d, %q %q", code, out, complaints)
	}
	keepsSecrets(t, complaints, page.key, "wrong-key-c0ffee")
	if code, _, complaints := runCommand(t, append(args, "--key="+page.key, "--sandbox="+door)...); code != exitFailed || !strings.Contains(complaints, "is no sandbox's control address") {
		t.Errorf("a door for a sandbox: code %d, %q", code, complaints)
	}
}

// A message that was accepted and is missing, or came twice, is told.
func TestBenchCountsLosses(t *testing.T) {
	c := benchCommand{URL: "http://127.0.0.1:1", Keys: []string{"k"}, Messages: 5}
	l, err := newBenchLoad(c)
	if err != nil {
		t.Fatal(err)
	}
	fb, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	// 0 once, 1 twice, 2 not, 3 refused and not, 4 refused and yet there; and one of somebody else's
	l.outcomes = []outcome{wasAccepted, wasAccepted, wasAccepted, wasRefused, wasRefused}
	for _, recipient := range []string{"0000000", "0000001", "0000001", "0000004"} {
		recipient = l.requests[0].run.recipient() + recipient
		if status, err := postToSandbox(fb, recipient); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, error %v", status, err)
		}
	}
	if _, err := postToSandbox(fb, "2003004005006007"); err != nil {
		t.Fatal(err)
	}
	count := newArrivals(fb.ControlURL())
	defer count.close()
	got, err := count.compare(t.Context(), l)
	if want := (arrivedFigures{Delivered: 3, Twice: 1, Missing: 1}); err != nil || *got != want {
		t.Errorf("%+v, error %v, want %+v", got, err, want)
	}
}

func postToSandbox(fb *sandbox.Sandbox, recipient string) (status int, err error) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Post(fb.URL()+"/v25.0/me/messages?access_token=token-of-a-test", "application/json", strings.NewReader(message(recipient, "hello")))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestBenchSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--messages=0", "--messages: 0 is not between"},
		{"--messages=1000001", "--messages: 1000001 is not between"},
		{"--rate=-1", "--rate: -1 is not between"},
		{"--rate=NaN", "--rate: NaN is not between"},
		{"--connections=0", "--connections: 0 is not between"},
		{"--duration=-1s", "--duration: -1s is below"},
		{"--pages=0", "--pages: 0 is not between"},
		{"--page-rate=0", "--page-rate: 0 is not between"},
		{"--page-rate=100001", "--page-rate: 100001 is not between"},
		{"--key=k", "--key: it belongs to a door that runs: name that with --url"},
		{"--sandbox=http://127.0.0.1:9091", "--sandbox: it belongs to a door that runs: name that with --url"},
		{"--url=http://127.0.0.1:1", "--key is missing"},
		{"--url=127.0.0.1:8080 --key=k", "--url: it is not an address such as"},
		{"--url=http://127.0.0.1:1 --key=k --sandbox=9091", "--sandbox: it is not an address such as"},
		{"--dir=/does/not/exist", "--dir: "},
	} {
		code, out, complaints := runCommand(t, append([]string{"bench"}, strings.Fields(c.args)...)...)
		if code != exitUsage || out != "" || !strings.Contains(complaints, c.want) {
			t.Errorf("%s: code %d, %q, want %d and %q", c.args, code, out+complaints, exitUsage, c.want)
		}
	}
	if code, _, complaints := runCommand(t, "bench", "--url=http://"+freeAddress(t), "--key=k"); code != exitFailed || !strings.Contains(complaints, "--url: no door there") {
		t.Errorf("no door: code %d, %q", code, complaints)
	}
}

// The request is what net/http's server takes it for.
func TestBenchRequest(t *testing.T) {
	door, err := url.Parse("https://relay.example.com/braze/")
	if err != nil {
		t.Fatal(err)
	}
	r := newBenchRequest(door, "the-key", "12345678")
	for _, n := range []int64{0, 42, benchMessages - 1} {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.append(nil, n))))
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Recipient struct{ ID string }
			Message   struct{ Text string }
		}
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		number := strconv.FormatInt(1e7+n, 10)[1:]
		if req.URL.Path != "/braze/v25.0/me/messages" || req.Host != "relay.example.com" || req.ContentLength != int64(r.bytes) ||
			body.Recipient.ID != "512345678"+number || req.Header.Get("X-Brazier-User") != "12345678"+number || !strings.Contains(body.Message.Text, number) {
			t.Errorf("message %d: %+v, body %+v", n, req, body)
		}
	}
}

func TestBenchAnswer(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\ncontent-length:  4\r\n\r\nbody"
	r := bufio.NewReader(strings.NewReader(ok + "HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n" + ok))
	for _, want := range []benchAnswer{{202, []byte("body"), false}, {503, nil, true}, {202, []byte("body"), false}} {
		got, err := readBenchAnswer(r)
		if err != nil || got.status != want.status || !bytes.Equal(got.body, want.body) || got.closes != want.closes {
			t.Errorf("%+v, error %v, want %+v", got, err, want)
		}
	}
	for _, bad := range []string{"", "HTTP/1.1 2", "SSH-2.0-OpenSSH_9.9 hello\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n"} {
		if got, err := readBenchAnswer(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("%.40q was taken for %+v", bad, got)
		}
	}
}

func TestQuantiles(t *testing.T) {
	all := make([]time.Duration, 1000)
	for i := range all {
		all[i] = time.Duration(1000-i) * time.Millisecond
	}
	if got, want := quantiles(all), (latencyFigures{501, 901, 991, 1000, 1000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := quantiles(nil); got != (latencyFigures{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

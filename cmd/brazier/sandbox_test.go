package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// sandboxRole is "brazier sandbox" with its listeners on free ports.
type sandboxRole struct {
	*role
	t                               *testing.T
	graph, control, braze, profiles string // URLs; profiles is the control API of the simulated Braze
	client                          *http.Client
}

func startSandbox(t *testing.T, args ...string) *sandboxRole {
	t.Helper()
	args = append([]string{"sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=127.0.0.1:0",
		"--braze-control-listen=127.0.0.1:0", "--latency=0s", "--jitter=0s"}, args...)
	s := &sandboxRole{role: startRole(t, args...), t: t, client: &http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(s.client.CloseIdleConnections)
	eventually(t, "the end of the help", func() bool {
		if len(s.code) > 0 {
			t.Fatalf("it ended:\n%s", s.log.String())
		}
		return strings.Contains(s.log.String(), "reset_before_body, cut_body.\n")
	})
	for _, a := range []struct {
		url  *string
		line string
	}{{&s.graph, `(?m)^  Graph API +(http://\S+)`}, {&s.control, `(?m)^  Control +(http://\S+)`}, {&s.braze, `(?m)^  Braze API +(http://\S+)`},
		{&s.profiles, `(?m)^  Braze control +(http://\S+)control/`}} {
		m := regexp.MustCompile(a.line).FindStringSubmatch(s.log.String())
		if m == nil {
			t.Fatalf("no line %s in\n%s", a.line, s.log.String())
		}
		*a.url = strings.TrimSuffix(m[1], "/")
	}
	return s
}

// call returns the status and the body of the answer.
func (s *sandboxRole) call(method, url, key, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// want calls and expects a status.
func (s *sandboxRole) want(status int, method, url, key, body string) (answer string) {
	s.t.Helper()
	got, answer := s.call(method, url, key, body)
	if got != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, url, got, status, answer)
	}
	return answer
}

// hookRequest is what a webhook's URL got.
type hookRequest struct{ signature, body string }

// webhookURL returns a URL and what it gets.
func webhookURL(t *testing.T) (string, <-chan hookRequest) {
	t.Helper()
	got := make(chan hookRequest, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- hookRequest{r.Header.Get("X-Hub-Signature-256"), string(body)}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/webhook", got
}

func signedWith(secret string, r hookRequest) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, r.body)
	return r.signature == "sha256="+hex.EncodeToString(mac.Sum(nil))
}

func soon[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(2 * time.Minute):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// A page's webhooks are signed with the first secret of its app, or with that of --webhook-secret-file where no app is known.
func TestSandboxWebhook(t *testing.T) {
	t.Parallel()
	file := newWorld(t).pages
	dir := filepath.Dir(file)
	writeFile(t, filepath.Join(dir, "app-old.secret"), "an-old-secret\n")
	writeFile(t, file, strings.Replace(read(t, file), "[app.secret]", "[app.secret, app-old.secret]", 1))
	writeFile(t, filepath.Join(dir, "other.secret"), "another-secret\n")
	for _, c := range []struct{ name, flag, body, secret string }{
		{"page file", "--pages=" + file, `{"text":"hello"}`, appSecret},
		{"secret file", "--webhook-secret-file=" + filepath.Join(dir, "other.secret"), `{"text":"hello"}`, "another-secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url, got := webhookURL(t)
			s := startSandbox(t, "--webhook-url="+url, c.flag)
			if c.name == "secret file" { // a page exists once it was called
				s.want(http.StatusOK, http.MethodPost, s.graph+"/v25.0/me/messages", "any-token",
					`{"recipient":{"id":"1234567890123456"},"message":{"text":"hello"}}`)
			}
			s.want(http.StatusOK, http.MethodPost, s.control+"/persons/1234567890123456/write", "", c.body)
			if r := soon(t, "a webhook", got); !signedWith(c.secret, r) || !strings.Contains(r.body, `"1234567890123456"`) {
				t.Errorf("%s with signature %s", r.body, r.signature)
			}
			keepsSecrets(t, s.log.String(), appSecret, verifyToken, brazeKey, "another-secret")
			if code := s.end(); code != cli.ExitOK {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// With a page file, the simulated Braze takes the keys of its workspaces and no others; without one it takes every key.
func TestSandboxBraze(t *testing.T) {
	t.Parallel()
	const write = `{"attributes":[{"external_id":"jon","messenger_id":"123"}]}`
	s := startSandbox(t, "--pages="+newWorld(t).pages)
	s.want(http.StatusUnauthorized, http.MethodPost, s.braze+"/users/track", "another-key", write)
	s.want(http.StatusCreated, http.MethodPost, s.braze+"/users/track", brazeKey, write)
	if profile := s.want(http.StatusOK, http.MethodGet, s.profiles+"/control/profiles/jon", "", ""); !strings.Contains(profile, `"messenger_id":"123"`) {
		t.Errorf("profile %s", profile)
	}
	// Each listener serves its own path alone.
	s.want(http.StatusNotFound, http.MethodGet, s.profiles+"/users/track", "", "")
	if status, _ := s.call(http.MethodGet, s.braze+"/control/profiles/jon", brazeKey, ""); status == http.StatusOK {
		t.Error("the API's listener serves the control API")
	}
	if !strings.Contains(s.log.String(), "curl "+s.profiles+"/control/profiles/jon") {
		t.Errorf("the help of the simulated Braze is not printed:\n%s", s.log.String())
	}

	open := startSandbox(t)
	open.want(http.StatusCreated, http.MethodPost, open.braze+"/users/track", "any-key", write)
}

// A PSID comes to the simulated Braze with the two commands alone.
func TestSandboxCollectsPSID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := startSandbox(t, "--pages="+w.pages)
	writeFile(t, w.pages, strings.Replace(read(t, w.pages), w.brazeURL, s.braze, 1))
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data="+t.TempDir(), "--pages="+w.pages, "--graph-url="+s.graph, "--log-format=json")
	address := r.log.await(t, "started")["address"].(string)
	ada := "00000000000000000000ada1"
	s.want(http.StatusOK, http.MethodPost, s.profiles+"/control/profiles", "", `{"braze_id":"`+ada+`"}`)
	s.want(http.StatusOK, http.MethodPut, s.control+"/webhook", "", `{"url":"http://`+address+`/webhook"}`) // verifies
	write, err := json.Marshal(map[string]any{"ref": reference(t, ada, time.Now()), "new": true})
	if err != nil {
		t.Fatal(err)
	}
	s.want(http.StatusOK, http.MethodPost, s.control+"/persons/7003141592653589/write", "", string(bytes.TrimSpace(write)))
	eventually(t, "Braze has the PSID", func() bool {
		profile := s.want(http.StatusOK, http.MethodGet, s.profiles+"/control/profiles/"+ada, "", "")
		return strings.Contains(profile, `"messenger_id":"7003141592653589"`) && strings.Contains(profile, `"messenger_window_until":"`)
	})
}

func TestSandboxOff(t *testing.T) {
	t.Parallel()
	free := []string{"sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0"}
	for _, c := range []struct {
		args         []string
		api, control bool
	}{
		{[]string{"--braze-listen=off"}, false, false},
		{[]string{"--braze-listen=127.0.0.1:0", "--braze-control-listen=off"}, true, false},
	} {
		r := startRole(t, append(free, c.args...)...)
		eventually(t, "help", func() bool { return strings.Contains(r.log.String(), "The webhook takes url") })
		if code := r.end(); code != cli.ExitOK {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		if out := r.log.String(); strings.Contains(out, "Braze API") != c.api || strings.Contains(out, "Braze control") != c.control ||
			strings.Contains(out, "Control of the simulated Braze") != c.control {
			t.Errorf("%v prints\n%s", c.args, out)
		}
	}
}

func TestSandboxRefuses(t *testing.T) {
	t.Parallel()
	pages := newWorld(t).pages
	secret := filepath.Join(filepath.Dir(pages), "app.secret")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--braze-listen=0.0.0.0:0"}, `--braze-listen: must be a loopback address (got "0.0.0.0:0")`},
		{[]string{"--braze-control-listen=:0"}, `--braze-control-listen: must be a loopback address (got ":0")`},
		{[]string{"--braze-listen=9092"}, `--braze-listen: must be HOST:PORT or off (got "9092")`},
		{[]string{"--webhook-url=https://brazier.example.com/webhook"}, "(--allow-remote)"},
		{[]string{"--webhook-url=webhook"}, "--webhook-url: must be a URL such as"},
		{[]string{"--webhook-secret-file=" + empty}, "--webhook-secret-file: " + empty + " is empty"},
		{[]string{"--webhook-secret-file=" + secret, "--pages=" + pages}, "--webhook-secret-file: must not be set with a page file whose apps have secrets"},
	} {
		args := append([]string{"sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=127.0.0.1:0", "--braze-control-listen=127.0.0.1:0"}, c.args...)
		code, out, complaints := runCommand(t, args...)
		if code != cli.ExitUsage || out != "" || !strings.Contains(complaints, c.want) {
			t.Errorf("%v: code %d, out %q, complaints %q", c.args, code, out, complaints)
		}
	}
}

package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// control talks to the control listener and returns status and body.
func (r *rig) control(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.ControlURL()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.Header.Get("X-Sandbox") != "brazier" {
		r.t.Errorf("%s %s: X-Sandbox is %q", method, path, resp.Header.Get("X-Sandbox"))
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestControl(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}}})
	r.send("1", "hello")
	since := url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))
	steps := []struct {
		method, path, body string
		status             int
		want               string // part of the answer
	}{
		{"GET", "/", "", 200, "NOTHING SENT HERE REACHES A PERSON"},
		{"GET", "/summary", "", 200, `"accepted":1,`},
		{"GET", "/calls", "", 200, `"recipient":"1"`},
		{"GET", "/calls?page=10&recipient=1&limit=5", "", 200, `"message_id":"`},
		{"GET", "/calls?page=11", "", 200, `[]`},
		{"GET", "/calls?since=" + since, "", 200, `[]`},
		{"GET", "/calls?since=noon", "", 400, "since"},
		{"GET", "/calls?limit=0", "", 400, "limit"},
		{"GET", "/calls?psid=1", "", 400, "psid"},
		{"GET", "/calls?%zz", "", 400, "query"},
		{"GET", "/recipients", "", 200, "1"},
		{"GET", "/duplicates", "", 200, `[]`},
		{"GET", "/pages", "", 200, `"id":"10","name":"10","rate":300`},
		{"POST", "/faults", `{"times":-1,"recipient":"5","code":10,"subcode":2018278,"delay":"1ms","header":{"retry-after":"1"}}`, 200, `{"id":"f1"}`},
		{"GET", "/faults", "", 200, `"id":"f1","seen":0,"hits":0,"fault":{"recipient":"5","times":-1,"action":"answer","delay":"1ms"`},
		{"POST", "/faults", `{"code":613}`, 200, `{"id":"f2"}`},
		{"POST", "/faults", `{"kode":613}`, 400, "kode"},
		{"POST", "/faults", `{"code":"613"}`, 400, "code"},
		{"POST", "/faults", `{"code":613} {}`, 400, "more than one"},
		{"POST", "/faults", `{"action":"explode"}`, 400, "cut_body"},
		{"POST", "/faults", `{"code":1,"delay":"soon"}`, 400, "soon"},
		{"POST", "/faults", ``, 400, "a JSON object"},
		{"POST", "/faults", `{`, 400, "body"},
		{"DELETE", "/faults/f9", "", 404, "no such fault"},
		{"DELETE", "/faults/f2", "", 200, `"removed":1`},
		{"DELETE", "/faults", "", 200, `"removed":1`},
		{"POST", "/pages/10/token", `{"dead":463}`, 200, "ok"},
		{"GET", "/pages", "", 200, `"token_dead":463`},
		{"POST", "/pages/10/token", `{"token":"fresh"}`, 200, "ok"},
		{"POST", "/pages/10/token", `{}`, 400, "either"},
		{"POST", "/pages/10/token", `{"dead":1,"token":"x"}`, 400, "either"},
		{"POST", "/pages/11/token", `{"dead":463}`, 404, "no such page"},
		{"POST", "/pages/10/restrict", `{"code":10,"subcode":1893063}`, 200, "ok"},
		{"GET", "/pages", "", 200, `"restricted":10`},
		{"POST", "/pages/10/restrict", `{"code":0}`, 200, "ok"},
		{"POST", "/pages/10/restrict", `{"kode":0}`, 400, "kode"},
		{"PUT", "/latency", `{"latency":"1ms","jitter":"1ms"}`, 200, "ok"},
		{"PUT", "/latency", `{"latency":"-1s"}`, 400, "latency: -1s is not between"},
		{"PUT", "/latency", `{"latency":"0s","speed":1}`, 400, "speed"},
		{"POST", "/reset", "", 200, "ok"},
		{"GET", "/summary", "", 200, `"calls":0,`},
		{"GET", "/nowhere", "", 404, ""},
		{"PUT", "/faults", "", 405, ""},
	}
	for _, s := range steps {
		status, body := r.control(s.method, s.path, s.body)
		if status != s.status || !strings.Contains(body, s.want) {
			t.Errorf("%s %s %s: %d %s, want %d …%s…", s.method, s.path, s.body, status, body, s.status, s.want)
		}
		if strings.HasPrefix(body, "{") && !json.Valid([]byte(body)) {
			t.Errorf("%s %s: %s is not JSON", s.method, s.path, body)
		}
	}
}

// A fault scripted over HTTP strikes like one scripted in Go.
func TestControlFaultStrikes(t *testing.T) {
	r := start(t, Config{})
	if status, body := r.control("POST", "/faults", `{"status":503,"code":2,"is_transient":true,"message":"later","type":"T","header":{"retry-after":"3"}}`); status != 200 {
		t.Fatal(body)
	}
	rep := r.send("1", "x")
	if rep.code() != "503 2/0" || rep.header.Get("Retry-After") != "3" || !*rep.body.Error.Transient || rep.body.Error.Type != "T" {
		t.Errorf("%s %v", rep.raw, rep.header)
	}
}

// Each curl line of the help must work as it stands.
func TestHelpLines(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "1029384756", Token: "token"}}})
	line := regexp.MustCompile(`^  curl (?:-X (\w+) )?'?` + regexp.QuoteMeta(r.ControlURL()) + `(/[^' ]*)'?(?: -d '(.*)')?$`)
	n := 0
	_, help, _ := strings.Cut(r.Help(), "Control:")
	for text := range strings.Lines(help) {
		if !strings.HasPrefix(text, "  curl ") {
			continue
		}
		l := line.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if l == nil {
			t.Errorf("not understood: %s", text)
			continue
		}
		n++
		method, path, body := l[1], l[2], l[3]
		switch {
		case method == "" && body != "":
			method = "POST"
		case method == "":
			method = "GET"
		}
		if status, answer := r.control(method, path, body); status != 200 {
			t.Errorf("%s: %d %s", text, status, answer)
		}
	}
	if n < 15 {
		t.Errorf("%d lines of curl", n)
	}
}

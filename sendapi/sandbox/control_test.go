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
	c := newCallback(t)
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
		{"POST", "/faults", `{"code":613} {}`, 400, "got more"},
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
		{"POST", "/persons/77/write", `{}`, 400, "write: there is no webhook"},
		{"PUT", "/webhook", `{"url":"WEBHOOK","verify_token":"wrong"}`, 400, `webhook.url: the verification for app \"sandbox\" was answered 403`},
		{"PUT", "/webhook", `{"url":"http://192.0.2.1/"}`, 400, `webhook.url: \"192.0.2.1\" is another machine`},
		{"PUT", "/webhook", `{"url":"WEBHOOK","app":"acme"}`, 400, `app: must be one of the apps (got \"acme\")`},
		{"PUT", "/webhook", `{"url":"WEBHOOK","batch":0,"retry_for":"-1s"}`, 400, "webhook.retryfor: must be above 0"},
		{"PUT", "/webhook", `{"uri":"WEBHOOK"}`, 400, "uri"},
		{"PUT", "/webhook", `{"url":"WEBHOOK","retry_every":"2s","retry_for":"3s","timeout":"4s","batch":5,"parallel":6,"shuffle":true}`, 200, "ok"},
		{"GET", "/webhook", "", 200, `{"url":"WEBHOOK","timeout":"4s","retry_every":"2s","retry_for":"3s","batch":5,"parallel":6,"shuffle":true,"receipts":false,"receipts_twice":0,"apps":["sandbox"]}`},
		{"PUT", "/webhook", `{"batch":1001}`, 400, "webhook.batch: must be between 1 and 1000"},
		{"PUT", "/webhook", `{"batch":1,"shuffle":false}`, 200, "ok"},
		{"GET", "/webhook", "", 200, `"retry_for":"3s","batch":1,"parallel":6,"shuffle":false`},
		{"POST", "/persons/77/write", `{"kind":"quick_reply","text":"Yes","ref":"r","page":"10","mid":"m_1","timestamp":1795600000123,"repeat":2}`, 200, `{"events":3,"unsubscribed":0,"mids":["m_1"]}`},
		{"POST", "/persons/77/write", `{"payload":"P","new":true,"times":2,"persons":3}`, 200, `{"events":6,`},
		{"POST", "/persons/jon/write", `{}`, 400, "psid: must be 1 to 32 digits"},
		{"POST", "/persons/77/write", `{"kind":"wave"}`, 400, "kind: must be one of"},
		{"POST", "/persons/77/write", `{"page":"11"}`, 404, `no such page: \"11\"`},
		{"POST", "/persons/77/write", `{"texts":"x"}`, 400, "texts"},
		{"POST", "/persons/77/write", ``, 400, "a JSON object"},
		{"GET", "/webhook/record", "", 200, `{"counts":{"events":9,`},
		{"GET", "/webhook/record?limit=0", "", 400, "limit"},
		{"GET", "/webhook/record?page=10", "", 400, "query: the only parameter is limit"},
		{"POST", "/pages/10/policy", `{"action":"warning","reason":"x"}`, 200, "ok"},
		{"POST", "/pages/10/policy", `{"action":"shout"}`, 400, "policy: action: must be warning, block or unblock"},
		{"POST", "/pages/11/policy", `{"action":"block"}`, 404, "no such page"},
		{"POST", "/pages/10/policy", `{"deed":"block"}`, 400, "deed"},
		{"POST", "/pages/10/subscription", `{"fields":["messages","feed"]}`, 200, "ok"},
		{"GET", "/pages", "", 200, `"subscribed":["feed","messages"]`},
		{"POST", "/pages/10/subscription", `{"fields":["mesages"]}`, 400, "mesages"},
		{"POST", "/pages/10/subscription", `{"field":[]}`, 400, "field"},
		{"POST", "/pages/11/subscription", `{"fields":[]}`, 404, "no such page"},
		{"DELETE", "/pages/11/subscription", "", 404, "no such page"},
		{"DELETE", "/pages/10/subscription", "", 200, "ok"},
		{"GET", "/pages", "", 200, `"subscribed":[]`},
		{"POST", "/persons/77/write", `{}`, 200, `{"events":0,"unsubscribed":1}`},
		{"PUT", "/webhook", `{"url":""}`, 200, "ok"},
		{"PUT", "/latency", `{"latency":"1ms","jitter":"1ms"}`, 200, "ok"},
		{"PUT", "/latency", `{"latency":"-1s"}`, 400, "latency: must be between 0 and 24h0m0s (got -1s)"},
		{"PUT", "/latency", `{"latency":"0s","speed":1}`, 400, "speed"},
		{"POST", "/reset", "", 200, "ok"},
		{"GET", "/summary", "", 200, `"calls":0,`},
		{"GET", "/nowhere", "", 404, ""},
		{"PUT", "/faults", "", 405, ""},
	}
	for _, s := range steps {
		s.body, s.want = strings.ReplaceAll(s.body, "WEBHOOK", c.url), strings.ReplaceAll(s.want, "WEBHOOK", c.url)
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
	c := newCallback(t)
	c.secret = "" // it changes on the way
	help = strings.ReplaceAll(help, "http://127.0.0.1:8080/webhook", c.url)
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
	if n < 40 {
		t.Errorf("%d lines of curl", n)
	}
}

package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// pasted is an answer that Facebook gave or documents, as the file has it.
type pasted struct {
	Status int             `json:"status"` // 0: not known
	Body   json.RawMessage `json:"body"`
	Raw    string          `json:"raw"` // of a body that is not JSON
	Error  struct {
		Message   string `json:"message"`
		Type      string `json:"type"`
		Code      int    `json:"code"`
		Subcode   int    `json:"error_subcode"`
		Transient *bool  `json:"is_transient"`
	} `json:"-"`
}

func pastedAnswers(t *testing.T) []pasted {
	t.Helper()
	data, err := os.ReadFile("../testdata/sendapi_errors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var answers []pasted
	for line := range strings.Lines(string(data)) {
		var p pasted
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		if p.Raw == "" {
			if err := json.Unmarshal(p.Body, &struct{ Error any }{&p.Error}); err != nil {
				t.Fatal(err)
			}
		}
		answers = append(answers, p)
	}
	if len(answers) < 40 {
		t.Fatalf("only %d answers", len(answers))
	}
	return answers
}

// Every answer that is known can be scripted, as bytes or by its parts, and reaches the caller as it was pasted.
func TestPastedAnswersCanBeScripted(t *testing.T) {
	r := start(t, Config{AnyPage: Page{Rate: Off, HighVolume: Off}})
	for i, p := range pastedAnswers(t) {
		status := p.Status
		if status == 0 {
			status = 400
		}
		body := string(p.Body)
		if p.Raw != "" {
			body = p.Raw
		}
		r.Script(Fault{Status: status, Body: body})
		if rep := r.send("1", "x"); rep.status != status || rep.raw != body {
			t.Errorf("line %d as bytes: %d %s", i+1, rep.status, rep.raw)
		} else if plain := strings.HasPrefix(rep.header.Get("Content-Type"), "text/plain"); plain != (p.Raw != "") {
			t.Errorf("line %d as bytes: Content-Type %s", i+1, rep.header.Get("Content-Type"))
		}
		e := p.Error
		if e.Code == 0 {
			continue // no code, or no JSON: only as bytes
		}
		r.Script(Fault{Status: status, Code: e.Code, Subcode: e.Subcode, Type: e.Type, Message: e.Message, Transient: e.Transient})
		got := r.send("1", "x").body.Error
		if got.Message != e.Message || got.Type != e.Type || got.Code != e.Code || got.Subcode != e.Subcode || (got.Transient == nil) != (e.Transient == nil) {
			t.Errorf("line %d by its parts: %+v, want %+v", i+1, got, e)
		}
	}
	if left := slices.DeleteFunc(r.faultStates(), func(f faultState) bool { return f.hits == 1 }); len(left) > 0 {
		t.Errorf("%d faults did not strike once", len(left))
	}
}

// The sandbox's own errors have the code, the subcode, the type, the status and the text of a pasted answer, where
// there is one.
func TestRefusalsAreAsPasted(t *testing.T) {
	byCode := map[string][]pasted{}
	for _, p := range pastedAnswers(t) {
		if p.Raw == "" {
			k := fmt.Sprintf("%d/%d", p.Error.Code, p.Error.Subcode)
			byCode[k] = append(byCode[k], p)
		}
	}
	r := start(t, Config{Seed: 5, AnyPage: Page{Rate: Off, HighVolume: Off}})
	compared := 0
	compare := func(what string, rep reply, texts bool) {
		t.Helper()
		if rep.body.Error == nil {
			t.Errorf("%s: %d %s", what, rep.status, rep.raw)
			return
		}
		e := rep.body.Error
		like := byCode[fmt.Sprintf("%d/%d", e.Code, e.Subcode)]
		if len(like) == 0 {
			if texts {
				t.Errorf("%s: nobody pasted %d/%d", what, e.Code, e.Subcode)
			}
			return
		}
		compared++
		status := func(p pasted) bool { return p.Status == 0 || p.Status == rep.status }
		kind := func(p pasted) bool { return p.Error.Type == e.Type }
		message := func(p pasted) bool { return p.Error.Message == e.Message }
		if !slices.ContainsFunc(like, status) || !slices.ContainsFunc(like, kind) || texts && !slices.ContainsFunc(like, message) {
			t.Errorf("%s: %d %s is like none of the %d pasted", what, rep.status, rep.raw, len(like))
		}
	}
	for _, p := range persons {
		if p.code != 0 {
			if rep, err := r.trySend(p.prefix+"12", "x"); err == nil {
				compare(p.prefix, rep, false)
			}
		}
	}
	for what, body := range map[string]string{
		"text for an id":         recipient(`{"id":"PSID"}`),
		"payload is missing":     attachment(`{"type":"image"}`),
		"unknown key":            message(`{"text":"x","preview":true}`),
		"retired tag":            beside(`"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE"`),
		"button with no payload": utility(`{"name":"n","language":{"code":"en"},"components":[{"type":"buttons","parameters":[{"type":"POSTBACK"}]}]}`),
	} {
		rep, err := r.do(r.request("/me/messages?access_token=token", jsonBody, body))
		if err != nil {
			t.Fatal(err)
		}
		compare(what, rep, true)
	}
	page := pageIDFor("token")
	for _, subcode := range []int{460, 463, 458} {
		if err := r.KillToken(page, subcode); err != nil {
			t.Fatal(err)
		}
		compare(fmt.Sprint("token dead of ", subcode), r.send("1", "x"), false)
		if err := r.SetToken(page, "token"); err != nil {
			t.Fatal(err)
		}
	}
	if compared < 15 {
		t.Errorf("only %d refusals could be compared", compared)
	}
}

// A call that never had a token, or whose path or proof is wrong, is answered as Facebook answers those, so that code which
// separates faults of settings from faults of messages can be tested against the sandbox.
func TestSettingsAtFault(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "ten"}, {ID: "20", Token: "twenty", AppSecret: "hush"}}})
	for _, tt := range []struct{ name, path, token, want, kind string }{
		{"no token", "/v26.0/me/messages", "", "400 2500/0", "OAuthException"},
		{"no token, page in the path", "/v26.0/10/messages", "", "400 104/0", "OAuthException"},
		{"version to come", "/v99.0/me/messages", "ten", "400 2500/0", "OAuthException"},
		{"path of a proxy", "/graph/v26.0/me/messages", "ten", "400 2500/0", "OAuthException"},
		{"another's page", "/v26.0/20/messages", "ten", "400 100/33", "GraphMethodException"},
		{"page that does not exist", "/v26.0/30/messages", "ten", "400 100/33", "GraphMethodException"},
		{"no proof", "/v26.0/me/messages", "twenty", "400 100/0", "GraphMethodException"},
		{"wrong proof", "/v26.0/me/messages?appsecret_proof=00", "twenty", "400 100/0", "GraphMethodException"},
	} {
		var header []string
		if tt.token != "" {
			header = []string{"Authorization", "Bearer " + tt.token}
		}
		for range 5 { // whatever varies, these do not
			rep, err := r.do(r.request(tt.path, jsonBody, textBody("1", "x"), header...))
			if err != nil {
				t.Fatal(err)
			}
			if rep.code() != tt.want || rep.body.Error.Type != tt.kind {
				t.Errorf("%s: %s, want %s %s", tt.name, rep.raw, tt.want, tt.kind)
			}
		}
	}
	if c := r.Counts(); c.Accepted != 0 {
		t.Errorf("%d messages got through", c.Accepted)
	}
}

// What a proxy or a firewall answers instead of Facebook: a whole answer, and no Graph error in it.
func TestAnswersOfProxies(t *testing.T) {
	const html, text, jsonType = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/json; charset=UTF-8"
	for _, tt := range []struct {
		name, fault string // as JSON for the control listener
		status      int
		kind, says  string
	}{
		{"HTML with 200", `{"action":"html","status":200}`, 200, html, "<html"},
		{"JSON without ids", `{"status":200,"body":"{}"}`, 200, jsonType, "{}"},
		{"silent 500", `{"status":500}`, 500, text, ""},
		{"silent 502", `{"status":502}`, 502, text, ""},
		{"silent 503", `{"status":503}`, 503, text, ""},
		{"silent 504", `{"status":504}`, 504, text, ""},
		{"503 as text", `{"status":503,"body":"upstream connect error"}`, 503, text, "upstream connect error"},
		{"403 of a firewall", `{"status":403,"body":"<h1>blocked</h1>","header":{"Content-Type":"text/html; charset=utf-8","Server":"proxy"}}`, 403, html, "blocked"},
		{"404 of a proxy", `{"status":404,"body":"no route"}`, 404, text, "no route"},
		{"429", `{"status":429,"header":{"Retry-After":"7"}}`, 429, text, ""},
		{"redirect", `{"status":302,"header":{"Location":"https://login.example.com"}}`, 302, text, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{})
			r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if status, body := r.control("POST", "/faults", tt.fault); status != 200 {
				t.Fatal(body)
			}
			rep := r.send("1", "x")
			if rep.status != tt.status || rep.header.Get("Content-Type") != tt.kind || !strings.Contains(rep.raw, tt.says) || (tt.says == "" && rep.raw != "") {
				t.Errorf("%d %s %q", rep.status, rep.header.Get("Content-Type"), rep.raw)
			}
			if rep.body.Error != nil || rep.body.MessageID != "" {
				t.Errorf("a proxy does not answer as Graph: %s", rep.raw)
			}
			if call := r.Calls()[0]; call.Accepted || call.Status != tt.status || call.Code != 0 {
				t.Errorf("recorded as %+v", call)
			}
		})
	}
}

package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// graph calls the simulated Graph API.
func (r *rig) graph(method, path, contentType, body string) reply {
	r.t.Helper()
	req := r.request(path, contentType, body)
	req.Method = method
	rep, err := r.do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if rep.header.Get("X-Sandbox") != "brazier" {
		r.t.Errorf("%s %s: X-Sandbox is %q", method, path, rep.header.Get("X-Sandbox"))
	}
	return rep
}

func TestSubscribedApps(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "11", Token: "other"}}, Webhook: Webhook{Fields: []string{}, Apps: []App{{Name: "acme"}}}})
	const path, form = "/v26.0/10/subscribed_apps?access_token=token", "application/x-www-form-urlencoded"
	app := `{"data":[{"name":"acme","id":"` + App{Name: "acme"}.id() + `","subscribed_fields":`
	steps := []struct {
		method, path, contentType, body string
		code, want                      string // code as reply.code gives it; part of the answer
	}{
		{"GET", path, "", "", "200", `{"data":[]}`},
		{"POST", path + "&subscribed_fields=messages,messaging_postbacks", "", "", "200", `{"success":true}`},
		{"GET", path, "", "", "200", app + `["messages","messaging_postbacks"]}]}`},
		{"POST", path, form, "subscribed_fields=messages%2C+messaging_referrals", "200", `{"success":true}`},
		{"GET", path, "", "", "200", app + `["messages","messaging_referrals"]}]}`},
		{"POST", path, "application/json", `{"subscribed_fields":["message_reads","messages"]}`, "200", `{"success":true}`},
		{"GET", "/me/subscribed_apps?access_token=token", "", "", "200", app + `["message_reads","messages"]}]}`},
		{"POST", path, "", "", "400 100/0", "subscribed_fields"},
		{"POST", path + "&subscribed_fields=messages,mesages", "", "", "400 100/0", "subscribed_fields[1]"},
		{"POST", path, "application/json", `{"subscribed_fields"`, "400 100/0", ""},
		{"GET", path, "", "", "200", app + `["message_reads","messages"]}]}`},
		{"GET", "/v26.0/11/subscribed_apps?access_token=token", "", "", "400 100/33", ""},
		{"GET", "/v26.0/10/subscribed_apps?access_token=wrong", "", "", "", "190"},
		{"GET", "/v26.0/10/subscribed_apps", "", "", "400 104/0", ""},
		{"GET", "/v1.0/10/subscribed_apps?access_token=token", "", "", "400 2500/0", ""},
		{"PUT", path, "", "", "400 100/33", ""},
		{"GET", "/v26.0/10/messages?access_token=token", "", "", "400 100/33", ""},
		{"DELETE", path, "", "", "200", `{"success":true}`},
		{"GET", path, "", "", "200", `{"data":[]}`},
	}
	for _, s := range steps {
		rep := r.graph(s.method, s.path, s.contentType, s.body)
		if s.code != "" && rep.code() != s.code || !strings.Contains(rep.raw, s.want) {
			t.Errorf("%s %s %s: %s %s, want %s %s", s.method, s.path, s.body, rep.code(), rep.raw, s.code, s.want)
		}
	}
	if got := r.subscribed("11"); len(got) > 0 {
		t.Errorf("page 11 is subscribed to %q", got)
	}
}

// subscribed_apps is refused with a dead token, needs the proof where messages do, and sees a subscription that got lost.
func TestSubscribedAppsOfDeadTokenAndLostSubscription(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "11", Token: "proven", AppSecret: "s"}}})
	get := func(page, token string) reply {
		return r.graph(http.MethodGet, "/v26.0/"+page+"/subscribed_apps?access_token="+url.QueryEscape(token), "", "")
	}
	if rep := get("10", "token"); !strings.Contains(rep.raw, "messaging_referrals") {
		t.Errorf("%s", rep.raw)
	}
	if rep := get("11", "proven"); rep.code() != "400 100/0" {
		t.Errorf("without proof: %s", rep.raw)
	}
	if status, body := r.control("DELETE", "/pages/10/subscription", ""); status != 200 {
		t.Fatal(body)
	}
	if rep := get("10", "token"); rep.raw != `{"data":[]}` {
		t.Errorf("lost: %s", rep.raw)
	}
	if err := r.KillToken("10", 463); err != nil {
		t.Fatal(err)
	}
	if rep := get("10", "token"); rep.body.Error == nil || rep.body.Error.Code != 190 || rep.body.Error.Subcode != 463 {
		t.Errorf("dead token: %s", rep.raw)
	}
}

// Calls to subscribed_apps are no messages: they are not in the record, and scripted faults wait for messages.
func TestSubscribedAppsLeavesMessagesAlone(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}}})
	r.Script(Fault{Code: 613})
	if rep := r.graph(http.MethodGet, "/10/subscribed_apps?access_token=token", "", ""); rep.status != 200 {
		t.Errorf("%s", rep.raw)
	}
	if n := r.Counts(); n.Calls != 0 {
		t.Errorf("%+v", n)
	}
	if rep := r.send("1", "x"); rep.body.Error == nil || rep.body.Error.Code != 613 {
		t.Errorf("%s", rep.raw)
	}
}

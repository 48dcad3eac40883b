package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// subscribable starts a sandbox in which no page is subscribed, and returns it with the flags for its pages acme and nordwind.
func subscribable(t *testing.T) (facebook *sandbox.Sandbox, flags []string) {
	t.Helper()
	pages := []sandbox.Page{{ID: "1029384756", Token: marker + "-acme"}, {ID: "5647382910", Token: marker + "-nordwind", AppSecret: marker + "-secret"}}
	facebook, err := sandbox.New(sandbox.Config{Pages: pages, Webhook: sandbox.Webhook{Fields: []string{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = facebook.Close() })
	return facebook, []string{"--pages=" + subscribablePages(t), "--graph-url=" + facebook.URL()}
}

// subscribablePages is refPages with all tokens but one.
func subscribablePages(t *testing.T) string {
	file := refPages(t)
	for name, content := range map[string]string{"acme.token": "acme", "nordwind.token": "nordwind", "nordwind.secret": "secret", "none.secret": "none", "braze.key": "key"} {
		writeFile(t, filepath.Join(filepath.Dir(file), name), marker+"-"+content)
	}
	return file
}

func TestWebhookStatusAndSubscribe(t *testing.T) {
	t.Parallel()
	facebook, flags := subscribable(t)
	run := func(args ...string) (code int, out, complaints string) {
		t.Helper()
		code, out, complaints = runCommand(t, append(append([]string{"webhook"}, args...), flags...)...)
		keepsSecrets(t, out+complaints, marker)
		return code, out, complaints
	}
	status := func(page string) (v admin.WebhookStatus) {
		t.Helper()
		_, out, _ := run("status", page, "--json")
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return v
	}
	code, out, complaints := run("status")
	if code != cli.ExitFailed || strings.Count(out, "lost ") != 2 || strings.Contains(out, "777") || !strings.Contains(complaints, "3 of 3 page(s)") || !strings.Contains(out, "unknown") {
		t.Errorf("lost: code %d, %s, %s", code, out, complaints)
	}
	if v := status("acme"); !slices.Equal(v.Missing, sendapi.WebhookFields(false)) || len(v.Apps) != 0 || v.ID != "1029384756" {
		t.Errorf("lost: %+v", v)
	}

	if err := facebook.Subscribe("1029384756", "messages", "message_reads"); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := run("status", "1029384756"); code != cli.ExitFailed || !strings.Contains(out, "incomplete") || !strings.Contains(out, ": message_reads,messages") {
		t.Errorf("incomplete: code %d, %s", code, out)
	}
	if code, out, complaints := run("subscribe", "acme"); code != cli.ExitOK || complaints != "" || !strings.Contains(out, "subscribed") {
		t.Errorf("subscribe: code %d, %s, %s", code, out, complaints)
	}
	if v := status("acme"); len(v.Missing) != 0 || len(v.Apps) != 1 || !slices.Contains(v.Apps[0].Fields, "message_reads") {
		t.Errorf("subscribed: %+v", v)
	}
	if code, _, _ := run("status", "acme"); code != cli.ExitOK {
		t.Errorf("subscribed: code %d", code)
	}

	if code, out, complaints := run("subscribe", "nordwind"); code != cli.ExitOK || complaints != "" { // with an appsecret_proof
		t.Errorf("subscribe: code %d, %s, %s", code, out, complaints)
	}
	if err := facebook.KillToken("5647382910", 463); err != nil {
		t.Fatal(err)
	}
	if code, out, complaints := run("subscribe", "nordwind"); code != cli.ExitFailed || out != "" || !strings.Contains(complaints, "190") {
		t.Errorf("dead token: code %d, %s, %s", code, out, complaints)
	}
	if code, _, complaints := run("subscribe", "missing"); code != cli.ExitFailed || !strings.Contains(complaints, "plain.token") {
		t.Errorf("no token: code %d, %s", code, complaints)
	}
	for _, page := range []string{"plain", "nobody"} {
		if code, _, complaints := run("subscribe", page); code != cli.ExitUsage || !strings.Contains(complaints, "page with app and braze") {
			t.Errorf("page %s: code %d, %s", page, code, complaints)
		}
	}
}

// Facebook refuses to subscribe the page, or says that it did and does not.
func TestWebhookSubscribeInVain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status       int
		answer, says string
	}{
		"no permission": {http.StatusForbidden, `{"error":{"message":"(#200) refused","type":"OAuthException","code":200}}`, "pages_manage_metadata"},
		"nothing done":  {http.StatusOK, `{"success":true}`, "does not show all fields"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					_, _ = io.WriteString(w, `{"data":[]}`)
					return
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.answer)
			}))
			t.Cleanup(srv.Close)
			code, out, complaints := runCommand(t, "webhook", "subscribe", "acme", "--pages="+subscribablePages(t), "--graph-url="+srv.URL)
			if code != cli.ExitFailed || !strings.Contains(complaints, c.says) {
				t.Errorf("code %d, %s, %s", code, out, complaints)
			}
			keepsSecrets(t, out+complaints, marker)
		})
	}
}

// A worker says when a page's webhooks are lost.
func TestSubscriptionLost(t *testing.T) {
	t.Parallel()
	facebook, flags := subscribable(t)
	if err := facebook.Subscribe("5647382910", sendapi.WebhookFields(false)...); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := startRole(t, append([]string{"serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data=" + dir, "--log-format=json"}, flags...)...)
	lost := r.log.await(t, "subscription_lost")
	if lost["page"] != "acme" || lost["remedy"] != "brazier webhook subscribe acme" || lost["level"] != "error" || len(lost["missing"].([]any)) != len(sendapi.WebhookFields(false)) {
		t.Errorf("line: %v", lost)
	}
	address := r.log.await(t, "ops")["address"].(string)
	eventually(t, "the metric tells", func() bool {
		_, metrics := get(t, "http://"+address+"/metrics")
		return strings.Contains(metrics, `brazier_webhook_subscribed{page="acme"} 0`) && strings.Contains(metrics, `brazier_webhook_subscribed{page="nordwind"} 1`)
	})
	eventually(t, "status tells", func() bool {
		code, out, _ := runCommand(t, "status", "--data="+dir, flags[0])
		return code == cli.ExitFailed && strings.Contains(out, `"brazier webhook subscribe acme"`) && !strings.Contains(out, "subscribe nordwind")
	})
	keepsSecrets(t, r.log.String(), marker)
}

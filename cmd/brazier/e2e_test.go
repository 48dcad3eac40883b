package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// TestServe takes a message through everything in one process: ingress, queue, worker, simulated Facebook.
func TestServe(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data="+t.TempDir(), "--pages="+writePages(t, page),
		"--graph-url="+fb.URL(), "--log-level=debug", "--log-format=json")
	ingress := r.log.await(t, "started")["address"].(string)
	ops := r.log.await(t, "ops")["address"].(string)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/nothing": 404} {
		resp, err := http.Get("http://" + ops + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}

	client := &http.Client{}
	defer client.CloseIdleConnections()
	const psid, text = "2003004005006007", "Hi Ada, your secret order has shipped"
	body := message(psid, text)
	status, answer, err := post(client, ingress, page, body, map[string]string{
		"X-Brazier-Campaign": "campaign-1", "X-Brazier-Dispatch": "dispatch-1", "X-Brazier-Message": "message-1", "X-Brazier-User": "braze-1"})
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", status, answer, err)
	}
	var accepted struct{ ID, Status string }
	if err := json.Unmarshal([]byte(answer), &accepted); err != nil || accepted.Status != "queued" || accepted.ID == "" {
		t.Fatalf("answer %s", answer)
	}

	delivered := r.log.await(t, "delivered")
	for field, want := range map[string]any{"id": accepted.ID, "page": "acme", "lane": "bulk", "attempt": 1.0, "campaign": "campaign-1",
		"dispatch": "dispatch-1", "user": "braze-1", "level": "info", "component": "worker", "msg": "message delivered"} {
		if delivered[field] != want {
			t.Errorf("delivered line: %s is %v, want %v", field, delivered[field], want)
		}
	}
	calls := fb.Calls()
	if len(calls) != 1 {
		t.Fatalf("Facebook was called %d times", len(calls))
	}
	c := calls[0]
	if c.Page != page.id || c.Recipient != psid || c.Auth != "bearer" || !c.Accepted || c.MessageID != delivered["mid"] {
		t.Errorf("Facebook saw %+v", c)
	}

	// The same again is a duplicate; without a PSID it is refused.
	_, again, _ := post(client, ingress, page, body, map[string]string{"X-Brazier-Dispatch": "dispatch-1", "X-Brazier-Message": "message-1", "X-Brazier-User": "braze-1"})
	if want := `{"id":"` + accepted.ID + `","status":"duplicate"}`; again != want {
		t.Errorf("the second answer is %s, want %s", again, want)
	}
	status, refused, _ := post(client, ingress, page, message("", text), nil)
	if status != http.StatusBadRequest || !strings.Contains(refused, "recipient.id") {
		t.Errorf("an empty PSID was answered %d %s", status, refused)
	}
	// A person who cannot be reached is a dead letter, with Facebook's reason.
	const unreachable = "9000000551000123"
	if status, _, _ := post(client, ingress, page, message(unreachable, text), nil); status != http.StatusAccepted {
		t.Fatalf("answer %d", status)
	}
	dead := r.log.await(t, "dead")
	if dead["class"] != "recipient" || dead["code"] != 551.0 || dead["subcode"] != 1545041.0 || dead["fbtrace_id"] == "" {
		t.Errorf("dead line: %v", dead)
	}

	client.CloseIdleConnections()
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
	if fb.Summary().Accepted != 1 {
		t.Errorf("Facebook accepted %d messages", fb.Summary().Accepted)
	}
	keepsSecrets(t, r.log.String()+answer+again+refused, page.token, page.secret, page.key, psid, unreachable, text, "secret order")
	if !strings.Contains(r.log.String(), `"event":"stopped"`) {
		t.Error("no stopped line")
	}
}

// TestServeKeepsWhatItAccepted stops a role with a full queue and starts it again on the same directory.
func TestServeKeepsWhatItAccepted(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	page.extra = "    rate: 300\n"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret, HighVolume: sandbox.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	outage := fb.Script(sandbox.Fault{Times: sandbox.Standing, Status: 400, Code: 613})
	args := []string{"serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data=" + t.TempDir(), "--pages=" + writePages(t, page),
		"--graph-url=" + fb.URL(), "--log-format=json"}

	r := startRole(t, args...)
	ingress := r.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	const messages = 50
	for i := range messages {
		if status, answer, err := post(client, ingress, page, message("200300400500600"+string(rune('0'+i%10)), "hello"), nil); status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	held := r.log.await(t, "held") // a throttle stops the page, and loses nothing
	if held["class"] != "throttle" || held["page"] != "acme" {
		t.Errorf("held line: %v", held)
	}
	client.CloseIdleConnections()
	if code := r.end(); code != cli.ExitOK {
		t.Fatalf("exit code %d", code)
	}
	if n := fb.Summary().Accepted; n != 0 {
		t.Fatalf("%d messages were sent in spite of the throttle", n)
	}

	fb.Clear(outage)
	r = startRole(t, args...)
	eventually(t, "every message is delivered", func() bool { return fb.Summary().Accepted == messages })
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
	if again := r.log.events("in_doubt"); len(again) > 0 {
		t.Errorf("%d messages in doubt after an orderly stop: %v", len(again), again[0])
	}
}

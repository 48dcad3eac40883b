package sandbox

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
)

// client is the real client of the Send API, which shares no code with the sandbox and was written from the same facts.
func (r *rig) realClient() *sendapi.Client {
	r.t.Helper()
	c, err := sendapi.NewClient(sendapi.Config{GraphURL: r.URL(), Timeout: 20 * time.Second})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// What the sandbox says and what the client reads are the same: ids, codes, the trace, the usage of the limits.
func TestClientReadsWhatTheSandboxAnswers(t *testing.T) {
	r := start(t, Config{Slow: time.Millisecond, Pages: []Page{{ID: "10", Token: "token", AppSecret: "hush"}}})
	client := r.realClient()
	cred := sendapi.Credentials{Token: "token", AppSecret: "hush"}
	ids := []string{"4711"}
	for _, p := range persons {
		ids = append(ids, p.prefix+"77")
	}
	for _, id := range ids {
		receipt, err := client.Send(within(t), cred, []byte(textBody(id, "hello")))
		call := r.Find(Query{Limit: 1})[0]
		if call.Recipient != id {
			t.Fatalf("%s: the last call is %+v", id, call)
		}
		if err == nil {
			if receipt.MessageID != call.MessageID || receipt.RecipientID != id || call.Status != 200 || !call.Accepted {
				t.Errorf("%s: receipt %+v, recorded %+v", id, receipt, call)
			}
			continue
		}
		var e *sendapi.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", id, err)
		}
		if e.Status != call.Status || e.Code != call.Code || e.Subcode != call.Subcode || (e.TraceID == "") != (e.Code == 0) {
			t.Errorf("%s: error %v, recorded %+v", id, e, call)
		}
		if e.Code != 0 && e.Type != "OAuthException" {
			t.Errorf("%s: type %s", id, e.Type)
		}
		if !slices.Contains(sendapi.Classes(), e.Class) {
			t.Errorf("%s: class %q", id, e.Class)
		}
		if _, explained := sendapi.Explain(e.Code, e.Subcode, e.Type); e.Code != 0 && !explained {
			t.Errorf("%s: the client cannot explain %d/%d", id, e.Code, e.Subcode)
		}
	}
}

func TestClientReadsUsage(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token", Rate: 4, Block: 3 * time.Minute}}})
	r.setClock(time.Second)
	client := r.realClient()
	for i, want := range []int{0, 50, 75, 100, 125, 150} {
		receipt, err := client.Send(within(t), sendapi.Credentials{Token: "token"}, []byte(textBody("1", "hello")))
		usage := receipt.Usage
		var e *sendapi.Error
		if errors.As(err, &e) {
			usage = e.Usage
		}
		if usage.Page != want {
			t.Errorf("call %d: %d %% used, want %d", i+1, usage.Page, want)
		}
		if blocked := i >= 4; (err != nil) != blocked || (usage.RegainAfter == 3*time.Minute) != blocked {
			t.Errorf("call %d: regained after %s, error %v", i+1, usage.RegainAfter, err)
		}
	}
}

// Each way to lose an answer looks like one to the client: no code, and a status only where a whole answer came.
func TestClientMeetsFaults(t *testing.T) {
	r := start(t, Config{})
	for _, tt := range []struct {
		fault  Fault
		status int
	}{
		{Fault{Action: Reset}, 0},
		{Fault{Action: ResetEarly}, 0},
		{Fault{Action: Close}, 0},
		{Fault{Action: CutHeader}, 0},
		{Fault{Action: Hang, Delay: time.Millisecond}, 0},
		{Fault{Action: Raw, Body: "SSH-2.0-OpenSSH_9.9\r\n"}, 0},
		{Fault{Action: HTML, Status: 200}, 200},
		{Fault{Action: Empty}, 200},
		{Fault{Status: 502}, 502},
		{Fault{Status: 403, Body: "blocked"}, 403},
	} {
		r.Clear()
		r.Script(tt.fault)
		client := r.realClient() // a new one: it repeats what fails on a connection that it has used before
		_, err := client.Send(within(t), sendapi.Credentials{Token: "token"}, []byte(textBody("1", "hello")))
		var e *sendapi.Error
		if !errors.As(err, &e) || e.Code != 0 || e.Status != tt.status || e.Err == nil && tt.status < 400 {
			t.Errorf("%s: %#v", tt.fault.Action, err)
		}
	}
	r.Clear()
	r.refuse(true)
	_, err := r.realClient().Send(within(t), sendapi.Credentials{Token: "token"}, []byte(textBody("1", "hello")))
	var e *sendapi.Error
	if !errors.As(err, &e) || e.Class != sendapi.ClassTransient || e.Status != 0 {
		t.Errorf("refused: %v", err)
	}
}

// The client names the parameter that a refusal is about, wherever it stands.
func TestClientReadsTheParameter(t *testing.T) {
	r := start(t, Config{})
	client := r.realClient()
	for body, want := range map[string]string{
		recipient(`{"id":"PSID"}`):                             "recipient[id]",
		beside(`"messaging_type":"SPAM"`):                      "messaging_type",
		attachment(`{"type":"image"}`):                         "message[attachment][payload]",
		card(`{"title":"","subtitle":"s"}`):                    "[elements][0][title]",
		card(goodCard + `,{"title":"` + characters(81) + `"}`): "[elements][1][title]",
		button(times(4, goodButton)):                           "[buttons]",
		template(`"button","buttons":[` + goodButton + `]`):    "text",
	} {
		_, err := client.Send(within(t), sendapi.Credentials{Token: "token"}, []byte(body))
		var e *sendapi.Error
		if !errors.As(err, &e) || e.Param != want {
			t.Errorf("%.100s: %v, want param %s", body, err, want)
		}
	}
}

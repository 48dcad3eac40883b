package sandbox

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFaults strikes one call with each kind of fault over a real connection, then sends again.
func TestFaults(t *testing.T) {
	isCut := func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) }
	tests := []struct {
		name  string
		fault Fault
		want  string           // status and code, if there is an answer
		err   func(error) bool // else
		raw   string           // part of the answer
	}{
		{"answer", Fault{Code: 613}, "400 613/0", nil, `"code":613`},
		{"answer in full", Fault{Status: 503, Code: -7, Subcode: 99, Type: "GraphBatchException", Message: `a "b" ç`, Transient: new(false)},
			"503 -7/99", nil, `"message":"a \"b\" ç"`},
		{"error in a 200", Fault{Status: 200, Code: 36000}, "200 36000/0", nil, ""},
		{"status alone", Fault{Status: 429}, "429", nil, ""},
		{"body of one's own", Fault{Status: 400, Body: `{"error":{"message":"no code","type":"GraphBatchException"}}`}, "400 0/0", nil, "no code"},
		{"app limit", AppLimit(), "403 4/0", nil, `"is_transient":true`},
		{"html", Fault{Action: HTML}, "502", nil, "<html"},
		{"html with status and body", Fault{Action: HTML, Status: 504, Body: "<b>late</b>"}, "504", nil, "<b>late</b>"},
		{"empty", Fault{Action: Empty}, "200", nil, ""},
		{"raw", Fault{Action: Raw, Body: "HTTP/1.1 418 Teapot\r\nConnection: close\r\nContent-Length: 5\r\n\r\nshort"}, "418", nil, "short"},
		{"raw rubbish", Fault{Action: Raw, Body: "rubbish\r\n\r\n"}, "", func(err error) bool { return strings.Contains(err.Error(), "malformed") }, ""},
		{"reset", Fault{Action: Reset}, "", isReset, ""},
		{"closed", Fault{Action: Close}, "", isCut, ""},
		{"closed though accepted", Fault{Action: Close, Accept: true}, "", isCut, ""},
		{"reset before body", Fault{Action: ResetEarly}, "", isReset, ""},
		{"answer lost", Fault{Action: Reset, Accept: true}, "", isReset, ""},
		{"error though accepted", Fault{Code: 1, Subcode: 1357046, Accept: true}, "400 1/1357046", nil, ""},
		{"hang", Fault{Action: Hang, Delay: time.Millisecond}, "", isReset, ""},
		{"half a header", Fault{Action: CutHeader}, "", isCut, ""},
		{"half a body", Fault{Action: CutBody, Accept: true}, "", isCut, ""},
		{"half an error", Fault{Action: CutBody, Code: 2}, "", isCut, ""},
		{"delay", Fault{Action: Pass, Delay: time.Millisecond}, "200", nil, "message_id"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{})
			id := r.Script(tt.fault)
			rep, err := r.trySend("1", "hello")
			switch {
			case tt.err == nil && err != nil:
				t.Fatalf("no answer: %v", err)
			case tt.err != nil && (err == nil || !tt.err(err)):
				t.Errorf("got %s, error %v", rep.raw, err)
			case tt.err == nil && (rep.code() != tt.want || !strings.Contains(rep.raw, tt.raw)):
				t.Errorf("got %s: %s", rep.code(), rep.raw)
			}
			passed := tt.fault.Action == Pass
			if c := r.Calls()[0]; c.Accepted != (tt.fault.Accept || passed) || c.Lost != tt.fault.Accept || (c.Accepted && c.MessageID == "") {
				t.Errorf("recorded as %+v", c)
			}
			if f := r.faultStates()[0]; f.id != id || f.hits != 1 {
				t.Errorf("fault's state: %+v", f)
			}
			r.Clear()
			if rep := r.send("1", "hello"); rep.status != http.StatusOK {
				t.Errorf("without the fault: %s", rep.code())
			}
		})
	}
}

func TestFaultHeader(t *testing.T) {
	r := start(t, Config{})
	r.Script(Fault{Status: 503, Header: http.Header{"retry-after": {"7"}, "Content-Type": {"text/plain"}}})
	rep := r.send("1", "x")
	if rep.header.Get("Retry-After") != "7" || rep.header.Get("Content-Type") != "text/plain" {
		t.Errorf("header %v", rep.header)
	}
}

func TestFaultChoosesCalls(t *testing.T) {
	pages := []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "other"}}
	tests := []struct {
		name  string
		fault Fault
		want  string // x is struck, by call: recipients 7001 7002 8001 7001 8001 7001
	}{
		{"once", Fault{Code: 2}, "x....."},
		{"twice", Fault{Code: 2, Times: 2}, "xx...."},
		{"standing", Fault{Code: 2, Times: Standing}, "xxxxxx"},
		{"every second", Fault{Code: 2, Times: Standing, Every: 2}, ".x.x.x"},
		{"every third, once", Fault{Code: 2, Every: 3}, "..x..."},
		{"recipient", Fault{Code: 2, Times: Standing, Recipient: "80"}, "..x.x."},
		{"recipient in full, each second", Fault{Code: 2, Times: Standing, Recipient: "7001", Every: 2}, "...x.."},
		{"page", Fault{Code: 2, Times: Standing, Page: "10"}, "xxxxxx"},
		{"another page", Fault{Code: 2, Times: Standing, Page: "20"}, "......"},
		{"before the body, page", Fault{Action: ResetEarly, Page: "10", Times: 2}, "xx...."},
		{"before the body, another page", Fault{Action: ResetEarly, Page: "20"}, "......"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{Pages: pages})
			r.Script(tt.fault)
			got := ""
			for _, id := range []string{"7001", "7002", "8001", "7001", "8001", "7001"} {
				rep, err := r.trySend(id, "hello")
				got += map[bool]string{true: ".", false: "x"}[err == nil && rep.status == http.StatusOK]
			}
			if got != tt.want {
				t.Errorf("struck %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFirstScriptedStrikesFirst(t *testing.T) {
	r := start(t, Config{})
	r.Script(Fault{Code: 1})
	second := r.Script(Fault{Code: 2, Times: Standing})
	r.Script(Fault{Code: 3})
	for i, want := range []int{1, 2, 2} {
		if got := r.send("1", "x").body.Error.Code; got != want {
			t.Errorf("call %d: code %d, want %d", i+1, got, want)
		}
	}
	if n := r.Clear(second, "f99"); n != 1 {
		t.Errorf("cleared %d", n)
	}
	if got := r.send("1", "x").body.Error.Code; got != 3 {
		t.Errorf("code %d, want 3", got)
	}
	if n := r.Clear(); n != 2 || len(r.faultStates()) != 0 {
		t.Errorf("cleared %d, left %v", n, r.faultStates())
	}
}

// A call that hangs ends by Clear, by Close, and when its caller ends it.
func TestHangEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(r *rig, id string)
	}{
		{"clear", func(r *rig, id string) { r.Clear(id) }},
		{"close", func(r *rig, _ string) { r.Close() }},
		{"caller", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, Config{})
			hit := make(chan Call, 1)
			id := r.Script(Fault{Action: Hang, Accept: true, OnHit: func(c Call) { hit <- c }})
			ended, cancel := r.sendAside("4711")
			select {
			case c := <-hit:
				if c.Recipient != "4711" || !c.Accepted || !c.Lost || c.Status != 0 {
					t.Errorf("hit by %+v", c)
				}
			case <-within(t).Done():
				t.Fatal("never hit")
			}
			if tt.end != nil {
				tt.end(r, id)
			} else {
				cancel()
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("got an answer")
				}
			case <-within(t).Done():
				t.Fatal("still hangs")
			}
		})
	}
}

// sendAside sends on a goroutine of its own. The channel gives the error; cancel ends the call from the caller's side.
func (r *rig) sendAside(recipient string) (ended <-chan error, cancel func()) {
	ctx, cancel := context.WithCancel(within(r.t))
	req := r.request("/me/messages", "application/json", textBody(recipient, "hello"), "Authorization", "Bearer token").WithContext(ctx)
	errs := make(chan error, 1)
	go func() {
		_, err := r.do(req)
		errs <- err
	}()
	return errs, cancel
}

// ResetEarly strikes before the body is read: the caller has sent a header only.
func TestResetBeforeBody(t *testing.T) {
	r := start(t, Config{})
	r.Script(Fault{Action: ResetEarly})
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /me/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("read: %v", err)
	}
	if c := r.Counts(); c.Calls != 1 || c.Dropped != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestLatencyComesAfterTheDelivery(t *testing.T) {
	r := start(t, Config{Latency: time.Hour, Jitter: time.Minute})
	ended, cancel := r.sendAside("1")
	if err := r.wait(within(t), func(c Counts) bool { return c.Accepted == 1 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("answered at once")
	}
	if err := r.setLatency(0, 0); err != nil {
		t.Fatal(err)
	}
	r.send("1", "hello")
	if err := r.setLatency(-1, 0); err == nil {
		t.Error("negative latency taken")
	}
}

func TestInvalidFaults(t *testing.T) {
	r := start(t, Config{})
	for field, f := range map[string]Fault{
		"Action:":         {Action: "explode"},
		"Status, Code:":   {},
		"Status: must be": {Status: 99},
		"Body, Code:":     {Action: Raw},
		"Code, Body:":     {Action: Empty, Code: 1},
		"Code:":           {Action: HTML, Code: 1},
		"Status, Code, Body: must not be set for reset": {Action: Reset, Code: 1},
		"Status, Code, Body: must not be set for hang":  {Action: Hang, Code: 1},
		"Status, Code, Body: must not be set for close": {Action: Close, Status: 200},
		"Status, Code, Body: must not be set for pass":  {Action: Pass, Status: 500},
		"Every:":                    {Code: 1, Every: -1},
		"Times:":                    {Code: 1, Times: -2},
		"Delay:":                    {Code: 1, Delay: -1},
		"Action: res":               {Action: ResetEarly, Recipient: "1"},
		"Action: reset_before_body": {Action: ResetEarly, Text: "x"},
	} {
		if _, err := r.script(f); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%+v: error %v, want %s", f, err, field)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Script takes an invalid fault")
		}
	}()
	r.Script(Fault{})
}

// A text chooses the messages that contain it in any string, however they are encoded; together with page and recipient it chooses
// those that match all.
func TestFaultByText(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "other"}}})
	r.Script(Fault{Code: 368, Subcode: 1346003, Times: Standing, Text: "gratis „Geschenk“"})
	r.Script(Fault{Code: 200, Times: Standing, Text: "order_shipped"})
	r.Script(Fault{Code: 10, Times: Standing, Text: "vip", Recipient: "77", Page: "20"})
	for _, tt := range []struct{ name, token, body, want string }{
		{"another text", "token", textBody("1", "hello"), "200"},
		{"the text", "token", textBody("1", "gratis „Geschenk“!"), "400 368/1346003"},
		{"escaped", "token", message(`{"text":"gratis \u201eGeschenk\u201c"}`), "400 368/1346003"},
		{"in another case", "token", textBody("1", "GRATIS „Geschenk“"), "200"},
		{"flat JSON", "token", `{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"gratis „Geschenk“\"}"}`, "400 368/1346003"},
		{"on a button", "token", button(`{"type":"postback","title":"gratis „Geschenk“","payload":"p"}`), "400 368/1346003"},
		{"name of a template", "token", utility(`{"name":"order_shipped","language":{"code":"en"}}`), "400 200/0"},
		{"name of a key", "token", message(`{"text":"x","metadata":"text"}`), "200"},
		{"a sender action says nothing", "token", toOne(`"sender_action":"typing_on"`), "200"},
		{"text and recipient, another page", "token", textBody("771", "vip"), "200"},
		{"text and page, another recipient", "other", textBody("1", "vip"), "200"},
		{"page and recipient, another text", "other", textBody("771", "hello"), "200"},
		{"all three", "other", textBody("771", "vip"), "400 10/0"},
		{"refused before the script is asked", "token", textBody("0", "order_shipped"), "400 100/0"},
	} {
		rep, err := r.do(r.request("/me/messages", jsonBody, tt.body, "Authorization", "Bearer "+tt.token))
		if err != nil || rep.code() != tt.want {
			t.Errorf("%s: %s %v, want %s", tt.name, rep.code(), err, tt.want)
		}
	}
	for _, f := range r.faultStates() {
		if f.seen != f.hits {
			t.Errorf("%+v: saw %d calls that it did not strike", f.fault, f.seen-f.hits)
		}
	}
}

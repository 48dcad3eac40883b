package sandbox

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest judges foreign bytes as a call. Whatever comes, the answer is well formed, a refusal has a reason, and
// what is accepted has a recipient.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ path, query, contentType, body string }{
		{"/v26.0/me/messages", "access_token=t", jsonBody, textBody("1", "hi")},
		{"/10/messages", "", formBody, `access_token=t&recipient=%7B'id':'9000000551'%7D&message={'text':'it\'s'}`},
		{"/me/messages", "access_token=t&appsecret_proof=x&appsecret_time=1", "", `{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"hi\"}"}`},
		{"/v2.7/me/messages", "access_token=t", "text/plain", `{"recipient":{"id":1},"sender_action":"typing_on"}`},
		{"/me/messages", "access_token=t", jsonBody, `{"recipient":{"user_ref":"u"},"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE","message":{"attachment":{"type":"template","payload":{"template_type":"generic","elements":[{}]}}}}`},
		{"/me/messages", "access_token=t", jsonBody, `{"recipient":{"id":"1"},"message":{"text":"a","quick_replies":[1],"metadata":"m","attachment":{"type":"image","payload":{"url":"u","is_reusable":true}}}}`},
		{"/", "batch=[]", "multipart/form-data; boundary=x", "--x--"},
	} {
		f.Add(seed.path, seed.query, seed.contentType, seed.body)
	}
	c, err := Config{Seed: 1, Pages: []Page{{ID: "10", Token: "ten", AppSecret: "x"}}, AnyToken: true}.resolved()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, query, contentType, body string) {
		s := newSandbox(c) // a new one each time, since answers vary from call to call
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Content-Type", contentType)
		req, gerr := readHead(r)
		if gerr == nil {
			gerr = req.readBody(r)
		}
		o := s.judge(&req, gerr)
		if !o.fault.Action.hasResponse() {
			return
		}
		status, answer := graphHandler{s}.compose(http.Header{}, o)
		if o.fault.Action == HTML {
			return
		}
		checkAnswer(t, status, answer)
		if status == http.StatusOK {
			c := s.Find(Query{Limit: 1})[0]
			if c.Recipient == "" || !c.Accepted || c.Page == "" {
				t.Errorf("accepted without recipient or page: %+v", c)
			}
		}
		if len(req.token) > 20 && strings.Contains(string(answer), req.token) && !strings.Contains(body, req.token) {
			t.Error("the answer repeats the token")
		}
	})
}

func checkAnswer(t *testing.T, status int, answer []byte) {
	t.Helper()
	var a struct {
		RecipientID string `json:"recipient_id"`
		MessageID   string `json:"message_id"`
		Error       *struct {
			Message string `json:"message"`
			Code    int    `json:"code"`
			Trace   string `json:"fbtrace_id"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		t.Fatalf("answer %q: %v", answer, err)
	}
	if (status == http.StatusOK) != (a.Error == nil) {
		t.Errorf("%d %s", status, answer)
	}
	if a.Error == nil && a.RecipientID == "" && a.MessageID == "" {
		t.Errorf("success says nothing: %s", answer)
	}
	if a.Error != nil && (a.Error.Message == "" || a.Error.Code == 0 || a.Error.Trace == "") {
		t.Errorf("refusal without a reason: %s", answer)
	}
}

// FuzzControl gives foreign bytes to the control listener's handler: it answers JSON and never blames itself.
func FuzzControl(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"POST", "/faults", "", `{"times":-1,"every":2,"page":"10","recipient":"5","action":"cut_body","accept":true,"delay":"1s","code":613,"subcode":1,"header":{"a":"b"}}`},
		{"POST", "/faults", "", `{"status":200,"body":"x","is_transient":false,"type":"t","message":"m"}`},
		{"DELETE", "/faults/f1", "", ""},
		{"GET", "/calls", "page=10&recipient=1&since=2026-01-01T00:00:00Z&limit=3", ""},
		{"POST", "/pages/10/token", "", `{"token":"fresh"}`},
		{"POST", "/pages/10/token", "", `{"dead":463}`},
		{"POST", "/pages/10/restrict", "", `{"code":10,"subcode":1893063}`},
		{"PUT", "/latency", "", `{"latency":"800ms","jitter":"200ms"}`},
		{"GET", "/summary", "", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	s, err := New(Config{Pages: []Page{{ID: "10"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	handler := s.controlHandler()
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: "/" + strings.TrimLeft(path, "/"), RawQuery: query}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: %s is not JSON", method, path, w.Body)
		}
		for _, state := range s.faultStates() {
			if again, err := state.fault.resolved(); err != nil {
				t.Errorf("fault %+v was taken, though %v", again, err)
			}
		}
		s.Clear()
	})
}

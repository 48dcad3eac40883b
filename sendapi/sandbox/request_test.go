package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	jsonBody = "application/json"
	formBody = "application/x-www-form-urlencoded"
)

func TestRequests(t *testing.T) {
	long := func(n int) string { return strings.Repeat("é", n) }
	list := func(n int) string { return strings.TrimSuffix(strings.Repeat("{},", n), ",") }
	template := func(payload string) string {
		return `{"recipient":{"id":"1"},"message":{"attachment":{"type":"template","payload":` + payload + `}}}`
	}
	message := func(m string) string { return `{"recipient":{"id":"1"},"message":` + m + `}` }
	with := func(more string) string { return `{"recipient":{"id":"1"},"message":{"text":"x"},` + more + `}` }
	tests := []struct{ name, body, want string }{
		{"text", message(`{"text":"hi"}`), "200"},
		{"2000 characters", message(`{"text":"` + long(2000) + `"}`), "200"},
		{"2001 characters", message(`{"text":"` + long(2001) + `"}`), "400 100/0"},
		{"empty text", message(`{"text":""}`), "400 100/2018034"},
		{"text of the wrong kind", message(`{"text":{}}`), "400 100/0"},
		{"number for text", message(`{"text":7}`), "200"},
		{"empty message", message(`{}`), "400 100/2018032"},
		{"message of the wrong kind", message(`[1]`), "400 100/0"},
		{"null message", message(`null`), "400 100/0"},
		{"no message", `{"recipient":{"id":"1"}}`, "400 100/0"},
		{"no recipient", `{"message":{"text":"x"}}`, "400 100/0"},
		{"empty body", ``, "400 100/0"},
		{"recipient of the wrong kind", `{"recipient":7,"message":{"text":"x"}}`, "400 100/0"},
		{"empty recipient", `{"recipient":{},"message":{"text":"x"}}`, "400 100/0"},
		{"empty id", `{"recipient":{"id":""},"message":{"text":"x"}}`, "400 100/0"},
		{"blank id", `{"recipient":{"id":"  "},"message":{"text":"x"}}`, "400 100/0"},
		{"unrendered id", `{"recipient":{"id":"{{custom_attribute.${messenger_id}}}"},"message":{"text":"x"}}`, "400 100/0"},
		{"number for id", `{"recipient":{"id":1234567890123456},"message":{"text":"x"}}`, "200"},
		{"two recipients", `{"recipient":{"id":"1","user_ref":"2"},"message":{"text":"x"}}`, "400 100/0"},
		{"user_ref", `{"recipient":{"user_ref":"abc"},"message":{"text":"x"}}`, "200"},
		{"comment_id", `{"recipient":{"comment_id":"1_2"},"message":{"text":"x"}}`, "200"},
		{"blank user_ref", `{"recipient":{"user_ref":" "},"message":{"text":"x"}}`, "400 100/0"},
		{"sender action", `{"recipient":{"id":"1"},"sender_action":"typing_on"}`, "200"},
		{"unknown sender action", `{"recipient":{"id":"1"},"sender_action":"wave"}`, "400 100/0"},
		{"message and sender action", with(`"sender_action":"typing_on"`), "400 100/2018014"},
		{"unknown keys", with(`"foo":{"bar":[1,2]},"baz":null`), "200"},
		{"unknown key in message", message(`{"text":"x","preview":true}`), "200"},
		{"messaging type", with(`"messaging_type":"UTILITY"`), "200"},
		{"unknown messaging type", with(`"messaging_type":"SPAM"`), "400 100/0"},
		{"tag", with(`"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT"`), "200"},
		{"no tag", with(`"messaging_type":"MESSAGE_TAG"`), "400 100/0"},
		{"retired tag", with(`"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE"`), "400 100/1893061"},
		{"unknown tag", with(`"tag":"SHIPPING_UPDATE"`), "400 100/0"},
		{"metadata", message(`{"text":"x","metadata":"` + long(999) + `"}`), "200"},
		{"long metadata", message(`{"text":"x","metadata":"` + long(1000) + `"}`), "400 100/0"},
		{"13 quick replies", message(`{"text":"x","quick_replies":[` + list(13) + `]}`), "200"},
		{"14 quick replies", message(`{"text":"x","quick_replies":[` + list(14) + `]}`), "400 105/0"},
		{"image", message(`{"attachment":{"type":"image","payload":{"url":"https://example.com/i.png"}}}`), "200"},
		{"image without url", message(`{"attachment":{"type":"image","payload":{}}}`), "400 100/0"},
		{"no payload", message(`{"attachment":{"type":"image"}}`), "400 100/0"},
		{"unknown attachment", message(`{"attachment":{"type":"hologram","payload":{}}}`), "400 100/0"},
		{"attachment of the wrong kind", message(`{"attachment":"x"}`), "400 100/0"},
		{"template without kind", template(`{}`), "400 100/0"},
		{"generic template", template(`{"template_type":"generic","elements":[` + list(10) + `]}`), "200"},
		{"11 elements", template(`{"template_type":"generic","elements":[` + list(11) + `]}`), "400 105/0"},
		{"no elements", template(`{"template_type":"generic"}`), "400 100/0"},
		{"media template", template(`{"template_type":"media","elements":[{}]}`), "200"},
		{"two media", template(`{"template_type":"media","elements":[{},{}]}`), "400 105/0"},
		{"button template", template(`{"template_type":"button","text":"x","buttons":[{}]}`), "200"},
		{"four buttons", template(`{"template_type":"button","text":"x","buttons":[{},{},{},{}]}`), "400 105/0"},
		{"long text over buttons", template(`{"template_type":"button","text":"` + long(641) + `","buttons":[{}]}`), "400 100/0"},
		{"no text over buttons", template(`{"template_type":"button","buttons":[{}]}`), "400 100/0"},
		{"receipt", template(`{"template_type":"receipt"}`), "200"},
		{"utility template", message(`{"template":{"name":"n","language":{"code":"en"}}}`), "200"},
		{"not JSON", `{"recipient":{"id":"1"},"message":{"text":"Jon "the man" Doe"}}`, "400 100/0"},
		{"line feed in a string", "{\"recipient\":{\"id\":\"1\"},\"message\":{\"text\":\"a\nb\"}}", "400 100/0"},
		{"flat JSON", `{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"hi\"}"}`, "200"},
		{"too large", message(`{"text":"` + strings.Repeat("x", maxBody) + `"}`), "413 1/0"},
	}
	r := start(t, Config{AnyPage: Page{Rate: Off, HighVolume: Off}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rep, err := r.do(r.request("/v26.0/me/messages?access_token=token", jsonBody, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if rep.code() != tt.want {
				t.Errorf("got %s: %s", rep.code(), rep.raw)
			}
		})
	}
}

func TestEncodings(t *testing.T) {
	form := func(kv ...string) string {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return v.Encode()
	}
	const inJSON = `{"recipient":{"id":"1"},"message":{"text":"it's \"it\""}}`
	tests := []struct{ name, path, contentType, body, auth string }{
		{"JSON, bearer", "/me/messages", jsonBody + "; charset=utf-8", inJSON, "bearer"},
		{"JSON, query", "/me/messages?access_token=token", jsonBody, inJSON, "query"},
		{"JSON, in the body", "/me/messages", jsonBody, `{"access_token":"token",` + inJSON[1:], "json"},
		{"JSON without a type", "/me/messages?access_token=token", "", inJSON, "query"},
		{"JSON under an odd type", "/me/messages?access_token=token", "application/x-www-form-url-encoded", inJSON, "query"},
		{"form", "/me/messages", formBody, form("access_token", "token", "recipient", `{"id":"1"}`, "message", `{"text":"it's \"it\""}`), "form"},
		{"form as in Meta's samples", "/me/messages", formBody, form("access_token", "token", "recipient", `{'id':'1'}`, "message", `{'text':'it\'s "it"'}`), "form"},
		{"form without a type", "/me/messages", "", form("access_token", "token", "recipient", `{"id":"1"}`, "message", `{ "text" : "it's \"it\"" }`), "form"},
		{"all in the query", "/me/messages?" + form("access_token", "token", "recipient", `{"id":"1"}`, "message", `{"text":"it's \"it\""}`), "", "", "query"},
	}
	r := start(t, Config{})
	page := PageIDFor("token")
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := r.request(tt.path, tt.contentType, tt.body)
			if tt.auth == "bearer" {
				req.Header.Set("Authorization", "bearer token")
			}
			rep, err := r.do(req)
			if err != nil || rep.status != http.StatusOK {
				t.Fatalf("%s, %v", rep.raw, err)
			}
			if c := r.Find(Query{Limit: 1})[0]; c.Auth != tt.auth {
				t.Errorf("token came by %s", c.Auth)
			}
			// However it came, it is the same message.
			if n := r.Delivered(page, "1", textDigest(t, `it's "it"`)); n != i+1 {
				t.Errorf("delivered %d times, want %d", n, i+1)
			}
		})
	}
}

func TestPathsAndTokens(t *testing.T) {
	r := start(t, Config{
		Pages: []Page{{ID: "10", Token: "ten"}, {ID: "20"}},
	})
	body := textBody("1", "x")
	realToken := "EAA" + strings.Repeat("b", 150)
	tests := []struct{ name, method, path, token, want string }{
		{"me", "POST", "/v26.0/me/messages", "ten", "200"},
		{"page", "POST", "/v26.0/10/messages", "ten", "200"},
		{"without version", "POST", "/me/messages", "ten", "200"},
		{"page without version", "POST", "/10/messages/", "ten", "200"},
		{"default token", "POST", "/20/messages", DefaultToken("20"), "200"},
		{"another's page", "POST", "/v26.0/20/messages", "ten", "400 100/33"},
		{"ended version", "POST", "/v2.7/me/messages", "ten", "200"},
		{"future version", "POST", "/v99.0/me/messages", "ten", "400 2500/0"},
		{"odd version", "POST", "/v1.0/me/messages", "ten", "400 2500/0"},
		{"no token", "POST", "/me/messages", "", "400 2500/0"},
		{"unknown token", "POST", "/me/messages", "eleven", "400 190/0|401 190/0"},
		{"real token", "POST", "/me/messages", realToken, "401 190/0"},
		{"get", "GET", "/me/messages", "ten", "400 100/33"},
		{"delete", "DELETE", "/v26.0/me/messages", "ten", "400 100/33"},
		{"another edge", "POST", "/me/feed", "ten", "400 2500/0"},
		{"nothing", "POST", "/v26.0/", "ten", "400 3/0"},
		{"batch", "POST", "/?batch=[]", "ten", "400 3/0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := r.request(tt.path, jsonBody, body)
			req.Method = tt.method
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rep, err := r.do(req)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains("|"+tt.want+"|", "|"+rep.code()+"|") {
				t.Errorf("got %s: %s", rep.code(), rep.raw)
			}
			if tt.token != "" && strings.Contains(rep.raw+rep.header.Get("WWW-Authenticate"), tt.token) {
				t.Error("the answer repeats the token")
			}
		})
	}
}

func TestAnswerForms(t *testing.T) {
	r := start(t, Config{})
	post := func(path, body string) reply {
		t.Helper()
		rep, err := r.do(r.request(path+"?access_token=token", jsonBody, body))
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	rep := post("/v25.0/me/messages", textBody("4711", "x"))
	if rep.body.RecipientID != "4711" || rep.body.MessageID == "" || rep.body.AttachmentID != "" {
		t.Errorf("text: %s", rep.raw)
	}
	for name, want := range map[string]string{"facebook-api-version": "v25.0", "content-type": "application/json; charset=UTF-8", "x-sandbox": "brazier"} {
		if got := rep.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := post("/v2.7/me/messages", textBody("1", "x")).header.Get("facebook-api-version"); got != "v21.0" {
		t.Errorf("ended version served as %q", got)
	}
	if rep := post("/me/messages", `{"recipient":{"user_ref":"u"},"message":{"text":"x"}}`); rep.body.RecipientID != "" || rep.body.MessageID == "" {
		t.Errorf("user_ref: %s", rep.raw)
	}
	if rep := post("/me/messages", `{"recipient":{"comment_id":"1_2"},"message":{"text":"x"}}`); !digits(rep.body.RecipientID) || rep.body.RecipientID == "" {
		t.Errorf("comment_id: %s", rep.raw)
	}
	if rep := post("/me/messages", `{"recipient":{"id":"1"},"sender_action":"mark_seen"}`); rep.body.RecipientID != "1" || rep.body.MessageID != "" {
		t.Errorf("sender action: %s", rep.raw)
	}
	if rep := post("/me/messages", `{"recipient":{"id":"1"},"message":{"attachment":{"type":"image","payload":{"url":"https://example.com/i","is_reusable":true}}}}`); rep.body.AttachmentID == "" {
		t.Errorf("reusable: %s", rep.raw)
	}
	rep = post("/me/messages", textBody("9000000001", "x"))
	if got := rep.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `OAuth "Facebook Platform" "invalid_request" "`) {
		t.Errorf("WWW-Authenticate: %s", got)
	}
	if rep.body.Error.Trace == "" || rep.body.Error.Trace != rep.header.Get("x-fb-trace-id") {
		t.Errorf("trace id %q, header %q", rep.body.Error.Trace, rep.header.Get("x-fb-trace-id"))
	}
}

func TestAppSecretProof(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token", AppSecret: "hush"}}})
	sign := func(s string) string {
		mac := hmac.New(sha256.New, []byte("hush"))
		mac.Write([]byte(s))
		return hex.EncodeToString(mac.Sum(nil))
	}
	at := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	now, old, ahead := at(0), at(-6*time.Minute), at(6*time.Minute)
	tests := []struct {
		name, proof, time string
		ok                bool
	}{
		{"plain", sign("token"), "", true},
		{"timed", sign("token|" + now), now, true},
		{"missing", "", "", false},
		{"wrong", sign("tokem"), "", false},
		{"upper case", strings.ToUpper(sign("token")), "", false},
		{"timed but untimed proof", sign("token"), now, false},
		{"too old", sign("token|" + old), old, false},
		{"too far ahead", sign("token|" + ahead), ahead, false},
		{"no time", sign("token|noon"), "noon", false},
	}
	for _, tt := range tests {
		for _, way := range []string{"query", "form", "json"} {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				v := url.Values{}
				inJSON := ""
				for k, s := range map[string]string{"appsecret_proof": tt.proof, "appsecret_time": tt.time} {
					if s != "" {
						v.Set(k, s)
						inJSON += fmt.Sprintf("%q:%q,", k, s)
					}
				}
				path, contentType, body := "/me/messages", jsonBody, textBody("1", "x")
				switch way {
				case "query":
					path += "?" + v.Encode()
				case "form":
					v.Set("recipient", `{"id":"1"}`)
					v.Set("message", `{"text":"x"}`)
					contentType, body = formBody, v.Encode()
				case "json":
					body = "{" + inJSON + body[1:]
				}
				rep, err := r.do(r.request(path, contentType, body, "Authorization", "Bearer token"))
				if err != nil {
					t.Fatal(err)
				}
				if got := rep.status == http.StatusOK; got != tt.ok {
					t.Errorf("got %s", rep.raw)
				}
				if !tt.ok && !strings.Contains(rep.body.Error.Message, "appsecret_proof") {
					t.Errorf("message %q", rep.body.Error.Message)
				}
			})
		}
	}
}

func TestStrictKeys(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token", StrictKeys: true}}})
	rep, err := r.do(r.request("/me/messages?access_token=token", jsonBody, `{"recipient":{"id":"1"},"message":{"text":"x","preview":1}}`))
	if err != nil || rep.code() != "400 100/0" || !strings.Contains(rep.body.Error.Message, `"preview"`) {
		t.Errorf("%s, %v", rep.raw, err)
	}
}

func TestAnyToken(t *testing.T) {
	r := start(t, Config{AnyToken: true, Pages: []Page{{ID: "10", Token: "ten"}}})
	for _, tt := range []struct{ path, token, page string }{
		{"/me/messages", "one", PageIDFor("one")},
		{"/me/messages", "two", PageIDFor("two")},
		{"/555/messages", "three", "555"},
		{"/me/messages", "three", "555"},
		{"/me/messages", "ten", "10"},
	} {
		rep, err := r.do(r.request(tt.path, jsonBody, textBody("1", "x"), "Authorization", "Bearer "+tt.token))
		if err != nil || rep.status != http.StatusOK {
			t.Errorf("%s: %s, %v", tt.token, rep.raw, err)
		}
		if c := r.Find(Query{Limit: 1})[0]; c.Page != tt.page {
			t.Errorf("%s is page %s, want %s", tt.token, c.Page, tt.page)
		}
	}
	rep, err := r.do(r.request("/10/messages", jsonBody, textBody("1", "x"), "Authorization", "Bearer one-more"))
	if err != nil || rep.body.Error == nil || rep.body.Error.Code != 190 {
		t.Errorf("any token opens a page that has one: %s, %v", rep.raw, err)
	}
	if id := PageIDFor("one"); len(id) != 16 || !digits(id) {
		t.Errorf("page id %q", id)
	}
}

func TestTokenDiesAndHeals(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10", Token: "token"}, {ID: "20", Token: "taken"}}})
	check := func(when, token, want string) {
		t.Helper()
		rep, err := r.do(r.request("/10/messages", jsonBody, textBody("1", "x"), "Authorization", "Bearer "+token))
		if err != nil || rep.code() != want {
			t.Errorf("%s: %s %v, want %s", when, rep.code(), err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	check("at first", "token", "200")
	must(r.KillToken("10", 463))
	check("expired", "token", "400 190/463")
	must(r.SetToken("10", "fresh"))
	check("with the old one", "token", "400 190/463")
	check("with the new one", "fresh", "200")
	must(r.SetToken("10", "fresher"))
	check("with the one before", "fresh", "400 190/460")
	must(r.KillToken("10", 460))
	must(r.SetToken("10", "fresher"))
	check("revived", "fresher", "200")
	var times []time.Duration
	for _, c := range r.Find(Query{Page: "10"}) {
		times = append(times, c.At.Sub(r.start))
	}
	if got, want := r.MaxInSecond("10"), busiest(times); len(times) != 6 || got != want {
		t.Errorf("%d calls of the page, %d in its busiest second, want %d", len(times), got, want)
	}
	for what, err := range map[string]error{
		"taken": r.SetToken("10", "taken"), "empty": r.SetToken("10", ""), "real": r.SetToken("10", "EAA"+strings.Repeat("x", 99)),
		"no page": r.SetToken("30", "x"), "no page to kill": r.KillToken("30", 463), "no subcode": r.KillToken("10", 0),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func TestRestrictedPage(t *testing.T) {
	r := start(t, Config{})
	r.send("1", "x")
	for _, tt := range []struct {
		code, subcode int
		want          string
	}{{10, 1893063, "400 10/1893063"}, {368, 0, "400 368/0"}, {2022, 0, "400 2022/0"}, {0, 0, "200"}} {
		if err := r.Restrict(PageIDFor("token"), tt.code, tt.subcode); err != nil {
			t.Fatal(err)
		}
		if got := r.send("1", "x").code(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	if err := r.Restrict("30", 368, 0); err == nil {
		t.Error("restricts a page that does not exist")
	}
}

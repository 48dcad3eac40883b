package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	jsonBody = "application/json"
	formBody = "application/x-www-form-urlencoded"
)

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
	page := pageIDFor("token")
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

package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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

// A page that AnyToken made for a token when the path said me is the page that the first other path names, with all that was
// recorded of it.
func TestPathNamesThePageOfAToken(t *testing.T) {
	r := start(t, Config{AnyToken: true, Pages: []Page{{ID: "10", Token: "ten"}}})
	send := func(path, token, want string) {
		t.Helper()
		rep, err := r.do(r.request(path, jsonBody, textBody("1", "x"), "Authorization", "Bearer "+token))
		if err != nil || rep.code() != want {
			t.Errorf("%s with %s: %s, %v, want %s", path, token, rep.code(), err, want)
		}
	}
	send("/me/messages", "one", "200")
	send("/10/messages", "one", "400 100/33") // has a token of its own
	send("/elsewhere/messages", "one", "400 100/33")
	send("/555/messages", "one", "200")
	send("/me/messages", "one", "200")
	send("/555/messages", "one", "200")
	send("/666/messages", "one", "400 100/33") // the page has its name now
	send("/"+PageIDFor("one")+"/messages", "one", "400 100/33")
	send("/me/messages", "two", "200")
	send("/555/messages", "two", "400 100/33")
	send("/777/messages", "three", "200") // named from the start
	send("/888/messages", "three", "400 100/33")

	if got := r.PageIDs(); len(got) != 4 || slices.Contains(got, PageIDFor("one")) || !slices.Contains(got, "555") {
		t.Errorf("pages %v", got)
	}
	if calls := r.Find(Query{Page: "555"}); len(calls) != 8 || calls[0].Seq != 1 {
		t.Errorf("%d calls of page 555", len(calls))
	}
	if n := r.Delivered("555", "1", textDigest(t, "x")); n != 4 {
		t.Errorf("delivered %d times, want 4: the first under another name", n)
	}
	if sum := r.Summary(); sum.Pages["555"].Duplicates != 3 || sum.Duplicates != 3 {
		t.Errorf("summary %+v", sum)
	}
	if dups := r.Duplicates(); len(dups) != 1 || dups[0].Page != "555" || dups[0].Times != 4 {
		t.Errorf("duplicates %+v", dups)
	}
	if err := r.KillToken("555", 463); err != nil {
		t.Error(err)
	}
	send("/me/messages", "one", "400 190/463")
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

package sandbox

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnyToken(t *testing.T) {
	r := start(t, Config{AnyToken: true, Pages: []Page{{ID: "10", Token: "ten"}}})
	for _, tt := range []struct{ path, token, page string }{
		{"/me/messages", "one", pageIDFor("one")},
		{"/me/messages", "two", pageIDFor("two")},
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
	if id := pageIDFor("one"); len(id) != 16 || !digits(id) {
		t.Errorf("page id %q", id)
	}
}

// A page that AnyToken made for a token when the path was me is the page that the first other path names, with all that was
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
	send("/"+pageIDFor("one")+"/messages", "one", "400 100/33")
	send("/me/messages", "two", "200")
	send("/555/messages", "two", "400 100/33")
	send("/777/messages", "three", "200") // named from the start
	send("/888/messages", "three", "400 100/33")

	if got := r.pageIDs(); len(got) != 4 || slices.Contains(got, pageIDFor("one")) || !slices.Contains(got, "555") {
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
	if got, want := r.maxInSecond("10"), busiest(times); len(times) != 6 || got != want {
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
		if err := r.Restrict(pageIDFor("token"), tt.code, tt.subcode); err != nil {
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

package braze_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/brazier-relay/brazier/worker/braze"
)

const (
	theUser = "jon.doe@example.com"
	thePSID = "24689753102468975"
)

// textOf is everything that a Track returns, as text.
func textOf(results []braze.Result, v braze.Verdict) string {
	return fmt.Sprintf("%+v %+v", results, v)
}

// holdSecrets fails the test if a text names the key, the user or the PSID.
func holdSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{theKey, theUser, thePSID} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in %s", secret, text)
		}
	}
}

// Whatever Braze or a proxy repeats of a call, it is in nothing that the package returns.
func TestNoSecretIsReturned(t *testing.T) {
	objects := []braze.Object{
		{User: user(theUser), Attributes: map[string]any{"messenger_id": thePSID}},
		{User: user(theUser), Event: &braze.Event{Name: "messenger_linked", Time: time.Unix(1795600000, 0), Properties: map[string]any{"psid": thePSID}}},
	}
	echo := fmt.Sprintf("Bearer %s sent %s for %s", theKey, thePSID, theUser)
	for _, c := range []struct{ name, body string }{
		{"message", `{"message":` + quote(echo) + `}`},
		{"named", `{"message":"success","errors":[{"type":` + quote(echo) + `,"input_array":"events","index":0}]}`},
		{"texts", `{"message":"success","errors":[` + quote(echo) + `]}`},
		{"an array", `{"message":"success","errors":[{"type":"x","input_array":` + quote(echo) + `,"index":0}]}`},
		{"both", `{"message":` + quote(echo) + `,"errors":[{"type":` + quote(echo) + `,"input_array":"events","index":0}]}`},
		{"plain", echo},
	} {
		for _, status := range []int{200, 201, 302, 400, 401, 403, 404, 413, 418, 422, 429, 500, 503} {
			s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
				w.Header().Set("Location", "https://elsewhere.example/"+theKey)
				answer(w, status, c.body)
			})
			results, v := track(t, client(t, s.URL), objects...)
			text := textOf(results, v)
			holdSecrets(t, text)
			if strings.Contains(text, "elsewhere") {
				t.Errorf("%s, %d: the redirect's target is in %s", c.name, status, text)
			}
		}
	}
}

// Errors about objects, keys and connections name no secret either.
func TestNoSecretInErrors(t *testing.T) {
	s := serve(t, func(_ int, _ body, w http.ResponseWriter) { reset(t, w) })
	bad := braze.Object{User: user(theUser), Attributes: map[string]any{"x": strings.Repeat(thePSID, 20), "email": theUser}}
	for _, url := range []string{s.URL, "https://braze.invalid"} {
		for _, key := range []string{theKey, theKey + "\n"} {
			c := client(t, url, func(c *braze.Config) { c.Key = func() (string, error) { return key, nil } })
			holdSecrets(t, textOf(track(t, c, bad, attribute(theUser), event(theUser))))
		}
	}
	_, err := braze.New(braze.Config{URL: "https://" + theKey + "@rest.example?" + theKey, UserAgent: theKey + "\n"})
	holdSecrets(t, fmt.Sprint(err))
	if f := braze.Fingerprint(theKey); len(f) != 16 || strings.Contains(theKey, f) || f == braze.Fingerprint(theKey+"x") {
		t.Errorf("fingerprint %q", f)
	}
}

// PSIDs and phone numbers are hidden even where they are not of this call; limits and codes are not.
func TestNumbersAreHidden(t *testing.T) {
	s := serve(t, always(201, `{"message":"success","errors":["31234567890123456 has 551 and 123456789","+4915112345678","plain"]}`))
	_, v := track(t, client(t, s.URL), attribute("a"))
	if got, want := strings.Join(v.Unattributed, "|"), "… has 551 and 123456789|+…|plain"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A text of Braze's is one short line.
func TestTextsAreOneLine(t *testing.T) {
	s := serve(t, always(500, `{"message":`+quote("a\r\nlevel=error\x1b[31m\u2028"+strings.Repeat("é", 500))+`}`))
	_, v := track(t, client(t, s.URL), attribute("a"))
	if strings.ContainsFunc(v.Text, unicode.IsControl) || strings.ContainsRune(v.Text, '\u2028') || utf8.RuneCountInString(v.Text) > 230 {
		t.Errorf("%q", v.Text)
	}
}

// Nothing that anybody can answer makes the package fail, say a secret, lose an object or make up an outcome.
func FuzzAnswer(f *testing.F) {
	for _, l := range lines(f) {
		if l.Status != nil && l.Body != nil {
			f.Add(*l.Status, *l.Body)
		}
	}
	f.Add(201, `{"message":"success","errors":[{"type":"x","input_array":"events","index":99999999999999999999}]}`)
	f.Add(400, `{"errors":{"type":["`+thePSID+`"],"input_array":"events","index":0}}`)
	objects := []braze.Object{attribute(theUser), event(theUser), attribute("b")}
	f.Fuzz(func(t *testing.T, status int, text string) {
		if status < 100 || status > 999 {
			return
		}
		calls := 0
		c, err := braze.New(braze.Config{URL: "https://braze.invalid", Key: func() (string, error) { return theKey, nil },
			Transport: pretend(func(body) (int, string) { calls++; return status, text })})
		if err != nil {
			t.Fatal(err)
		}
		results, v := track(t, c, objects...)
		for i, r := range results {
			if r.Outcome != braze.Done && r.Outcome != braze.Dead && r.Outcome != braze.Again || r.Outcome != braze.Done && r.Reason == "" {
				t.Errorf("object %d: %+v", i, r)
			}
			if r.Outcome == braze.Done && (status < 200 || status > 299) {
				t.Errorf("object %d is done by %d", i, status)
			}
		}
		if (v.Text == "") != (v.Meaning == braze.Taken) || v.Meaning != braze.Taken && v.Wait == (braze.Wait{}) {
			t.Errorf("%+v", v)
		}
		if calls != v.Calls || calls > 2*len(objects)-1 {
			t.Errorf("%d calls, %d told", calls, v.Calls)
		}
		if w := v.Wait; w.For != 0 && (w.For < time.Second || w.For > time.Minute) {
			t.Errorf("wait %+v", w)
		}
		holdSecrets(t, textOf(results, v))
	})
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

package sendapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const testPage = "1029384756"

func TestSubscriptions(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   []Subscription
		lacks  []string
	}{
		"all": {`{"data":[{"category":"Business","link":"https://acme.example","name":"Acme","id":"77","subscribed_fields":["` + strings.Join(webhookFields, `","`) + `","feed"]}]}`,
			[]Subscription{{"77", "Acme", append(WebhookFields(false), "feed")}}, nil},
		"lost":              {`{"data":[]}`, []Subscription{}, webhookFields},
		"some":              {`{"data":[{"id":"77","name":"Acme","subscribed_fields":["messages","messaging_postbacks"]}]}`, []Subscription{{"77", "Acme", []string{"messages", "messaging_postbacks"}}}, webhookFields[2:]},
		"no fields":         {`{"data":[{"id":"77","name":"Acme"}]}`, []Subscription{{"77", "Acme", nil}}, webhookFields},
		"an id as a number": {`{"data":[{"id":123456789012345678901,"subscribed_fields":null}],"paging":{}}`, []Subscription{{"123456789012345678901", "", nil}}, webhookFields},
		"several apps": {`{"data":[{"id":"1","subscribed_fields":["feed"]},{"id":"2","subscribed_fields":["` + strings.Join(webhookFields[1:], `","`) + `"]}]}`,
			[]Subscription{{"1", "", []string{"feed"}}, {"2", "", webhookFields[1:]}}, []string{"messages"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := testServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.String() != "/v25.0/"+testPage+"/subscribed_apps" || r.Header.Get("Authorization") != "Bearer "+testToken {
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
				_, _ = io.WriteString(w, tc.answer)
			})
			got, err := client.Subscriptions(t.Context(), Credentials{Token: testToken}, testPage)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tc.want) {
				t.Errorf("apps %q, want %q", got, tc.want)
			}
			if lacks := MissingFields(got, WebhookFields(false)); !slices.Equal(lacks, tc.lacks) {
				t.Errorf("missing %q, want %q", lacks, tc.lacks)
			}
		})
	}
}

func TestSubscribe(t *testing.T) {
	for _, secret := range []string{"", "app-secret-for-the-test"} {
		_, client := testServer(t, func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if r.Method != http.MethodPost || r.URL.Path != "/v25.0/"+testPage+"/subscribed_apps" || r.Header.Get("Authorization") != "Bearer "+testToken ||
				q.Get("subscribed_fields") != strings.Join(webhookFields, ",") || q.Has("appsecret_proof") != (secret != "") {
				t.Errorf("%s %s, fields %s", r.Method, r.URL.Path, q.Get("subscribed_fields"))
			}
			_, _ = io.WriteString(w, `{"success":true}`)
		})
		if err := client.Subscribe(t.Context(), Credentials{Token: testToken, AppSecret: secret}, testPage, WebhookFields(false)); err != nil {
			t.Error(err)
		}
	}
}

// Each failure is an *Error that shows neither the token nor what the peer sent.
func TestSubscriptionFailures(t *testing.T) {
	const peer = "sentence-of-the-peer"
	graphError := func(code int) string {
		return fmt.Sprintf(`{"error":{"message":"%s %s","type":"OAuthException","code":%d,"fbtrace_id":"Abc"}}`, peer, testToken, code)
	}
	for name, tc := range map[string]struct {
		status int
		answer string
		want   Class
		code   int
	}{
		"dead token":     {400, graphError(190), ClassAuth, 190},
		"no permission":  {403, graphError(200), ClassPage, 200},
		"throttled":      {400, graphError(4), ClassThrottleApp, 4},
		"a gateway":      {502, "<html>" + peer, ClassTransient, 0},
		"not JSON":       {200, "<html>" + peer, ClassTransient, 0},
		"another object": {200, `{"` + peer + `":1}`, ClassTransient, 0},
		"no success":     {200, `{"success":false,"data":"` + peer + `"}`, ClassTransient, 0},
		"too long":       {200, `{"data":["` + strings.Repeat("x", maxAnswer) + `"]}`, ClassTransient, 0},
		"a redirect":     {302, peer, ClassTransient, 0},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			_, client := testServer(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.answer)
			})
			_, err := client.Subscriptions(t.Context(), Credentials{Token: testToken}, testPage)
			for _, err := range []error{err, client.Subscribe(t.Context(), Credentials{Token: testToken}, testPage, WebhookFields(false))} {
				var failure *Error
				if !errors.As(err, &failure) || failure.Class != tc.want || failure.Code != tc.code {
					t.Errorf("%v, want class %s and code %d", err, tc.want, tc.code)
				}
				mustHide(t, err, testToken, peer)
			}
			if asked != 2 {
				t.Errorf("%d calls, want 2", asked)
			}
		})
	}
}

// What cannot be called is refused before a call.
func TestSubscriptionRefused(t *testing.T) {
	server, client := testServer(t, func(http.ResponseWriter, *http.Request) { t.Error("a call") })
	ended, end := context.WithCancel(t.Context())
	end()
	for name, call := range map[string]func() error{
		"no page":       func() error { return client.Subscribe(t.Context(), Credentials{Token: testToken}, "", nil) },
		"another path":  func() error { return client.Subscribe(t.Context(), Credentials{Token: testToken}, "12/../34", nil) },
		"no token":      func() error { return client.Subscribe(t.Context(), Credentials{}, testPage, nil) },
		"ended context": func() error { return client.Subscribe(ended, Credentials{Token: testToken}, testPage, nil) },
	} {
		var failure *Error
		if err := call(); !errors.As(err, &failure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.Close()
	_, err := client.Subscriptions(t.Context(), Credentials{Token: testToken, AppSecret: "app-secret"}, testPage)
	var failure *Error
	if !errors.As(err, &failure) || failure.Class != ClassTransient || strings.Contains(err.Error(), "appsecret_proof") {
		t.Errorf("no server: %v", err)
	}
	mustHide(t, err, testToken)
}

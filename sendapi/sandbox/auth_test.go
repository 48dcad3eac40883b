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

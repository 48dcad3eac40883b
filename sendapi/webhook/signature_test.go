package webhook_test

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

func TestSignatureVectors(t *testing.T) {
	type vector struct {
		Name, Header, Why string
		AppSecrets        []string `json:"app_secrets"`
		Body              string   `json:"body_base64"`
		Accept            any      // true, false, or "either"
	}
	readLines(t, "signature_vectors.jsonl", 17, func(v vector) {
		t.Run(v.Name, func(t *testing.T) {
			body, err := base64.StdEncoding.DecodeString(v.Body)
			if err != nil {
				t.Fatal(err)
			}
			var secrets [][]byte
			for _, s := range v.AppSecrets {
				secrets = append(secrets, []byte(s))
			}
			want := v.Accept == true || v.Accept == "either" // hexadecimal digits of either case are the same signature
			if got := webhook.Verify(secrets, v.Header, body); got != want {
				t.Errorf("%v, want %v: %s", got, want, v.Why)
			}
		})
	})
}

// Everybody knows the empty secret, so a setting that came out empty must not open the webhook to everybody.
func TestEmptySecretVerifiesNothing(t *testing.T) {
	const signedWithEmpty = "sha256=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad" // of the empty body
	for _, secrets := range [][][]byte{nil, {}, {nil}, {[]byte("")}} {
		if webhook.Verify(secrets, signedWithEmpty, nil) {
			t.Errorf("%q verify", secrets)
		}
	}
}

func TestChallenge(t *testing.T) {
	const good = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock"
	tokens := [][]byte{nil, []byte("older"), []byte("meatyhamhock")}
	for _, c := range []struct {
		name, query string
		tokens      [][]byte
		want, says  string
	}{
		{"right", good, tokens, "1158201444", ""},
		{"other token", strings.Replace(good, "meaty", "meatz", 1), tokens, "", "hub.verify_token"},
		{"shorter token", strings.Replace(good, "hock", "", 1), tokens, "", "hub.verify_token"},
		{"no token", "hub.mode=subscribe&hub.challenge=1", tokens, "", "hub.verify_token"},
		{"no tokens configured", good, nil, "", "hub.verify_token"},
		{"other mode", strings.Replace(good, "subscribe", "unsubscribe", 1), tokens, "", "hub.mode"},
		{"nothing", "", tokens, "", "hub.mode"},
		{"no challenge", "hub.mode=subscribe&hub.verify_token=meatyhamhock", tokens, "", "hub.challenge"},
		{"challenge that is HTML", strings.Replace(good, "1158201444", "<script>", 1), tokens, "", "hub.challenge"},
		{"challenge too long", strings.Replace(good, "1158201444", strings.Repeat("1", 65), 1), tokens, "", "hub.challenge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := webhook.Challenge(query, c.tokens)
			if got != c.want || (err == nil) != (c.says == "") {
				t.Fatalf("%q, %v; want %q", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "ham")) {
				t.Errorf("the error %q does not name %s, or shows the token", err, c.says)
			}
			if c.says == "hub.verify_token" && !errors.Is(err, webhook.ErrVerifyToken) {
				t.Errorf("%v is not ErrVerifyToken", err)
			}
		})
	}
}

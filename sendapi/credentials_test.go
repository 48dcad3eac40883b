package sendapi

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestCredentialsShowNothing(t *testing.T) {
	const token, secret = "page-token-for-the-test", "app-secret-for-the-test"
	cred := Credentials{Token: token, AppSecret: secret}
	mustHide(t, cred, token, secret)
	mustHide(t, &cred, token, secret)
	mustHide(t, struct{ Cred Credentials }{cred}, token, secret)
	mustHide(t, map[string]Credentials{"page": cred}, token, secret)

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "cred", cred)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "cred", cred)
	if s := log.String(); strings.Contains(s, token) || strings.Contains(s, secret) || !strings.Contains(s, "masked") {
		t.Errorf("logged as %s", s)
	}
	if got, err := json.Marshal(cred); err != nil || string(got) != `"sendapi.Credentials(masked)"` {
		t.Errorf("as JSON %s, %v", got, err)
	}
	if cred.String() != masked {
		t.Errorf("as a string %s", cred.String())
	}
}

func TestProof(t *testing.T) {
	cred := Credentials{Token: "token", AppSecret: "secret"}
	// printf %s 'token|1700000000' | openssl dgst -sha256 -hmac secret
	const want = "?appsecret_proof=3c81f1bf0544f53adccadbaf135235bf73451aadede41a90a122c46e93dcae64&appsecret_time=1700000000"
	if got := cred.query(time.Unix(1700000000, 999_999_999)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := (Credentials{Token: "token"}).query(time.Unix(1700000000, 0)); got != "" {
		t.Errorf("without a secret %q", got)
	}
}

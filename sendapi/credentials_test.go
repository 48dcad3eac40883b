package sendapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// The proof is in the query and nowhere else, made for the time of Config.Now, and the
// body is not changed.
func TestSendProof(t *testing.T) {
	now := time.Unix(1700000000, 0)
	cred := Credentials{Token: testToken, AppSecret: "app-secret-for-the-test"}
	seen := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) != testBody {
			t.Errorf("the body is %s", body)
		}
		seen <- r
		_, _ = io.WriteString(w, testSent)
	}))
	defer server.Close()
	client, err := NewClient(Config{GraphURL: server.URL, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.transport.Proxy = nil
	for _, secret := range []string{cred.AppSecret, ""} {
		cred.AppSecret = secret
		if _, err := client.Send(t.Context(), cred, []byte(testBody)); err != nil {
			t.Fatal(err)
		}
		if r := <-seen; r.URL.String() != "/v25.0/me/messages"+cred.query(now) || strings.Contains(fmt.Sprint(r.Header), "appsecret") {
			t.Errorf("called %s with %v", r.URL, r.Header)
		}
	}
}

// Whatever goes wrong, the proof shows in no error.
func TestErrorsHideTheProof(t *testing.T) {
	now := time.Unix(1700000000, 0)
	cred := Credentials{Token: testToken, AppSecret: "app-secret-for-the-test"}
	proof := strings.TrimPrefix(cred.query(now), "?appsecret_proof=")[:64]
	hangs := rawServer(t, func(_ int, conn *net.TCPConn) { readRequest(conn) })
	resets := rawServer(t, func(_ int, conn *net.TCPConn) { readRequest(conn); reset(conn) })
	echoes := rawServer(t, func(_ int, conn *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, r.URL.String()+"\r\n\r\n") // no HTTP, but the URL
			_ = conn.Close()
		}
	})
	for _, url := range []string{"http://" + nobodyListens, "https://nope.invalid", resets, echoes, hangs, "http://127.0.0.1:99999"} {
		client := testClient(t, url, nil)
		client.now = func() time.Time { return now }
		client.timeout = 300 * time.Millisecond
		_, err := client.Send(t.Context(), cred, []byte(testBody))
		if err == nil {
			t.Errorf("%s: sent", url)
		}
		mustHide(t, err, proof, "appsecret", testToken, cred.AppSecret)
	}
	wrapped := &Error{Class: ClassTransient, Err: safeCause(fmt.Errorf("call: %w", &url.Error{Op: "Post", URL: "https://x/?appsecret_proof=" + proof, Err: io.EOF}))}
	mustHide(t, wrapped, proof)
	if !errors.Is(wrapped, io.EOF) {
		t.Errorf("%v is not what the URL's error wraps", wrapped)
	}
}

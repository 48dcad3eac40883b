package sendapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSend(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.1 TLS", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			handler := func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.Method != "POST" || r.URL.String() != "/v25.0/me/messages" || string(body) != testBody {
					t.Errorf("%s %s %s", r.Method, r.URL, body)
				}
				if !strings.HasPrefix(proto, r.Proto) {
					t.Errorf("came over %s", r.Proto)
				}
				header := map[string]string{
					"Authorization": "Bearer " + testToken, "Content-Type": "application/json",
					"User-Agent": "brazier", "Accept-Encoding": "",
				}
				for k, want := range header {
					if got := r.Header.Get(k); got != want {
						t.Errorf("%s: %q, want %q", k, got, want)
					}
				}
				w.Header().Set("X-App-Usage", `{"call_count":28}`)
				_, _ = io.WriteString(w, testSent)
			}
			var client *Client
			if proto == "HTTP/1.1" {
				_, client = testServer(t, handler)
			} else {
				_, client = testServerTLS(t, proto == "HTTP/2.0", handler)
			}
			got, err := client.Send(t.Context(), Credentials{Token: testToken}, []byte(testBody))
			if err != nil {
				t.Fatal(err)
			}
			want := Receipt{RecipientID: "1254477777772919", MessageID: "m_1", Usage: Usage{App: 28}}
			if got != want {
				t.Errorf("got %#v, want %#v", got, want)
			}
		})
	}
}

func TestSendRefused(t *testing.T) {
	_, client := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Business-Use-Case-Usage", `{"1":[{"estimated_time_to_regain_access":5}]}`)
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"error":{"message":"no","code":80006,"fbtrace_id":"Abc"}}`)
	})
	e := sendFails(t, t.Context(), client)
	if e.Class != ClassThrottle || e.Code != 80006 || e.TraceID != "Abc" || e.Usage.RegainAfter != 5*time.Minute {
		t.Errorf("got %+v", *e)
	}
}

func TestTimeoutFor(t *testing.T) {
	tests := []struct {
		name, body      string
		timeout, expect time.Duration
	}{
		{"text", testBody, 0, textTimeout},
		{"text with a link", `{"recipient":{"id":"1"},"message":{"text":"https://shop.example/image_url"}}`, 0, textTimeout},
		{"sender action", `{"recipient":{"id":"1"},"sender_action":"typing_on"}`, 0, textTimeout},
		{"quick replies", `{"message":{"text":"a","quick_replies":[{"content_type":"text","title":"x","payload":"y"}]}}`, 0, textTimeout},
		{"quick reply with an image", `{"message":{"text":"a","quick_replies":[{"content_type":"text","title":"x","payload":"y","image_url":"https://a.example/i"}]}}`, 0, defaultTimeout},
		{"video", `{"message":{"attachment" : {"type":"video","payload":{"url":"https://a.example/v"}}}}`, 0, defaultTimeout},
		{"images", `{"message":{"attachments":[]}}`, 0, defaultTimeout},
		{"approved template", `{"message":{"template":{"name":"x"}}}`, 0, defaultTimeout},
		{"text, less time", testBody, 5 * time.Second, 5 * time.Second},
		{"video, less time", `{"message":{"attachment":{}}}`, 5 * time.Second, 5 * time.Second},
		{"text, more time", testBody, 3 * time.Minute, textTimeout},
	}
	for _, tt := range tests {
		client, err := NewClient(Config{Timeout: tt.timeout})
		if err != nil {
			t.Fatal(err)
		}
		if got := client.timeoutFor([]byte(tt.body)); got != tt.expect {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.expect)
		}
	}
}

func TestSendTakesNoNonsense(t *testing.T) {
	var calls atomic.Int64
	_, client := testServer(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	tests := []struct {
		name, token, body string
		want              Class
	}{
		{"no token", "", testBody, ClassAuth},
		{"token with a line break", "a\r\nX-Evil: 1", testBody, ClassAuth},
		{"token with a space", "a b", testBody, ClassAuth},
		{"token not ASCII", "tokén", testBody, ClassAuth},
		{"no body", testToken, "", ClassMessage},
		{"a brace", testToken, "{", ClassMessage},
		{"an array", testToken, "[{}]", ClassMessage},
		{"a form", testToken, "recipient=%7B%7D", ClassMessage},
	}
	for _, tt := range tests {
		for _, secret := range []string{"", "secret"} {
			_, err := client.Send(t.Context(), Credentials{tt.token, secret}, []byte(tt.body))
			var e *Error
			if !errors.As(err, &e) || e.Class != tt.want || e.Status != 0 {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			} else if tt.token != "" {
				mustHide(t, e, tt.token)
			}
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls went out", n)
	}
}

// A redirect would carry token and message to another host.
func TestSendFollowsNoRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, client := testServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		})
		if e := sendFails(t, t.Context(), client); e.Class != ClassTransient || e.Status != status {
			t.Errorf("HTTP %d: %v", status, e)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d redirects followed", n)
	}
}

// Answers that are too long, and errors, leave the connection usable for the next call.
func TestSendReusesConnections(t *testing.T) {
	var opened atomic.Int64
	var long atomic.Bool
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if long.Load() {
			_, _ = io.WriteString(w, strings.Repeat(" ", maxAnswer+maxDrain/2)+testSent)
			return
		}
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"error":{"code":10}}`)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := testClient(t, server.URL, nil)
	for range 5 {
		long.Store(true)
		if e := sendFails(t, t.Context(), client); e.Class != ClassInDoubt || !errors.Is(e, errTooLong) {
			t.Errorf("too long an answer: %v", e)
		}
		long.Store(false)
		if e := sendFails(t, t.Context(), client); e.Class != ClassPage {
			t.Errorf("refusal: %v", e)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections opened, want 1", n)
	}
}

func TestSendConcurrently(t *testing.T) {
	_, client := testServerTLS(t, true, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var id struct{ N int }
		if err := json.Unmarshal(body, &id); err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"message_id":"m_%d"}`, id.N)
	})
	// The first call opens the connection that the others share.
	if _, err := client.Send(t.Context(), Credentials{Token: testToken}, []byte(`{"n":0}`)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			got, err := client.Send(t.Context(), Credentials{Token: testToken}, fmt.Appendf(nil, `{"n":%d}`, n))
			if err != nil || got.MessageID != fmt.Sprintf("m_%d", n) {
				t.Errorf("call %d: %v, %v", n, got, err)
			}
		})
	}
	wg.Wait()
}

func TestNewClient(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		want   string // the URL, or a part of the error
	}{
		{"zero", Config{}, "https://graph.facebook.com/v25.0/me/messages"},
		{"slash at the end", Config{GraphURL: "https://example.com/"}, "https://example.com/v25.0/me/messages"},
		{"path", Config{GraphURL: "https://example.com/graph", Version: "v24.0"}, "https://example.com/graph/v24.0/me/messages"},
		{"plain on this machine", Config{GraphURL: "http://127.0.0.1:9090"}, "http://127.0.0.1:9090/v25.0/me/messages"},
		{"plain on this machine, IPv6", Config{GraphURL: "http://[::1]:9090"}, "http://[::1]:9090/v25.0/me/messages"},
		{"plain on this machine, by name", Config{GraphURL: "http://localhost:9090"}, "http://localhost:9090/v25.0/me/messages"},
		{"plain HTTP to another host, allowed", Config{GraphURL: "http://sandbox:9090", AllowPlainHTTP: true}, "http://sandbox:9090/v25.0/me/messages"},
		{"plain HTTP to another host", Config{GraphURL: "http://sandbox:9090"}, "GraphURL: http:// would"},
		{"plain, a name that looks local", Config{GraphURL: "http://localhost.example.com"}, "GraphURL: http:// would"},
		{"no scheme", Config{GraphURL: "graph.facebook.com"}, "GraphURL"},
		{"other scheme", Config{GraphURL: "ftp://graph.facebook.com"}, "GraphURL"},
		{"no URL", Config{GraphURL: "https://hunter2:%zz"}, "GraphURL"},
		{"user", Config{GraphURL: "https://me:hunter2@example.com"}, "GraphURL"},
		{"query", Config{GraphURL: "https://example.com/?access_token=hunter2"}, "GraphURL"},
		{"fragment", Config{GraphURL: "https://example.com/#hunter2"}, "GraphURL"},
		{"version", Config{Version: "25.0"}, "Version"},
		{"version with a path", Config{Version: "v25.0/../hunter2"}, "Version"},
		{"timeout", Config{Timeout: -1}, "Timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := NewClient(tt.config)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %q, want %q", err, tt.want)
				}
				return
			}
			client.Close()
			if client.url != tt.want {
				t.Errorf("URL %s, want %s", client.url, tt.want)
			}
		})
	}
}

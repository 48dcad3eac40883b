package sendapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// The proof stands in the query and nowhere else, for the time of the clock that was
// given, and the body stays as it is.
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
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	hangs := rawServer(t, func(_ int, conn *net.TCPConn) { readRequest(conn) })
	resets := rawServer(t, func(_ int, conn *net.TCPConn) { readRequest(conn); reset(conn) })
	echoes := rawServer(t, func(_ int, conn *net.TCPConn) {
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, r.URL.String()+"\r\n\r\n") // no HTTP, but the URL
			_ = conn.Close()
		}
	})
	for _, url := range []string{closed.URL, "https://nope.invalid", resets, echoes, hangs, "http://127.0.0.1:99999"} {
		client := testClient(t, url, nil)
		client.now = func() time.Time { return now }
		client.timeout = 300 * time.Millisecond
		_, err := client.Send(t.Context(), cred, []byte(testBody))
		if err == nil {
			t.Errorf("%s: sent", url)
		}
		mustHide(t, err, proof, "appsecret", testToken, cred.AppSecret)
	}
	wrapped := &Error{Class: ClassTransient, Cause: safeCause(fmt.Errorf("call: %w", &url.Error{Op: "Post", URL: "https://x/?appsecret_proof=" + proof, Err: io.EOF}))}
	mustHide(t, wrapped, proof)
	if !errors.Is(wrapped, io.EOF) {
		t.Errorf("%v is not what the URL's error wraps", wrapped)
	}
}

func TestTimeoutFor(t *testing.T) {
	tests := []struct {
		name, body      string
		timeout, expect time.Duration
	}{
		{"text", testBody, 0, TextTimeout},
		{"text with a link", `{"recipient":{"id":"1"},"message":{"text":"https://shop.example/image_url"}}`, 0, TextTimeout},
		{"sender action", `{"recipient":{"id":"1"},"sender_action":"typing_on"}`, 0, TextTimeout},
		{"quick replies", `{"message":{"text":"a","quick_replies":[{"content_type":"text","title":"x","payload":"y"}]}}`, 0, TextTimeout},
		{"quick reply with an image", `{"message":{"text":"a","quick_replies":[{"content_type":"text","title":"x","payload":"y","image_url":"https://a.example/i"}]}}`, 0, DefaultTimeout},
		{"video", `{"message":{"attachment" : {"type":"video","payload":{"url":"https://a.example/v"}}}}`, 0, DefaultTimeout},
		{"images", `{"message":{"attachments":[]}}`, 0, DefaultTimeout},
		{"approved template", `{"message":{"template":{"name":"x"}}}`, 0, DefaultTimeout},
		{"text, less time", testBody, 5 * time.Second, 5 * time.Second},
		{"video, less time", `{"message":{"attachment":{}}}`, 5 * time.Second, 5 * time.Second},
		{"text, more time", testBody, 3 * time.Minute, TextTimeout},
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

// A redirect would carry token and message to another place.
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

// Answers that are too long, and errors, leave the connection fit for the next call.
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
		{"plain next door, allowed", Config{GraphURL: "http://sandbox:9090", AllowPlainHTTP: true}, "http://sandbox:9090/v25.0/me/messages"},
		{"plain next door", Config{GraphURL: "http://sandbox:9090"}, "GraphURL: http:// would"},
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

package braze_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/worker/braze"
)

// A redirect is not followed, since the key would go along.
func TestRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		followed.Add(1)
		answer(w, 201, success)
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL+"/users/track")
			w.WriteHeader(status)
		})
		results, v := track(t, client(t, s.URL), attribute("a"))
		if v.Meaning != braze.Denied || results[0].Cause != braze.NotTaken || followed.Load() != 0 {
			t.Errorf("%d: %+v, followed %d times", status, v, followed.Load())
		}
	}
}

// A key that is replaced is used at the next call; one that cannot be read or used makes no call, and says so without it.
func TestKeyIsReadAnew(t *testing.T) {
	s := serve(t, always(201, success))
	var key string
	var fault error
	c := client(t, s.URL, func(c *braze.Config) { c.Key = func() (string, error) { return key, fault } })
	step := func(name, k string, err error, meaning braze.Meaning, text string) {
		t.Helper()
		key, fault = k, err
		before := len(s.seen())
		results, v := track(t, c, attribute("a"))
		if v.Meaning != meaning || !strings.Contains(v.Text, text) {
			t.Errorf("%s: %+v, want %s, %q", name, v, meaning, text)
		}
		if calls := len(s.seen()) - before; calls != v.Calls || (calls == 1) != (meaning == braze.Taken) {
			t.Errorf("%s: %d calls, %d told", name, calls, v.Calls)
		}
		if meaning == braze.Taken {
			if got := s.head().Get("Authorization"); got != "Bearer "+k || v.Key != braze.Fingerprint(k) {
				t.Errorf("%s: %q, %q", name, got, v.Key)
			}
			return
		}
		if results[0].Outcome != braze.Again || results[0].Cause != braze.NotTaken || v.Key != "" || v.Wait.First != time.Minute {
			t.Errorf("%s: %+v, %+v", name, results[0], v)
		}
	}
	step("first", "one", nil, braze.Taken, "")
	step("replaced", "two", nil, braze.Taken, "")
	step("unreadable", "", errors.New("open braze.key: no such file"), braze.Denied, "the API key cannot be used: open braze.key: no such file")
	step("empty", "", nil, braze.Denied, "must be printable ASCII")
	step("with a line break", "two\n", nil, braze.Denied, "must be printable ASCII")
	step("with a space", "two three", nil, braze.Denied, "must be printable ASCII")
	step("with a letter of Unicode", "twö", nil, braze.Denied, "must be printable ASCII")
	step("well again", "two", nil, braze.Taken, "")
}

// Nothing is sent twice by net/http: a call that was cut after its body left was made once.
func TestNothingIsResent(t *testing.T) {
	var cut atomic.Bool
	s := serve(t, func(_ int, _ body, w http.ResponseWriter) {
		if cut.Load() {
			reset(t, w)
			return
		}
		answer(w, 201, success)
	})
	c := client(t, s.URL)
	track(t, c, attribute("a")) // leaves a connection to be used again
	cut.Store(true)
	results, v := track(t, c, attribute("a"))
	if n := len(s.seen()); n != 2 || v.Meaning != braze.NoAnswer || results[0].Cause != braze.InDoubt || v.Meaning.Unreachable() {
		t.Errorf("%d calls, %+v, %+v", n, v, results)
	}
}

// A pooled connection that takes nothing any more is replaced within the call, and puts nothing in doubt. Its writing side is shut on
// our end, which neither the server nor the pool notices until the next call writes.
func TestPooledConnectionClosed(t *testing.T) {
	s := serve(t, always(201, success))
	conns := make(chan *net.TCPConn, 10)
	c := client(t, s.URL, func(c *braze.Config) {
		c.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				conns <- conn.(*net.TCPConn)
			}
			return conn, err
		}}
	})
	for n := range 3 {
		results, v := track(t, c, event("a"))
		if v.Meaning != braze.Taken || results[0].Outcome != braze.Done || len(s.seen()) != n+1 {
			t.Fatalf("call %d: %+v, %d seen", n+1, v, len(s.seen()))
		}
		if err := (<-conns).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
}

// What cannot be reached was not sent: no such host, no TLS where TLS is spoken.
func TestUnsent(t *testing.T) {
	plain := serve(t, always(201, success))
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	for name, url := range map[string]string{
		"TLS to a plain server":    strings.Replace(plain.URL, "http:", "https:", 1),
		"an untrusted certificate": tls.URL,
		"no such host":             "https://braze.invalid",
	} {
		results, v := track(t, client(t, url), both...)
		if v.Meaning != braze.Unsent || !v.Meaning.Unreachable() || v.Status != 0 || v.Wait != waitShort {
			t.Errorf("%s: %+v", name, v)
		}
		for _, r := range results {
			if r.Outcome != braze.Again || r.Cause != braze.NotTaken {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// A caller that abandons a call in the middle is left in doubt.
func TestContextEndsDuring(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(_ int, _ body, _ http.ResponseWriter) {
		close(entered)
		<-release
	})
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-entered
		cancel()
	}()
	results, v := client(t, s.URL).Track(ctx, both)
	if v.Meaning != braze.NoAnswer || results[0].Outcome != braze.Again || results[1].Outcome != braze.Dead || results[1].Cause != braze.InDoubt || v.Wait != (braze.Wait{}) {
		t.Errorf("%+v, %+v", results, v)
	}
}

// A header that never comes to an end is no answer.
func TestNotHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 64<<10))
			_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n"))
			conn.Close()
		}
	}()
	if _, v := track(t, client(t, "http://"+l.Addr().String()), attribute("a")); v.Meaning != braze.NoAnswer {
		t.Errorf("%+v", v)
	}
}

// A base path, as of a gateway before Braze, is kept.
func TestBasePath(t *testing.T) {
	got := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.URL.Path
		answer(w, 201, success)
	}))
	defer s.Close()
	track(t, client(t, s.URL+"/gateway/"), attribute("a"))
	if path := <-got; path != "/gateway/users/track" {
		t.Errorf("path %q", path)
	}
}

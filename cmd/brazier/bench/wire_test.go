package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// A message that was accepted and is missing, or came twice, is told.
func TestBenchCountsLosses(t *testing.T) {
	c := Command{URL: "http://127.0.0.1:1", Keys: []string{"k"}, Messages: 5}
	l, err := newLoad(c)
	if err != nil {
		t.Fatal(err)
	}
	fb, err := sandbox.New(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer fb.Close()
	// 0 once, 1 twice, 2 not, 3 refused and not, 4 refused and yet there; and one of somebody else's
	l.outcomes = []outcome{wasAccepted, wasAccepted, wasAccepted, wasRefused, wasRefused}
	for _, recipient := range []string{"0000000", "0000001", "0000001", "0000004"} {
		recipient = l.requests[0].run.recipient() + recipient
		if status, err := postToSandbox(fb, recipient); err != nil || status != http.StatusOK {
			t.Fatalf("status %d, error %v", status, err)
		}
	}
	if _, err := postToSandbox(fb, "2003004005006007"); err != nil {
		t.Fatal(err)
	}
	count := newArrivals(fb.ControlURL())
	defer count.close()
	got, err := count.compare(t.Context(), l)
	if want := (ArrivedFigures{Delivered: 3, Twice: 1, Missing: 1}); err != nil || *got != want {
		t.Errorf("%+v, error %v, want %+v", got, err, want)
	}
}

func postToSandbox(fb *sandbox.Sandbox, recipient string) (status int, err error) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Post(fb.URL()+"/v25.0/me/messages?access_token=token-of-a-test", "application/json", strings.NewReader(`{"recipient":{"id":"`+recipient+`"},"message":{"text":"hello"}}`))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// The request is what net/http's server takes it for.
func TestBenchRequest(t *testing.T) {
	target, err := url.Parse("https://brazier.example.com/braze/")
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest(target, "the-key", "12345678")
	for _, n := range []int64{0, 42, maxMessages - 1} {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.append(nil, n))))
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Recipient struct{ ID string }
			Message   struct{ Text string }
		}
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		number := strconv.FormatInt(1e7+n, 10)[1:]
		if req.URL.Path != "/braze/v25.0/me/messages" || req.Host != "brazier.example.com" || req.ContentLength != int64(r.bytes) ||
			body.Recipient.ID != "512345678"+number || req.Header.Get("X-Brazier-User") != "5f3c1f540"+"12345678"+number || !strings.Contains(body.Message.Text, number) {
			t.Errorf("message %d: %+v, body %+v", n, req, body)
		}
	}
}

func TestBenchAnswer(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\ncontent-length:  4\r\n\r\nbody"
	r := bufio.NewReader(strings.NewReader(ok + "HTTP/1.1 503 Service Unavailable\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n" + ok))
	for _, want := range []answer{{202, []byte("body"), false}, {503, nil, true}, {202, []byte("body"), false}} {
		got, err := readAnswer(r)
		if err != nil || got.status != want.status || !bytes.Equal(got.body, want.body) || got.closes != want.closes {
			t.Errorf("%+v, error %v, want %+v", got, err, want)
		}
	}
	for _, bad := range []string{"", "HTTP/1.1 2", "SSH-2.0-OpenSSH_9.9 hello\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n"} {
		if got, err := readAnswer(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("%.40q was taken for %+v", bad, got)
		}
	}
}

func TestQuantiles(t *testing.T) {
	all := make([]time.Duration, 1000)
	for i := range all {
		all[i] = time.Duration(1000-i) * time.Millisecond
	}
	if got, want := quantiles(all), (LatencyFigures{501, 901, 991, 1000, 1000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := quantiles(nil); got != (LatencyFigures{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

package ingress_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
)

// ownStatuses are the statuses that the package answers with.
var ownStatuses = []int{202, 400, 401, 403, 404, 405, 408, 409, 413, 503}

// within is far longer than a request takes in these tests, and less than Braze waits.
const within = time.Minute

// FuzzHandler posts arbitrary requests to the handler: the status of each answer is one of ownStatuses, and 202 means
// exactly one stored job. Requests with a remote address go to a Server with AllowFrom; length is by how much
// Content-Length is wrong.
func FuzzHandler(f *testing.F) {
	const key = "Bearer " + acmeKey
	f.Add("POST", messages, "", key, "application/json", "", []byte(nested), "", "", 0)
	f.Add("POST", "/me/messages", "access_token="+acmeKey, "", "", "X-Brazier-Lane: urgent\nIdempotency-Key: a", []byte(nested), "203.0.113.1:80", "", 0)
	f.Add("POST", "/"+acme+"/messages", "", key, "", "X-Brazier-Expire: 6h\nX-Brazier-Campaign: {{x}}", []byte(nested), "10.0.0.1:80", "192.0.2.1, 203.0.113.1", 0)
	f.Add("POST", "/"+nordwind+"/messages", "", key, "", "", []byte(nested), "[::ffff:10.0.0.1]:80", "[2001:db8::1]:5, 203.0.113.1:4, ::ffff:10.1.1.1", 0)
	f.Add("POST", messages, "", key, "application/x-www-form-urlencoded", "", []byte("recipient=%7B%22id%22%3A%221%22%7D&message=%7B%22text%22%3A%22a%22%7D"), "", ",", 7)
	f.Add("POST", messages, "", key, "", "", []byte(`{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"a\"}"}`), "192.0.2.1:80", "", -1)
	f.Add("POST", messages, "", key, "", "", []byte(`{"recipient":{"id":""}}`), "fe80::1%eth0", "%", -1000)
	f.Add("POST", messages, "", key, "", "", []byte(nested+strings.Repeat(" ", 5000)), "", "", 1<<20)
	f.Add("GET", "//../v25.0//me/messages/", "access_token=%zz;", "Basic x", "a/b", "Idempotency-Key: \xff", []byte("\x00"), "", "", 1)

	h := open(f)
	restricted, err := ingress.Open(ingress.Config{Queue: h.q, Pages: testPages(), Listen: "127.0.0.1:0", Log: output.logger(),
		AllowFrom: prefixes("203.0.113.0/24 2001:db8::/32"), TrustedProxies: prefixes("10.0.0.0/8")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = restricted.Close() })
	stored := make(chan queue.Job)
	f.Cleanup(h.collect(acme, stored))
	f.Fuzz(func(t *testing.T, method, path, query, authorization, contentType, headers string, body []byte, remote, forwarded string, length int) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: remote,
			Header: make(http.Header), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(max(-1, len(body)+length)), Host: "brazier.example",
		}
		r.Header["Authorization"] = []string{authorization}
		r.Header["Content-Type"] = []string{contentType}
		r.Header["X-Forwarded-For"] = strings.Split(forwarded, "\n")
		for line := range strings.SplitSeq(headers, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
		server := h.server
		if remote != "" {
			server = restricted
		}
		w := httptest.NewRecorder()
		began := time.Now()
		server.ServeHTTP(w, r.WithContext(t.Context()))
		if took := time.Since(began); took > within {
			t.Errorf("answered after %v", took)
		}
		h := h.in(t)
		a := h.read(w.Result())
		if !slices.Contains(ownStatuses, a.status) {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		if a.status != http.StatusAccepted {
			h.refused(a, a.status)
			return
		}
		h.accepted(a, a.Status)
		if a.Status == "duplicate" {
			return
		}
		select {
		case job := <-stored:
			if job.ID != a.ID {
				t.Errorf("answered %s, stored %s", a.ID, job.ID)
			}
		case <-time.After(within):
			t.Fatalf("%s is not stored", a.ID)
		}
	})
}

// httpStatuses are the statuses that net/http itself answers to what it cannot read as an HTTP request.
var httpStatuses = []int{400, 417, 431, 501, 505}

// FuzzWire sends arbitrary bytes over a connection: the status of each answer is one of ownStatuses or httpStatuses, the
// server closes the connection, and each 202 means one stored job.
func FuzzWire(f *testing.F) {
	head := "POST " + messages + " HTTP/1.1\r\nHost: brazier.example\r\nAuthorization: Bearer " + acmeKey + "\r\n"
	whole := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(nested), nested)
	chunked := fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(nested), nested)
	for _, request := range []string{
		whole, whole + chunked + whole, chunked, head + "\r\n", head + "Content-Length: 99999999999\r\n\r\n", head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
		"GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\xa5\x01", "\r\n\r\n", "POST " + messages + "?access_token=" + acmeKey + " HTTP/1.1\r\n\r\n",
		head + "Content-Length: -1\r\n\r\n", head + "Transfer-Encoding: gzip\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + whole,
	} {
		f.Add([]byte(request))
	}
	h := open(f)
	stored := make(chan queue.Job)
	f.Cleanup(h.collect(acme, stored))
	var mu sync.Mutex
	kept := make(map[string]int)
	counted := make(chan struct{})
	f.Cleanup(func() { close(counted) })
	go func() {
		for {
			select {
			case job := <-stored:
				mu.Lock()
				kept[job.ID]++
				mu.Unlock()
			case <-counted:
				return
			}
		}
	}()
	times := func(id string) int {
		mu.Lock()
		defer mu.Unlock()
		return kept[id]
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		h := h.in(t)
		conn := h.dial()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(within))
		_, _ = conn.Write(bytes) // the server may have closed the connection already
		_ = conn.CloseWrite()
		for answers := bufio.NewReader(conn); ; {
			resp, err := http.ReadResponse(answers, nil)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection is still open")
			}
			if err != nil {
				return // the end of the connection, or of what can be read after the answer to HEAD
			}
			body, err := io.ReadAll(resp.Body)
			fmt.Fprintf(&output, "answer %d %v %s\n", resp.StatusCode, resp.Header, body)
			if resp.StatusCode != http.StatusContinue && !slices.Contains(ownStatuses, resp.StatusCode) && !slices.Contains(httpStatuses, resp.StatusCode) {
				t.Fatalf("status %d: %s", resp.StatusCode, body)
			}
			if err != nil {
				return
			}
			var a answer
			if resp.StatusCode != http.StatusAccepted {
				continue
			}
			if err := json.Unmarshal(body, &a); err != nil {
				t.Fatalf("answer %s: %v", body, err)
			}
			deadline := time.Now().Add(within)
			for poll := time.NewTicker(time.Millisecond); a.Status == "queued" && times(a.ID) == 0; <-poll.C {
				if time.Now().After(deadline) {
					t.Fatalf("%s is not stored", a.ID)
				}
			}
			if n := times(a.ID); n > 1 {
				t.Fatalf("%s is stored %d times", a.ID, n)
			}
		}
	})
}

// collect sends the jobs of a page, from all lanes, to a channel until stop is called.
func (h *harness) collect(page string, jobs chan<- queue.Job) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	ctx := h.t.Context()
	for _, lane := range queue.Lanes() {
		source := h.q.Source(page, lane, 64)
		h.sources[page+string(lane)] = source
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				d, err := source.Next(ctx)
				if err != nil {
					return
				}
				if err := d.Done(ctx); err != nil {
					return
				}
				select {
				case jobs <- d.Job:
				case <-done:
				}
			}
		}()
	}
	return func() {
		close(done)
		for _, s := range h.sources {
			s.Stop()
		}
		for range queue.Lanes() {
			<-ended
		}
	}
}

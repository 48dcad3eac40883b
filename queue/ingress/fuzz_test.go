package ingress_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// documented are the statuses that the door answers with.
var documented = []int{202, 400, 401, 403, 404, 405, 413, 503}

// Whatever comes, the answer is a documented one, and 202 stands for exactly one stored job.
func FuzzDoor(f *testing.F) {
	const key = "Bearer " + acmeKey
	f.Add("POST", messages, "", key, "application/json", "", []byte(nested))
	f.Add("POST", "/me/messages", "access_token="+acmeKey, "", "", "X-Brazier-Lane: urgent\nIdempotency-Key: a", []byte(nested))
	f.Add("POST", "/"+acme+"/messages", "", key, "", "X-Brazier-Expire: 6h\nX-Brazier-Campaign: {{x}}", []byte(nested))
	f.Add("POST", "/"+nordwind+"/messages", "", key, "", "", []byte(nested))
	f.Add("POST", messages, "", key, "application/x-www-form-urlencoded", "", []byte("recipient=%7B%22id%22%3A%221%22%7D&message=%7B%22text%22%3A%22a%22%7D"))
	f.Add("POST", messages, "", key, "", "", []byte(`{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"a\"}"}`))
	f.Add("POST", messages, "", key, "", "", []byte(`{"recipient":{"id":""}}`))
	f.Add("GET", "//../v25.0//me/messages/", "access_token=%zz;", "Basic x", "a/b", "Idempotency-Key: \xff", []byte("\x00"))

	h := open(f)
	door := h.door
	stored := make(chan queue.Job)
	f.Cleanup(h.collect(acme, stored))
	f.Fuzz(func(t *testing.T, method, path, query, authorization, contentType, headers string, body []byte) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: make(http.Header), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Host: "relay.example",
		}
		r.Header["Authorization"] = []string{authorization}
		r.Header["Content-Type"] = []string{contentType}
		for line := range strings.SplitSeq(headers, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r.WithContext(t.Context()))
		h := h.in(t)
		a := h.read(w.Result())
		if !slices.Contains(documented, a.status) {
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
		case <-time.After(time.Minute):
			t.Fatalf("%s is not stored", a.ID)
		}
	})
}

// collect hands over what is stored for a page, from all lanes, and returns what ends it.
func (h *house) collect(page string, jobs chan<- queue.Job) (stop func()) {
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

package ingress_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	h := open(t)
	for path, want := range map[string]int{
		"/v25.0/me/messages":               202,
		"/v2.7/me/messages":                202, // the oldest published template's
		"/v25.0/" + acme + "/messages":     202,
		"/me/messages":                     202,
		"/" + acme + "/messages":           202,
		"/v25.0/me/messages/":              202,
		"/me/messages/":                    202,
		"//v25.0/me/messages":              202, // a base address that ends in a slash
		"/v25.0/me/messages//":             202,
		"/v25.0/me/messages?fields=id":     202,
		"/v25.0/" + nordwind + "/messages": 403,
		"/" + nordwind + "/messages":       403,
		"/":                                404,
		"":                                 404,
		"/messages":                        404,
		"/v25.0/messages":                  404,
		"/v25.0/me":                        404,
		"/v25.0/me/message":                404,
		"/v25.0/me/messages/1":             404,
		"/v25.0/me/Messages":               404,
		"/v25.0/acme/messages":             404, // a name is no id
		"/25.0/me/messages":                404,
		"/v25/me/messages":                 404,
		"/vx.y/me/messages":                404,
		"/v25.0.1/me/messages":             404,
		"/graph/v25.0/me/messages":         404,
		"/v25.0//me/messages":              404,
		"/v25.0/me//messages":              404,
		"/./v25.0/me/messages":             404,
		"/../v25.0/me/messages":            404,
		"/v25.0/../v25.0/me/messages":      404,
		"/v25.0/me/messages/..":            404,
		"/v25.0/me/../me/messages":         404,
		"/v25.0/me /messages":              404,
		"/v25.0/-1/messages":               404,
		"/v25.0/\u0661\u0662/messages":     404, // digits, but not of an id
		"/v25.0/me/messages/\x00":          404,
	} {
		t.Run(strings.ReplaceAll(path, "/", "\u2215"), func(t *testing.T) {
			h := h.in(t)
			a := h.post(at(path))
			if want == http.StatusAccepted {
				h.accepted(a, "queued")
				if job := h.only(acme); job.ID != a.ID || string(job.Body) != nested {
					t.Errorf("stored is %s with the body %q", job.ID, job.Body)
				}
				return
			}
			h.refused(a, want)
		})
	}
	h.nothingStored()
}

// What net/http or a multiplexer might answer by itself.
func TestUnusualTargets(t *testing.T) {
	t.Parallel()
	h := open(t)
	for request, want := range map[string]int{
		"POST http://relay.example/v25.0/me/messages HTTP/1.1": 401,
		"POST //me/messages HTTP/1.1":                          401,
		"POST /v25.0/%6de/messages HTTP/1.1":                   401,
		"POST /v25.0/me%2Fmessages HTTP/1.1":                   401,
		"POST /v25.0/%2e%2e/messages HTTP/1.1":                 404,
		"OPTIONS * HTTP/1.1":                                   404,
		"CONNECT relay.example:443 HTTP/1.1":                   404,
		"CONNECT /v25.0/me/messages HTTP/1.1":                  405,
		"POST /v25.0/me/messages?access_token=%zz HTTP/1.1":    401,
		"POST /v25.0/me/messages HTTP/1.0":                     401,
	} {
		status, body := h.raw(request+"\r\nHost: relay.example\r\nConnection: close\r\n\r\n", false)
		if status != want || !strings.HasPrefix(body, `{"error":{`) {
			t.Errorf("%s: status %d, want %d: %s", request, status, want, body)
		}
	}
	h.nothingStored()
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := open(t)
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post"} {
		a := h.post(func(r *http.Request) { r.Method = method })
		if method == "HEAD" { // has no body
			if a.status != http.StatusMethodNotAllowed {
				t.Errorf("HEAD: status %d", a.status)
			}
		} else {
			h.refused(a, http.StatusMethodNotAllowed)
		}
		if allow := a.header.Get("Allow"); allow != "POST" {
			t.Errorf("%s: Allow is %q", method, allow)
		}
	}
	h.refused(h.post(at("/elsewhere"), func(r *http.Request) { r.Method = "GET" }), http.StatusNotFound)
	h.nothingStored()
}

func TestKeys(t *testing.T) {
	t.Parallel()
	h := open(t)
	query := func(key string) func(*http.Request) { return at(messages + "?access_token=" + key) }
	for _, c := range []struct {
		name          string
		authorization string
		query         string
		want          int
	}{
		{"header", "Bearer " + acmeKey, "", 202},
		{"the page's other key", "Bearer " + acmeNextKey, "", 202},
		{"lower-case scheme", "bearer " + acmeKey, "", 202},
		{"upper-case scheme", "BEARER  " + acmeKey + " ", "", 202},
		{"query", "", acmeKey, 202},
		{"header before query", "Bearer " + acmeKey, strangeKey, 202},
		{"other scheme and query", "Basic QnJhemllcjo=", acmeKey, 202},
		{"none", "", "", 401},
		{"unknown in header", "Bearer " + strangeKey, "", 401},
		{"unknown in header, known in query", "Bearer " + strangeKey, acmeKey, 401},
		{"unknown in query", "", strangeKey, 401},
		{"other scheme", "Basic " + acmeKey, "", 401},
		{"no scheme", acmeKey, "", 401},
		{"scheme alone", "Bearer", "", 401},
		{"scheme and spaces", "Bearer   ", "", 401},
		{"other case of the key", "Bearer " + strings.ToUpper(acmeKey), "", 401},
		{"key and more", "Bearer " + acmeKey + "x", "", 401},
		{"two keys", "Bearer " + acmeKey + " " + acmeNextKey, "", 401},
		{"digest in place of the key", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(acmeKey))), "", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			set := without("Authorization")
			if c.authorization != "" {
				set = with("Authorization", c.authorization)
			}
			a := h.post(query(c.query), set)
			if c.want == http.StatusAccepted {
				h.accepted(a, "queued")
				h.only(acme)
				return
			}
			h.refused(a, c.want)
			if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
	t.Run("another page's key", func(t *testing.T) {
		h := h.in(t)
		h.refused(h.post(at("/v25.0/"+acme+"/messages"), with("Authorization", "Bearer "+nordwindKey)), http.StatusForbidden)
		h.accepted(h.post(with("Authorization", "Bearer "+nordwindKey)), "queued")
		if job := h.only(nordwind); job.Page != nordwind {
			t.Errorf("stored for page %s", job.Page)
		}
	})
	h.nothingStored()
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const limit = 4096
	h := openOn(t, ingress.Config{MaxBody: limit}, fresh(t))
	flat := `{"recipient":"{\"id\":\"` + psid + `\"}","messaging_type":"UPDATE","message":"{\"text\":\"` + greeting + `\"}"}`
	form := `recipient=%7B%22id%22%3A%22` + psid + `%22%7D&messaging_type=UPDATE&message=%7B%22text%22%3A%22` +
		strings.ReplaceAll(greeting, " ", "+") + `%22%7D`
	const json, encoded = "application/json", "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, contentType, body string
		want                    int
	}{
		{"nested", json, nested, 202},
		{"nested with charset", json + "; charset=utf-8", nested, 202},
		{"nested without type", "", nested, 202},
		{"nested called text", "text/plain", nested, 202},
		{"nested called a form", encoded, nested, 202},
		{"nested in spaces", json, "\r\n  " + nested + "\r\n", 202},
		{"flat", json, flat, 202},
		{"flat without type", "", flat, 202},
		{"form", encoded, form, 202},
		{"form called JSON", json, form, 202},
		{"form without type", "", form, 202},
		{"as long as the limit", json, nested + strings.Repeat(" ", limit-len(nested)), 202},
		{"a byte over the limit", json, nested + strings.Repeat(" ", limit-len(nested)+1), 413},
		{"far over the limit", json, nested + strings.Repeat(" ", 1<<20), 413},
		{"empty", json, "", 400},
		{"spaces", json, " \r\n", 400},
		{"broken JSON", json, strings.TrimSuffix(nested, "}"), 400},
		{"a quote that was not escaped", json, strings.Replace(nested, "parcel", `"parcel"`, 1), 400},
		{"two values", json, nested + nested, 400},
		{"not an object", json, `["` + psid + `"]`, 400},
		{"null", json, "null", 400},
		{"no recipient", json, `{"message":{"text":"` + greeting + `"}}`, 400},
		{"empty PSID", json, `{"recipient":{"id":""},"message":{"text":"` + greeting + `"}}`, 400},
		{"blank PSID", json, `{"recipient":{"id":"  "},"message":{"text":"` + greeting + `"}}`, 400},
		{"bytes that are no text", json, "\xff\xfe\x00", 400},
	} {
		for _, chunked := range []bool{false, true} {
			name := c.name
			if chunked {
				name += ", chunked"
			}
			t.Run(name, func(t *testing.T) {
				h := h.in(t)
				a := h.post(with("Content-Type", c.contentType), withBody(c.body), func(r *http.Request) {
					if chunked {
						r.ContentLength = -1
					}
				})
				if c.want != http.StatusAccepted {
					h.refused(a, c.want)
					return
				}
				h.accepted(a, "queued")
				job := h.only(acme)
				if job.ID != a.ID {
					t.Errorf("stored under %s, answered %s", job.ID, a.ID)
				}
				if diff := cmp.Diff(parsed(t, []byte(nested)), parsed(t, job.Body)); diff != "" {
					t.Errorf("body (-sent +stored):\n%s", diff)
				}
				if strings.HasPrefix(c.name, "nested") && string(job.Body) != nested {
					t.Errorf("the caller's bytes were changed: %s", job.Body)
				}
			})
		}
	}
	h.nothingStored()
}

// What the client's library would not send.
func TestBrokenRequests(t *testing.T) {
	t.Parallel()
	h := open(t)
	head := "POST " + messages + " HTTP/1.1\r\nHost: relay.example\r\nAuthorization: Bearer " + acmeKey + "\r\n"
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"body shorter than it says", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(nested)+1, nested), 400},
		{"chunks that break off", head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(nested), nested), 400},
		{"chunks that are none", head + "Transfer-Encoding: chunked\r\n\r\nnone\r\n", 400},
		{"a body without a length", head + "\r\n" + nested, 400},
		// net/http answers these before the door sees them.
		{"two lengths", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + nested, 400},
		{"control bytes in a header", head + "X-Brazier-Campaign: a\x01b\r\n\r\n", 400},
		{"headers over the limit", head + "X-Brazier-Campaign: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			if status, body := h.raw(c.request, true); status != c.want {
				t.Errorf("status %d, want %d: %s", status, c.want, body)
			}
		})
	}
	h.nothingStored()
}

// A body that stays away is the network's fault, and Braze sends again after 408 only.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	h := open(t)
	body, other := net.Pipe()
	defer body.Close()
	defer other.Close()
	_ = body.SetReadDeadline(time.Now().Add(-time.Second))
	r := httptest.NewRequest(http.MethodPost, messages, body)
	r.Header.Set("Authorization", "Bearer "+acmeKey)
	w := httptest.NewRecorder()
	h.door.ServeHTTP(w, r)
	h.refused(h.read(w.Result()), http.StatusRequestTimeout)
	h.nothingStored()
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	seen, lines := observer.New(zap.DebugLevel)
	h := openOn(t, ingress.Config{Log: zap.New(seen)}, fresh(t))
	a := h.post(with("X-Brazier-Campaign", "spring"), with("X-Brazier-Dispatch", "d1"), with("X-Brazier-User", "u1"), with("Idempotency-Key", "k"))
	h.post(with("Idempotency-Key", "k"))
	h.post(with("Idempotency-Key", "k"), withBody(strings.Replace(nested, greeting, greeting+"!", 1)))
	h.post(withBody("{"))
	h.post(without("Authorization"))

	bytes := int64(len(nested))
	for _, want := range []struct {
		event, level string
		fields       map[string]any // nil: any value
	}{
		{"accepted", "debug", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "spring", "dispatch": "d1", "user": "u1", "bytes": bytes, "took_ms": nil}},
		{"duplicate", "debug", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "", "dispatch": "", "user": "", "bytes": bytes, "took_ms": nil, "body_differs": false}},
		{"duplicate", "warn", map[string]any{"id": a.ID, "page": "acme", "lane": "bulk", "campaign": "", "dispatch": "", "user": "", "bytes": bytes + 1, "took_ms": nil, "body_differs": true}},
		{"rejected", "warn", map[string]any{"page": "acme", "reason": nil, "cause": "syntax", "status": int64(400), "remote": nil}},
		{"rejected", "warn", map[string]any{"page": "", "reason": nil, "cause": "key", "status": int64(401), "remote": nil}},
	} {
		t.Run(want.event, func(t *testing.T) {
			for _, line := range lines.All() {
				got := line.ContextMap()
				if got["event"] != want.event || got["status"] != want.fields["status"] || got["body_differs"] != want.fields["body_differs"] {
					continue
				}
				if line.Level.String() != want.level {
					t.Errorf("level is %v, want %s", line.Level, want.level)
				}
				delete(got, "event")
				for name, value := range want.fields {
					if value == nil && got[name] != nil {
						want.fields[name] = got[name]
					}
				}
				if diff := cmp.Diff(want.fields, got); diff != "" {
					t.Errorf("fields (-want +got):\n%s", diff)
				}
				return
			}
			t.Error("no such line")
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	key := sha256.Sum256([]byte(acmeKey))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		cfg  ingress.Config
		want string
	}{
		"no queue":             {ingress.Config{}, "Queue"},
		"body limit":           {ingress.Config{Queue: q, MaxBody: -1}, "MaxBody"},
		"wait":                 {ingress.Config{Queue: q, Wait: -1}, "Wait"},
		"connections":          {ingress.Config{Queue: q, MaxConnections: -1}, "MaxConnections"},
		"page id":              {ingress.Config{Queue: q, Pages: []ingress.Page{{ID: "acme"}}}, "ID"},
		"page without id":      {ingress.Config{Queue: q, Pages: []ingress.Page{{Name: "acme"}}}, "ID"},
		"expire":               {ingress.Config{Queue: q, Pages: []ingress.Page{{ID: "1", Expire: queue.MaxExpire + 1}}}, "Expire"},
		"expire in the past":   {ingress.Config{Queue: q, Pages: []ingress.Page{{ID: "1", Expire: -1}}}, "Expire"},
		"key of two pages":     {ingress.Config{Queue: q, Pages: []ingress.Page{{ID: "1", Keys: [][32]byte{key}}, {ID: "2", Keys: [][32]byte{key}}}}, "Keys"},
		"address in use":       {ingress.Config{Queue: q, Listen: taken.Addr().String()}, taken.Addr().String()},
		"address that is none": {ingress.Config{Queue: q, Listen: "nowhere"}, "nowhere"},
	} {
		door, err := ingress.Open(c.cfg)
		if err == nil {
			door.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "ingress: ") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q does not name %s", name, text, c.want)
		}
	}
	door, err := ingress.Open(ingress.Config{Queue: q, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // never ran
		if err := door.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func (h *house) readRaw(conn io.Reader) (status int, body string) {
	h.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		h.t.Fatalf("read answer: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !os.IsTimeout(err) {
		h.t.Errorf("read answer: %v", err)
	}
	fmt.Fprintf(&spoken, "answer %d %v %s\n", resp.StatusCode, resp.Header, b)
	return resp.StatusCode, string(b)
}

package ingress_test

import (
	"net/http"
	"strings"
	"testing"
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

// Requests that net/http or a multiplexer might answer by themselves.
func TestUnusualTargets(t *testing.T) {
	t.Parallel()
	h := open(t)
	for request, want := range map[string]int{
		"POST http://brazier.example/v25.0/me/messages HTTP/1.1": 401,
		"POST //me/messages HTTP/1.1":                            401,
		"POST /v25.0/%6de/messages HTTP/1.1":                     401,
		"POST /v25.0/me%2Fmessages HTTP/1.1":                     401,
		"POST /v25.0/%2e%2e/messages HTTP/1.1":                   404,
		"OPTIONS * HTTP/1.1":                                     404,
		"CONNECT brazier.example:443 HTTP/1.1":                   404,
		"CONNECT /v25.0/me/messages HTTP/1.1":                    405,
		"POST /v25.0/me/messages?access_token=%zz HTTP/1.1":      401,
		"POST /v25.0/me/messages HTTP/1.0":                       401,
	} {
		status, body := h.raw(request+"\r\nHost: brazier.example\r\nConnection: close\r\n\r\n", false)
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

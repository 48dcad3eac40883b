package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a sandbox that listens.
type rig struct {
	*Sandbox
	t      *testing.T
	url    string
	client *http.Client
}

// start starts a sandbox that ends with the test.
func start(t *testing.T, c Config) *rig {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	transport := &http.Transport{}
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
		server.Close()
	})
	return &rig{s, t, server.URL, &http.Client{Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   string
}

// message is that of the body, or the whole body if it has none.
func (r reply) message() string {
	var b struct{ Message string }
	if json.Unmarshal([]byte(r.body), &b) != nil || b.Message == "" {
		return r.body
	}
	return b.Message
}

// errors are those of the body, by array and index.
func (r reply) errors() map[string]string {
	var b struct {
		Errors []struct {
			Type       string
			InputArray string `json:"input_array"`
			Index      json.Number
		}
	}
	if json.Unmarshal([]byte(r.body), &b) != nil || len(b.Errors) == 0 {
		return nil
	}
	found := map[string]string{}
	for _, e := range b.Errors {
		found[e.InputArray+" "+e.Index.String()] = e.Type
	}
	return found
}

// request makes a call as it should be; pairs of more set or replace headers, and an empty value removes one.
func (r *rig) request(body string, more ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.url+"/users/track", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer key")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(more); i += 2 {
		req.Header.Set(more[i], more[i+1])
		if more[i+1] == "" {
			req.Header.Del(more[i])
		}
	}
	return req
}

// do makes a call, and returns an error if there was no whole answer.
func (r *rig) do(req *http.Request) (reply, error) {
	resp, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.Header.Get("X-Sandbox") == "" {
		r.t.Errorf("%s: no X-Sandbox", req.URL.Path)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}, err
}

// post sends a body that must be answered.
func (r *rig) post(body string, more ...string) reply {
	r.t.Helper()
	got, err := r.do(r.request(body, more...))
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// taken sends a body that must be taken.
func (r *rig) taken(body string) {
	r.t.Helper()
	if got := r.post(body); got.status != 201 || got.message() != "success" || got.errors() != nil {
		r.t.Fatalf("%s: %d %s", body, got.status, got.body)
	}
}

// control calls the control path.
func (r *rig) ask(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := r.do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return got.status, got.body
}

// make makes profiles with these external ids.
func (r *rig) make(ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		if _, err := r.Create(Profile{ExternalID: id}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// profile returns one that must exist.
func (r *rig) profile(id string) Profile {
	r.t.Helper()
	p, err := r.Profile(id)
	if err != nil {
		r.t.Fatalf("%s: %v", id, err)
	}
	return p
}

// attribute is an attributes object of an external id.
func attribute(id, fields string) string {
	return `{"external_id":"` + id + `","_update_existing_only":true,` + fields + `}`
}

// event is an event of an external id.
func event(id, name string) string {
	return `{"external_id":"` + id + `","_update_existing_only":true,"name":"` + name + `","time":"2026-11-26T10:00:00Z"}`
}

func attributes(objects ...string) string {
	return `{"attributes":[` + strings.Join(objects, ",") + `]}`
}
func events(objects ...string) string { return `{"events":[` + strings.Join(objects, ",") + `]}` }

package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// controlHandler serves the control listener, over which the sandbox is steered and queried. Help documents it.
func (s *Sandbox) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, s.Banner()+"\n"+s.Help())
	})
	mux.Handle("GET /summary", controlFunc(func(*http.Request) (any, error) { return s.Summary(), nil }))
	mux.Handle("GET /calls", controlFunc(s.controlCalls))
	mux.HandleFunc("GET /recipients", s.controlRecipients)
	mux.Handle("GET /duplicates", controlFunc(func(*http.Request) (any, error) { return s.Duplicates(), nil }))
	mux.Handle("GET /faults", controlFunc(s.controlFaults))
	mux.Handle("POST /faults", controlFunc(s.controlScript))
	mux.Handle("DELETE /faults", controlFunc(func(*http.Request) (any, error) { return removed{s.Clear()}, nil }))
	mux.Handle("DELETE /faults/{id}", controlFunc(s.controlClear))
	mux.Handle("GET /pages", controlFunc(func(*http.Request) (any, error) { return s.pageStates(), nil }))
	mux.Handle("POST /pages/{id}/token", controlFunc(s.controlToken))
	mux.Handle("POST /pages/{id}/restrict", controlFunc(s.controlRestrict))
	mux.Handle("POST /pages/{id}/subscription", controlFunc(s.controlSubscribe))
	mux.Handle("DELETE /pages/{id}/subscription", controlFunc(s.controlUnsubscribe))
	mux.Handle("POST /pages/{id}/policy", controlFunc(s.controlPolicy))
	mux.Handle("POST /persons/{psid}/write", controlFunc(s.controlWrite))
	mux.Handle("GET /webhook", controlFunc(s.controlWebhook))
	mux.Handle("PUT /webhook", controlFunc(s.controlSetWebhook))
	mux.Handle("GET /webhook/record", controlFunc(s.controlDeliveries))
	mux.Handle("PUT /latency", controlFunc(s.controlLatency))
	mux.Handle("PUT /connections", controlFunc(s.controlConnections))
	mux.Handle("POST /reset", controlFunc(func(*http.Request) (any, error) { s.resetRecord(); s.Clear(); return okay, nil }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Sandbox"] = sandboxHeader
		mux.ServeHTTP(w, r)
	})
}

type removed struct {
	Removed int `json:"removed"`
}

var okay = struct {
	OK bool `json:"ok"`
}{true}

// controlFunc answers with what f returns as JSON, and with an error as {"error":"…"}.
type controlFunc func(*http.Request) (any, error)

func (f controlFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	v, err := f(r)
	if err != nil {
		status = http.StatusBadRequest
		if errors.Is(err, errNoPage) || errors.Is(err, errNoFault) {
			status = http.StatusNotFound
		}
		v = map[string]string{"error": reason(err)}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // if the caller is gone, nothing can be done
}

// reason is the text of an error for callers of the control listener: fields have lower-case names in JSON.
func reason(err error) string {
	if f, ok := errors.AsType[FieldError](err); ok {
		return strings.ToLower(f.Field) + ": " + f.Fault
	}
	return strings.TrimPrefix(err.Error(), "sandbox: ")
}

var errNoFault = errors.New("sandbox: no such fault")

// decode reads exactly one JSON object, and no key that v does not know.
func decode(r io.Reader, v any) error {
	d := json.NewDecoder(io.LimitReader(r, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if err == io.EOF {
			return errors.New("body: must be a JSON object")
		}
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("body: must be one JSON value (got more)")
	}
	return nil
}

// maxCalls is how many calls GET /calls lists unless asked for more.
const maxCalls = 100

func (s *Sandbox) controlCalls(r *http.Request) (any, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	calls := s.Find(q)
	if calls == nil {
		calls = []Call{}
	}
	return calls, nil
}

// controlRecipients writes the recipient of each message that was accepted, one a line: half a million of them are 9 MB.
func (s *Sandbox) controlRecipients(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := bufio.NewWriter(w)
	for _, recipient := range s.recipients() {
		_, _ = out.WriteString(recipient) // if the caller is gone, nothing can be done
		_ = out.WriteByte('\n')
	}
	_ = out.Flush()
}

func parseQuery(raw string) (Query, error) {
	q := Query{Limit: maxCalls}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("query: %w", err)
	}
	for k := range values {
		if err := q.set(k, values.Get(k)); err != nil {
			return q, err
		}
	}
	return q, nil
}

// set sets the field that a query parameter is for. An empty parameter counts as absent, so that the URL from Help can be
// used as it is.
func (q *Query) set(k, v string) (err error) {
	switch {
	case k != "page" && k != "recipient" && k != "since" && k != "limit":
		return fmt.Errorf("query: parameters must be among page, recipient, since, limit (got %q)", k)
	case v == "":
	case k == "page":
		q.Page = v
	case k == "recipient":
		q.Recipient = v
	case k == "since":
		if q.Since, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return fmt.Errorf("since: must be an RFC 3339 time (got %q)", v)
		}
	case k == "limit":
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 1 {
			return fmt.Errorf("limit: must be a number above 0 (got %q)", v)
		}
	}
	return nil
}

// controlToken takes {"dead":463} or {"token":"new"}. The token appears in no answer.
func (s *Sandbox) controlToken(r *http.Request) (any, error) {
	var j struct {
		Dead  int    `json:"dead"`
		Token string `json:"token"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	switch id := r.PathValue("id"); {
	case (j.Dead != 0) == (j.Token != ""):
		return nil, errors.New(`body: must be either {"dead":463} or {"token":"…"}`)
	case j.Dead != 0:
		return okay, s.KillToken(id, j.Dead)
	default:
		return okay, s.SetToken(id, j.Token)
	}
}

func (s *Sandbox) controlRestrict(r *http.Request) (any, error) {
	var j struct {
		Code    int `json:"code"`
		Subcode int `json:"subcode"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.Restrict(r.PathValue("id"), j.Code, j.Subcode)
}

func (s *Sandbox) controlConnections(r *http.Request) (any, error) {
	var j struct {
		Refuse bool `json:"refuse"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.RefuseConnections(j.Refuse)
}

func (s *Sandbox) controlLatency(r *http.Request) (any, error) {
	var j struct {
		Latency duration `json:"latency"`
		Jitter  duration `json:"jitter"`
	}
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.setLatency(time.Duration(j.Latency), time.Duration(j.Jitter))
}

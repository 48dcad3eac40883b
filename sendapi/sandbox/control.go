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

// controlHandler steers and questions the sandbox over HTTP, on a listener of its own. Help documents it.
func (s *Sandbox) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, s.Banner()+"\n"+s.Help())
	})
	mux.Handle("GET /summary", control(func(*http.Request) (any, error) { return s.Summary(), nil }))
	mux.Handle("GET /calls", control(s.controlCalls))
	mux.HandleFunc("GET /recipients", s.controlRecipients)
	mux.Handle("GET /duplicates", control(func(*http.Request) (any, error) { return s.Duplicates(), nil }))
	mux.Handle("GET /faults", control(s.controlFaults))
	mux.Handle("POST /faults", control(s.controlScript))
	mux.Handle("DELETE /faults", control(func(*http.Request) (any, error) { return removed{s.Clear()}, nil }))
	mux.Handle("DELETE /faults/{id}", control(s.controlClear))
	mux.Handle("GET /pages", control(func(*http.Request) (any, error) { return s.pageStates(), nil }))
	mux.Handle("POST /pages/{id}/token", control(s.controlToken))
	mux.Handle("POST /pages/{id}/restrict", control(s.controlRestrict))
	mux.Handle("PUT /latency", control(s.controlLatency))
	mux.Handle("PUT /connections", control(s.controlConnections))
	mux.Handle("POST /reset", control(func(*http.Request) (any, error) { s.ResetRecord(); s.Clear(); return okay, nil }))
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

// control answers with what f returns as JSON, and with an error as {"error":"…"}.
type control func(*http.Request) (any, error)

func (f control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	v, err := f(r)
	if err != nil {
		status = http.StatusBadRequest
		if errors.Is(err, ErrNoPage) || errors.Is(err, errNoFault) {
			status = http.StatusNotFound
		}
		v = map[string]string{"error": reason(err)}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a caller that is gone misses its answer
}

// reason words an error for who speaks JSON: fields have lower-case names there.
func reason(err error) string {
	if f, ok := errors.AsType[fieldError](err); ok {
		return strings.ToLower(f.field) + ": " + f.reason
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
			return errors.New("body: a JSON object is expected")
		}
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("body: more than one JSON value")
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
		_, _ = out.WriteString(recipient) // a caller that is gone misses its answer
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

// set sets the field that a query parameter is for. An empty one is as good as none, so that a template can be left as it is.
func (q *Query) set(k, v string) (err error) {
	switch {
	case k != "page" && k != "recipient" && k != "since" && k != "limit":
		return fmt.Errorf("query: %q is none of page, recipient, since, limit", k)
	case v == "":
	case k == "page":
		q.Page = v
	case k == "recipient":
		q.Recipient = v
	case k == "since":
		if q.Since, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return fmt.Errorf("since: %q is not an RFC 3339 time", v)
		}
	case k == "limit":
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 1 {
			return fmt.Errorf("limit: %q is not a number above 0", v)
		}
	}
	return nil
}

// faultJSON is a Fault on the wire. Durations are text such as 1.5s.
type faultJSON struct {
	Page      string            `json:"page,omitempty"`
	Recipient string            `json:"recipient,omitempty"`
	Text      string            `json:"text,omitempty"`
	Every     int               `json:"every,omitempty"`
	Times     int               `json:"times,omitempty"`
	Action    Action            `json:"action,omitempty"`
	Accept    bool              `json:"accept,omitempty"`
	Delay     duration          `json:"delay,omitzero"`
	Status    int               `json:"status,omitempty"`
	Code      int               `json:"code,omitempty"`
	Subcode   int               `json:"subcode,omitempty"`
	Type      string            `json:"type,omitempty"`
	Message   string            `json:"message,omitempty"`
	Transient *bool             `json:"is_transient,omitempty"`
	Header    map[string]string `json:"header,omitempty"`
	Body      string            `json:"body,omitempty"`
}

// duration is a time.Duration whose JSON form is text such as 1.5s.
type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (j faultJSON) fault() Fault {
	f := Fault{Page: j.Page, Recipient: j.Recipient, Text: j.Text, Every: j.Every, Times: j.Times, Action: j.Action, Accept: j.Accept,
		Delay: time.Duration(j.Delay), Status: j.Status, Code: j.Code, Subcode: j.Subcode, Type: j.Type, Message: j.Message,
		Transient: j.Transient, Body: j.Body}
	for k, v := range j.Header {
		if f.Header == nil {
			f.Header = http.Header{}
		}
		f.Header.Set(k, v)
	}
	return f
}

func wireFault(f Fault) faultJSON {
	j := faultJSON{Page: f.Page, Recipient: f.Recipient, Text: f.Text, Every: f.Every, Times: f.Times, Action: f.Action, Accept: f.Accept,
		Delay: duration(f.Delay), Status: f.Status, Code: f.Code, Subcode: f.Subcode, Type: f.Type, Message: f.Message,
		Transient: f.Transient, Body: f.Body}
	for k := range f.Header {
		if j.Header == nil {
			j.Header = map[string]string{}
		}
		j.Header[k] = f.Header.Get(k)
	}
	return j
}

func (s *Sandbox) controlScript(r *http.Request) (any, error) {
	var j faultJSON
	if err := decode(r.Body, &j); err != nil {
		return nil, err
	}
	id, err := s.script(j.fault())
	if err != nil {
		return nil, err
	}
	return struct {
		ID string `json:"id"`
	}{id}, nil
}

func (s *Sandbox) controlFaults(*http.Request) (any, error) {
	type state struct {
		ID    string    `json:"id"`
		Seen  int       `json:"seen"`
		Hits  int       `json:"hits"`
		Fault faultJSON `json:"fault"`
	}
	list := []state{}
	for _, f := range s.Faults() {
		list = append(list, state{f.ID, f.Seen, f.Hits, wireFault(f.Fault)})
	}
	return list, nil
}

func (s *Sandbox) controlClear(r *http.Request) (any, error) {
	n := s.Clear(r.PathValue("id"))
	if n == 0 {
		return nil, errNoFault
	}
	return removed{n}, nil
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
		return nil, errors.New(`body: either {"dead":463} or {"token":"…"}`)
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
	return okay, s.SetLatency(time.Duration(j.Latency), time.Duration(j.Jitter))
}

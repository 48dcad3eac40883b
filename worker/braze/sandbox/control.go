package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// isControl reports whether a path is the control path's.
func isControl(path string) bool { return path == "/control" || strings.HasPrefix(path, "/control/") }

// controlHandler steers and questions the sandbox. Help documents it.
func (s *Sandbox) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, Help)
	})
	mux.Handle("GET /control/profiles", control(s.controlProfiles))
	mux.Handle("POST /control/profiles", control(s.controlCreate))
	mux.Handle("DELETE /control/profiles", control(func(*http.Request) (any, error) { return removed{s.forget()}, nil }))
	mux.Handle("GET /control/profiles/{id}", control(func(r *http.Request) (any, error) { return s.Profile(r.PathValue("id")) }))
	mux.Handle("GET /control/types", control(func(*http.Request) (any, error) { return s.Types(), nil }))
	mux.Handle("GET /control/record", control(s.controlRecord))
	mux.Handle("GET /control/faults", control(s.controlFaults))
	mux.Handle("POST /control/faults", control(s.controlScript))
	mux.Handle("DELETE /control/faults", control(func(*http.Request) (any, error) { return removed{s.Clear()}, nil }))
	mux.Handle("DELETE /control/faults/{id}", control(s.controlClear))
	mux.Handle("PUT /control/latency", control(s.controlLatency))
	mux.Handle("PUT /control/reorder", control(s.controlReorder))
	mux.Handle("POST /control/reset", control(func(*http.Request) (any, error) { s.Reset(); return okay, nil }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Sandbox"] = []string{"brazier"}
		mux.ServeHTTP(w, r)
	})
}

// Help is the control path with lines to paste, where CONTROL is the address of its listener.
const Help = `Control of the simulated Braze:

  # profiles, the newest 100 unless limit says otherwise (0: all); one by its braze_id or external_id; one by an alias
  curl 'CONTROL/control/profiles?limit=10'
  curl CONTROL/control/profiles/jon
  curl 'CONTROL/control/profiles?alias_label=messenger_id&alias_name=123'
  # makes a profile, or a list of them; removes all
  curl CONTROL/control/profiles -d '{"external_id":"jon","custom_attributes":{"messenger_id":"123"}}'
  curl -X DELETE CONTROL/control/profiles
  # types of attributes
  curl CONTROL/control/types
  # counts, and the newest 100 calls unless limit says otherwise
  curl 'CONTROL/control/record?limit=10'

  # the script, with how often each fault struck
  curl CONTROL/control/faults
  # the next call is answered 500
  curl CONTROL/control/faults -d '{"status":500}'
  # until removed: the key is not valid
  curl CONTROL/control/faults -d '{"times":-1,"status":401,"message":"Invalid API Key"}'
  # three calls are over the limit for seven seconds
  curl CONTROL/control/faults -d '{"times":3,"status":429,"header":{"Retry-After":"7"}}'
  # each tenth call, five times, is written but its answer lost
  curl CONTROL/control/faults -d '{"action":"reset","accept":true,"every":10,"times":5}'
  # a call about one user gets no answer; after 30 s it is cut
  curl CONTROL/control/faults -d '{"action":"hang","delay":"30s","user":"jon"}'
  # a captive portal answers instead of Braze
  curl CONTROL/control/faults -d '{"action":"html","status":200}'
  # removes one fault; without id all
  curl -X DELETE CONTROL/control/faults/f1

  # answers take 600 ms to 1 s
  curl -X PUT CONTROL/control/latency -d '{"latency":"800ms","jitter":"200ms"}'
  # two calls in flight with one user are written in the wrong order
  curl -X PUT CONTROL/control/reorder -d '{"reorder":true}'
  # forgets the record and the script; profiles stay
  curl -X POST CONTROL/control/reset

A fault takes user (how an id begins), name (of an attribute or event), every, times (-1: until removed), action, accept, delay,
status, message, body, header. Its action is one of pass, answer (default), html, empty, hang, reset, reset_before_body, cut_body.
`

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
		if errors.Is(err, ErrNoProfile) || errors.Is(err, errNoFault) {
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

// reason returns the text of an error for a JSON answer, where fields have lower-case names.
func reason(err error) string {
	if f, ok := errors.AsType[fieldError](err); ok {
		return strings.ToLower(f.field) + ": " + f.reason
	}
	return strings.TrimPrefix(err.Error(), "sandbox: ")
}

var errNoFault = errors.New("sandbox: no such fault")

// maxControl bounds a body of the control path: a list of 100,000 profiles has about 10 MB.
const maxControl = 64 << 20

// read reads exactly one JSON value, and no key that v does not know.
func read(body io.Reader, v any) error {
	d := json.NewDecoder(io.LimitReader(body, maxControl))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("body: must be one JSON value")
	}
	return nil
}

// limitOf reads the parameter limit; 0 is no limit.
func limitOf(r *http.Request) (int, error) {
	raw := r.URL.Query().Get("limit")
	if raw == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("limit: must be a number from 0 (got %q)", raw)
	}
	return n, nil
}

// newest returns the last n of a list, or all of it if n is 0.
func newest[T any](list []T, n int) []T {
	if n == 0 || n > len(list) {
		return list
	}
	return list[len(list)-n:]
}

func (s *Sandbox) controlProfiles(r *http.Request) (any, error) {
	q := r.URL.Query()
	if a := (Alias{q.Get("alias_name"), q.Get("alias_label")}); a != (Alias{}) {
		return s.ByAlias(a)
	}
	n, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	return newest(s.Profiles(), n), nil
}

// controlCreate takes a profile or a list of them, and answers in kind.
func (s *Sandbox) controlCreate(r *http.Request) (any, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxControl))
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		var p Profile
		if err := read(bytes.NewReader(raw), &p); err != nil {
			return nil, err
		}
		return s.Create(p)
	}
	var list []Profile
	if err := read(bytes.NewReader(raw), &list); err != nil {
		return nil, err
	}
	for i, p := range list {
		if list[i], err = s.Create(p); err != nil {
			return nil, fmt.Errorf("profile %d, after which none was made: %w", i, err)
		}
	}
	return list, nil
}

// forget removes all profiles and the types that their values gave, and returns how many there were.
func (s *Sandbox) forget() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.profiles.all)
	s.profiles = newProfiles()
	clear(s.types)
	for name, typ := range s.cfg.Types {
		s.types[name] = typ
	}
	return n
}

func (s *Sandbox) controlRecord(r *http.Request) (any, error) {
	n, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	return struct {
		Summary Summary `json:"summary"`
		Calls   []Call  `json:"calls"`
	}{s.Summary(), newest(s.Calls(), n)}, nil
}

// faultJSON is a Fault on the wire. Durations are text such as 1.5s.
type faultJSON struct {
	User    string            `json:"user,omitempty"`
	Name    string            `json:"name,omitempty"`
	Every   int               `json:"every,omitempty"`
	Times   int               `json:"times,omitempty"`
	Action  Action            `json:"action,omitempty"`
	Accept  bool              `json:"accept,omitempty"`
	Delay   duration          `json:"delay,omitzero"`
	Status  int               `json:"status,omitempty"`
	Message string            `json:"message,omitempty"`
	Body    string            `json:"body,omitempty"`
	Header  map[string]string `json:"header,omitempty"`
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
	f := Fault{User: j.User, Name: j.Name, Every: j.Every, Times: j.Times, Action: j.Action, Accept: j.Accept, Delay: time.Duration(j.Delay),
		Status: j.Status, Message: j.Message, Body: j.Body}
	for k, v := range j.Header {
		if f.Header == nil {
			f.Header = http.Header{}
		}
		f.Header.Set(k, v)
	}
	return f
}

func wireFault(f Fault) faultJSON {
	j := faultJSON{User: f.User, Name: f.Name, Every: f.Every, Times: f.Times, Action: f.Action, Accept: f.Accept, Delay: duration(f.Delay),
		Status: f.Status, Message: f.Message, Body: f.Body}
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
	if err := read(r.Body, &j); err != nil {
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

func (s *Sandbox) controlLatency(r *http.Request) (any, error) {
	var j struct {
		Latency duration `json:"latency"`
		Jitter  duration `json:"jitter"`
	}
	if err := read(r.Body, &j); err != nil {
		return nil, err
	}
	return okay, s.SetLatency(time.Duration(j.Latency), time.Duration(j.Jitter))
}

func (s *Sandbox) controlReorder(r *http.Request) (any, error) {
	var j struct {
		Reorder bool `json:"reorder"`
	}
	if err := read(r.Body, &j); err != nil {
		return nil, err
	}
	s.SetReorder(j.Reorder)
	return okay, nil
}

package sandbox

import (
	"net/http"
	"time"
)

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
	for _, f := range s.faultStates() {
		list = append(list, state{f.id, f.seen, f.hits, wireFault(f.fault)})
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

package sandbox

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Action is what a Fault does to a call.
type Action string

const (
	Pass       Action = "pass"              // nothing, after Delay: to observe or to slow down
	Answer     Action = "answer"            // answers with Status, Code, Subcode …, or with Status and Body
	HTML       Action = "html"              // answers with an HTML page, as Facebook's front end does when it fails; Status defaults to 502
	Empty      Action = "empty"             // answers with Status (default 200) and no body
	Raw        Action = "raw"               // writes Body to the connection as it is, instead of an HTTP response, and closes
	Hang       Action = "hang"              // holds the call until Delay (if any) has passed, Clear or Close, then cuts the connection
	Close      Action = "close"             // closes the connection in an orderly way once the request is read, without an answer
	Reset      Action = "reset"             // cuts the connection once the request is read
	ResetEarly Action = "reset_before_body" // cuts the connection before the request's body is read; never with Recipient, Text or Accept
	CutHeader  Action = "cut_header"        // sends half of the answer's header, then closes
	CutBody    Action = "cut_body"          // sends half of the answer's body, then closes
)

// hasResponse reports whether an action gives the caller a whole HTTP response that the sandbox made.
func (a Action) hasResponse() bool { return a == Pass || a == Answer || a == HTML || a == Empty }

// Standing, given as Fault.Times, keeps a fault until Clear.
const Standing = -1

// Fault is a scripted deviation. Page, Recipient, Text and Every choose the calls. Only calls that pass authentication, limits and
// validation count, except for ResetEarly, which strikes before any of these. To refuse connections, use RefuseConnections.
// Of several faults that match a call, the one that was scripted first strikes.
type Fault struct {
	// Page is the id of the page; empty matches all.
	Page string
	// Recipient is a prefix of Call.Recipient; empty matches all.
	Recipient string
	// Text is part of a string anywhere in the message, a template's name or a button's title included; empty matches all.
	Text string
	// Every strikes only each Nth of the calls that match. 0 and 1 strike each.
	Every int
	// Times is how often the fault strikes before it is used up: 0 means once; Standing means until Clear.
	Times int

	// Action is what happens. Default Answer.
	Action Action
	// Accept delivers the message in spite of the action: its answer is lost, or is an error about a message that was sent.
	Accept bool
	// Delay passes before the action.
	Delay time.Duration

	// Status is the HTTP status. Default 400 with a Code.
	Status int
	// Code and Subcode make a Graph error. With a Code of 0 there is none, and without Body the answer is empty.
	Code, Subcode int
	// Type defaults to OAuthException, Message to a text for the code.
	Type, Message string
	// Transient adds is_transient, if set.
	Transient *bool
	// Header is added to the answer's header.
	Header http.Header
	// Body replaces the Graph error.
	Body string

	// OnHit, if set, is called when the fault strikes, once the call is in the record and before any pause. OnHit runs on the
	// call's own goroutine: the call, and Close, wait until it returns.
	OnHit func(Call)
}

// faultState is a scripted fault and how often it struck.
type faultState struct {
	id    string
	fault Fault
	seen  int // calls that matched
	hits  int // calls that it struck
}

// armed is a fault in the script. All fields are guarded by Sandbox.mu but for cleared, which is closed under it.
type armed struct {
	faultState
	cleared chan struct{} // closed by Clear: releases calls that hang
}

func (f Fault) resolved() (Fault, error) {
	f.Action = cmp.Or(f.Action, Answer)
	f.Times = cmp.Or(f.Times, 1)
	switch f.Action {
	case Answer, CutHeader, CutBody:
		if f.Status == 0 && f.Code != 0 {
			f.Status = http.StatusBadRequest
		}
		if f.Status == 0 && f.Action == Answer {
			return f, FieldError{"Status, Code", "one must be set for an answer"}
		}
	case HTML:
		if f.Code != 0 {
			return f, FieldError{"Code", fmt.Sprintf("must be 0 for %s", f.Action)}
		}
		f.Status = cmp.Or(f.Status, http.StatusBadGateway)
	case Empty:
		if f.Code != 0 || f.Body != "" {
			return f, FieldError{"Code, Body", fmt.Sprintf("must not be set for %s", f.Action)}
		}
		f.Status = cmp.Or(f.Status, http.StatusOK)
	case Raw:
		if f.Body == "" || f.Code != 0 {
			return f, FieldError{"Body, Code", fmt.Sprintf("%s needs a Body to write, and no Code", f.Action)}
		}
	case ResetEarly:
		if f.Recipient != "" || f.Text != "" || f.Accept {
			return f, FieldError{"Action", fmt.Sprintf("%s strikes before the body is read: leave out Recipient, Text and Accept", f.Action)}
		}
	case Pass, Hang, Close, Reset:
		if f.Code != 0 || f.Status != 0 || f.Body != "" {
			return f, FieldError{"Status, Code, Body", fmt.Sprintf("must not be set for %s, which gives no answer of its own", f.Action)}
		}
	default:
		return f, FieldError{"Action", fmt.Sprintf("must be one of %s (got %q)", actionNames, f.Action)}
	}
	return f, f.check()
}

const actionNames = "pass, answer, html, empty, raw, hang, close, reset, reset_before_body, cut_header, cut_body"

func (f Fault) check() error {
	switch {
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return FieldError{"Status", fmt.Sprintf("must be between 200 and 599 (got %d)", f.Status)}
	case f.Every < 0:
		return FieldError{"Every", fmt.Sprintf("must not be negative (got %d)", f.Every)}
	case f.Times < Standing:
		return FieldError{"Times", fmt.Sprintf("must be at least Standing, %d (got %d)", Standing, f.Times)}
	case f.Delay < 0 || f.Delay > maxDelay:
		return FieldError{"Delay", fmt.Sprintf("must be between 0 and %s (got %s)", maxDelay, f.Delay)}
	}
	return nil
}

// Script adds a fault and returns its id. It panics if the fault is invalid, which only a mistake in the script can
// cause; the control listener reports the same as an error.
func (s *Sandbox) Script(f Fault) (id string) {
	id, err := s.script(f)
	if err != nil {
		panic("sandbox: Script: " + err.Error())
	}
	return id
}

func (s *Sandbox) script(f Fault) (string, error) {
	f, err := f.resolved()
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faultIDs++
	a := &armed{faultState: faultState{id: fmt.Sprintf("f%d", s.faultIDs), fault: f}, cleared: make(chan struct{})}
	s.faults = append(s.faults, a)
	return a.id, nil
}

// Clear removes the faults with these ids, or all faults if none is given, and returns how many it removed. It cuts calls that
// hang because of them.
func (s *Sandbox) Clear(ids ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, func(a *armed) bool {
		gone := len(ids) == 0 || slices.Contains(ids, a.id)
		if gone {
			close(a.cleared)
		}
		return gone
	})
	return before - len(s.faults)
}

// faultStates returns the script in its order, used-up faults included.
func (s *Sandbox) faultStates() []faultState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]faultState, len(s.faults))
	for i, a := range s.faults {
		states[i] = a.faultState
	}
	return states
}

// strike returns the first fault that strikes a call, or nil. early asks for ResetEarly, which strikes before the body is read;
// all others strike afterwards. The caller holds mu.
func (s *Sandbox) strike(early bool, page string, snd *send) *armed {
	for _, a := range s.faults {
		f := &a.fault
		if (f.Action == ResetEarly) != early || (f.Page != "" && f.Page != page) || !strings.HasPrefix(snd.recipient, f.Recipient) {
			continue
		}
		if f.Text != "" && !containsText(snd.message, f.Text) {
			continue
		}
		if f.Times != Standing && a.hits >= f.Times {
			continue
		}
		a.seen++
		if f.Every > 1 && a.seen%f.Every != 0 {
			continue
		}
		a.hits++
		return a
	}
	return nil
}

// containsText reports whether a string anywhere in a value contains the text.
func containsText(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case map[string]any:
		for _, member := range v {
			if containsText(member, text) {
				return true
			}
		}
	case []any:
		for _, entry := range v {
			if containsText(entry, text) {
				return true
			}
		}
	}
	return false
}

// graphError returns the error that a fault answers with, or nil.
func (f *Fault) graphError() *graphError {
	if f.Code == 0 || f.Body != "" {
		return nil
	}
	return &graphError{status: f.Status, code: f.Code, subcode: f.Subcode, kind: f.Type, transient: f.Transient, exact: true,
		message: cmp.Or(f.Message, fmt.Sprintf("(#%d) Scripted by the sandbox", f.Code))}
}

// AppLimit is the fault of an app that has used up its calls: every page's calls are refused with 4, HTTP 403, until Clear.
func AppLimit() Fault {
	return Fault{Times: Standing, Status: http.StatusForbidden, Code: 4, Message: "(#4) Application request limit reached", Transient: new(true)}
}

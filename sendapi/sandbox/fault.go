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
	Raw        Action = "raw"               // writes Body to the connection as it is, in place of an HTTP response, and closes
	Hang       Action = "hang"              // holds the call until Delay (if any) has passed, Clear or Close, then cuts the connection
	Close      Action = "close"             // closes the connection in good order once the request is read, without an answer
	Reset      Action = "reset"             // cuts the connection once the request is read
	ResetEarly Action = "reset_before_body" // cuts the connection before the request's body is read; never with Recipient, Text or Accept
	CutHeader  Action = "cut_header"        // sends half of the answer's header, then closes
	CutBody    Action = "cut_body"          // sends half of the answer's body, then closes
)

// answers says that an action gives the caller a whole HTTP response that the sandbox made.
func (a Action) answers() bool { return a == Pass || a == Answer || a == HTML || a == Empty }

// Standing, given as Fault.Times, keeps a fault until Clear.
const Standing = -1

// Fault is a scripted deviation. Page, Recipient, Text and Every choose the calls. Only calls that pass authentication, limits and
// validation count, but for ResetEarly, which strikes before any of these. A connection that is not even made is
// RefuseConnections' matter.
// Of several faults that match a call, the first scripted strikes.
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
	// Accept delivers the message all the same: an answer lost, or an error about a message that was sent.
	Accept bool
	// Delay passes before the action.
	Delay time.Duration

	// Status is the HTTP status. Default 400 with a Code.
	Status int
	// Code and Subcode make a Graph error; a Code of 0 makes none, and without Body the answer is empty then.
	Code, Subcode int
	// Type defaults to OAuthException, Message to a text for the code.
	Type, Message string
	// Transient adds is_transient, if set.
	Transient *bool
	// Header is added to the answer's header.
	Header http.Header
	// Body replaces the Graph error.
	Body string

	// OnHit, if set, is called when the fault strikes, once the call is in the record and before any pause. It runs on the
	// call's own goroutine: the call waits until it returns, and so does Close.
	OnHit func(Call)
}

// FaultState is a scripted fault and what became of it.
type FaultState struct {
	ID    string
	Fault Fault
	Seen  int // calls that matched
	Hits  int // calls that it struck
}

// armed is a fault in the script. All fields are guarded by Sandbox.mu but for cleared, which is closed under it.
type armed struct {
	FaultState
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
			return f, fieldError{"Status", "an answer takes a Status or a Code"}
		}
	case HTML:
		if f.Code != 0 {
			return f, fieldError{"Code", "an HTML page carries none"}
		}
		f.Status = cmp.Or(f.Status, http.StatusBadGateway)
	case Empty:
		if f.Code != 0 || f.Body != "" {
			return f, fieldError{"Code, Body", "empty carries neither"}
		}
		f.Status = cmp.Or(f.Status, http.StatusOK)
	case Raw:
		if f.Body == "" || f.Code != 0 {
			return f, fieldError{"Body", "raw takes the bytes to write, and no Code"}
		}
	case ResetEarly:
		if f.Recipient != "" || f.Text != "" || f.Accept {
			return f, fieldError{"Action", fmt.Sprintf("%s strikes before the body is known: no Recipient, Text or Accept", f.Action)}
		}
	case Pass, Hang, Close, Reset:
		if f.Code != 0 || f.Status != 0 || f.Body != "" {
			return f, fieldError{"Status, Code, Body", fmt.Sprintf("%s gives no answer of its own", f.Action)}
		}
	default:
		return f, fieldError{"Action", fmt.Sprintf("%q is none of %s", f.Action, actionNames)}
	}
	return f, f.check()
}

const actionNames = "pass, answer, html, empty, raw, hang, close, reset, reset_before_body, cut_header, cut_body"

func (f Fault) check() error {
	switch {
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fieldError{"Status", fmt.Sprintf("%d is not between 200 and 599", f.Status)}
	case f.Every < 0:
		return fieldError{"Every", "is negative"}
	case f.Times < Standing:
		return fieldError{"Times", fmt.Sprintf("below Standing (%d)", Standing)}
	case f.Delay < 0 || f.Delay > maxDelay:
		return fieldError{"Delay", fmt.Sprintf("%s is not between 0 and %s", f.Delay, maxDelay)}
	}
	return nil
}

// Script adds a fault and returns its id. It panics if the fault makes no sense, which only a mistake in the script can
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
	a := &armed{FaultState: FaultState{ID: fmt.Sprintf("f%d", s.faultIDs), Fault: f}, cleared: make(chan struct{})}
	s.faults = append(s.faults, a)
	return a.ID, nil
}

// Clear removes the faults with these ids, or all of them if none is given, and returns how many it removed. Calls that hang
// in them are cut.
func (s *Sandbox) Clear(ids ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, func(a *armed) bool {
		gone := len(ids) == 0 || slices.Contains(ids, a.ID)
		if gone {
			close(a.cleared)
		}
		return gone
	})
	return before - len(s.faults)
}

// Faults returns the script in its order, used-up faults included.
func (s *Sandbox) Faults() []FaultState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]FaultState, len(s.faults))
	for i, a := range s.faults {
		states[i] = a.FaultState
	}
	return states
}

// strike returns the first fault that strikes a call, or nil. early asks for ResetEarly, which strikes at another moment than
// all others. Needs mu.
func (s *Sandbox) strike(early bool, page string, snd *send) *armed {
	for _, a := range s.faults {
		f := &a.Fault
		if (f.Action == ResetEarly) != early || (f.Page != "" && f.Page != page) || !strings.HasPrefix(snd.recipient, f.Recipient) {
			continue
		}
		if f.Text != "" && !says(snd.message, f.Text) {
			continue
		}
		if f.Times != Standing && a.Hits >= f.Times {
			continue
		}
		a.Seen++
		if f.Every > 1 && a.Seen%f.Every != 0 {
			continue
		}
		a.Hits++
		return a
	}
	return nil
}

// says reports whether a string anywhere in a value holds the text.
func says(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case map[string]any:
		for _, member := range v {
			if says(member, text) {
				return true
			}
		}
	case []any:
		for _, entry := range v {
			if says(entry, text) {
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

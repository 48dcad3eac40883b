package sandbox

import (
	"cmp"
	"encoding/json"
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
	Answer     Action = "answer"            // answers with Status and Message or Body
	HTML       Action = "html"              // answers with an HTML page, as a proxy or a portal does; Status defaults to 502
	Empty      Action = "empty"             // answers with Status (default 201) and no body
	Hang       Action = "hang"              // holds the call until Delay (if any) has passed, Clear or Close, then cuts the connection
	Reset      Action = "reset"             // cuts the connection once the request is read
	ResetEarly Action = "reset_before_body" // cuts the connection before the request's body is read; never with User, Name or Accept
	CutBody    Action = "cut_body"          // sends half of the answer that the call would have had, then closes
)

var actions = []Action{Pass, Answer, HTML, Empty, Hang, Reset, ResetEarly, CutBody}

// Standing, given as Fault.Times, keeps a fault until Clear.
const Standing = -1

// Fault is a scripted deviation. User, Name and Every choose the calls. Only calls that pass authentication and limits and have a valid
// object count, but for ResetEarly, which strikes before any of these. Of several faults that match a call, the first scripted strikes.
type Fault struct {
	// User is how an id of any kind begins that one of the call's objects names; empty matches all.
	User string
	// Name is that of an attribute or event in the call; empty matches all.
	Name string
	// Every strikes only each Nth of the calls that match. 0 and 1 strike each.
	Every int
	// Times is how often the fault strikes before it is used up: 0 means once; Standing means until Clear.
	Times int

	// Action is what happens. Default Answer.
	Action Action
	// Accept writes the objects all the same: an answer lost, or an error about objects that were taken.
	Accept bool
	// Delay passes before the action.
	Delay time.Duration

	// Status is the HTTP status.
	Status int
	// Message makes the body {"message":"…"}; Body is one as it is.
	Message, Body string
	// Header is added to the answer's header, or replaces what it has.
	Header http.Header

	// OnHit, if set, is called when the fault strikes, once the call is in the record and before any pause. It runs on the call's own
	// goroutine.
	OnHit func(Call)
}

// FaultState is a scripted fault and what became of it.
type FaultState struct {
	ID    string
	Fault Fault
	Seen  int // calls that matched
	Hits  int // calls that it struck
}

// armed is a fault in the script. Guarded by Sandbox.mu but for cleared, which is closed under it.
type armed struct {
	FaultState
	cleared chan struct{} // closed by Clear: releases calls that hang
}

// resolved returns the fault with defaults filled in, or an error that names the field at fault.
func (f Fault) resolved() (Fault, error) {
	f.Action = cmp.Or(f.Action, Answer)
	f.Times = cmp.Or(f.Times, 1)
	worded := f.Message != "" || f.Body != ""
	switch f.Action {
	case Answer:
		if f.Status == 0 || f.Message != "" && f.Body != "" {
			return f, fieldError{"Status", "must be set for an answer, and only one of Message and Body"}
		}
	case HTML:
		f.Status = cmp.Or(f.Status, http.StatusBadGateway)
		worded = f.Message != ""
	case Empty:
		f.Status = cmp.Or(f.Status, http.StatusCreated)
	case ResetEarly:
		if f.User != "" || f.Name != "" || f.Accept {
			return f, fieldError{"Action", "reset_before_body strikes before the body is known: no User, Name or Accept"}
		}
		worded = worded || f.Status != 0
	default:
		if !slices.Contains(actions, f.Action) {
			return f, fieldError{"Action", fmt.Sprintf("must be one of %v (got %q)", actions, f.Action)}
		}
		worded = worded || f.Status != 0
	}
	if worded && f.Action != Answer {
		return f, fieldError{"Status, Message, Body", fmt.Sprintf("%s gives no answer of its own", f.Action)}
	}
	return f, f.check()
}

func (f Fault) check() error {
	switch {
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fieldError{"Status", fmt.Sprintf("must be between 200 and 599 (got %d)", f.Status)}
	case f.Every < 0:
		return fieldError{"Every", fmt.Sprintf("must not be negative (got %d)", f.Every)}
	case f.Times < Standing:
		return fieldError{"Times", fmt.Sprintf("must be at least %d (got %d)", Standing, f.Times)}
	case f.Delay < 0 || f.Delay > longestDelay:
		return fieldError{"Delay", fmt.Sprintf("must be between 0 and %s (got %s)", longestDelay, f.Delay)}
	}
	return nil
}

// Script adds a fault and returns its id. It panics if the fault makes no sense, which only a mistake in the script can cause; the
// control path reports the same as an error.
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

// Clear removes the faults with these ids, or all of them if none is given, and returns how many it removed. Calls that hang in them
// are cut.
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

// strike returns the first fault that strikes a call, or nil. early asks for ResetEarly, which strikes at another point than all
// others. Needs mu.
func (s *Sandbox) strike(early bool, objects []object) *armed {
	for _, a := range s.faults {
		f := &a.Fault
		if (f.Action == ResetEarly) != early || f.Times != Standing && a.Hits >= f.Times || !early && !slices.ContainsFunc(objects, f.matches) {
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

// matches reports whether an object is one of those that the fault is about.
func (f *Fault) matches(o object) bool {
	id := cmp.Or(o.user.id, o.user.Alias.Name)
	if !strings.HasPrefix(id, f.User) {
		return false
	}
	_, attribute := o.fields[f.Name]
	return f.Name == "" || o.name == f.Name || o.array == "attributes" && attribute
}

// body is what the fault answers, if it answers.
func (f *Fault) body() []byte {
	switch {
	case f.Action == HTML:
		return []byte(cmp.Or(f.Body, htmlPage))
	case f.Message != "":
		raw, err := json.Marshal(map[string]string{"message": f.Message})
		if err != nil {
			panic("sandbox: message: " + err.Error()) // a string always has a JSON form
		}
		return raw
	}
	return []byte(f.Body)
}

const htmlPage = `<!DOCTYPE html>
<html lang="en"><head><title>Error</title></head><body><h1>Sandbox: the simulated front end failed.</h1></body></html>
`

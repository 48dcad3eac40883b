package sandbox

import (
	"maps"
	"slices"
	"time"
)

// Call is one call that the sandbox received. It holds no key, no id and no value.
type Call struct {
	Seq int64     `json:"seq"` // position among all calls, from 1
	At  time.Time `json:"at"`  // when the request had been read
	// Status is the HTTP status answered, 0 if there was no whole answer.
	Status    int    `json:"status"`
	UserAgent string `json:"user_agent,omitempty"`
	Bytes     int    `json:"bytes"`
	// Attributes, Events and Purchases are how many objects the call held, valid or not.
	Attributes int `json:"attributes,omitempty"`
	Events     int `json:"events,omitempty"`
	Purchases  int `json:"purchases,omitempty"`
	// Invalid is how many of them were refused, Ignored how many named a user who does not exist, which
	// Reorder tells the summary alone.
	Invalid int `json:"invalid,omitempty"`
	Ignored int `json:"ignored,omitempty"`
	// Written says that the valid objects were carried out, whatever was answered; Lost that the caller was not told so.
	Written bool `json:"written"`
	Lost    bool `json:"lost,omitempty"`
	// Fault is the id of the fault that struck.
	Fault string `json:"fault,omitempty"`
}

// Summary counts all calls, those that the record has dropped included.
type Summary struct {
	Calls    int         `json:"calls"`
	Statuses map[int]int `json:"statuses"` // calls by what was answered; 0: no whole answer
	// Attributes and Events are how many valid objects were written, those of unknown users aside, which are Ignored.
	Attributes int `json:"attributes"`
	Events     int `json:"events"`
	Ignored    int `json:"ignored"`
	Invalid    int `json:"invalid"`
	Lost       int `json:"lost"` // calls that were written and not told so
	// Profiles is how many there are; Created is how many of them a call made.
	Profiles int `json:"profiles"`
	Created  int `json:"created"`
	// Overlaps is how often a call came while another one that held the same user was in flight, and was still answered to somebody who
	// waited for it. Braze may write these two in either order.
	Overlaps int `json:"overlaps"`
	// Overlapping are the first users of whom that is true.
	Overlapping []string `json:"overlapping,omitempty"`
	// DuplicateEvents is how many events a user had already, with the same name, time and properties.
	DuplicateEvents int `json:"duplicate_events"`
	// TypeConflicts is how many values were of another type than their attribute.
	TypeConflicts int `json:"type_conflicts"`
	// MaxObjects is the most objects that one call held.
	MaxObjects int `json:"max_objects"`
}

// record keeps the newest calls and counts all.
type record struct {
	limit int
	calls []Call // the oldest first; up to twice the limit
	seq   int64
	total Summary
}

func newRecord(limit int) record {
	return record{limit: limit, total: Summary{Statuses: map[int]int{}}}
}

// add counts and keeps a call.
func (r *record) add(c Call) {
	r.total.Calls++
	r.total.Statuses[c.Status]++
	r.total.Ignored += c.Ignored
	r.total.Invalid += c.Invalid
	if c.Lost {
		r.total.Lost++
	}
	r.total.MaxObjects = max(r.total.MaxObjects, c.Attributes+c.Events+c.Purchases)
	if len(r.calls) >= 2*r.limit {
		r.calls = append(r.calls[:0], r.calls[r.limit:]...)
	}
	r.calls = append(r.calls, c)
}

// kept returns the calls that are still kept.
func (r *record) kept() []Call { return r.calls[max(0, len(r.calls)-r.limit):] }

// Calls returns the calls that the record keeps, the oldest first.
func (s *Sandbox) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.record.kept())
}

// Summary returns what was counted so far.
func (s *Sandbox) Summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.summary()
}

// summary is Summary. Needs mu.
func (s *Sandbox) summary() Summary {
	sum := s.record.total
	sum.Statuses, sum.Overlapping = maps.Clone(sum.Statuses), slices.Clone(sum.Overlapping)
	sum.Profiles = len(s.profiles.all)
	return sum
}

package queue

import (
	"encoding/json"
	"slices"
	"time"
)

// Try is one call to Facebook that did not deliver the message.
type Try struct {
	At            time.Time // when the call began, by the server's clock, to the millisecond
	Class         string    // of package sendapi
	Code, Subcode int       // Facebook's, 0 if there were none
	TraceID       string    // Facebook's fbtrace_id
	Took          time.Duration
}

// Tries are the calls for a message that did not deliver it, oldest first. Those between the first and the last ones are left
// out, so that the record of a message that is tried for days stays small.
type Tries struct {
	Kept    []Try `json:"kept,omitempty"`
	LeftOut int   `json:"left_out,omitempty"` // between Kept[FirstTries-1] and Kept[FirstTries]
}

const (
	// FirstTries and LastTries are how many of [Tries] are kept: what a message first died of, and how it fares now. A try takes some
	// 100 bytes in the record of its message, which is written at each attempt.
	FirstTries, LastTries = 2, 8
)

// and returns the tries with one more. It does not change t, which a record may have.
func (t Tries) and(next Try) Tries {
	kept := append(slices.Clone(t.Kept), next)
	if over := len(kept) - FirstTries - LastTries; over > 0 {
		kept = slices.Delete(kept, FirstTries, FirstTries+over)
		t.LeftOut += over
	}
	return Tries{Kept: kept, LeftOut: t.LeftOut}
}

// AddTry adds a call that did not deliver the message. The next call of a method stores it with the job.
func (d *Delivery) AddTry(t Try) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Tries = d.Tries.and(t)
}

// storedTry is a Try as it is stored.
type storedTry struct {
	At      int64  `json:"at"` // Unix milliseconds
	Class   string `json:"class,omitempty"`
	Code    int    `json:"code,omitempty"`
	Subcode int    `json:"subcode,omitempty"`
	TraceID string `json:"trace,omitempty"`
	Took    int64  `json:"ms"`
}

// MarshalJSON writes the form in which records and dead letters have a try.
func (t Try) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedTry{t.At.UnixMilli(), t.Class, t.Code, t.Subcode, t.TraceID, t.Took.Milliseconds()})
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (t *Try) UnmarshalJSON(data []byte) error {
	var s storedTry
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*t = Try{time.UnixMilli(s.At), s.Class, s.Code, s.Subcode, s.TraceID, time.Duration(s.Took) * time.Millisecond}
	return nil
}

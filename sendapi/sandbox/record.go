package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Digest is the SHA-256 of a message's content in canonical form. See MessageDigest.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText makes a digest hexadecimal in JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Call is one call that the sandbox received. It holds the recipient's id in full, and neither message text nor token.
type Call struct {
	Seq int64     `json:"seq"` // position among all calls, from 1
	At  time.Time `json:"at"`  // when the request had been read
	// Page is the id of the page that the token belongs to; empty if it belongs to none.
	Page string `json:"page,omitempty"`
	// Recipient is the PSID; other forms of recipient have their key before them, as in user_ref:1234.
	Recipient string `json:"recipient,omitempty"`
	// Action is the sender action; empty for a message.
	Action string `json:"action,omitempty"`
	// Body identifies the message's content; zero if there was none.
	Body Digest `json:"body"`
	// Status is the HTTP status answered, 0 if there was no answer. Code and Subcode are the Graph error's.
	Status  int `json:"status"`
	Code    int `json:"code,omitempty"`
	Subcode int `json:"subcode,omitempty"`
	// Accepted says that the message reached the person, whatever was answered.
	Accepted bool `json:"accepted"`
	// Lost says that it was accepted but the caller was not told.
	Lost bool `json:"lost,omitempty"`
	// MessageID is the id that an accepted message was given, told or not.
	MessageID string `json:"message_id,omitempty"`
	// Auth is how the token came: bearer, query, form, json; empty without token.
	Auth string `json:"auth,omitempty"`
}

// Counts count calls. Calls = Accepted + Actions + Refused + Dropped.
type Counts struct {
	Calls    int `json:"calls"`
	Accepted int `json:"accepted"` // messages that reached a person
	Actions  int `json:"actions"`  // sender actions carried out
	Refused  int `json:"refused"`  // answered with an error, the message not delivered
	Dropped  int `json:"dropped"`  // no answer or not a whole one, the message not delivered
	// Duplicates are accepted messages that repeat an earlier one: same page, recipient and content.
	Duplicates int `json:"duplicates"`
	// Lost are accepted messages whose caller was not told so.
	Lost int `json:"lost"`
}

// Distinct is the number of different messages delivered.
func (c Counts) Distinct() int { return c.Accepted - c.Duplicates }

// PageSummary counts the calls of one page.
type PageSummary struct {
	Counts
	// RefusedBy counts refusals by code/subcode, as in 10/2018278, or by HTTP status where there was no code, as in http 502.
	RefusedBy map[string]int `json:"refused_by"`
	// MaxInSecond is the highest number of calls in any sliding second.
	MaxInSecond int       `json:"max_in_second"`
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`
}

// Summary counts all calls since the start or the last ResetRecord. MaxInSecond is that of the busiest page.
type Summary struct {
	PageSummary
	Pages map[string]PageSummary `json:"pages"`
	// Forgotten is how many calls have left the record because of Config.RecordLimit. They are still counted.
	Forgotten int `json:"forgotten"`
}

// Query chooses calls; zero fields match all.
type Query struct {
	Page      string
	Recipient string    // in full
	Since     time.Time // at or after
	Limit     int       // the newest that many
}

// entry is a Call in compact form: 80 bytes and the recipient's id.
type entry struct {
	recipient     string
	page          *page // nil: unknown
	body          Digest
	at            time.Duration // since the start
	code, subcode int32
	status        uint16
	auth, action  uint8 // indices into authNames, senderActions
	flags         uint8
}

const (
	flagAccepted = 1 << iota
	flagLost
	flagDuplicate
)

const chunkSize = 1024

// record keeps entries in chunks, so that it never copies what it holds, and drops whole chunks from the front.
type record struct {
	chunks    [][]entry
	forgotten int
	limit     int
	total     tally
	seen      map[[16]byte]uint32 // message key -> times accepted
}

// tally is the running form of a PageSummary.
type tally struct {
	Counts
	refusedBy   map[refusal]int
	first, last time.Duration
}

type refusal struct {
	code, subcode int32
	status        uint16
}

func (k refusal) String() string {
	switch {
	case k.code == 0:
		return fmt.Sprintf("http %d", k.status)
	case k.subcode == 0:
		return fmt.Sprint(k.code)
	}
	return fmt.Sprintf("%d/%d", k.code, k.subcode)
}

func newRecord(limit int) record {
	return record{limit: limit, seen: map[[16]byte]uint32{}}
}

// add counts and keeps an entry.
func (r *record) add(e entry) {
	if e.flags&flagAccepted != 0 && e.action == 0 {
		k := messageKey(e.pageID(), e.recipient, e.body)
		if r.seen[k]++; r.seen[k] > 1 {
			e.flags |= flagDuplicate
		}
	}
	r.total.add(&e)
	if e.page != nil {
		e.page.tally.add(&e)
	}
	last := len(r.chunks) - 1
	if last < 0 || len(r.chunks[last]) == chunkSize {
		r.chunks = append(r.chunks, make([]entry, 0, chunkSize))
		last++
	}
	r.chunks[last] = append(r.chunks[last], e)
	if last > 0 && last*chunkSize >= r.limit {
		r.chunks[0] = nil
		r.chunks = r.chunks[1:]
		r.forgotten += chunkSize
	}
}

func (e *entry) pageID() string {
	if e.page == nil {
		return ""
	}
	return e.page.ID
}

func (t *tally) add(e *entry) {
	if t.Calls == 0 {
		t.first = e.at
	}
	t.last = e.at
	t.Calls++
	accepted := e.flags&flagAccepted != 0
	switch {
	case accepted && e.action != 0:
		t.Actions++
	case accepted:
		t.Accepted++
		if e.flags&flagDuplicate != 0 {
			t.Duplicates++
		}
		if e.flags&flagLost != 0 {
			t.Lost++
		}
	case e.status != 0 && (e.status >= 300 || e.code != 0):
		t.Refused++
		if t.refusedBy == nil {
			t.refusedBy = map[refusal]int{}
		}
		k := refusal{e.code, e.subcode, 0}
		if e.code == 0 {
			k.status = e.status
		}
		t.refusedBy[k]++
	default:
		t.Dropped++
	}
}

func (t *tally) summary(start time.Time, peak int) PageSummary {
	p := PageSummary{Counts: t.Counts, RefusedBy: map[string]int{}, MaxInSecond: peak}
	for k, n := range t.refusedBy {
		p.RefusedBy[k.String()] = n
	}
	if t.Calls > 0 {
		p.First, p.Last = start.Add(t.first), start.Add(t.last)
	}
	return p
}

func messageKey(page, recipient string, body Digest) [16]byte {
	b := make([]byte, 0, 96)
	b = append(b, page...)
	b = append(b, 0)
	b = append(b, recipient...)
	b = append(b, 0)
	b = append(b, body[:]...)
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// Calls returns the whole record, oldest first.
func (s *Sandbox) Calls() []Call { return s.Find(Query{}) }

// Find returns the calls of the record that q chooses, oldest first.
func (s *Sandbox) Find(q Query) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Call
	seq := s.seq
	since := q.Since.Sub(s.start)
	for _, chunk := range slices.Backward(s.record.chunks) {
		for _, e := range slices.Backward(chunk) {
			if (!q.Since.IsZero() && e.at < since) || (q.Limit > 0 && len(found) == q.Limit) {
				slices.Reverse(found)
				return found
			}
			if (q.Page == "" || e.pageID() == q.Page) && (q.Recipient == "" || e.recipient == q.Recipient) {
				found = append(found, s.call(&e, seq))
			}
			seq--
		}
	}
	slices.Reverse(found)
	return found
}

// call gives an entry its public form. Needs mu, or a copy of the entry.
func (s *Sandbox) call(e *entry, seq int64) Call {
	c := Call{
		Seq:       seq,
		At:        s.start.Add(e.at),
		Page:      e.pageID(),
		Recipient: e.recipient,
		Action:    senderActions[e.action],
		Body:      e.body,
		Status:    int(e.status),
		Code:      int(e.code),
		Subcode:   int(e.subcode),
		Accepted:  e.flags&flagAccepted != 0,
		Lost:      e.flags&flagLost != 0,
		Auth:      authNames[e.auth],
	}
	if c.Accepted && c.Action == "" {
		c.MessageID = s.messageID(seq)
	}
	return c
}

// Summary counts what happened so far.
func (s *Sandbox) Summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := Summary{Pages: map[string]PageSummary{}, Forgotten: s.record.forgotten}
	peak := 0
	for id, p := range s.pages {
		peak = max(peak, p.limits.all.peak)
		sum.Pages[id] = p.tally.summary(s.start, p.limits.all.peak)
	}
	sum.PageSummary = s.record.total.summary(s.start, peak)
	return sum
}

// Counts is the cheap part of Summary.
func (s *Sandbox) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.total.Counts
}

// MaxInSecond returns the highest number of calls that a page made in any sliding second.
func (s *Sandbox) MaxInSecond(pageID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pages[pageID]; p != nil {
		return p.limits.all.peak
	}
	return 0
}

// Delivered returns how often a message was accepted: 0 is undelivered, 2 and more are duplicates. It holds over all calls,
// also those that have left the record.
func (s *Sandbox) Delivered(pageID, recipient string, body Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.record.seen[messageKey(pageID, recipient, body)])
}

// DeliveredTo returns the recorded calls that delivered a message of a page to a person, oldest first.
func (s *Sandbox) DeliveredTo(pageID, recipient string) []Call {
	calls := s.Find(Query{Page: pageID, Recipient: recipient})
	return slices.DeleteFunc(calls, func(c Call) bool { return !c.Accepted || c.Action != "" })
}

// Duplicate is a message that was delivered more than once.
type Duplicate struct {
	Page      string `json:"page"`
	Recipient string `json:"recipient"`
	Body      Digest `json:"body"`
	Times     int    `json:"times"`
}

// Duplicates lists the messages delivered more than once whose repetition is still in the record.
func (s *Sandbox) Duplicates() []Duplicate {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[[16]byte]Duplicate{}
	for _, chunk := range s.record.chunks {
		for i := range chunk {
			e := &chunk[i]
			if e.flags&flagDuplicate == 0 {
				continue
			}
			k := messageKey(e.pageID(), e.recipient, e.body)
			found[k] = Duplicate{e.pageID(), e.recipient, e.body, int(s.record.seen[k])}
		}
	}
	list := make([]Duplicate, 0, len(found))
	for _, d := range found {
		list = append(list, d)
	}
	sort.Slice(list, func(i, j int) bool {
		return list[i].Page+list[i].Recipient+list[i].Body.String() < list[j].Page+list[j].Recipient+list[j].Body.String()
	})
	return list
}

// ResetRecord forgets all calls and counts. Pages, limits and the script stay as they are.
func (s *Sandbox) ResetRecord() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = newRecord(s.cfg.RecordLimit)
	for _, p := range s.pages {
		p.tally = tally{}
		p.limits.all.peak = p.limits.all.n
	}
}

// Wait blocks until done says so of the counts, which it looks at after every call, or until ctx ends, and returns ctx's error
// then. It lets tests wait for what they expect instead of sleeping.
func (s *Sandbox) Wait(ctx context.Context, done func(Counts) bool) error {
	for {
		s.mu.Lock()
		c := s.record.total.Counts
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if done(c) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package sandbox

import (
	"cmp"
	"context"
	"slices"
)

// Calls returns a copy of the whole record, oldest first. With many calls, Find and Summary are cheaper.
func (s *Sandbox) Calls() []Call { return s.Find(Query{}) }

// Find returns the calls of the record that q chooses, oldest first.
func (s *Sandbox) Find(q Query) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Call
	seq := s.seq
	for e := range s.record.newestFirst() {
		if q.Limit > 0 && len(found) == q.Limit {
			break
		}
		if !q.Since.IsZero() && s.start.Add(e.at).Before(q.Since) {
			break // the record is in the order of time
		}
		if (q.Page == "" || e.pageID() == q.Page) && (q.Recipient == "" || e.recipient == q.Recipient) {
			found = append(found, s.call(e, seq))
		}
		seq--
	}
	slices.Reverse(found)
	return found
}

// recipients returns the recipient of each accepted message in the record, oldest first.
func (s *Sandbox) recipients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	reached := make([]string, 0, s.record.total.Accepted)
	for e := range s.record.newestFirst() {
		if e.accepted() && e.isMessage() {
			reached = append(reached, e.recipient)
		}
	}
	slices.Reverse(reached)
	return reached
}

// call gives an entry its public form.
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
		Accepted:  e.accepted(),
		Lost:      e.flags&flagLost != 0,
		Auth:      authNames[e.auth],
	}
	if e.accepted() && e.isMessage() {
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
		peak = max(peak, p.calls.peak)
		sum.Pages[id] = p.tally.summary(s.start, p.calls.peak)
	}
	sum.PageSummary = s.record.total.summary(s.start, peak)
	return sum
}

// Counts returns the totals of Summary, at less cost.
func (s *Sandbox) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.total.Counts
}

// maxInSecond returns the highest number of calls that a page made in any sliding second.
func (s *Sandbox) maxInSecond(pageID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pages[pageID]; p != nil {
		return p.calls.peak
	}
	return 0
}

// Delivered returns how often a message was accepted: 0 means not delivered, 2 and more mean duplicates. It counts all calls,
// also those that have left the record. MessageDigest makes body.
func (s *Sandbox) Delivered(pageID, recipient string, body Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pages[pageID]; p != nil {
		pageID = p.origin
	}
	return int(s.record.delivered[newMessageKey(pageID, recipient, body)])
}

// DeliveredTo returns the recorded calls that delivered a message of a page to a person, oldest first.
func (s *Sandbox) DeliveredTo(pageID, recipient string) []Call {
	calls := s.Find(Query{Page: pageID, Recipient: recipient})
	return slices.DeleteFunc(calls, func(c Call) bool { return !c.Accepted || c.Action != "" })
}

// Duplicates lists the messages delivered more than once whose repetition is still in the record.
func (s *Sandbox) Duplicates() []Duplicate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Duplicate{}
	listed := map[messageKey]bool{}
	for e := range s.record.newestFirst() {
		if e.flags&flagDuplicate == 0 {
			continue
		}
		if k := e.key(); !listed[k] {
			listed[k] = true
			list = append(list, Duplicate{e.pageID(), e.recipient, e.body, int(s.record.delivered[k])})
		}
	}
	slices.SortFunc(list, func(a, b Duplicate) int {
		return cmp.Or(cmp.Compare(a.Page, b.Page), cmp.Compare(a.Recipient, b.Recipient), slices.Compare(a.Body[:], b.Body[:]))
	})
	return list
}

// resetRecord forgets all calls and counts, and which messages have had their first attempt. Pages, limits and the script stay
// as they are.
func (s *Sandbox) resetRecord() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = newRecord(s.cfg.RecordLimit)
	s.hooks.forget()
	s.attempted = map[messageKey]bool{}
	for _, p := range s.pages {
		p.tally = tally{}
		p.calls.peak = p.calls.count(s.clock())
	}
}

// wait blocks until done reports true for the counts, which it checks after every call, or until ctx ends; then it returns the
// error of ctx. With it, tests wait for what they expect instead of sleeping.
func (s *Sandbox) wait(ctx context.Context, done func(Counts) bool) error {
	for {
		s.mu.Lock()
		counts := s.record.total.Counts
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if done(counts) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package sandbox

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"time"
)

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

func (e *entry) accepted() bool { return e.flags&flagAccepted != 0 }

func (e *entry) isMessage() bool { return e.action == 0 }

func (e *entry) pageID() string {
	if e.page == nil {
		return ""
	}
	return e.page.ID
}

// key identifies a message: same page, recipient and content.
func (e *entry) key() messageKey {
	origin := ""
	if e.page != nil {
		origin = e.page.origin
	}
	return newMessageKey(origin, e.recipient, e.body)
}

// messageKey is the first half of a SHA-256, to keep the map of all delivered messages small.
type messageKey [16]byte

func newMessageKey(page, recipient string, body Digest) messageKey {
	b := make([]byte, 0, 96)
	b = append(b, page...)
	b = append(b, 0)
	b = append(b, recipient...)
	b = append(b, 0)
	b = append(b, body[:]...)
	sum := sha256.Sum256(b)
	return messageKey(sum[:16])
}

const chunkSize = 1024

// record keeps the newest entries, in chunks so that none is ever copied, and counts all entries.
type record struct {
	limit     int
	chunks    [][]entry
	skip      int // entries at the front of the first chunk that are forgotten
	forgotten int
	total     tally
	delivered map[messageKey]uint32 // how often
}

func newRecord(limit int) record {
	return record{limit: limit, delivered: map[messageKey]uint32{}}
}

// add counts and keeps an entry.
func (r *record) add(e entry) {
	if e.accepted() && e.isMessage() {
		k := e.key()
		r.delivered[k]++
		if r.delivered[k] > 1 {
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
	if last*chunkSize+len(r.chunks[last])-r.skip > r.limit {
		r.forgetOldest()
	}
}

func (r *record) forgetOldest() {
	r.forgotten++
	r.skip++
	if r.skip == chunkSize {
		r.chunks[0] = nil
		r.chunks, r.skip = r.chunks[1:], 0
	}
}

// newestFirst yields the entries that are kept.
func (r *record) newestFirst() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i, chunk := range slices.Backward(r.chunks) {
			if i == 0 {
				chunk = chunk[r.skip:]
			}
			for j := range slices.Backward(chunk) {
				if !yield(&chunk[j]) {
					return
				}
			}
		}
	}
}

// tally is the running form of a PageSummary.
type tally struct {
	Counts
	refusedBy   map[refusal]int
	first, last time.Duration
}

// refusal is why a call was refused: status is 0 unless there is no code.
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

func (t *tally) add(e *entry) {
	if t.Calls == 0 {
		t.first = e.at
	}
	t.last = e.at
	t.Calls++
	switch {
	case e.accepted() && !e.isMessage():
		t.Actions++
	case e.accepted():
		t.Accepted++
		if e.flags&flagDuplicate != 0 {
			t.Duplicates++
		}
		if e.flags&flagLost != 0 {
			t.Lost++
		}
	case e.status >= 300 || e.code != 0:
		t.Refused++
		t.refuse(e)
	default:
		t.Dropped++
	}
}

func (t *tally) refuse(e *entry) {
	k := refusal{code: e.code, subcode: e.subcode}
	if e.code == 0 {
		k.status = e.status
	}
	if t.refusedBy == nil {
		t.refusedBy = map[refusal]int{}
	}
	t.refusedBy[k]++
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

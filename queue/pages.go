package queue

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// PageState is what all workers know of a page. It is kept in BRAZIER_PAGES over restarts of everything. Times are by
// the server's clock, as [Queue.Now] tells it.
type PageState struct {
	// Held says that nothing is sent for the page, until Until, or until somebody resumes it if Until is zero. Class, Code,
	// Subcode, Since and Began stay after the hold has ended, and tell of the last one.
	Held    bool      `json:"held,omitempty"`
	Class   string    `json:"class,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Code    int       `json:"code,omitempty"`
	Subcode int       `json:"subcode,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Began is when the refusals in a row began that led to the hold. Zero: the first refusal led to it, at Since.
	Began time.Time `json:"began,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Holds is how many there were in a row since a message was last taken.
	Holds int `json:"holds,omitempty"`
	// Prober names the worker that tries one message, and ProbeUntil is when it must have ended.
	Prober     string    `json:"prober,omitempty"`
	ProbeUntil time.Time `json:"probe_until,omitzero"`
	// Resumed is when the page came out of its last hold, for the slow start. Zero: not lately. It is never later than the
	// time at which the state was stored.
	Resumed time.Time `json:"resumed,omitzero"`
	// DeadToken names the credentials that Facebook refused, by a digest that the caller makes. A worker that still has them
	// when the page goes on may try them from DeadUntil on.
	DeadToken string    `json:"dead_token,omitempty"`
	DeadUntil time.Time `json:"dead_until,omitzero"`
	// Manual says that a person did it: held the page or, where Held is false, ended its last hold.
	Manual bool `json:"manual,omitempty"`

	// epoch counts the buckets that this process has seen under the name, in each of which revisions begin anew.
	epoch, revision uint64
}

// Revision numbers the states of all pages in the order in which they were set. It is 0 where none was set yet.
func (s PageState) Revision() uint64 { return s.revision }

// After reports whether s is of a later time than t. Of states that were never stored none is.
func (s PageState) After(t PageState) bool {
	return s.epoch > t.epoch || s.epoch == t.epoch && s.revision > t.revision
}

// Hold puts the page under a hold, whatever was before. A hold that follows another of the same code without a message in
// between, as after a probe that was refused, is of the same row of refusals: Began stays.
func (s *PageState) Hold(h PageState) {
	if s.Held && !s.Manual && !h.Manual && h.Code == s.Code && h.Subcode == s.Subcode {
		h.Began = s.RefusedSince()
	}
	h.Held, h.epoch, h.revision = true, s.epoch, s.revision
	*s = h
}

// Resume ends the hold, and its consequences: refused credentials are tried again. What it was stays to be seen.
func (s *PageState) Resume(now time.Time) {
	*s = PageState{Class: s.Class, Code: s.Code, Subcode: s.Subcode, Since: s.Since, Began: s.Began, Holds: s.Holds, Resumed: now,
		epoch: s.epoch, revision: s.revision}
}

// RefusedSince returns when the first of the refusals came that led to the hold, or to the last one. It is zero where the
// page was never held.
func (s PageState) RefusedSince() time.Time {
	if !s.Began.IsZero() {
		return s.Began
	}
	return s.Since
}

// AppKey is the key of the state that the pages of an app share, beside those of pages: to be used in place of a page's id.
func AppKey(app string) string {
	sum := sha256.Sum256([]byte(app))
	return appKeys + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// IsAppKey reports whether a key of [Queue.PageStates] is an app's.
func IsAppKey(key string) bool { return strings.HasPrefix(key, appKeys) }

const appKeys = "app."

// ErrChanged says that somebody else has changed what was to be changed. Read it again, and decide anew.
var ErrChanged = errors.New("changed by another meanwhile")

// PageState returns the state of a page, by its Facebook id: the latest that is stored. It is zero where none is. It asks
// again until ctx ends. A state that cannot be read comes as an error together with its revision, so that it can be
// replaced.
func (q *Queue) PageState(ctx context.Context, page string) (PageState, error) {
	var entry jetstream.KeyValueEntry
	err := q.retry(ctx, readsOf(streamOf(BucketPages)), func(ctx context.Context) (err error) {
		entry, err = q.pages.Get(ctx, page)
		return q.missing(err)
	})
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return PageState{epoch: q.epoch(streamOf(BucketPages))}, nil
	case err != nil:
		return PageState{}, fmt.Errorf("queue: state of page %s: %w", page, redact(err))
	}
	return q.pageState(entry)
}

// pageState reads an entry. Fields of a newer version are passed over.
func (q *Queue) pageState(entry jetstream.KeyValueEntry) (s PageState, err error) {
	if entry.Operation() == jetstream.KeyValuePut {
		if err = json.Unmarshal(entry.Value(), &s); err != nil {
			s, err = PageState{}, fmt.Errorf("queue: state of page %s: %w", entry.Key(), err)
		}
	}
	// A clock that was wrong may have written a time to come. Who compares with it would go slowly, and take no refusal for
	// one, until then.
	if stored := entry.Created(); s.Resumed.After(stored) {
		s.Resumed = stored
	}
	s.epoch, s.revision = q.epoch(streamOf(BucketPages)), entry.Revision()
	return s, err
}

// SetPageState stores what is known of a page, if nobody has changed it since s was read, and returns s with its new
// revision. After ErrChanged somebody has, and nothing is stored. It asks again until ctx ends; then nobody knows.
func (q *Queue) SetPageState(ctx context.Context, page string, s PageState) (PageState, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return s, fmt.Errorf("queue: set state of page %s: %w", page, err) // a year beyond 9999
	}
	var asked, changed bool
	var revision uint64
	err = q.retry(ctx, writesTo(streamOf(BucketPages)), func(ctx context.Context) (err error) {
		changed = false
		if s.revision == 0 {
			revision, err = q.pages.Create(ctx, page, value) // also where there was one, and a person removed it
		} else {
			revision, err = q.pages.Update(ctx, page, value, s.revision)
		}
		if !isTaken(err) && !errors.Is(err, jetstream.ErrKeyExists) {
			asked = true
			return q.missing(err)
		}
		changed = true
		if !asked {
			return nil
		}
		// The answer to an earlier try was lost; it may be our own that is there.
		entry, err := q.pages.Get(ctx, page)
		none := errors.Is(err, jetstream.ErrKeyNotFound)
		switch {
		case none && s.revision != 0: // a person removed it
			return nil
		case none, err == nil && entry.Revision() == s.revision: // a write is under way, perhaps that earlier try without a leader
			changed = false
			return errTaken
		case err == nil && string(entry.Value()) == string(value):
			changed, revision = false, entry.Revision()
		}
		return err
	})
	if err == nil && changed {
		err = ErrChanged
	}
	if err != nil {
		return s, fmt.Errorf("queue: set state of page %s: %w", page, redact(err))
	}
	s.revision = revision
	return s, nil
}

// PageStates returns the states of all pages and apps that have one, by Facebook id and by [AppKey].
func (q *Queue) PageStates(ctx context.Context) (map[string]PageState, error) {
	all := make(map[string]PageState)
	err := q.retry(ctx, readsOf(streamOf(BucketPages)), func(ctx context.Context) error {
		clear(all)
		w, err := q.pages.WatchAll(ctx)
		if err != nil {
			return q.missing(err)
		}
		defer endWatch(w)
		for {
			select {
			case entry, ok := <-w.Updates():
				switch {
				case !ok:
					return nats.ErrDisconnected
				case entry == nil: // these were all
					return nil
				case entry.Operation() == jetstream.KeyValuePut:
					s, err := q.pageState(entry)
					if err != nil {
						return backoff.Permanent(err)
					}
					all[entry.Key()] = s
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("queue: states of pages: %w", redact(err))
	}
	return all, nil
}

// endWatch empties the channel until nats.go closes it: its writer may be waiting for a reader.
func endWatch(w jetstream.KeyWatcher) {
	_ = w.Stop() // an error says that the subscription is gone, and then so is the writer
	for range w.Updates() {
	}
}

// WatchPages calls f with the state of each page that has one, closes ready (nil: nobody waits), and from then on calls f
// with each change, all from the caller's goroutine. A change that another overtakes may be left out, the latest never
// is: after a lost connection all are read again. It returns when ctx ends, without an error, or when the connection is
// closed for good.
func (q *Queue) WatchPages(ctx context.Context, f func(page string, s PageState), ready chan<- struct{}) error {
	watch := pageWatch{q: q, f: f, ready: ready, seen: make(map[string]uint64), waiting: retrier{waits: q.waits, what: readsOf(streamOf(BucketPages))}}
	defer watch.waiting.end(false)
	lost := q.nc.StatusChanged(nats.CONNECTED)
	defer q.nc.RemoveStatusListener(lost)
	for {
		// It says itself what it waits for: an attempt may go well for hours before it fails.
		err := q.retry(ctx, awaited{kind: onNothing}, func(context.Context) error { return watch.run(ctx, lost) })
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("queue: watch pages: %w", redact(err))
		}
	}
}

// pageWatch is what a WatchPages has told so far.
type pageWatch struct {
	q     *Queue
	f     func(string, PageState)
	ready chan<- struct{}   // nil once closed
	seen  map[string]uint64 // revisions

	waiting retrier
}

// run tells of changes until the connection was lost and is back. It has no error then.
func (w *pageWatch) run(ctx context.Context, back <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewed := w.q.renewed(streamOf(BucketPages))
	updates, err := w.q.pages.WatchAll(ctx)
	if err != nil && ctx.Err() == nil {
		w.waiting.failed(err)
	}
	if err != nil {
		return w.q.missing(err)
	}
	defer endWatch(updates)
	for {
		select {
		case entry, ok := <-updates.Updates():
			if !ok {
				w.waiting.failed(nats.ErrDisconnected)
				return nats.ErrDisconnected
			}
			w.tell(entry)
		case <-back:
			return nil
		case <-renewed: // what is left of the watch belongs to a bucket that is gone, and so do the states
			for page := range w.seen {
				w.f(page, PageState{epoch: w.q.epoch(streamOf(BucketPages))})
			}
			clear(w.seen)
			return nil
		case <-w.q.closed:
			return nats.ErrConnectionClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell hands on an entry; nil says that those before were all that there are.
func (w *pageWatch) tell(entry jetstream.KeyValueEntry) {
	if entry == nil {
		w.waiting.end(true)
		if w.ready != nil {
			close(w.ready)
			w.ready = nil
		}
		return
	}
	if entry.Revision() == w.seen[entry.Key()] {
		return
	}
	w.seen[entry.Key()] = entry.Revision()
	s, err := w.q.pageState(entry)
	if err != nil {
		w.q.log.Error("state of a page cannot be read", zap.String("event", "page_state"), zap.String("page", entry.Key()), zap.Error(err))
		return
	}
	w.f(entry.Key(), s)
}

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
)

// PageState is what all workers know of a page. It is stored in BRAZIER_PAGES and outlasts restarts of everything.
// Times are by the server's clock: see [Queue.Now].
type PageState struct {
	// Held says that nothing is sent for the page until Until, or until a person resumes it if Until is zero. Class, Code,
	// Subcode, Since and FirstRefused stay after the hold has ended, and are about the last one.
	Held    bool      `json:"held,omitempty"`
	Class   string    `json:"class,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Code    int       `json:"code,omitempty"`
	Subcode int       `json:"subcode,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// FirstRefused is when the first refusal came of the row that led to the hold. Zero: a single refusal led to it, at
	// Since.
	FirstRefused time.Time `json:"began,omitzero"`
	Until        time.Time `json:"until,omitzero"`
	// Holds is how many holds there were in a row since Facebook last accepted a message.
	Holds int `json:"holds,omitempty"`
	// Prober names the worker that probes the page with one message, and ProbeUntil is when the probe ends at the latest.
	Prober     string    `json:"prober,omitempty"`
	ProbeUntil time.Time `json:"probe_until,omitzero"`
	// Resumed is when the last hold ended, for the slow start. Zero: not lately. It is never later than the time at
	// which the state was stored.
	Resumed time.Time `json:"resumed,omitzero"`
	// DeadToken is a digest, made by the caller, of the credentials that Facebook refused. A worker that still has
	// those when the hold ends may try them from DeadUntil on.
	DeadToken string    `json:"dead_token,omitempty"`
	DeadUntil time.Time `json:"dead_until,omitzero"`
	// Manual says that a person held the page or, if Held is false, ended its last hold.
	Manual bool `json:"manual,omitempty"`
	// By names that person, as USER@HOST of the command, where it is known.
	By string `json:"by,omitempty"`

	// epoch is how often this process saw the bucket replaced. Revisions begin anew in each bucket.
	epoch, revision uint64
}

// Revision numbers the states of all pages in the order in which they were stored. It is 0 for a state that was not stored.
func (s PageState) Revision() uint64 { return s.revision }

// After reports whether s was stored later than t. A state that was never stored is later than none.
func (s PageState) After(t PageState) bool {
	return s.epoch > t.epoch || s.epoch == t.epoch && s.revision > t.revision
}

// Hold holds the page, whatever its state was. A hold that follows another of the same code without an accepted message
// in between, as after a refused probe, belongs to the same row of refusals: FirstRefused stays.
func (s *PageState) Hold(h PageState) {
	if s.Held && !s.Manual && !h.Manual && h.Code == s.Code && h.Subcode == s.Subcode {
		h.FirstRefused = s.RefusedSince()
	}
	h.Held, h.epoch, h.revision = true, s.epoch, s.revision
	*s = h
}

// Resume ends the hold and its consequences: refused credentials are tried again. The class, codes and time of the hold
// stay.
func (s *PageState) Resume(now time.Time) {
	*s = PageState{Class: s.Class, Code: s.Code, Subcode: s.Subcode, Since: s.Since, FirstRefused: s.FirstRefused, Holds: s.Holds, Resumed: now,
		epoch: s.epoch, revision: s.revision}
}

// RefusedSince returns when the first of the refusals came that led to the hold, or to the last one. It is zero if the
// page was never held.
func (s PageState) RefusedSince() time.Time {
	if !s.FirstRefused.IsZero() {
		return s.FirstRefused
	}
	return s.Since
}

// AppKey returns the key of the state that the pages of an app share. It is used instead of a page's id.
func AppKey(app string) string {
	sum := sha256.Sum256([]byte(app))
	return appKeys + base64.RawURLEncoding.EncodeToString(sum[:9])
}

// IsAppKey reports whether a key of [Queue.PageStates] is an app's.
func IsAppKey(key string) bool { return strings.HasPrefix(key, appKeys) }

const appKeys = "app."

// ErrChanged says that another process has changed the state that was to be changed. Read the state again, and decide anew.
var ErrChanged = errors.New("changed by another process meanwhile")

// PageState returns the latest stored state of a page, by its Facebook id, or the zero state if none is stored. It
// repeats its request until ctx ends. A state that cannot be read is returned as an error together with its revision,
// so that it can be replaced.
func (q *Queue) PageState(ctx context.Context, page string) (PageState, error) {
	var entry jetstream.KeyValueEntry
	err := q.retry(ctx, readsOf(streamOf(BucketPages)), func(ctx context.Context) (err error) {
		entry, err = q.pages.Get(ctx, page)
		return q.reportMissing(err)
	})
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return PageState{epoch: q.epoch(streamOf(BucketPages))}, nil
	case err != nil:
		return PageState{}, fmt.Errorf("queue: state of page %s: %w", page, redact(err))
	}
	return q.pageState(entry)
}

// pageState reads an entry. Fields of a newer version are ignored.
func (q *Queue) pageState(entry jetstream.KeyValueEntry) (s PageState, err error) {
	if entry.Operation() == jetstream.KeyValuePut {
		if err = json.Unmarshal(entry.Value(), &s); err != nil {
			s, err = PageState{}, fmt.Errorf("queue: state of page %s: %w", entry.Key(), err)
		}
	}
	// A worker whose clock was wrong may have stored a time in the future. Until that time workers would send slowly,
	// and ignore refusals.
	if stored := entry.Created(); s.Resumed.After(stored) {
		s.Resumed = stored
	}
	s.epoch, s.revision = q.epoch(streamOf(BucketPages)), entry.Revision()
	return s, err
}

// SetPageState stores a state of a page if no process has changed it since s was read, and returns s with its new
// revision. With ErrChanged nothing is stored. It repeats its request until ctx ends; then it is not known whether s is
// stored.
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
			revision, err = q.pages.Create(ctx, page, value) // also works if a person removed the last one
		} else {
			revision, err = q.pages.Update(ctx, page, value, s.revision)
		}
		if !isConditionFailed(err) && !errors.Is(err, jetstream.ErrKeyExists) {
			asked = true
			return q.reportMissing(err)
		}
		changed = true
		if !asked {
			return nil
		}
		// The answer to an earlier attempt was lost. The state that is stored may be its state.
		entry, err := q.pages.Get(ctx, page)
		none := errors.Is(err, jetstream.ErrKeyNotFound)
		switch {
		case none && s.revision != 0: // a person removed it
			return nil
		case none, err == nil && entry.Revision() == s.revision: // a write is under way, perhaps that earlier attempt while there was no leader
			changed = false
			return errConditionFailed
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
			return q.reportMissing(err)
		}
		defer endWatch(w)
		for {
			select {
			case entry, ok := <-w.Updates():
				switch {
				case !ok:
					return nats.ErrDisconnected
				case entry == nil: // there are no more
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

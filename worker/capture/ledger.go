package capture

import (
	"bytes"
	"context"
	"slices"

	"github.com/brazier-relay/brazier/queue"
)

// ledger has the entries of a page that one event is about, as they were read and as they are to be.
type ledger struct {
	q       *queue.Queue
	page    *Page
	entries []entry
	changes []change

	beforeEntry func(n int) error
}

// entry is one of a bucket's.
type entry struct {
	queue.Entry
	state  any    // *person or *user
	before []byte // the state as it was read
}

// read returns the state of an entry, read once.
func (l *ledger) read(ctx context.Context, key, what string, state any) (any, error) {
	for _, e := range l.entries {
		if e.Key == key {
			return e.state, nil
		}
	}
	found, err := l.q.People().Read(ctx, l.page.ID, key)
	if err != nil {
		return nil, err
	}
	if err := decode("the entry of "+what, found[0].Value, state); err != nil {
		return nil, err
	}
	l.entries = append(l.entries, entry{found[0], state, encode(state)})
	return state, nil
}

func (l *ledger) person(ctx context.Context, psid string) (*person, error) {
	state, err := l.read(ctx, psid, "a person", &person{})
	if err != nil {
		return nil, err
	}
	return state.(*person), nil
}

func (l *ledger) user(ctx context.Context, key string) (*user, error) {
	state, err := l.read(ctx, key, "a user", &user{})
	if err != nil {
		return nil, err
	}
	return state.(*user), nil
}

// change adds what is to be written of a user.
func (l *ledger) change(c change) {
	if c.isEmpty() {
		return
	}
	if i := len(l.changes) - 1; i >= 0 && l.changes[i].User == c.User {
		l.changes[i].PSID, l.changes[i].Window, l.changes[i].Reachable = l.changes[i].PSID || c.PSID, l.changes[i].Window || c.Window, l.changes[i].Reachable || c.Reachable
		return
	}
	l.changes = append(l.changes, c)
}

// commit stores the update and then the entries, users before the person, so that whoever captures the event again after a crash
// finds what is left to do. After [queue.ErrChanged] everything is to be read again; an update that was stored already then writes
// what is known by the time it is sent.
func (l *ledger) commit(ctx context.Context, event string) error {
	var changed []queue.Entry
	var last queue.Entry                           // of a user
	for _, e := range slices.Backward(l.entries) { // the person was read first
		if value := encode(e.state); !bytes.Equal(value, e.before) {
			changed = append(changed, queue.Entry{Key: e.Key, Value: value, Revision: e.Revision})
			if _, ok := e.state.(*user); ok {
				last = e.Entry
			}
		}
	}
	if len(l.changes) > 0 && last.Key != "" {
		u := update{Changes: l.changes, After: last.Key, Revision: last.Revision}
		if err := u.publish(ctx, l.q, l.page, event); err != nil {
			return err
		}
	}
	for i, e := range changed {
		if err := l.beforeEntry(i); err != nil {
			return err
		}
		if _, err := l.q.People().Set(ctx, l.page.ID, e); err != nil {
			return err
		}
	}
	return l.beforeEntry(len(changed))
}

package capture

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// update is what an update for Braze is stored as. Of attributes it holds no values: see the package comment.
type update struct {
	Changes []change `json:"c"`
	// After and Revision say that the entry under the key After had this revision before the change that the update tells of.
	After    string `json:"a,omitempty"`
	Revision uint64 `json:"v,omitempty"`
	// Erase has the attributes of a user removed who was forgotten: no entry says any more who that is.
	Erase *User `json:"e,omitempty"`
	// Event is something that happened. It alone has its values with it.
	Event *event `json:"t,omitempty"`
}

// publish stores the update, once for each event and what it changes, as far as the event is captured again within some minutes. Later on
// attributes are written once more, which changes nothing.
func (u update) publish(ctx context.Context, q *queue.Queue, page *Page, event string) error {
	return u.publishAs(ctx, q, page, "update "+event+" "+string(encode(u)))
}

// publishAs stores the update unless one was stored under the same name and was sent less than some minutes ago.
func (u update) publishAs(ctx context.Context, q *queue.Queue, page *Page, name string) error {
	id := queue.KeyedID(page.ID, name)
	_, err := q.Publish(ctx, &queue.Job{ID: id, Page: page.ID, Lane: queue.Updates(page.Workspace), Accepted: q.Now(), Body: encode(u)})
	return err
}

// Change is what is to be written of one user: attributes or an event.
type Change struct {
	User User
	// Attributes are strings, booleans and times by name; nil removes one.
	Attributes map[string]any
	Event      *Event
}

// Errors of Resolve.
var (
	// ErrNotYet says that the entries do not show yet what the update tells of. It may be asked again soon.
	ErrNotYet = errors.New("capture: the entries are not written yet")
	// ErrUnreadable says that nothing can be made of the update, now or later.
	ErrUnreadable = errors.New("capture: the update cannot be read: it was stored by a newer version, or by hand")
	// ErrNoPage says that this process does not know the page. Another one may.
	ErrNoPage = errors.New("capture: no page of this worker has the id")
)

// notYetFor is for how long after an update was stored its entries are waited for: longer than it takes until the event whose worker
// was killed between the two is captured again. What is known is written then.
const notYetFor = 5 * queue.Lease

// Resolve returns what an update writes by what is known now, users in the order in which they are to be written, in one call.
func (h *Handler) Resolve(ctx context.Context, job *queue.Delivery) ([]Change, error) {
	var u update
	if err := json.Unmarshal(job.Body, &u); err != nil || len(u.Changes) == 0 && u.Erase == nil && u.Event == nil {
		return nil, ErrUnreadable
	}
	page := h.page(job.Page)
	if page == nil {
		return nil, ErrNoPage
	}
	names := page.Attributes
	if u.Erase != nil {
		return []Change{{User: *u.Erase, Attributes: map[string]any{names.MessengerID: nil, names.Window: nil, names.Reachable: nil}}}, nil
	}
	if u.After == "" {
		return page.told(u.Event), nil
	}
	keys := []string{u.After}
	for _, c := range u.Changes {
		keys = append(keys, c.User)
	}
	entries, err := h.q.People().Read(ctx, job.Page, keys...)
	if err != nil {
		return nil, err
	}
	if entries[0].Revision <= u.Revision && h.q.Now().Sub(job.Accepted) < notYetFor {
		return nil, ErrNotYet
	}
	var found []Change
	for i, c := range u.Changes {
		var s user
		if err := decode("the entry of a user", entries[i+1].Value, &s); err != nil {
			return nil, err
		}
		if s.User == (User{}) { // forgotten meanwhile
			continue
		}
		found = append(found, Change{User: s.User, Attributes: s.attributes(c, names)})
		if e := u.Event; e != nil && e.User == s.User && s.Linked && s.Ref == e.Ref {
			found = append(found, page.told(e)...)
		}
	}
	return found, nil
}

// told returns what an event writes: nothing once its kind has been switched off.
func (p *Page) told(e *event) []Change {
	name := p.Events[e.Kind]
	if name == "" {
		return nil
	}
	return []Change{{User: e.User, Event: &Event{Name: name, Time: time.UnixMilli(e.At).UTC(), Properties: e.Properties}}}
}

func (u *user) attributes(c change, names Attributes) map[string]any {
	a := map[string]any{}
	if c.PSID {
		a[names.MessengerID] = nil
		if u.Linked {
			a[names.MessengerID] = u.PSID
		}
	}
	if c.Window {
		a[names.Window] = nil
		if u.Window != 0 {
			a[names.Window] = time.UnixMilli(u.Window).UTC()
		}
	}
	if c.Reachable {
		a[names.Reachable] = !u.Unreachable
	}
	return a
}

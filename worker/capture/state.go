package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// What is known of people
//
// A person of a page, who is a PSID, has an entry once a valid reference came from them, and a user of Braze has one once a valid
// reference was made for them. A person's entry says for whom the newest reference was made that came from them; a user's entry
// says from whom the newest reference came that was made for them. The two are linked while they name each other by the same
// reference. So who wins does not depend on the order in which events arrive:
//
//	the same PSID, another user         the reference made later counts, and the earlier user loses the PSID
//	the same user, another PSID         the reference made later counts, and the earlier PSID loses the user
//	the same reference, another PSID    the PSID from which it came first counts, by the events' times: a mail was forwarded
//
// A person with no valid reference has no entry: nothing is kept of them.

// User is how Braze is told who is meant. Exactly one of its fields is set.
type User struct {
	BrazeID    string `json:"b,omitempty"`
	ExternalID string `json:"x,omitempty"`
	// Alias is the PSID of a person who is nobody else in Braze: the name of an alias with the label [AliasLabel].
	Alias string `json:"a,omitempty"`
}

// AliasLabel is the label of the aliases of people whom no reference links with a user.
const AliasLabel = "messenger_id"

// What stands for the reference of people who have none. Every reference was made later.
const (
	aliasRef = "alias" // of those with an alias
	// toldRef is of those whom a message linked: its caller named the user and the PSID that Braze has for the user. A message links only
	// people of whom nothing else is known, and only when there is something to remember of them. The PSID itself is not written then.
	toldRef = "told"
)

func userOf(r webhook.Ref) User {
	if r.Form == webhook.FormBrazeID {
		return User{BrazeID: r.ID}
	}
	return User{ExternalID: r.ID}
}

// key is that of the user's entry. No PSID is a key of this form.
func (u User) key() string {
	sum := sha256.Sum256([]byte(u.BrazeID + "\x00" + u.ExternalID + "\x00" + u.Alias))
	return "u" + hex.EncodeToString(sum[:16])
}

// use is a valid reference that came from a person.
type use struct {
	Ref  string `json:"r"`           // its fingerprint
	Made int64  `json:"m"`           // Unix seconds; when it came, if it has no end
	At   int64  `json:"a,omitempty"` // when it came first, Unix milliseconds
}

// after reports whether u counts rather than another. Two references of one second have an order too, so that every worker picks
// the same.
func (u use) after(other use) bool {
	return u.Made > other.Made || u.Made == other.Made && u.Ref > other.Ref
}

// person is the entry of a PSID.
type person struct {
	use
	User User `json:"u"` // for whom the reference was made
}

// user is the entry of a user.
type user struct {
	use
	User User   `json:"u"`
	PSID string `json:"p,omitempty"` // from whom the reference came
	// Linked reports that the person's entry names this user by the same reference.
	Linked bool `json:"l,omitempty"`
	// Window is the messenger_window_until that Braze has or is about to have, Unix milliseconds; 0: none.
	Window int64 `json:"w,omitempty"`
	// Unreachable reports that Braze has, or is about to have, messenger_reachable: false.
	Unreachable bool `json:"n,omitempty"`
	// The latest of each kind, Unix milliseconds, 0: none. The two above follow from these, so that the order in which they become
	// known does not matter. Refusals before the contact are not kept.
	Contact int64 `json:"c,omitempty"` // to within windowStep
	Closed  int64 `json:"o,omitempty"` // when Facebook refused a message since the window was closed
	Refused int64 `json:"f,omitempty"` // when Facebook refused one since the person cannot be reached
}

// change says which attributes of a user are to be written.
type change struct {
	User      string `json:"u"` // the key of the user's entry
	PSID      bool   `json:"p,omitempty"`
	Window    bool   `json:"w,omitempty"`
	Reachable bool   `json:"r,omitempty"`
}

// windowFor is how long ordinary messages are allowed after a contact (send-messages page). After some ads it is up to 7 days, under
// conditions that Facebook does not publish (policy page, 2026-09-28).
const windowFor = 24 * time.Hour

// windowStep is how much later the end of a window has to be for Braze to be told: each write may cost a data point, and a segment
// that ends some minutes early costs next to nothing.
const windowStep = 15 * time.Minute

// contact takes in that the person made contact at a time, and returns what is to be written.
func (u *user) contact(at time.Time) change {
	u.addContact()
	if ms := at.UnixMilli(); ms >= u.Contact+windowStep.Milliseconds() || ms > u.Closed && u.Closed >= u.Contact || ms > u.Refused && u.Refused >= u.Contact {
		u.Contact = max(u.Contact, ms)
	}
	return u.follow()
}

// refuse takes in that Facebook refused a message to the person at a time, and returns what is to be written.
func (u *user) refuse(class sendapi.Class, at time.Time) change {
	u.addContact()
	ms := at.UnixMilli()
	switch {
	case ms < u.Contact:
	case class == sendapi.ClassRecipient:
		u.Refused = max(u.Refused, ms)
	case class == sendapi.ClassWindow:
		u.Closed = max(u.Closed, ms)
	}
	return u.follow()
}

// addContact adds the contact to an entry of a version that kept the end of the window alone.
func (u *user) addContact() {
	if u.Contact == 0 && u.Closed == 0 && u.Window != 0 {
		u.Contact = u.Window - windowFor.Milliseconds()
	}
}

// follow brings what Braze has, or is about to have, up to what is known, and returns what is to be written.
func (u *user) follow() change {
	c := change{User: u.User.key()}
	window := int64(0)
	if u.Contact != 0 {
		window = u.Contact + windowFor.Milliseconds()
	}
	if u.Closed != 0 && u.Closed >= u.Contact && (window == 0 || u.Closed < window) {
		window = u.Closed
	}
	unreachable := u.Refused != 0 && u.Refused >= u.Contact
	c.Window, c.Reachable = u.Window != window, u.Unreachable != unreachable
	u.Window, u.Unreachable = window, unreachable
	return c
}

// forgetTimes drops what is known of another person's window.
func (u *user) forgetTimes() {
	u.Window, u.Unreachable, u.Contact, u.Closed, u.Refused = 0, false, 0, 0, 0
}

func (c change) isEmpty() bool { return !c.PSID && !c.Window && !c.Reachable }

// verdict on a reference that came from a person.
type verdict string

const (
	linked  verdict = "linked"
	known   verdict = "known"   // the person is linked by it already
	older   verdict = "older"   // the person or the user has a reference that was made later
	foreign verdict = "foreign" // it came from another person before
)

// link takes in that a valid reference r came from a person. p is the person's entry, u that of the user for whom r was made, and
// before that of the user whom the person's entry names, nil if that is u or nobody. It changes the entries, and returns what
// became of the reference and what is to be written. Where reusable is set, a reference may move from one person to another.
func link(psid string, p *person, u, before *user, r use, who User, reusable bool) (verdict, []change) {
	same, ours := u.Ref == r.Ref, u.PSID == psid
	switch {
	case same && ours && u.Linked && p.Ref == r.Ref:
		u.At = min(u.At, r.At)
		return known, nil
	case same && !ours && !(reusable && r.At > u.At || !reusable && r.At < u.At):
		return foreign, nil
	}
	var changes []change
	// Users are written before the person: one may say already what the person's entry is about to.
	newest := p.use
	for _, x := range []*user{u, before} {
		if x != nil && x.PSID == psid && x.after(newest) {
			newest = x.use
		}
	}
	isNewest := newest.Ref == "" || newest.Ref == r.Ref || r.after(newest)
	if isNewest {
		p.use, p.User = r, who
		if before != nil && before.PSID == psid && before.Linked {
			before.Linked = false
			changes = append(changes, change{User: before.User.key(), PSID: true})
		}
	}
	if !same && u.Ref != "" && !r.after(u.use) {
		return older, changes
	}
	written, hers := u.written(), u.PSID
	u.use, u.User, u.PSID, u.Linked = r, who, psid, isNewest
	c := change{User: who.key(), PSID: u.written() != written}
	if u.Linked && hers != psid { // what is known of the window was another person's
		c.Window, c.Reachable = u.Window != 0, u.Unreachable
		u.forgetTimes()
	}
	if !c.isEmpty() {
		changes = append(changes, c)
	}
	if !u.Linked {
		return older, changes
	}
	return linked, changes
}

// written returns the messenger_id that was written to Braze or is about to be, empty for none.
func (u *user) written() string {
	if u.Linked && u.Ref != toldRef {
		return u.PSID
	}
	return ""
}

// The entries are JSON, under names that are never used for anything else.

func encode(v any) []byte {
	data, _ := json.Marshal(v) // cannot fail: strings, numbers and booleans
	return data
}

func decode(what string, data []byte, into any) error {
	if len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s cannot be read; a newer version may have written it", what)
	}
	return nil
}

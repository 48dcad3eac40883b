package capture

import (
	"context"
	"errors"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// Person is what is known of one person on a page.
type Person struct {
	PSID string
	User User
	// Linked reports that the PSID is written to the user. Otherwise the reference came from the person, and another one counts.
	Linked bool
	Made   time.Time // when the reference was made by which they were linked; zero where none was needed
	// Window is until when ordinary messages are allowed, as far as Braze was told; zero if nothing is known.
	Window      time.Time
	Unreachable bool
}

// FindPSID returns what is known of a PSID on a page; false if nothing is.
func FindPSID(ctx context.Context, q *queue.Queue, page, psid string) (Person, bool, error) {
	l := ledger{q: q, page: &Page{ID: page}}
	p, err := l.person(ctx, psid)
	if err != nil || p.Ref == "" {
		return Person{}, false, err
	}
	u, err := l.user(ctx, p.User.key())
	if err != nil {
		return Person{}, false, err
	}
	return described(psid, p, u), true, nil
}

// FindUser returns what is known of the person on a page who is a user; false if nothing is.
func FindUser(ctx context.Context, q *queue.Queue, page string, who User) (Person, bool, error) {
	l := ledger{q: q, page: &Page{ID: page}}
	u, err := l.user(ctx, who.key())
	if err != nil || u.Ref == "" {
		return Person{}, false, err
	}
	return described(u.PSID, &person{use: u.use, User: u.User}, u), true, nil
}

func described(psid string, p *person, u *user) Person {
	found := Person{PSID: psid, User: p.User}
	if p.Made != 0 {
		found.Made = time.Unix(p.Made, 0).UTC()
	}
	if u.Linked && u.PSID == psid {
		found.Linked, found.Unreachable = true, u.Unreachable
		if u.Window != 0 {
			found.Window = time.UnixMilli(u.Window).UTC()
		}
	}
	return found
}

// Forget removes what is known of a person: the entries of the PSID and of the user, and the attributes in Braze by an update. If
// the PSID is linked with another user, or the user with another PSID, that is left as it is. The person's next valid reference links
// them anew. It asks until ctx ends, and may be called again after an error.
func Forget(ctx context.Context, q *queue.Queue, page *Page, p Person) error {
	if p.User == (User{}) || p.PSID == "" {
		return errors.New("capture: forget: both the PSID and the user must be known")
	}
	l, who := ledger{q: q, page: page}, p.User
	person, err := l.person(ctx, p.PSID)
	if err != nil {
		return err
	}
	user, err := l.user(ctx, who.key())
	if err != nil {
		return err
	}
	var keys []string
	if person.User == who {
		keys = append(keys, p.PSID)
	}
	if user.PSID == p.PSID { // if they are not linked any more, the user has the end of a window all the same
		keys = append(keys, who.key())
		if err := (update{Erase: &who}).publish(ctx, q, page, "erase "+queue.NewID()); err != nil {
			return err
		}
	}
	return q.People().Erase(ctx, page.ID, keys...)
}

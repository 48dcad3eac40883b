package capture

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/sendapi"
)

// world is a page's entries, without a queue.
type world struct {
	persons map[string]*person
	users   map[string]*user
}

func newWorld() *world { return &world{map[string]*person{}, map[string]*user{}} }

func (w *world) person(psid string) *person {
	if w.persons[psid] == nil {
		w.persons[psid] = &person{}
	}
	return w.persons[psid]
}

func (w *world) user(who User) *user {
	if w.users[who.key()] == nil {
		w.users[who.key()] = &user{}
	}
	return w.users[who.key()]
}

// click is a reference that came from a person.
type click struct {
	psid, user string
	made, at   int64
}

func (c click) ref() string { return fmt.Sprintf("%s@%d", c.user, c.made) }

func (w *world) take(c click, reusable bool) verdict {
	who := User{BrazeID: c.user}
	p, u := w.person(c.psid), w.user(who)
	var before *user
	if p.Ref != "" && p.User != who {
		before = w.user(p.User)
	}
	v, _ := link(c.psid, p, u, before, use{Ref: c.ref(), Made: c.made, At: c.at}, who, reusable)
	return v
}

// links returns the messenger_id of each user, and checks that no PSID is two users'.
func (w *world) links(t *testing.T) map[string]string {
	t.Helper()
	found, owners := map[string]string{}, map[string]string{}
	for _, u := range w.users {
		psid := u.written()
		if psid == "" {
			continue
		}
		if other := owners[psid]; other != "" {
			t.Errorf("PSID %s is that of %s and of %s", psid, other, u.User.BrazeID)
		}
		owners[psid], found[u.User.BrazeID] = u.User.BrazeID, psid
		if p := w.person(psid); p.User != u.User || p.Ref != u.Ref {
			t.Errorf("user %s has PSID %s, whose entry says %+v", u.User.BrazeID, psid, *p)
		}
	}
	return found
}

// Who wins, in every order in which the events may arrive.
func TestWhoWins(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		clicks []click
		want   map[string]string
	}{
		"one person": {[]click{{"A", "ada", 10, 11}}, map[string]string{"ada": "A"}},
		"the same PSID, another user: the newer reference counts": {
			[]click{{"A", "ada", 10, 11}, {"A", "bob", 20, 21}}, map[string]string{"bob": "A"}},
		"the same user, another PSID: the newer reference counts": {
			[]click{{"A", "ada", 10, 11}, {"B", "ada", 20, 21}}, map[string]string{"ada": "B"}},
		"clicked in another order than made": {
			[]click{{"A", "ada", 10, 40}, {"A", "bob", 20, 30}}, map[string]string{"bob": "A"}},
		"a forwarded mail": {
			[]click{{"A", "ada", 10, 11}, {"B", "ada", 10, 12}}, map[string]string{"ada": "A"}},
		"a forwarded mail, the other person first": {
			[]click{{"B", "ada", 10, 11}, {"A", "ada", 10, 12}}, map[string]string{"ada": "B"}},
		"the owner's next link repairs that": {
			[]click{{"B", "ada", 10, 11}, {"A", "ada", 10, 12}, {"A", "ada", 20, 21}}, map[string]string{"ada": "A"}},
		"two people exchange their links": {
			[]click{{"A", "ada", 10, 11}, {"B", "bob", 10, 11}, {"A", "bob", 20, 21}, {"B", "ada", 20, 21}}, map[string]string{"ada": "B", "bob": "A"}},
		"a PSID that has gone on does not come back": {
			[]click{{"A", "ada", 10, 11}, {"A", "bob", 20, 21}, {"B", "bob", 30, 31}}, map[string]string{"bob": "B"}},
		"made in one second": {
			[]click{{"A", "ada", 10, 11}, {"A", "bob", 10, 12}}, map[string]string{"bob": "A"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for order := range permutations(len(tt.clicks)) {
				w := newWorld()
				for _, i := range order {
					w.take(tt.clicks[i], false)
					w.take(tt.clicks[i], false) // Facebook sends it twice
				}
				if diff := cmp.Diff(tt.want, w.links(t)); diff != "" {
					t.Errorf("order %v (-want +got):\n%s", order, diff)
				}
			}
		})
	}
}

// permutations yields every order of n things.
func permutations(n int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		order := make([]int, 0, n)
		var next func() bool
		next = func() bool {
			if len(order) == n {
				return yield(order)
			}
			for i := range n {
				if !contains(order, i) {
					order = append(order, i)
					if !next() {
						return false
					}
					order = order[:len(order)-1]
				}
			}
			return true
		}
		next()
	}
}

func contains(list []int, x int) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// Whatever comes in whatever order, each person ends up with the same user, and no PSID with two.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var clicks []click
		used := map[string]bool{}
		for range 2 + random.IntN(8) {
			c := click{string(rune('A' + random.IntN(3))), string(rune('x' + random.IntN(3))), 1 + random.Int64N(20), 100 + random.Int64N(100)}
			if !used[c.ref()] { // else a forwarded mail: see TestWhoWins
				used[c.ref()] = true
				clicks = append(clicks, c)
			}
		}
		var want map[string]string
		for range 4 {
			random.Shuffle(len(clicks), func(i, j int) { clicks[i], clicks[j] = clicks[j], clicks[i] })
			w := newWorld()
			for _, c := range clicks {
				w.take(c, false)
			}
			got := w.links(t)
			if want == nil {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, %v (-want +got):\n%s", seed, clicks, diff)
			}
		}
	}
}

func TestReusable(t *testing.T) {
	t.Parallel()
	clicks := []click{{"A", "ada", 10, 11}, {"B", "ada", 10, 12}}
	for order := range permutations(2) {
		w := newWorld()
		for _, i := range order {
			w.take(clicks[i], true)
		}
		if diff := cmp.Diff(map[string]string{"ada": "B"}, w.links(t)); diff != "" {
			t.Errorf("order %v (-want +got):\n%s", order, diff)
		}
	}
}

// The end of the window moves by steps, and never to an earlier time.
func TestWindow(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_795_600_000_000)
	u := &user{User: User{BrazeID: "ada"}}
	for _, step := range []struct {
		after   time.Duration
		written bool
	}{{0, true}, {0, false}, {14 * time.Minute, false}, {15 * time.Minute, true}, {-time.Hour, false}, {29 * time.Minute, false}, {30 * time.Minute, true}} {
		if c := u.contact(start.Add(step.after)); c.Window != step.written {
			t.Errorf("after %v: written %v, want %v", step.after, c.Window, step.written)
		}
	}
	u.Unreachable = true
	if c := u.contact(start); !c.Reachable || c.Window || u.Unreachable {
		t.Errorf("a contact of somebody who could not be reached: %+v", c)
	}
}

// Contacts and refusals end in the same attributes, in whatever order they are captured.
func TestRefusalsInAnyOrder(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_795_600_000_000)
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		events := make([]func(u *user), 2+random.IntN(6))
		for i := range events {
			at := start.Add(time.Duration(random.IntN(60)) * time.Hour)
			switch random.IntN(3) {
			case 0:
				events[i] = func(u *user) { u.contact(at) }
			case 1:
				at = at.Add(time.Minute) // not together with a contact
				events[i] = func(u *user) { u.refuse(sendapi.ClassRecipient, at) }
			default:
				at = at.Add(time.Minute)
				events[i] = func(u *user) { u.refuse(sendapi.ClassWindow, at) }
			}
		}
		var window int64
		var unreachable bool
		for try := range 4 {
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			u := &user{User: User{BrazeID: "ada"}}
			for _, e := range events {
				e(u)
			}
			if try == 0 {
				window, unreachable = u.Window, u.Unreachable
			}
			if u.Window != window || u.Unreachable != unreachable {
				t.Fatalf("seed %d: window %v and unreachable %v, or %v and %v", seed, time.UnixMilli(window), unreachable, time.UnixMilli(u.Window), u.Unreachable)
			}
		}
	}
}

// An entry of a version that kept the end of the window alone is read as its contact.
func TestEntryWithoutContact(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_795_600_000_000)
	u := &user{User: User{BrazeID: "ada"}, Window: start.Add(windowFor).UnixMilli()}
	if c := u.refuse(sendapi.ClassWindow, start.Add(-time.Minute)); c.Window {
		t.Errorf("an older refusal: %+v", c)
	}
	if c := u.refuse(sendapi.ClassWindow, start.Add(time.Minute)); !c.Window || u.Window != start.Add(time.Minute).UnixMilli() {
		t.Errorf("a newer refusal: %+v, %v", c, time.UnixMilli(u.Window))
	}
}

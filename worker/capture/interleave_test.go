package capture

import (
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// store has entries with revisions, as the bucket does.
type store map[string]versioned

type versioned struct {
	value    any // person or user, by value
	revision int
}

func (s store) person(psid string) (person, int) {
	v := s[psid]
	p, _ := v.value.(person)
	return p, v.revision
}

func (s store) user(who User) (user, int) {
	v := s[who.key()]
	u, _ := v.value.(user)
	return u, v.revision
}

// set replaces an entry, unless it has another revision.
func (s store) set(key string, value any, revision int) bool {
	if s[key].revision != revision {
		return false
	}
	s[key] = versioned{value, revision + 1}
	return true
}

// steps are those of Handler.capture for one reference: each yield is a point where other workers may come between, and where the
// worker may be killed.
func (s store) steps(c click) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		who := User{BrazeID: c.user}
		for {
			if !yield(struct{}{}) {
				return
			}
			p, pRevision := s.person(c.psid)
			if !yield(struct{}{}) {
				return
			}
			u, uRevision := s.user(who)
			var before *user
			var beforeRevision int
			if p.Ref != "" && p.User != who {
				if !yield(struct{}{}) {
					return
				}
				b, revision := s.user(p.User)
				before, beforeRevision = &b, revision
			}
			link(c.psid, &p, &u, before, use{Ref: c.ref(), Made: c.made, At: c.at}, who, false)
			type write struct {
				key      string
				value    any
				revision int
			}
			var writes []write
			add := func(key string, value any, revision int) {
				if s[key].value != value || s[key].revision != revision {
					writes = append(writes, write{key, value, revision})
				}
			}
			if before != nil {
				add(before.User.key(), *before, beforeRevision)
			}
			add(who.key(), u, uRevision)
			add(c.psid, p, pRevision)
			done := true
			for _, w := range writes {
				if !yield(struct{}{}) {
					return
				}
				if done = s.set(w.key, w.value, w.revision); !done {
					break
				}
			}
			if done {
				return
			}
		}
	}
}

// Whatever comes between the steps of whichever workers, and whichever is killed, people end up with the users with whom they would
// if the references had come one after the other.
func TestInterleaved(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		var clicks []click
		used := map[string]bool{}
		for range 2 + random.IntN(4) {
			c := click{string(rune('A' + random.IntN(2))), string(rune('x' + random.IntN(2))), 1 + random.Int64N(20), 100 + random.Int64N(100)}
			if !used[c.ref()] {
				used[c.ref()] = true
				clicks = append(clicks, c)
			}
		}
		inOrder := newWorld()
		for _, c := range clicks {
			inOrder.take(c, false)
		}
		s := store{}
		type worker struct {
			click
			next func() (struct{}, bool)
			stop func()
		}
		begin := func(c click) worker {
			next, stop := iter.Pull(s.steps(c))
			return worker{c, next, stop}
		}
		var running []worker
		for _, c := range clicks {
			running = append(running, begin(c))
		}
		for len(running) > 0 {
			i := random.IntN(len(running))
			if random.IntN(12) == 0 { // killed, and its event is delivered again
				running[i].stop()
				running[i] = begin(running[i].click)
			}
			if _, ok := running[i].next(); !ok {
				running = append(running[:i], running[i+1:]...)
			}
		}
		w := newWorld()
		for key, v := range s {
			switch e := v.value.(type) {
			case person:
				w.persons[key] = &e
			case user:
				w.users[key] = &e
			}
		}
		if diff := cmp.Diff(inOrder.links(t), w.links(t)); diff != "" {
			t.Fatalf("seed %d, %v (-in order +interleaved):\n%s", seed, clicks, diff)
		}
	}
}

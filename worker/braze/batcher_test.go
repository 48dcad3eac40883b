package braze_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
)

// add adds objects written as a1 (attributes of user a, value 1) or A1 (event of user a).
func add(b *braze.Batcher[string], names ...string) {
	for _, name := range names {
		id := strings.ToLower(name[:1])
		if name[:1] == id {
			b.Add(attribute(id), name)
		} else {
			b.Add(event(id), name)
		}
	}
}

// values returns what a batch holds, as one text.
func values(b *braze.Batch[string]) string {
	if b == nil {
		return "none"
	}
	return strings.Join(b.Values, " ")
}

const wide = braze.MaxBytes

func TestBatches(t *testing.T) {
	for _, c := range []struct {
		name  string
		add   string
		limit int
		want  []string // batches, each settled before the next
	}{
		{"nothing", "", 9, []string{"none"}},
		{"different users", "a1 b2 c3", 9, []string{"a1 b2 c3", "none"}},
		{"at most so many", "a1 b2 c3", 2, []string{"a1 b2", "c3", "none"}},
		{"attributes of a user one by one", "a1 a2 b3 a4", 9, []string{"a1 b3", "a2", "a4", "none"}},
		{"events of a user together", "A1 A2 B3 A4", 9, []string{"A1 A2 B3 A4", "none"}},
		{"events after attributes", "a1 A2 A3", 9, []string{"a1 A2 A3", "none"}},
		{"no attributes after events", "A1 a2 A3 B4", 9, []string{"A1 B4", "a2 A3", "none"}},
		{"no event overtakes attributes that wait", "a1 a2 A3", 9, []string{"a1", "a2 A3", "none"}},
		{"nothing overtakes beyond the limit", "a1 b2 a3 A4 c5", 2, []string{"a1 b2", "a3 A4", "c5", "none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b braze.Batcher[string]
			add(&b, strings.Fields(c.add)...)
			var got []string
			for {
				batch := b.Next(c.limit, wide)
				got = append(got, values(batch))
				if batch == nil {
					break
				}
				b.Settle(batch, nil)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("batches (-want +got):\n%s", diff)
			}
			if b.Len() != 0 {
				t.Errorf("%d left", b.Len())
			}
		})
	}
}

// A user who is in a batch is in no other until it is settled; others go on.
func TestOneBatchPerUser(t *testing.T) {
	var b braze.Batcher[string]
	add(&b, "a1", "b2", "a3", "A4", "c5")
	first, second := b.Next(2, wide), b.Next(2, wide)
	if values(first) != "a1 b2" || values(second) != "c5" || b.Len() != 2 {
		t.Fatalf("%s, %s, %d wait", values(first), values(second), b.Len())
	}
	if third := b.Next(2, wide); third != nil {
		t.Fatalf("%s although a is in a batch", values(third))
	}
	b.Settle(second, nil)
	if third := b.Next(2, wide); third != nil {
		t.Fatalf("%s although a is in a batch", values(third))
	}
	b.Settle(first, func(i int) bool { return first.Values[i] == "a1" })
	if got := values(b.Next(9, wide)); got != "a1" {
		t.Errorf("%s, want the first once more, alone of its user", got)
	}
}

// What is to be sent again comes before all others, in its old order.
func TestAgainComesFirst(t *testing.T) {
	var b braze.Batcher[string]
	add(&b, "a1", "b2", "c3", "d4", "a5")
	batch := b.Next(3, wide)
	b.Settle(batch, func(i int) bool { return i != 1 })
	if got := values(b.Next(9, wide)); got != "a1 c3 d4" {
		t.Errorf("%s", got)
	}
}

// Batches keep to the bytes of a call; an object that is larger goes alone.
func TestBatchesBySize(t *testing.T) {
	var b braze.Batcher[string]
	big := attribute("b")
	big.Attributes["x"] = strings.Repeat("x", 255)
	b.Add(attribute("a"), "a1")
	b.Add(big, "b2")
	b.Add(attribute("c"), "c3")
	small := braze.Size(attribute("a"))
	var got []string
	for batch := b.Next(9, 100+small); batch != nil; batch = b.Next(9, 100+small) {
		got = append(got, values(batch))
	}
	if diff := cmp.Diff([]string{"a1", "b2", "c3"}, got); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
	var wider braze.Batcher[string]
	add(&wider, "a1", "b2", "c3")
	if got := values(wider.Next(9, 2*small+29)); got != "a1 b2" {
		t.Errorf("%s in the bytes of two", got)
	}
}

// At random, with several batches under way and objects that come back: no two batches under way hold a user, each user's objects end
// in the order in which they were added, and all end.
func TestBatcherKeepsOrder(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var b braze.Batcher[string]
		const total = 300
		added := map[string][]string{}
		ended := map[string][]string{}
		var running []*braze.Batch[string]
		n, done := 0, 0
		for done < total {
			for range rnd.IntN(5) {
				if n == total {
					break
				}
				id := string(rune('a' + rnd.IntN(8)))
				o := attribute(id)
				if rnd.IntN(2) == 0 {
					o = event(id)
				}
				name := fmt.Sprintf("%s%d", id, n)
				b.Add(o, name)
				added[id] = append(added[id], name)
				n++
			}
			if batch := b.Next(1+rnd.IntN(6), wide); batch != nil {
				for _, other := range running {
					for _, o := range other.Objects {
						if slices.ContainsFunc(batch.Objects, func(p braze.Object) bool { return p.User == o.User }) {
							t.Fatalf("seed %d: two batches hold %s", seed, o.User.ExternalID)
						}
					}
				}
				checkBatch(t, batch)
				running = append(running, batch)
			}
			if len(running) == 0 || rnd.IntN(3) == 0 {
				continue
			}
			i := rnd.IntN(len(running))
			batch := running[i]
			running = slices.Delete(running, i, i+1)
			all := rnd.IntN(4) > 0 // a call is taken, or nothing of it is
			for j, o := range batch.Objects {
				if all {
					ended[o.User.ExternalID] = append(ended[o.User.ExternalID], batch.Values[j])
					done++
				}
			}
			b.Settle(batch, func(int) bool { return !all })
		}
		if diff := cmp.Diff(added, ended); diff != "" {
			t.Fatalf("seed %d (-added +ended):\n%s", seed, diff)
		}
	}
}

// checkBatch holds a batch to what Braze does within a call: attributes before events, and no order among attributes.
func checkBatch(t *testing.T, batch *braze.Batch[string]) {
	t.Helper()
	seen := map[braze.UserID]bool{}
	for i, o := range batch.Objects {
		if o.Event == nil && seen[o.User] {
			t.Fatalf("%s: attributes after another object of the user", values(batch))
		}
		seen[o.User] = true
		if want := o.User.ExternalID; !strings.HasPrefix(batch.Values[i], want) {
			t.Fatalf("%s has the value %s", want, batch.Values[i])
		}
	}
}

func BenchmarkBatcher(b *testing.B) {
	var batcher braze.Batcher[int]
	objects := many(5000)
	for b.Loop() {
		for i, o := range objects {
			batcher.Add(o, i)
		}
		for batch := batcher.Next(75, wide); batch != nil; batch = batcher.Next(75, wide) {
			batcher.Settle(batch, nil)
		}
	}
}

package braze

// Batcher forms calls from objects that wait, so that Braze writes each user's objects in the order in which they were added:
//
//   - Of a user whose objects are in a batch that has not been settled, the others wait.
//   - A batch holds at most one attributes object of a user, since nothing says in which order Braze writes two, and no attributes
//     after an event, since Braze writes attributes first. Events carry their own time: a batch may hold several of a user.
//
// T is what the caller needs to settle an object with. A Batcher is not safe for concurrent use.
type Batcher[T any] struct {
	waiting []waiting[T]
	busy    map[UserID]bool // users in batches that have not been settled
}

// waiting is an object that is in no batch.
type waiting[T any] struct {
	object Object
	value  T
	size   int
}

// Batch is a call to make: the objects, and the value that each was added with.
type Batch[T any] struct {
	Objects []Object
	Values  []T

	taken []waiting[T]
}

// Add adds an object behind all others.
func (b *Batcher[T]) Add(object Object, value T) {
	b.waiting = append(b.waiting, waiting[T]{object, value, Size(object)})
}

// Len returns how many objects wait, those in batches aside.
func (b *Batcher[T]) Len() int { return len(b.waiting) }

// Next takes the oldest objects that one call may hold now, by the limits of [Client.Limits]; nil if there is none. The batch must be
// given to Settle.
func (b *Batcher[T]) Next(objects, bytes int) *Batch[T] {
	batch, left := &Batch[T]{}, bytes-envelope
	here := map[UserID]use{}
	kept := 0 // objects at the front of b.waiting that go on waiting; those taken leave gaps behind them
	for i, w := range b.waiting {
		if len(batch.taken) == objects || w.size > left && len(batch.taken) > 0 {
			kept += copy(b.waiting[kept:], b.waiting[i:])
			break
		}
		if b.busy[w.object.User] || !here[w.object.User].admits(w.object) {
			here[w.object.User] = passed
			if kept < i {
				b.waiting[kept] = w
			}
			kept++
			continue
		}
		here[w.object.User] = useOf(w.object)
		left -= w.size
		batch.taken = append(batch.taken, w)
		batch.Objects, batch.Values = append(batch.Objects, w.object), append(batch.Values, w.value)
	}
	if len(batch.taken) == 0 {
		return nil
	}
	if b.busy == nil {
		b.busy = map[UserID]bool{}
	}
	for _, w := range batch.taken {
		b.busy[w.object.User] = true
	}
	clear(b.waiting[kept:]) // so that what they hold can be freed
	b.waiting = b.waiting[:kept]
	return batch
}

// Settle ends a batch: its users may be in another one. The objects for whose index again says so wait once more, before all others
// and in their old order; again may be nil.
func (b *Batcher[T]) Settle(batch *Batch[T], again func(i int) bool) {
	var back []waiting[T]
	for i, w := range batch.taken {
		delete(b.busy, w.object.User)
		if again != nil && again(i) {
			back = append(back, w)
		}
	}
	b.waiting = append(back, b.waiting...)
	batch.taken = nil
}

// use is what a batch under way has of a user.
type use int

const (
	nothing    use = iota
	attributes     // one attributes object
	events         // events, perhaps after attributes
	passed         // an object that has to wait, and so do all after it
)

func useOf(o Object) use {
	if o.Event != nil {
		return events
	}
	return attributes
}

// admits reports whether the batch may hold one more object of the user.
func (u use) admits(o Object) bool {
	return u == nothing || u != passed && o.Event != nil
}

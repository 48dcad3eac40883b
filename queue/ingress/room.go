package ingress

import "sync/atomic"

// smallBody is what a connection may hold of its body without counting: about what net/http itself holds for it. Bodies
// of this size are bounded by the number of places alone.
const smallBody = 4 << 10

// room bounds what waits: requests that wait for the queue by places, and the memory of large bodies, arriving or
// waiting, by bytes. Nobody waits for either: who finds no room is refused at once.
type room struct {
	places   chan struct{} // one element per request that waits for the queue
	bytes    atomic.Int64  // of bodies, beyond the smallBody of each
	maxBytes int64
}

func newRoom(places int, maxBytes int64) *room {
	return &room{places: make(chan struct{}, places), maxBytes: maxBytes}
}

// enter takes a place, which leave gives back.
func (r *room) enter() bool {
	select {
	case r.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *room) leave() { <-r.places }

// take takes bytes, which give gives back.
func (r *room) take(n int64) bool {
	if r.bytes.Add(n) > r.maxBytes {
		r.bytes.Add(-n)
		return false
	}
	return true
}

func (r *room) give(n int64) { r.bytes.Add(-n) }

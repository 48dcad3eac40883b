package ingress

import "sync/atomic"

// smallBody is how many bytes of its body a request may hold in memory without counting towards Config.MaxWaitingBytes:
// about what net/http itself holds for a connection. Only the number of requests bounds the memory of small bodies.
const smallBody = 4 << 10

// limits bound what requests of one kind may hold at one time: a permit for each request that waits for the queue, and the memory of
// large bodies that arrive or wait. No request waits for a permit or for memory: without one it is refused at once.
type limits struct {
	permits      chan struct{} // one element per request that waits for the queue
	bodyBytes    atomic.Int64  // in memory, beyond the first smallBody bytes of each body
	maxBodyBytes int64
	maxBody      int64 // bytes of one body
}

func newLimits(maxWaiting int, maxBodyBytes, maxBody int64) *limits {
	return &limits{permits: make(chan struct{}, maxWaiting), maxBodyBytes: maxBodyBytes, maxBody: maxBody}
}

// acquire takes a permit and reports whether there was one. The caller releases it.
func (l *limits) acquire() bool {
	select {
	case l.permits <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l *limits) release() { <-l.permits }

// acquireBytes reserves memory for n bytes of a body and reports whether there was enough. The caller releases it.
func (l *limits) acquireBytes(n int64) bool {
	if l.bodyBytes.Add(n) > l.maxBodyBytes {
		l.bodyBytes.Add(-n)
		return false
	}
	return true
}

func (l *limits) releaseBytes(n int64) { l.bodyBytes.Add(-n) }

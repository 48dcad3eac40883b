package sandbox

import "time"

// slidingSecond counts calls in a sliding second. It keeps the time of each call of the last second in a ring, so it is exact.
type slidingSecond struct {
	ring    []time.Duration
	head, n int
	peak    int
}

// add counts a call made at now, which must not decrease, and returns the number of calls in the second that ends there.
// The second is half open: a call exactly one second ago is no longer in it.
func (w *slidingSecond) add(now time.Duration) int {
	w.expire(now)
	if w.n == len(w.ring) {
		w.grow()
	}
	w.ring[(w.head+w.n)%len(w.ring)] = now
	w.n++
	w.peak = max(w.peak, w.n)
	return w.n
}

// count returns the number of calls in the second that ends at now.
func (w *slidingSecond) count(now time.Duration) int {
	w.expire(now)
	return w.n
}

func (w *slidingSecond) expire(now time.Duration) {
	for w.n > 0 && w.ring[w.head] <= now-time.Second {
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
}

func (w *slidingSecond) grow() {
	ring := make([]time.Duration, max(16, 2*len(w.ring)))
	for i := range w.n {
		ring[i] = w.ring[(w.head+i)%len(w.ring)]
	}
	w.ring, w.head = ring, 0
}

// limiter applies the limits of a page. Every call counts, refused ones too: "continuing to make calls" counts against the
// caller (Graph rate limiting guide). Times are durations since the start of the sandbox.
type limiter struct {
	plain    ceiling
	media    ceiling
	messages slidingSecond // messages of both kinds, for the high-volume mark

	mark      int
	markFor   time.Duration
	overSince time.Duration // when the volume rose above the mark, if it is above it
	over      bool
}

// ceiling is a limit in calls per second with its block.
type ceiling struct {
	slidingSecond
	rate         int
	block        time.Duration
	blockedUntil time.Duration
}

type limitVerdict struct {
	refused    bool
	highVolume bool
	left       time.Duration // of the block
	percent    int           // of the ceiling used in the last second
}

func newLimiter(p Page) *limiter {
	return &limiter{
		plain:   ceiling{rate: p.Rate, block: p.Block},
		media:   ceiling{rate: p.MediaRate, block: p.Block},
		mark:    p.HighVolume,
		markFor: p.HighVolumeFor,
	}
}

// take counts a call and reports whether a limit refuses it.
func (l *limiter) take(now time.Duration, message, media bool) limitVerdict {
	ln := &l.plain
	if media {
		ln = &l.media
	}
	v := ln.take(now)
	if message && l.highVolume(now) && !v.refused {
		v.refused, v.highVolume = true, true
	}
	return v
}

func (l *ceiling) take(now time.Duration) limitVerdict {
	n := l.add(now)
	if l.rate < 0 {
		return limitVerdict{}
	}
	v := limitVerdict{percent: 100 * n / max(l.rate, 1)}
	// A block is counted from the last call, so that further calls lengthen it.
	if n > l.rate || now < l.blockedUntil {
		l.blockedUntil = now + l.block
		v.refused, v.left = true, l.block
	}
	return v
}

// highVolume counts a message and reports whether the page has stayed above the mark for too long. It is enough to look at the
// times of the calls: after a lull, the next call has a low count.
func (l *limiter) highVolume(now time.Duration) bool {
	n := l.messages.add(now)
	if l.mark < 0 || n <= l.mark {
		l.over = false
		return false
	}
	if !l.over {
		l.over, l.overSince = true, now
	}
	return now-l.overSince >= l.markFor
}

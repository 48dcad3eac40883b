package sandbox

import (
	"net/http"
	"strconv"
	"time"
)

// window counts calls in a span of the clock: an hourly one ends on the hour.
type window struct {
	limit  int // Off: none
	length time.Duration
	began  time.Time
	n      int
}

// take counts a call, and reports whether it is over the window's limit.
func (w *window) take(now time.Time) (over bool) {
	if began := now.Truncate(w.length); began != w.began {
		w.began, w.n = began, 0
	}
	w.n++
	return w.limit != Off && w.n > w.limit
}

func (w *window) left() int { return max(0, w.limit-w.n) }

// limits are those of a workspace.
type limits struct{ hourly, burst window }

// take counts a call and sets the headers, of whichever limit has less left. It reports whether the call is over a limit.
func (l *limits) take(now time.Time, header http.Header) (over bool) {
	hour, burst := l.hourly.take(now), l.burst.take(now)
	shown := &l.hourly
	if l.hourly.limit == Off || l.burst.limit != Off && l.burst.left() < l.hourly.left() {
		shown = &l.burst
	}
	if shown.limit == Off {
		return false
	}
	// Lower case, as over HTTP/2: who looks for another case in a map does not find them.
	header["x-ratelimit-limit"] = []string{strconv.Itoa(shown.limit)}
	header["x-ratelimit-remaining"] = []string{strconv.Itoa(shown.left())}
	header["x-ratelimit-reset"] = []string{strconv.FormatInt(shown.began.Add(shown.length).Unix(), 10)}
	return hour || burst
}

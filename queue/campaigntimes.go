package queue

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Each counter of times has the deliveries that took longer than the bound below it and at most its own. A bound is three
// tenths above the one below, so that a time that is told from the counters is within 30 % of the true one. The first is
// 10 ms, as no delivery is quicker, and the last 40 days: as long as a message may wait, and a dead letter is kept, together.
const (
	firstBound = 10 * time.Millisecond
	lastBound  = maxExpire + defaultDeadAge + 3*24*time.Hour
)

var (
	tookBounds = newTookBounds()
	tookNames  = newTookNames()
)

func newTookBounds() (bounds []time.Duration) {
	for b := firstBound; b < lastBound; b = (b * 13 / 10).Truncate(time.Millisecond) {
		bounds = append(bounds, b)
	}
	return append(bounds, lastBound)
}

func newTookNames() (names []string) {
	for _, b := range tookBounds {
		names = append(names, countTook+strconv.FormatInt(b.Milliseconds(), 10))
	}
	return names
}

// tookCounter returns the counter of deliveries that took so long.
func tookCounter(took time.Duration) string {
	i, _ := slices.BinarySearch(tookBounds, took)
	return tookNames[min(i, len(tookNames)-1)]
}

// times counts deliveries by the bound of the time that they took.
type times map[time.Duration]int64

// add adds the value of a counter. It returns false for one that is not about times.
func (t times) add(counter string, n int64) bool {
	text, ok := strings.CutPrefix(counter, countTook)
	if !ok {
		return false
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err == nil && ms > 0 {
		t[time.Duration(ms)*time.Millisecond] += n
	}
	return true
}

// quantile returns the time within which a part of the deliveries came, to within 30 %; 0 where there are none.
func (t times) quantile(part float64) time.Duration {
	var all int64
	for _, n := range t {
		all += n
	}
	rank, below := part*float64(all), int64(0)
	for _, bound := range slices.Sorted(maps.Keys(t)) {
		n := t[bound]
		if n > 0 && float64(below+n) >= rank {
			from := boundBelow(bound)
			share := (rank - float64(below)) / float64(n)
			return (from + time.Duration(share*float64(bound-from))).Round(time.Millisecond)
		}
		below += n
	}
	return 0
}

func boundBelow(bound time.Duration) time.Duration {
	i, _ := slices.BinarySearch(tookBounds, bound)
	if i == 0 {
		return 0
	}
	return tookBounds[i-1]
}

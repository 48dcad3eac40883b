package sendapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Usage is how much of its limits a page and its app have used up, as an answer's
// headers tell. The zero Usage means that they told nothing: Facebook leaves a
// header away while there is little to tell.
//
// Percents may go over 100: a page that was refused with code 613 stood at 107
// percent of its calls and 125 of its time.
type Usage struct {
	// Page is the highest percent that X-Business-Use-Case-Usage holds, or the old
	// X-Page-Usage, which Send API answers were seen without. The header lists up
	// to 32 entries, by page or business and by kind; a refusal for sending came
	// with the kind "pages" and not "messenger", so the kind is not looked at. The
	// window is a rolling 24 hours.
	Page int

	// App is the highest percent that X-App-Usage holds, over a rolling hour. Where
	// both limits apply, calls with a page token count against the page's.
	App int

	// RegainAfter is the longest time until calls are taken again that
	// X-Business-Use-Case-Usage gives; it comes in minutes there. At most a day.
	RegainAfter time.Duration

	// RetryAfter is what a Retry-After header says. Neither Meta's pages nor any
	// pasted answer has one; a proxy in between may send it. At most a day.
	RetryAfter time.Duration
}

// maxPause bounds what one odd header can ask for. Facebook's longest window for
// a rate limit is a day.
const maxPause = 24 * time.Hour

// ParseUsage reads the usage headers of an answer; now is what a Retry-After date
// is counted from. What cannot be read counts as not sent.
func ParseUsage(header http.Header, now time.Time) Usage {
	var page, app meter
	for _, v := range header["X-Business-Use-Case-Usage"] {
		page.read(v)
	}
	for _, v := range header["X-Page-Usage"] {
		page.read(v)
	}
	for _, v := range header["X-App-Usage"] {
		app.read(v)
	}
	return Usage{
		Page:        int(math.Ceil(page.percent)),
		App:         int(math.Ceil(app.percent)),
		RegainAfter: pause(max(page.minutes, app.minutes) * float64(time.Minute)),
		RetryAfter:  parseRetryAfter(header.Get("Retry-After"), now),
	}
}

// meter keeps the highest figures that it meets anywhere in a usage header. The
// nesting is not looked at: Meta's own sample has the same id twice in one object,
// which a map would lose, and X-App-Usage has no nesting at all.
type meter struct{ percent, minutes float64 }

// maxPercent keeps a nonsensical figure within an int on every machine.
const maxPercent = 1e6

func (m *meter) read(header string) {
	dec := json.NewDecoder(strings.NewReader(header))
	dec.UseNumber()
	m.value(dec, "")
}

// value reads one JSON value, and notes it where its key is one of the known. It
// reports false at the end of what can be read.
func (m *meter) value(dec *json.Decoder, key string) bool {
	tok, err := dec.Token()
	if err != nil {
		return false
	}
	switch tok := tok.(type) {
	case json.Number:
		m.note(key, string(tok))
	case string:
		m.note(key, tok)
	case json.Delim:
		for dec.More() {
			var k string
			if tok == '{' {
				t, err := dec.Token()
				if err != nil {
					return false
				}
				k, _ = t.(string)
			}
			if !m.value(dec, k) {
				return false
			}
		}
		_, err := dec.Token()
		return err == nil
	}
	return true
}

func (m *meter) note(key, value string) {
	f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(f > 0) { // NaN too
		return
	}
	switch key {
	case "call_count", "total_time", "total_cputime":
		m.percent = max(m.percent, min(f, maxPercent))
	case "estimated_time_to_regain_access":
		m.minutes = max(m.minutes, f)
	}
}

// parseRetryAfter reads both forms of the header, whole seconds and an HTTP date.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return pause(seconds * float64(time.Second))
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return pause(float64(at.Sub(now)))
}

// pause turns nanoseconds into a duration between nothing and maxPause.
func pause(ns float64) time.Duration {
	switch {
	case !(ns > 0): // NaN too
		return 0
	case ns >= float64(maxPause):
		return maxPause
	}
	return time.Duration(ns)
}

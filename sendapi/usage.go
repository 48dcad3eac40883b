package sendapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Usage is how much of their limits a page and its app have used, by the headers of an
// answer. The zero Usage means that there were no such headers: Facebook leaves them
// out while usage is low.
//
// Percentages may exceed 100: a page that was refused with code 613 was at 107 percent
// of its calls and 125 percent of its time.
type Usage struct {
	// Page is the highest percentage for sending in X-Business-Use-Case-Usage, over a
	// rolling 24 hours, or in the old X-Page-Usage, which no answer of the Send API was
	// seen with. The first header lists up to 32 entries, by page or business and by
	// type. Entries of type "messenger" and "pages" count (a refusal for sending came with
	// "pages"), and entries without a type. Types such as "ads_insights" and "instagram"
	// are about other calls.
	Page int

	// App is the highest percentage in X-App-Usage, over a rolling hour. Where both
	// limits apply, calls with a page token count against the page's.
	App int

	// RegainAfter is the longest time that X-Business-Use-Case-Usage gives until calls
	// for sending are accepted again, in whole minutes, at most a day.
	RegainAfter time.Duration

	// RetryAfter is the time in a Retry-After header, at most a day. Neither Meta's pages
	// nor any pasted answer has one; a proxy may send it.
	RetryAfter time.Duration
}

// maxPause bounds the pause that one wrong header can ask for. A day is Facebook's
// longest window of a rate limit.
const maxPause = 24 * time.Hour

// parseUsage reads the usage headers of an answer and ignores what it cannot read. A
// Retry-After date is counted from now.
func parseUsage(header http.Header, now time.Time) Usage {
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

// meter keeps the highest figures of the entries of a usage header.
//
// An entry is the text between two braces without a brace in between, at any depth.
// The header is not decoded as JSON: Meta's own sample has the same id twice in one
// object, of which a map would keep one, X-App-Usage has no nesting at all, and a
// header that was cut short still has whole entries.
type meter struct{ percent, minutes float64 }

// maxPercent keeps a wrong figure within an int on every machine.
const maxPercent = 1e6

func (m *meter) read(header string) {
	for entry := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == '{' || r == '}' }) {
		if !isOfSending(entry) {
			continue
		}
		for _, field := range []string{`"call_count"`, `"total_time"`, `"total_cputime"`} {
			m.percent = min(max(m.percent, highest(entry, field)), maxPercent)
		}
		m.minutes = max(m.minutes, highest(entry, `"estimated_time_to_regain_access"`))
	}
}

// isOfSending reports whether an entry of a usage header is about calls that send.
func isOfSending(entry string) bool {
	_, rest, found := strings.Cut(entry, `"type"`)
	if !found {
		return true
	}
	value, found := strings.CutPrefix(strings.TrimLeft(rest, " \t"), ":")
	if !found {
		return true // a value that is spelled like the field
	}
	value = strings.TrimLeft(value, " \t")
	return strings.HasPrefix(value, `"messenger"`) || strings.HasPrefix(value, `"pages"`)
}

// highest returns the highest number that a field has in a JSON text, as a number
// or as a string, and 0 if it has none above.
func highest(text, field string) float64 {
	var top float64
	for {
		_, rest, found := strings.Cut(text, field)
		if !found {
			return top
		}
		text = rest
		value, found := strings.CutPrefix(strings.TrimLeft(rest, " \t"), ":")
		if !found {
			continue // a value that is spelled like the field
		}
		value = strings.TrimLeft(value, " \t\"")
		end := 0
		for end < len(value) && strings.IndexByte("0123456789.eE+-", value[end]) >= 0 {
			end++
		}
		if f, err := strconv.ParseFloat(value[:end], 64); err == nil {
			top = max(top, f)
		}
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

// pause turns nanoseconds into a duration from 0 to maxPause.
func pause(ns float64) time.Duration {
	switch {
	case !(ns > 0): // NaN too
		return 0
	case ns >= float64(maxPause):
		return maxPause
	}
	return time.Duration(ns)
}

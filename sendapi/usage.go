package sendapi

import (
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
	// Page is the highest percent that X-Business-Use-Case-Usage holds for sending, or
	// the old X-Page-Usage, which Send API answers were seen without. The header lists
	// up to 32 entries, by page or business and by type. Those of type "messenger" and
	// "pages" count, since a refusal for sending came with "pages", and those without a
	// type; the limits of "ads_insights", "instagram" and the like are of other calls.
	// The window is a rolling 24 hours.
	Page int

	// App is the highest percent that X-App-Usage holds, over a rolling hour. Where
	// both limits apply, calls with a page token count against the page's.
	App int

	// RegainAfter is the longest time until calls are taken again that
	// X-Business-Use-Case-Usage gives for sending; it comes in minutes there. At most
	// a day.
	RegainAfter time.Duration

	// RetryAfter is what a Retry-After header says. Neither Meta's pages nor any
	// pasted answer has one; a proxy in between may send it. At most a day.
	RetryAfter time.Duration
}

// maxPause bounds what one odd header can ask for. Facebook's longest window for
// a rate limit is a day.
const maxPause = 24 * time.Hour

// parseUsage reads the usage headers of an answer; now is what a Retry-After date
// is counted from. What cannot be read counts as not sent.
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

// meter keeps the highest figures that it meets in the entries of a usage header.
//
// An entry is what stands between two braces with none in between, wherever it is
// nested: Meta's own sample has the same id twice in one object, which a map would
// lose, X-App-Usage has no nesting at all, and a header cut short still tells what
// it told.
type meter struct{ percent, minutes float64 }

// maxPercent keeps a nonsensical figure within an int on every machine.
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

package sandbox

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// usageFrom is the usage in percent from which answers have usage headers. Graph's headers appear "only once use is enough"; Meta
// does not say how much that is.
const usageFrom = 50

// usage is what the headers of an answer say about how much of its limits a page has used.
type usage struct {
	show    bool
	page    string
	kind    string
	percent int
	minutes int
	twice   bool // the page's key comes twice, as in Meta's own sample
}

// applyLimits counts a call against its page's limits, and applies the page's restriction. The caller holds Sandbox.mu.
func applyLimits(p *page, snd *send, now time.Duration, rnd *rand.Rand) (usage, *graphError) {
	v := p.limits.take(now, snd.action == 0, snd.media)
	if p.restricted != nil {
		return usage{}, p.restricted
	}
	u := usage{show: v.refused || v.percent >= usageFrom, page: p.ID, kind: []string{"messenger", "pages"}[rnd.IntN(2)],
		percent: v.percent, minutes: minutes(v.left), twice: rnd.IntN(4) == 0}
	switch {
	case v.highVolume:
		return u, errHighVolume
	case v.refused:
		return u, throttled[rnd.IntN(len(throttled))]
	}
	return u, nil
}

// minutes rounds a block up to minutes, but says 0 for a block below one minute: the sandbox's blocks are short, and a caller
// that waits a minute for each would make tests slow.
func minutes(d time.Duration) int {
	if d < time.Minute {
		return 0
	}
	return int((d + time.Minute - 1) / time.Minute)
}

// throttled are the codes that limit a page's calls (Graph rate limiting guide). A page's limiter answers with any of them.
var throttled = []*graphError{
	{status: 400, code: 613, message: "(#613) Calls to this api have exceeded the rate limit.", local: "(#613) Die Anzahl der Aufrufe dieser API überschreitet das Limit."},
	{status: 400, code: 80006, message: "(#80006) There have been too many messenger api calls from this Page account. Wait a bit and try again."},
	{status: 400, code: 32, message: "(#32) Page request limit reached"},
}

// errHighVolume is a guess: the Messenger rate limits page says that such a page "cannot send new messages until the volume
// decreases", and names no code.
var errHighVolume = invalid(613, 0, "(#613) The Page sends too many messages and cannot send new messages until the volume decreases.")

// set writes the usage headers, with percents that may exceed 100 and a type that is not always messenger, as pasted responses
// have them.
func (u usage) set(h http.Header) {
	if !u.show {
		return
	}
	entry := fmt.Sprintf(`"%s":[{"type":"%s","call_count":%d,"total_cputime":%d,"total_time":%d,"estimated_time_to_regain_access":%d}]`,
		u.page, u.kind, u.percent, u.percent/4, u.percent/2, u.minutes)
	if u.twice {
		entry += "," + entry
	}
	h["X-Business-Use-Case-Usage"] = []string{"{" + entry + "}"}
	h["X-App-Usage"] = []string{fmt.Sprintf(`{"call_count":%d,"total_time":%d,"total_cputime":%d}`, u.percent/10, u.percent/20, u.percent/20)}
}

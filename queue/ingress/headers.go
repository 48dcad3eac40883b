package ingress

import (
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/brazier-relay/brazier/queue"
)

// headers reads the optional headers of a request and keeps the first refusal.
type headers struct {
	http.Header
	refused *refusal
}

func (h *headers) refuse(name, reason string) {
	if h.refused == nil {
		h.refused = &refusal{status: http.StatusBadRequest, reason: reasonHeader, text: "header " + name + " " + reason}
	}
}

// maxText bounds a tracking header. Braze's ids are 36 characters.
const maxText = 256

func (h *headers) text(name string) string {
	v := strings.TrimSpace(h.Get(name))
	switch {
	case v == "":
	case len(v) > maxText:
		h.refuse(name, "is longer than 256 bytes: shorten it")
	case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
		h.refuse(name, "contains control characters or is not UTF-8: send plain UTF-8 text")
	case strings.Contains(v, "{{") || strings.Contains(v, "{%"):
		h.refuse(name, "contains Liquid that was not rendered: check the spelling of the tag")
	}
	return v
}

// placeholder is the dispatch id that Braze renders in previews and test sends, according to its documentation of dispatch
// ids. All of them have the same one.
const placeholder = "dispatch_id_for_unsent_campaign"

// key returns the idempotency key of a request, or "" if the request has none. Without the header, the ids of dispatch, user
// and message make one. All three are needed: a dispatch goes to many people, and a person may get several of its messages.
// The tab between the ids occurs in none of them (see text), so that different ids never make the same key.
//
// A blank header deduplicates nothing, not even by the ids: its Liquid rendered to nothing, and the ids may be too coarse
// for a caller that chose to send a key. To send a message twice is the smaller harm.
func (h *headers) key(t queue.Tracking) string {
	const name = "Idempotency-Key"
	key := h.text(name)
	if len(h.Values(name)) == 0 && t.Dispatch != "" && t.User != "" && t.Message != "" {
		key = t.Dispatch + "\t" + t.User + "\t" + t.Message
	}
	if strings.Contains(key, placeholder) {
		return ""
	}
	return key
}

func (h *headers) lane(media bool) queue.Lane {
	const name = "X-Brazier-Lane"
	lane := queue.Bulk
	switch v := h.text(name); strings.ToLower(v) {
	case "", "bulk":
	case "urgent":
		lane = queue.Urgent
	default:
		h.refuse(name, "must be urgent or bulk")
	}
	if media {
		return queue.Media
	}
	return lane
}

func (h *headers) expire(otherwise time.Duration) time.Duration {
	const name = "X-Brazier-Expire"
	v := h.text(name)
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second || d > queue.MaxExpire {
		h.refuse(name, "must be a duration from 1s to 168h, such as 30m or 6h")
	}
	return d
}

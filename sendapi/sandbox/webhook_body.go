package sandbox

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// sign sets the signatures of a body (webhooks page). The older one, of SHA-1, is still sent beside the other.
func sign(h http.Header, secret string, body []byte) {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	mac = hmac.New(sha1.New, []byte(secret))
	mac.Write(body)
	h.Set("X-Hub-Signature", "sha1="+hex.EncodeToString(mac.Sum(nil)))
}

// asFacebook writes JSON in Facebook's way: ASCII alone, other characters as \uXXXX in lower case, and \/ for a slash. Slashes and
// other characters than ASCII occur in JSON only within strings.
func asFacebook(json []byte) []byte {
	b := make([]byte, 0, len(json)+len(json)/8)
	for len(json) > 0 {
		r, n := utf8.DecodeRune(json)
		json = json[n:]
		switch {
		case r == '/':
			b = append(b, `\/`...)
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, high), low)
		default:
			b = appendEscape(b, r)
		}
	}
	return b
}

func appendEscape(b []byte, r rune) []byte {
	const hexDigits = "0123456789abcdef"
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// envelope writes the body for events, which are of one app. Events of a page that follow each other share an entry or not: both
// have been seen.
func envelope(rnd *rand.Rand, at time.Time, events []hookEvent) []byte {
	b := append([]byte(nil), `{"object":"page","entry":[`...)
	millis := strconv.FormatInt(at.UnixMilli(), 10)
	for i, e := range events {
		switch {
		case i > 0 && e.page == events[i-1].page && rnd.IntN(2) == 0:
			b = append(b, ',')
		default:
			if i > 0 {
				b = append(b, "]},"...)
			}
			b = append(b, `{"id":"`+e.pageID+`","time":`+millis+`,"messaging":[`...)
		}
		b = append(b, e.json...)
	}
	return asFacebook(append(b, "]}]}"...))
}

// object returns a JSON object in an order that varies. Its arguments are keys and values in turn; a value is JSON, and an empty
// one leaves its key out.
func object(rnd *rand.Rand, pairs ...string) string {
	fields := make([]field, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			fields = append(fields, field{pairs[i], pairs[i+1]})
		}
	}
	if len(fields) == 0 {
		return "{}"
	}
	return string(encodeObject(rnd, fields))
}

// quoted returns a string as JSON, or nothing for an empty one.
func quoted(s string) string {
	if s == "" {
		return ""
	}
	return encodeString(s)
}

// occurrence is what events about a person have in common.
type occurrence struct {
	rnd        *rand.Rand
	page, psid string
	at         time.Time
}

func (o *occurrence) millis() string { return strconv.FormatInt(o.at.UnixMilli(), 10) }

// event writes an event that the person caused. An empty timestamp is left out.
func (o *occurrence) event(timestamp, kind, value string) string {
	return object(o.rnd, "sender", `{"id":"`+o.psid+`"}`, "recipient", `{"id":"`+o.page+`"}`, "timestamp", timestamp, kind, value)
}

// policy writes what Facebook tells a page about itself; there is no sender (messaging_policy_enforcement page).
func (o *occurrence) policy(action, reason string) string {
	return object(o.rnd, "recipient", `{"id":"`+o.page+`"}`, "timestamp", o.millis(),
		"policy_enforcement", object(o.rnd, "action", quoted(action), "reason", quoted(reason)))
}

// referral writes what a link brought. Its source is absent for accounts in Europe and Japan (europe-japan-updates page).
func (o *occurrence) referral(ref string) string {
	source := `"SHORTLINK"`
	if o.rnd.IntN(4) == 0 {
		source = ""
	}
	return object(o.rnd, "ref", quoted(ref), "source", source, "type", `"OPEN_THREAD"`)
}

// adReferral writes what an ad brought with the first message (messages page).
func (o *occurrence) adReferral(ref string) string {
	context := object(o.rnd, "ad_title", `"Sandbox"`, "post_id", quoted(o.page+"_1"), "photo_url", `"https://scontent.example.net/sandbox.jpg"`)
	return object(o.rnd, "ref", quoted(ref), "ad_id", `"120330000001"`, "source", `"ADS"`, "type", `"OPEN_THREAD"`, "ads_context_data", context)
}

// payload writes the payload of a button: as it is, or the reference in one of the two forms that are in use
// (vlab-research/fly).
func (o *occurrence) payload(payload, ref string) string {
	if payload == "" && ref != "" {
		if payload = ref; o.rnd.IntN(2) == 0 {
			payload = `{"referral": {"ref": ` + encodeString(ref) + `}}`
		}
	}
	return quoted(payload)
}

// delivery writes a delivery receipt. Its watermark covers everything sent until then; mids and timestamp may be absent
// (message_deliveries page).
func (o *occurrence) delivery(mid string, watermark time.Time) string {
	mids, timestamp := "", ""
	if mid != "" {
		mids = "[" + encodeString(mid) + "]"
	}
	if o.rnd.IntN(2) == 0 {
		timestamp = o.millis()
	}
	return o.event(timestamp, "delivery", object(o.rnd, "mids", mids, "watermark", strconv.FormatInt(watermark.UnixMilli(), 10)))
}

// read writes a read receipt, which never names messages (message_reads page).
func (o *occurrence) read(watermark time.Time) string {
	return o.event(o.millis(), "read", object(o.rnd, "watermark", strconv.FormatInt(watermark.UnixMilli(), 10)))
}

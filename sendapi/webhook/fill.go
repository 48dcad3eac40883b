package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fill sets what the event's kind has beyond who and when, and returns what tells the event from others.
func (p *parser) fill(e *Event, w *wireEvent) identity {
	refs := refFinder{e: e}
	refs.all(w)
	switch e.Kind {
	case KindMessage:
		m := &w.Message.v
		e.Opens = true
		e.MID, e.Source = mid(m.MID), identifier(m.Referral.v.Source)
		return identity{mid: e.MID, parts: []text{m.MID}}
	case KindPostback:
		b := &w.Postback.v
		e.Opens = true
		e.MID, e.Source = mid(b.MID), identifier(b.Referral.v.Source)
		return identity{mid: e.MID, parts: []text{b.MID, b.Title, text(b.Payload.s), b.Referral.v.Ref}}
	case KindReferral:
		r := &w.Referral.v
		e.Opens, e.Source = r.opens(), identifier(r.Source)
		return identity{parts: []text{r.Ref, r.Source, r.Type, r.AdID}}
	case KindOptin:
		o := &w.Optin.v
		return identity{parts: []text{o.Ref, o.Type, text(o.Payload.s), text(o.Payload.raw), o.Status}}
	case KindReaction:
		r := &w.Reaction.v
		e.Opens, e.MID = true, mid(r.MID)
		return identity{parts: []text{r.MID, r.Action, r.Reaction}}
	case KindAccountLinking:
		return identity{parts: []text{w.AccountLinking.v.Status, w.AccountLinking.v.Code}}
	case KindOrder:
		e.Opens = true
	case KindEcho:
		m := &w.Message.v
		e.MID, e.AppID, e.Metadata = mid(m.MID), identifier(m.AppID), identifier(m.Metadata)
		return identity{mid: e.MID, parts: []text{m.MID, m.AppID, m.Metadata}}
	case KindDelivery:
		return p.delivery(e, &w.Delivery.v)
	case KindRead:
		return p.watermark(e, w.Read.v.Watermark)
	case KindPolicy:
		return policy(e, w)
	}
	return identity{}
}

// opens: see Event.Opens.
func (r *wireReferral) opens() bool {
	return r.Type == "LEAD_COMPLETE" || r.Source == "SHORTLINK" || r.Source == "" && r.AdID == ""
}

func (p *parser) delivery(e *Event, d *wireDelivery) identity {
	is := p.watermark(e, d.Watermark)
	for _, named := range d.MIDs.v {
		is.parts = append(is.parts, named)
		if m := mid(named); m != "" && len(e.MIDs) < MaxMIDs {
			e.MIDs = append(e.MIDs, m)
		}
	}
	return is
}

// watermark sets the watermark. A receipt says the same whenever it comes, and some have no timestamp of their own, so the
// watermark stands for the time in its key.
func (p *parser) watermark(e *Event, t stamp) identity {
	if t = p.sane(t); t != 0 {
		e.Watermark = t.utc()
	}
	return identity{timeless: true, parts: []text{text(strconv.FormatInt(int64(t), 10))}}
}

func policy(e *Event, w *wireEvent) identity {
	v := w.Policy.v
	if !w.Policy.present {
		v = w.OldPolicy.v
	}
	e.Action, e.Reason = identifier(v.Action), sentence(v.Reason)
	return identity{parts: []text{v.Action, v.Reason}}
}

// identity is what tells an event from others of the same page, person and kind. It holds nothing that a person typed: a
// hash of a short text would give the text away to whoever guesses it.
type identity struct {
	mid      string // enough by itself
	timeless bool   // the time of the event is no part of it
	parts    []text
}

// in returns the key of the event, whose time is when, or zero if it is not known.
func (is identity) in(e *Event, when stamp) string {
	start := e.Page + "|" + e.PSID + "|" + string(e.Kind) + "|"
	if is.mid != "" {
		return start + is.mid
	}
	h := sha256.New()
	for _, part := range is.parts {
		_, _ = h.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		_, _ = h.Write([]byte("|" + part))
	}
	sum := hex.EncodeToString(h.Sum(nil)[:16])
	if is.timeless {
		return start + sum
	}
	return start + strconv.FormatInt(int64(when), 10) + "|" + sum
}

// mid returns a message's id if it has the form of one, else nothing: it is stored and becomes part of keys.
func mid(t text) string {
	if len(t) > maxMID || !consistsOf(string(t), func(c byte) bool { return isPrintable(c) && c != '|' }) {
		return ""
	}
	return string(t)
}

// identifier returns a name or an id that somebody other than a person chose: at most 64 letters, digits and -_.: of ASCII, else
// nothing.
func identifier(t text) string {
	if len(t) > 64 || !consistsOf(string(t), func(c byte) bool { return isAlnum(c) || strings.IndexByte("-_.:", c) >= 0 }) {
		return ""
	}
	return string(t)
}

// name is identifier for names of members and fields.
func name(s string) string {
	if len(s) > 64 || !consistsOf(s, func(c byte) bool { return isAlnum(c) || c == '_' || c == '-' }) {
		return ""
	}
	return s
}

// sentence returns text cut to maxReason bytes of valid UTF-8.
func sentence(t text) string {
	s := strings.ToValidUTF8(string(t), "\uFFFD")
	if len(s) <= maxReason {
		return s
	}
	cut := maxReason
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

func consistsOf(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool     { return '0' <= c && c <= '9' }
func isAlnum(c byte) bool     { return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func isPrintable(c byte) bool { return '!' <= c && c <= '~' }

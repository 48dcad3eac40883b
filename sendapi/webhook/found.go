package webhook

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A refFinder collects into an event what may be references.
type refFinder struct{ e *Event }

// all looks in every origin, in the order of trust, whatever the kind of the event.
func (f refFinder) all(w *wireEvent) {
	if !f.e.Kind.ByPerson() {
		return
	}
	f.ref(w.Referral.v.Ref, FromReferral)
	f.ref(w.Postback.v.Referral.v.Ref, FromPostbackReferral)
	f.ref(w.Message.v.Referral.v.Ref, FromMessageReferral)
	f.ref(w.Optin.v.Ref, FromOptin)
	f.payload(w.Message.v.QuickReply.v.Payload, FromQuickReply)
	f.payload(w.Postback.v.Payload, FromPostback)
	f.payload(w.Optin.v.Payload, FromOptinPayload)
	f.string(string(w.AccountLinking.v.Code), FromAccountLinking)
}

// ref looks at a member that holds a ref and nothing else.
func (f refFinder) ref(t text, from Origin) {
	if t != "" && !f.string(string(t), from) {
		f.e.OtherRef = true
	}
}

// payload looks at what a page put under a button: a reference, or JSON that has one in any of its strings.
func (f refFinder) payload(p payload, from Origin) {
	raw := []byte(p.raw)
	if trimmed := strings.TrimSpace(p.s); strings.HasPrefix(trimmed, "{") {
		raw = []byte(trimmed)
	} else {
		f.string(p.s, from)
	}
	if len(raw) == 0 {
		return
	}
	for dec := jsontext.NewDecoder(bytes.NewBuffer(raw), lax); ; {
		token, err := dec.ReadToken()
		if err != nil { // the end, or no JSON
			return
		}
		if token.Kind() == '"' {
			f.string(token.String(), from)
		}
	}
}

// string takes a string that has the form of a reference, once, and reports whether it has.
func (f refFinder) string(s string, from Origin) bool {
	if !looksLikeRef(s) {
		return false
	}
	known := slices.ContainsFunc(f.e.Refs, func(r FoundRef) bool { return r.Ref == s })
	if !known && len(f.e.Refs) < MaxRefs {
		f.e.Refs = append(f.e.Refs, FoundRef{s, from})
	}
	return true
}

// looksLikeRef reports whether a string claims to be a reference. It does not ask for a whole one: a reference that was cut,
// or whose Liquid was not rendered, has to reach the check, which says what is wrong with it.
func looksLikeRef(s string) bool {
	form, _, dash := strings.Cut(s, "-")
	return dash && Form(form).isKnown() && len(s) <= MaxRef && consistsOf(s, isPrintable)
}

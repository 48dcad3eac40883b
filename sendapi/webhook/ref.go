package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Form is the first part of a reference: how it names the user. It is under the signature like the rest.
type Form string

// The forms of a reference.
const (
	FormBrazeID Form = "b1" // the braze_id, 24 hexadecimal digits: recommended, as it is no personal data
	FormEncoded Form = "e1" // the external_id in base64url, with or without padding
	FormPlain   Form = "x1" // the external_id as it is: letters, digits, - and _ only
)

func (f Form) isKnown() bool { return f == FormBrazeID || f == FormEncoded || f == FormPlain }

// Field is the name under which Braze's REST API takes an id of this form: braze_id or external_id (/users/track).
func (f Form) Field() string {
	if f == FormBrazeID {
		return "braze_id"
	}
	return "external_id"
}

// A Ref is a reference whose signature is right.
type Ref struct {
	Form Form
	ID   string    // never empty
	Made time.Time // when Liquid made it, to the second, in UTC; zero for a reference without an end

	// Fingerprint tells the reference from all others and cannot be used as one: 32 hexadecimal digits. It may be stored and
	// logged, to recognise a reference that comes a second time.
	Fingerprint string
}

// Bounds of references.
const (
	MaxRef        = 2083                // characters of a ref in a link (m-me-links page)
	MaxExternalID = 987                 // bytes of an external_id (Braze, /users/track: fewer than 988)
	DefaultMaxAge = 63 * 24 * time.Hour // as long as Braze's personalised short links last (link shortening page)
	Ahead         = 5 * time.Minute     // by how much Braze's clock may be ahead of ours

	latest = 99_999_999_999 // seconds: milliseconds have two digits more
)

// A RefPolicy is what references a page accepts. The zero value accepts none.
type RefPolicy struct {
	// Secrets are the page's secrets for references: the current one, and the one before while links made with it are about.
	// An empty secret verifies nothing.
	Secrets [][]byte

	// MaxAge is how long a reference is accepted after it was made. Zero means DefaultMaxAge.
	MaxAge time.Duration

	// AllowEndless accepts references with time 0, which never expire: for links in print.
	AllowEndless bool
}

// Check returns what a reference says, if the page accepts it at the time now. The error is a *RefError.
func (p RefPolicy) Check(ref string, now time.Time) (Ref, error) {
	s, refused := split(ref)
	if refused != nil {
		return Ref{}, refused
	}
	if !signedByOne(p.Secrets, s.signature, []byte(s.signed)) {
		return Ref{}, refuse(RefForged, "no secret of the page gives its signature: it was changed or cut, is for another page, or the secret in the template differs")
	}
	id, refused := decodeID(s.form, s.id)
	if refused != nil {
		return Ref{}, refused
	}
	sum := sha256.Sum256([]byte(ref))
	r := Ref{Form: s.form, ID: id, Fingerprint: hex.EncodeToString(sum[:16])}
	if s.made == 0 {
		if !p.AllowEndless {
			return Ref{}, refuse(RefEndless, "it has time 0, so it never expires, and the page does not allow that")
		}
		return r, nil
	}
	r.Made = time.Unix(s.made, 0).UTC()
	maxAge := p.MaxAge
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	switch age := now.Sub(r.Made); {
	case age < -Ahead:
		return Ref{}, refuse(RefFuture, fmt.Sprintf("it was made at %s, which is in the future: check the clocks, and that the template has seconds", r.Made.Format(time.RFC3339)))
	case age > maxAge:
		return Ref{}, refuse(RefExpired, fmt.Sprintf("it was made at %s, more than %s ago", r.Made.Format(time.RFC3339), maxAge))
	}
	return r, nil
}

// NewRef makes a reference, as Liquid would, for tests and support. The zero time makes one that never expires. The error
// says what is wrong with the arguments and holds none of them.
func NewRef(secret []byte, form Form, id string, made time.Time) (string, error) {
	if len(secret) == 0 {
		return "", refuse(RefForged, "the secret is empty, so everybody could sign with it")
	}
	if !form.isKnown() {
		return "", refuse(RefNotOurs, fmt.Sprintf("the form must be %s, %s or %s", FormBrazeID, FormEncoded, FormPlain))
	}
	if refused := checkID(form, id); refused != nil {
		return "", refused
	}
	seconds := int64(0)
	if !made.IsZero() {
		if seconds = made.Unix(); seconds <= 0 || seconds > latest {
			return "", refuse(RefMalformed, "the time must be after 1970 and have at most 11 digits in seconds")
		}
	}
	if form == FormEncoded {
		id = base64.RawURLEncoding.EncodeToString([]byte(id))
	}
	signed := string(form) + "-" + id + "-" + strconv.FormatInt(seconds, 10)
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(signed))
	return signed + "-" + hex.EncodeToString(mac.Sum(nil)), nil
}

// parts are the parts of a reference, as they are written.
type parts struct {
	form      Form
	id        string
	made      int64 // seconds since 1970
	signed    string
	signature []byte
}

// split reads a reference from the right.
func split(ref string) (parts, *RefError) {
	if !looksLikeRef(ref) {
		return parts{}, refuse(RefNotOurs, "it does not begin with b1-, e1- or x1-, or has spaces or more than 2083 characters")
	}
	if !consistsOf(ref, func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '=' }) {
		return parts{}, refuse(RefMalformed, "it has other characters than letters, digits, - _ =: Liquid that was not rendered, or an external_id that needs form e1")
	}
	var s parts
	end := strings.LastIndexByte(ref, '-')
	s.signed = ref[:end]
	digits := ref[end+1:]
	signature, err := hex.DecodeString(digits)
	if err != nil || len(signature) != sha256.Size || strings.ToLower(digits) != digits {
		return parts{}, refuse(RefMalformed, "it must end with a dash and 64 lower-case hexadecimal digits: it was cut, or the template has no signature")
	}
	s.signature = signature
	start := strings.LastIndexByte(s.signed, '-')
	seconds := s.signed[start+1:]
	if s.made, err = strconv.ParseInt(seconds, 10, 64); err != nil || s.made > latest || start < len("b1-") {
		return parts{}, refuse(RefMalformed, "it must have the time in whole seconds before the signature")
	}
	s.form, s.id = Form(ref[:2]), s.signed[len("b1-"):start]
	return s, nil
}

// decodeID returns the id of a reference.
func decodeID(form Form, id string) (string, *RefError) {
	if form == FormEncoded {
		decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(id, "="))
		if err != nil {
			return "", refuse(RefMalformed, "the id of form e1 must be base64url")
		}
		id = string(decoded)
	}
	return id, checkID(form, id)
}

// IsBrazeID reports whether s has the form of a braze_id: 24 hexadecimal digits.
func IsBrazeID(s string) bool {
	return len(s) == 24 && consistsOf(s, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' })
}

// checkID says what is wrong with an id, if anything.
func checkID(form Form, id string) *RefError {
	isPlain := func(c byte) bool { return isAlnum(c) || c == '-' || c == '_' }
	switch {
	case strings.TrimSpace(id) == "":
		return refuse(RefEmpty, "it names nobody: the user for whom Liquid made it had no such id")
	case form == FormBrazeID && !IsBrazeID(id):
		return refuse(RefMalformed, "the id of form b1 must be a braze_id, 24 hexadecimal digits")
	case form == FormPlain && !consistsOf(id, isPlain):
		return refuse(RefMalformed, "the id of form x1 must be letters, digits, - and _ only: use form e1")
	case len(id) > MaxExternalID || !utf8.ValidString(id):
		return refuse(RefMalformed, fmt.Sprintf("the external_id must be at most %d bytes of UTF-8", MaxExternalID))
	}
	return nil
}

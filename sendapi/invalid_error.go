package sendapi

import (
	"fmt"
	"strings"
)

// An InvalidError says why a request is refused and what to do about it, for whoever wrote the template.
//
// It holds the names of fields this package knows, numbers and fixed text. It never holds a value of the caller, nor a
// field name this package does not know: a message's text, a PSID or a token cannot reach a log through it.
type InvalidError struct {
	// Field is the path of the field at fault, such as message.attachment.payload.elements[3].title. It ends in * where
	// a name follows that this package does not know. Empty when the body as a whole is at fault.
	Field  string
	Cause  Cause
	Reason string // what is wrong, to be read after Field: "is empty"
	Remedy string // what to do about it; may be empty

	// Line and Column say where the JSON breaks, counted in characters from 1; 0 when the JSON is sound. When Field is
	// not empty they count within the value of that field, which was JSON in a string or in a form.
	Line, Column int
}

// A Cause is the kind of a fault, a fixed name by which refusals can be counted.
type Cause string

// The causes. The two that a caller adds to or decides by are exported.
const (
	causeSyntax      Cause = "syntax"      // no JSON
	causeEscape      Cause = "escape"      // no JSON, as a value was put into it without json_escape
	causeLiquid      Cause = "liquid"      // Liquid that was not rendered
	causeEncoding    Cause = "encoding"    // not UTF-8, compressed, or not percent-encoded
	causeUnsupported Cause = "unsupported" // an upload, a batch, a form whose names have brackets
	CauseToken       Cause = "token"       // an access token, or a proof of one, in the body
	causeRecipient   Cause = "recipient"   // nobody, more than one, or not a PSID
	causeMissing     Cause = "missing"     // a field that is needed
	causeEmpty       Cause = "empty"       // a field or a list with nothing in it
	causeType        Cause = "type"        // text instead of an object, or the like
	causeLimit       Cause = "limit"       // too long, too many, too few
	causeConflict    Cause = "conflict"    // fields that do not go together, or one of them twice
	causeRetired     Cause = "retired"     // what Facebook has abolished
	causeURL         Cause = "url"         // no URL
	CauseMisplaced   Cause = "misplaced"   // a known name where it does not belong
)

// Error is the field, the reason and then the remedy, short because Braze shows and truncates it.
func (e *InvalidError) Error() string {
	var b strings.Builder
	switch e.Field {
	case "":
		b.WriteString("the body")
	case "*":
		b.WriteString("a field")
	default:
		b.WriteString(e.Field)
	}
	b.WriteByte(' ')
	b.WriteString(e.Reason)
	if e.Line > 0 {
		fmt.Fprintf(&b, " (line %d, column %d)", e.Line, e.Column)
	}
	if e.Remedy != "" {
		b.WriteString(": ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

const (
	unrenderedReason = "contains Liquid that was not rendered"
	unrenderedRemedy = "check the braces of the tags in the template"
	escapeRemedy     = "use the Liquid filter json_escape"
	defaultRemedy    = "set a fallback with the Liquid filter default"
)

package sendapi

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An InvalidError says why a request is refused and what to do about it, in words for whoever wrote the template.
//
// It holds the names of fields this package knows, numbers and fixed words. It never holds a value of the caller, nor a
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

// A Cause is the kind of a fault, one short fixed word, by which refusals can be counted.
type Cause string

// The causes.
const (
	CauseSyntax      Cause = "syntax"      // no JSON
	CauseEscape      Cause = "escape"      // no JSON, as a value was put into it without json_escape
	CauseLiquid      Cause = "liquid"      // Liquid that was not rendered
	CauseEncoding    Cause = "encoding"    // not UTF-8, compressed, or not percent-encoded
	CauseUnsupported Cause = "unsupported" // an upload, a batch, a form whose names have brackets
	CauseToken       Cause = "token"       // an access token, or a proof of one, in the body
	CauseRecipient   Cause = "recipient"   // nobody, more than one, or not a PSID
	CauseMissing     Cause = "missing"     // a field that is needed
	CauseEmpty       Cause = "empty"       // a field or a list with nothing in it
	CauseType        Cause = "type"        // text in place of an object, or the like
	CauseLimit       Cause = "limit"       // too long, too many, too few
	CauseConflict    Cause = "conflict"    // fields that do not go together, or one of them twice
	CauseRetired     Cause = "retired"     // what Facebook has abolished
	CauseURL         Cause = "url"         // no URL
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
	unrenderedReason = "holds Liquid that was not rendered"
	unrenderedRemedy = "check the braces of its tags in the template"
	escapeRemedy     = "use the Liquid filter json_escape"
	defaultRemedy    = "give its attribute a value with the Liquid filter default"
)

// A fault is the way in which a text fails to be JSON.
type fault uint8

const (
	notJSON fault = iota
	endsEarly
	quoteInside
	rawControl
	badEscape
	strayComma
	secondComma
	commaMissing
	singleQuote
	curlyQuote
	comment
	valueMissing
	notUTF8
	tooDeep
	tooLarge
	goesOn
	unrendered
)

// faults name Liquid where an attribute that it put into the template is the usual cause, and only there.
var faults = [...]struct {
	cause          Cause
	reason, remedy string
}{
	notJSON:      {CauseSyntax, "is not JSON", "check its braces, commas and quotes"},
	endsEarly:    {CauseSyntax, "is JSON that ends too early", "close every quote, bracket and brace"},
	quoteInside:  {CauseEscape, "is not JSON, a quote inside a value ends it too early", escapeRemedy},
	rawControl:   {CauseEscape, "is not JSON, a value holds a raw line break or tab", escapeRemedy},
	badEscape:    {CauseEscape, "is not JSON, a value holds a raw backslash", escapeRemedy},
	strayComma:   {CauseSyntax, "is not JSON, a comma stands before a closing bracket", "remove that comma"},
	secondComma:  {CauseSyntax, "is not JSON, there is a comma too many", "remove it; a loop writes commas between its entries only"},
	commaMissing: {CauseSyntax, "is not JSON, a comma is missing", "put one before this place"},
	singleQuote:  {CauseSyntax, "is not JSON, it has single quotes", "use double quotes"},
	curlyQuote:   {CauseSyntax, "is not JSON, it has typographic quotes", `use straight ones, "`},
	comment:      {CauseSyntax, "is not JSON, it has a comment", "remove the comment"},
	valueMissing: {CauseSyntax, "is not JSON, a value is missing", "put quotes round its Liquid tag, or use the filter default"},
	notUTF8:      {CauseEncoding, "is not UTF-8", "send it as UTF-8"},
	tooDeep:      {CauseLimit, "is nested too deep", fmt.Sprintf("a request needs far fewer than %d levels", maxDepth)},
	tooLarge:     {CauseLimit, "is too large", ""},
	goesOn:       {CauseSyntax, "goes on after the end of its JSON", "remove what follows"},
	unrendered:   {CauseLiquid, unrenderedReason, unrenderedRemedy},
}

// A syntaxError says where and how a text fails to be JSON.
type syntaxError struct {
	fault  fault
	offset int // in bytes
}

// invalid words e for the text src, which is the value of field, or the whole body where field is empty.
//
// A template that Liquid never saw usually breaks as JSON too, at one of its tags. Then the tags are the reason.
func (e *syntaxError) invalid(field string, src []byte) *InvalidError {
	if i := indexLiquid(src); i >= 0 && e.fault != tooLarge {
		e = &syntaxError{fault: unrendered, offset: i}
	}
	before := src[:e.offset]
	lineStart := bytes.LastIndexByte(before, '\n') + 1
	return &InvalidError{
		Field:  field,
		Cause:  faults[e.fault].cause,
		Reason: faults[e.fault].reason,
		Remedy: faults[e.fault].remedy,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[lineStart:]) + 1,
	}
}

// indexLiquid finds "{{" or "{%" in a text that is no JSON, -1 if there is none. See hasLiquid about the digit.
func indexLiquid(src []byte) int {
	for i := 0; i+1 < len(src); i++ {
		if src[i] == '{' && (src[i+1] == '{' || src[i+1] == '%' && (i+2 == len(src) || !isDigit(src[i+2]))) {
			return i
		}
	}
	return -1
}

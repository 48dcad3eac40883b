package sendapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
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

// The remedies in faults name Liquid only where a value that Liquid put into the template is the usual cause.
var faults = [...]struct {
	cause          Cause
	reason, remedy string
}{
	notJSON:      {causeSyntax, "is not JSON", "check its braces, commas and quotes"},
	endsEarly:    {causeSyntax, "is not JSON because it ends too early", "close every quote, bracket and brace"},
	quoteInside:  {causeEscape, "is not JSON because a quote inside a value ends it too early", escapeRemedy},
	rawControl:   {causeEscape, "is not JSON because a value contains a raw line break or tab", escapeRemedy},
	badEscape:    {causeEscape, "is not JSON because a value contains a raw backslash", escapeRemedy},
	strayComma:   {causeSyntax, "is not JSON because of a comma before a closing bracket", "remove that comma"},
	secondComma:  {causeSyntax, "is not JSON because of an extra comma", "remove it; a loop must write commas only between its entries"},
	commaMissing: {causeSyntax, "is not JSON because a comma is missing", "insert it there"},
	singleQuote:  {causeSyntax, "is not JSON because of single quotes", "use double quotes"},
	curlyQuote:   {causeSyntax, "is not JSON because of typographic quotes", `use straight ones, "`},
	comment:      {causeSyntax, "is not JSON because of a comment", "remove the comment"},
	valueMissing: {causeSyntax, "is not JSON because a value is missing", "put quotes around its Liquid tag or use the filter default"},
	notUTF8:      {causeEncoding, "is not UTF-8", "send it as UTF-8"},
	tooDeep:      {causeLimit, "is nested too deeply", fmt.Sprintf("a request needs far fewer than %d levels", maxDepth)},
	tooLarge:     {causeLimit, "is too large", ""},
	goesOn:       {causeSyntax, "continues after the end of its JSON", "remove what follows"},
	unrendered:   {causeLiquid, unrenderedReason, unrenderedRemedy},
}

// A syntaxError says where and how a text fails to be JSON.
type syntaxError struct {
	fault  fault
	offset int // in bytes
}

// invalid is e as an InvalidError for the text src, which is the value of field, or the whole body where field is empty.
//
// A template that was not rendered usually is no JSON either, at one of its tags. Then the fault is that Liquid was not rendered.
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

// indexLiquid is the offset in text of an opening of Liquid, "{{" or "{%", -1 if there is none.
//
// "{%" before a digit is no Liquid: a tag begins with a name, a dash or a space, while a half-encoded URL such as
// https://example.com/?q={%22a%22:1} has a percent-encoded character there.
func indexLiquid(text []byte) int {
	for i := 0; i+1 < len(text); i++ {
		brace := bytes.IndexByte(text[i:len(text)-1], '{')
		if brace < 0 {
			break
		}
		i += brace
		if text[i+1] == '{' || text[i+1] == '%' && !isDigit(peek(text, i+2)) {
			return i
		}
	}
	return -1
}

// diagnose returns the fault of src, for which d returned err. What d has read so far is sound, so the fault is behind it: at the
// position where a person would correct it, which may differ from the offset of err.
func diagnose(src []byte, d *jsontext.Decoder, err error) *syntaxError {
	last := int(d.InputOffset())
	pos := skipSpace(src, last)
	container, length := d.StackIndex(d.StackDepth())
	atName := container == jsontext.KindBeginObject && length%2 == 0
	switch {
	case container == jsontext.KindBeginObject && !atName:
		if peek(src, pos) != ':' {
			return unexpected(src, pos)
		}
		pos = skipSpace(src, pos+1)
	case length > 0:
		if peek(src, pos) != ',' {
			return unexpectedBehind(src, last, pos, container)
		}
		if pos = skipSpace(src, pos+1); peek(src, pos) == closing(container) {
			return &syntaxError{strayComma, pos}
		}
		fallthrough
	default:
		if container != jsontext.KindInvalid && peek(src, pos) == ',' {
			return &syntaxError{secondComma, pos}
		}
	}
	var within *jsontext.SyntacticError
	switch c := peek(src, pos); {
	case atName && c != '"':
		return unexpected(src, pos)
	case c == ',' || c == '}' || c == ']':
		return &syntaxError{valueMissing, pos}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &syntaxError{endsEarly, len(src)}
	case !errors.As(err, &within):
		return unexpected(src, pos)
	case c != '"':
		return unexpected(src, int(within.ByteOffset))
	case peek(src, int(within.ByteOffset)) == '\\':
		return &syntaxError{badEscape, endOfEscape(src, int(within.ByteOffset))}
	}
	return &syntaxError{rawControl, int(within.ByteOffset)}
}

// peek is the byte at pos, 0 at the end.
func peek(src []byte, pos int) byte {
	if pos < len(src) {
		return src[pos]
	}
	return 0
}

func closing(container jsontext.Kind) byte {
	if container == jsontext.KindBeginObject {
		return '}'
	}
	return ']'
}

// endOfEscape is the offset of the byte that breaks the escape sequence at pos.
func endOfEscape(src []byte, pos int) int {
	if pos++; peek(src, pos) != 'u' {
		return pos
	}
	for pos++; isHex(peek(src, pos)); pos++ {
	}
	return pos
}

// unexpected returns the fault of the character at pos.
func unexpected(src []byte, pos int) *syntaxError {
	if pos == len(src) {
		return &syntaxError{endsEarly, pos}
	}
	switch c, _ := utf8.DecodeRune(src[pos:]); c {
	case '\'':
		return &syntaxError{singleQuote, pos}
	case '“', '”', '„', '‟', '‘', '’', '‚', '«', '»', '″':
		return &syntaxError{curlyQuote, pos}
	case '/':
		if isComment(src[pos:]) {
			return &syntaxError{comment, pos}
		}
	}
	return &syntaxError{notJSON, pos}
}

// unexpectedBehind returns the fault of the character at pos, behind a value that ends at last, where a comma or the end of
// container belongs.
func unexpectedBehind(src []byte, last, pos int, container jsontext.Kind) *syntaxError {
	isString := src[last-1] == '"'
	switch c := peek(src, pos); {
	case pos == len(src) || isComment(src[pos:]) || c == '}' || c == ']':
		return unexpected(src, pos)
	case isString && !(c == '"' && beginsEntry(src[pos:], container)):
		return &syntaxError{quoteInside, pos}
	case c == '"', container == jsontext.KindBeginArray && (c == '{' || c == '['):
		return &syntaxError{commaMissing, pos}
	}
	return unexpected(src, pos)
}

// isComment reports whether rest begins as a comment of JavaScript does.
func isComment(rest []byte) bool {
	return bytes.HasPrefix(rest, []byte("//")) || bytes.HasPrefix(rest, []byte("/*"))
}

// beginsEntry reports whether rest begins with the string that begins the next entry of container. Then the comma before it is
// missing; any other string behind a string comes from a quote inside that string.
func beginsEntry(rest []byte, container jsontext.Kind) bool {
	d := newDecoder(rest)
	if _, err := d.ReadValue(); err != nil {
		return false
	}
	c := peek(rest, skipSpace(rest, int(d.InputOffset())))
	return container == jsontext.KindBeginObject && c == ':' || container == jsontext.KindBeginArray && (c == ',' || c == ']')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isAlpha(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

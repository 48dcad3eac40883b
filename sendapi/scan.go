package sendapi

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// maxDepth bounds how deep a request may nest. A carousel with buttons, the deepest body of the reference, needs eight levels.
const maxDepth = 32

// A tree is a JSON text scanned once. Nothing is decoded or copied: nodes are offsets into src, so that what goes to
// Facebook can be the caller's own bytes, with every field, digit and escape as they came.
type tree struct {
	src   []byte
	nodes []node // in the order of the text; nodes[0] is the whole
}

// A node is one value of a tree.
type node struct {
	key        span  // the member's name without its quotes; empty for an element of an array
	val        span  // with its quotes or brackets
	next       int32 // the first node behind this one and all within it
	parent     int32 // of the root: itself
	kind       byte  // '{', '[', '"', '0' for a number, or the first letter of true, false, null
	escaped    bool  // a string with a backslash
	brace      bool  // a string with a '{', or with a backslash that might hide one
	keyEscaped bool
}

type span struct{ start, end int32 }

// scan reads src, which must be one JSON text and nothing more.
// It accepts what encoding/json.Valid accepts, but for invalid UTF-8 and for nesting beyond maxDepth.
func scan(src []byte) (tree, *syntaxError) {
	// A carousel comes to 16 bytes for each value, a plain text to far more.
	s := scanner{src: src, nodes: make([]node, 0, min(8+len(src)/16, 256))}
	switch {
	case len(src) > math.MaxInt32:
		s.fail(tooLarge)
	case !utf8.Valid(src):
		s.pos = invalidUTF8(src)
		s.fail(notUTF8)
	case s.value(0, span{}, false):
		if s.space(); s.pos < len(src) {
			s.fail(goesOn)
		}
	}
	return tree{src: src, nodes: s.nodes}, s.err
}

func invalidUTF8(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(src)
}

type scanner struct {
	src   []byte
	pos   int
	depth int
	nodes []node
	err   *syntaxError
}

// fail records why the text is no JSON, at the present position. It returns false for the caller to hand on.
func (s *scanner) fail(f fault) bool {
	s.err = &syntaxError{fault: f, offset: s.pos}
	return false
}

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek is the byte at the present position, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) value(parent int32, key span, keyEscaped bool) bool {
	s.space()
	i := len(s.nodes)
	s.nodes = append(s.nodes, node{key: key, keyEscaped: keyEscaped, parent: parent})
	n := node{kind: s.peek(), val: span{start: int32(s.pos)}}
	ok := false
	switch n.kind {
	case '{':
		ok = s.object(int32(i))
	case '[':
		ok = s.array(int32(i))
	case '"':
		_, n.escaped, n.brace, ok = s.str()
	case 't':
		ok = s.literal("true")
	case 'f':
		ok = s.literal("false")
	case 'n':
		ok = s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		n.kind = '0'
		ok = s.number()
	case ',', '}', ']':
		ok = s.fail(valueMissing)
	default:
		ok = s.unexpected()
	}
	p := &s.nodes[i]
	p.kind, p.escaped, p.brace = n.kind, n.escaped, n.brace
	p.val = span{n.val.start, int32(s.pos)}
	p.next = int32(len(s.nodes))
	return ok
}

func (s *scanner) object(self int32) bool {
	if !s.open() {
		return false
	}
	if s.peek() == '}' {
		return s.close()
	}
	for {
		s.space()
		switch s.peek() {
		case '"':
		case '}':
			return s.fail(strayComma)
		case ',':
			return s.fail(secondComma)
		default:
			return s.unexpected()
		}
		key, escaped, _, ok := s.str()
		if !ok {
			return false
		}
		s.space()
		if s.peek() != ':' {
			return s.unexpected()
		}
		s.pos++
		if !s.value(self, key, escaped) {
			return false
		}
		switch more, ok := s.more('}'); {
		case !ok:
			return false
		case !more:
			return s.close()
		}
	}
}

func (s *scanner) array(self int32) bool {
	if !s.open() {
		return false
	}
	if s.peek() == ']' {
		return s.close()
	}
	for {
		s.space()
		switch s.peek() {
		case ']':
			return s.fail(strayComma)
		case ',':
			return s.fail(secondComma)
		}
		if !s.value(self, span{}, false) {
			return false
		}
		switch more, ok := s.more(']'); {
		case !ok:
			return false
		case !more:
			return s.close()
		}
	}
}

func (s *scanner) open() bool {
	if s.depth++; s.depth > maxDepth {
		return s.fail(tooDeep)
	}
	s.pos++
	s.space()
	return true
}

func (s *scanner) close() bool {
	s.depth--
	s.pos++
	return true
}

// more stands behind a value and says whether another follows before end.
func (s *scanner) more(end byte) (more, ok bool) {
	s.space()
	switch s.peek() {
	case ',':
		s.pos++
		return true, true
	case end:
		return false, true
	}
	return false, s.unexpectedBehind(end)
}

// unexpected fails with what stands at the present position.
func (s *scanner) unexpected() bool {
	if s.pos == len(s.src) {
		return s.fail(endsEarly)
	}
	switch c, _ := utf8.DecodeRune(s.src[s.pos:]); c {
	case '\'':
		return s.fail(singleQuote)
	case '“', '”', '„', '‟', '‘', '’', '‚', '«', '»', '″':
		return s.fail(curlyQuote)
	case '/':
		if s.isComment() {
			return s.fail(comment)
		}
	}
	return s.fail(notJSON)
}

// unexpectedBehind fails with what stands behind a value where a comma or end belongs.
func (s *scanner) unexpectedBehind(end byte) bool {
	before := bytes.TrimRight(s.src[:s.pos], " \t\r\n")
	isString := before[len(before)-1] == '"'
	switch c := s.peek(); {
	case s.pos == len(s.src) || s.isComment() || c == '}' || c == ']':
		return s.unexpected()
	case isString && !(c == '"' && s.beginsEntry(end)):
		return s.fail(quoteInside)
	case c == '"', end == ']' && (c == '{' || c == '['):
		return s.fail(commaMissing)
	}
	return s.unexpected()
}

// isComment reports whether a comment of JavaScript begins at the present position.
func (s *scanner) isComment() bool {
	rest := s.src[s.pos:]
	return bytes.HasPrefix(rest, []byte("//")) || bytes.HasPrefix(rest, []byte("/*"))
}

// beginsEntry reports whether the string at the present position is how the next entry begins, of an object or array that
// ends with end: then a comma before it is missing, while other strings behind a string come from a quote inside it.
func (s *scanner) beginsEntry(end byte) bool {
	ahead := scanner{src: s.src, pos: s.pos}
	if _, _, _, ok := ahead.str(); !ok {
		return false
	}
	ahead.space()
	c := ahead.peek()
	return end == '}' && c == ':' || end == ']' && (c == ',' || c == ']')
}

// plain holds the bytes of a string that need no second look.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\' && c != '{'
	}
	return t
}()

// str reads a string and returns where its text stands, without the quotes.
func (s *scanner) str() (text span, escaped, brace, ok bool) {
	s.pos++
	text.start = int32(s.pos)
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case plain[c]:
		case c == '"':
			text.end = int32(s.pos)
			s.pos++
			return text, escaped, brace, true
		case c == '{':
			brace = true
		case c == '\\':
			escaped, brace = true, true
			if !s.escape() {
				return text, escaped, brace, false
			}
			continue
		default:
			return text, escaped, brace, s.fail(rawControl)
		}
		s.pos++
	}
	return text, escaped, brace, s.fail(endsEarly)
}

func (s *scanner) escape() bool {
	s.pos++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return true
	case 'u':
		s.pos++
		for range 4 {
			if !isHex(s.peek()) {
				return s.fail(badEscape)
			}
			s.pos++
		}
		return true
	}
	return s.fail(badEscape)
}

func (s *scanner) literal(word string) bool {
	for i := range len(word) {
		if s.peek() != word[i] {
			return s.unexpected()
		}
		s.pos++
	}
	return true
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		if s.pos++; !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	start := s.pos
	for isDigit(s.peek()) {
		s.pos++
	}
	return s.pos > start || s.unexpected()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

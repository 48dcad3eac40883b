package sendapi

import (
	"bytes"
	"math"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth is the most levels of nesting. A carousel with buttons, the deepest body of the reference, needs eight.
const maxDepth = 32

// newDecoder returns a decoder of src that does not copy src. The decoder accepts duplicate names and half a surrogate pair, so
// that the checker can refuse them only where they matter.
func newDecoder(src []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(src), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// scan reads src, which must be exactly one JSON value. It accepts what encoding/json.Valid accepts, except invalid UTF-8 and
// nesting beyond maxDepth.
func scan(src []byte) (tree, *syntaxError) {
	t := tree{src: src}
	switch {
	case len(src) > math.MaxInt32:
		return t, &syntaxError{fault: tooLarge}
	case !utf8.Valid(src):
		return t, &syntaxError{fault: notUTF8, offset: invalidUTF8(src)}
	}
	d := newDecoder(src)
	if err := t.read(d); err != nil {
		return t, err
	}
	if end := skipSpace(src, int(d.InputOffset())); end < len(src) {
		return t, &syntaxError{fault: goesOn, offset: end}
	}
	return t, nil
}

// read fills the tree with one value and all within it.
func (t *tree) read(d *jsontext.Decoder) *syntaxError {
	// A carousel comes to 16 bytes for each value, a plain text to far more.
	t.nodes = make([]node, 0, min(8+len(t.src)/16, 256))
	parent := int32(0)
	var name text
	named := false // the name of the next member was read
	for {
		switch kind := d.PeekKind(); kind {
		case jsontext.KindBeginObject, jsontext.KindBeginArray:
			if _, err := d.ReadToken(); err != nil {
				return diagnose(t.src, d, err)
			}
			end := int32(d.InputOffset())
			if d.StackDepth() > maxDepth {
				return &syntaxError{fault: tooDeep, offset: int(end) - 1}
			}
			t.nodes = append(t.nodes, node{name: name, val: span{start: end - 1}, parent: parent, kind: byte(kind)})
			parent, name, named = int32(len(t.nodes)-1), text{}, false
		case jsontext.KindEndObject, jsontext.KindEndArray:
			if _, err := d.ReadToken(); err != nil {
				return diagnose(t.src, d, err)
			}
			container := &t.nodes[parent]
			container.val.end, container.next = int32(d.InputOffset()), int32(len(t.nodes))
			parent = container.parent
		default:
			raw, err := d.ReadValue()
			if err != nil {
				return diagnose(t.src, d, err)
			}
			end := int32(d.InputOffset())
			val := span{end - int32(len(raw)), end}
			if len(t.nodes) > 0 && t.nodes[parent].kind == '{' && !named {
				name, named = t.unquote(val), true
				continue
			}
			n := node{name: name, val: val, parent: parent, next: int32(len(t.nodes) + 1), kind: byte(kind)}
			if kind == jsontext.KindString {
				n.text = t.unquote(val)
			}
			t.nodes = append(t.nodes, n)
			name, named = text{}, false
		}
		if d.StackDepth() == 0 {
			return nil
		}
	}
}

// unquote is the text of the string at val.
func (t *tree) unquote(val span) text {
	raw := t.src[val.start:val.end]
	if bytes.IndexByte(raw, '\\') < 0 {
		return text{span: span{val.start + 1, val.end - 1}}
	}
	start := len(t.unescaped)
	var err error
	t.unescaped, err = jsontext.AppendUnquote(t.unescaped, raw)
	return text{span: span{int32(start), int32(len(t.unescaped))}, escaped: true, halfPair: err != nil}
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

// skipSpace is the offset of the first byte from offset on that is not white space of JSON.
func skipSpace(src []byte, offset int) int {
	return len(src) - len(bytes.TrimLeft(src[offset:], " \t\r\n"))
}

package sendapi

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A checker walks the tree of a request and holds it against the rules. The first fault found is kept, later ones are
// dropped, so that the rules read straight down.
type checker struct {
	tree
	err *InvalidError

	media    bool         // found an audio or video attachment
	template TemplateType // of the attachment, if it is a template
	opaque   bool         // the payload of an attachment is a string, left to Facebook
	quote    int32        // node of a number that has to be sent as a string; 0 for none
}

// fail refuses the value n.
func (c *checker) fail(n int32, cause Cause, reason, remedy string) {
	if c.err == nil {
		c.err = &InvalidError{Field: c.path(n), Cause: cause, Reason: reason, Remedy: remedy}
	}
}

// failMember refuses obj for its member name, which may be absent.
func (c *checker) failMember(obj int32, name string, cause Cause, reason, remedy string) {
	if c.err == nil {
		c.err = &InvalidError{Field: join(c.path(obj), name), Cause: cause, Reason: reason, Remedy: remedy}
	}
}

// member is the member of obj called name. It is 0, which no member can be, if there is none or it is null.
// Two of the name are refused: which of them counts, JSON leaves open.
func (c *checker) member(obj int32, name string) int32 {
	found := int32(0)
	end := c.nodes[obj].next
	for n := obj + 1; n < end; n = c.nodes[n].next { // not children, and lengths first: most of a check's time goes here
		member := &c.nodes[n]
		if !member.keyEscaped && int(member.key.end-member.key.start) != len(name) {
			continue
		}
		if c.isNamed(n, name) {
			if found != 0 {
				c.fail(n, CauseConflict, "is there twice", "keep one")
			}
			found = n
		}
	}
	if found != 0 && c.kind(found) == 'n' {
		return 0
	}
	return found
}

// only reports whether obj has no members but the named ones, so that nothing this package does not know is in it.
func (c *checker) only(obj int32, names ...string) bool {
	for n := range c.children(obj) {
		if !slices.ContainsFunc(names, func(name string) bool { return c.isNamed(n, name) }) {
			return false
		}
	}
	return true
}

// object is the member of obj called name, which must be an object if it is there. It is 0 if not.
func (c *checker) object(obj int32, name string) int32 {
	return c.structure(obj, name, '{', "must be an object in braces")
}

// array is the member of obj called name, which must be an array if it is there. It is 0 if not.
func (c *checker) array(obj int32, name string) int32 {
	return c.structure(obj, name, '[', "must be a list in brackets")
}

func (c *checker) structure(obj int32, name string, kind byte, reason string) int32 {
	n := c.member(obj, name)
	if n != 0 && c.kind(n) != kind {
		c.fail(n, CauseType, reason, "see the Send API reference for its form")
		return 0
	}
	return n
}

// list is an array of objects with at least least and at most most entries; most 0 means that no limit is known.
func (c *checker) list(obj int32, name string, least, most int) int32 {
	arr := c.array(obj, name)
	if arr == 0 {
		if least > 0 {
			c.failMember(obj, name, CauseMissing, "is missing", "add it")
		}
		return 0
	}
	count := 0
	for n := range c.children(arr) {
		if c.kind(n) != '{' {
			c.fail(n, CauseType, "must be an object in braces", "see the Send API reference for its form")
			return 0
		}
		count++
	}
	switch {
	case count < least:
		c.fail(arr, CauseLimit, fmt.Sprintf("has %d entries, fewer than %d", count, least), "add what is missing")
	case most > 0 && count > most:
		c.fail(arr, CauseLimit, fmt.Sprintf("has %d entries, more than %d", count, most), "remove some")
	}
	return arr
}

// filled is like list for one that may be absent and that Facebook refuses if it is empty: "(#194) param
// name_placeholder[elements][0][buttons] has too few elements" (guidone/node-red-contrib-chatbot#512; howdyai/botkit#936).
// Libraries leave out empty quick_replies too (bottenderjs/messaging-apis#260, theopenconversationkit/tock#102).
func (c *checker) filled(obj int32, name string, most int) int32 {
	arr := c.list(obj, name, 0, most)
	if arr != 0 && c.empty(arr) {
		c.fail(arr, CauseEmpty, "is an empty list", "leave it out, or give it an entry")
	}
	return arr
}

// each is the objects of a list, none for 0.
func (c *checker) each(arr int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		if arr == 0 {
			return
		}
		for child := arr + 1; child < c.nodes[arr].next; child = c.nodes[child].next {
			if !yield(child) {
				return
			}
		}
	}
}

// optional is the member of obj called name: text of at most most characters, 0 for no known limit.
// A number or a boolean passes for text, as it would in a form: Facebook judges it.
func (c *checker) optional(obj int32, name string, most int) int32 {
	n := c.member(obj, name)
	if n == 0 {
		return 0
	}
	switch c.kind(n) {
	case '{', '[':
		c.fail(n, CauseType, "must be text", "put it in quotes")
	case '"':
		if most > 0 && len(c.text(n)) > most {
			if count := countRunes(c.text(n), c.nodes[n].escaped); count > most {
				c.fail(n, CauseLimit, fmt.Sprintf("has %d characters, more than %d", count, most), "use the Liquid filter truncate")
			}
		}
	}
	return n
}

// required is like optional for text that must be there and say something.
func (c *checker) required(obj int32, name string, most int) int32 {
	n := c.optional(obj, name, most)
	switch {
	case n == 0:
		c.failMember(obj, name, CauseMissing, "is missing", "add it")
	case c.blank(n):
		c.fail(n, CauseEmpty, "is empty", defaultRemedy)
	}
	return n
}

// word is like required for a word of Facebook's, which seldom comes from an attribute.
func (c *checker) word(obj int32, name string) int32 {
	n := c.optional(obj, name, 0)
	switch {
	case n == 0:
		c.failMember(obj, name, CauseMissing, "is missing", "add it")
	case c.blank(n):
		c.fail(n, CauseEmpty, "is empty", "see the Send API reference for its values")
	}
	return n
}

// url is the member of obj called name, which must be a URL unless it is blank or missing.
func (c *checker) url(obj int32, name string) int32 {
	n := c.optional(obj, name, 0)
	if n != 0 {
		c.checkURL(n)
	}
	return n
}

// requiredURL is like url for one that must be there.
func (c *checker) requiredURL(obj int32, name string) {
	if n := c.required(obj, name, 0); n != 0 {
		c.checkURL(n)
	}
}

// checkURL refuses the value n if it is neither a URL nor blank.
func (c *checker) checkURL(n int32) {
	if c.blank(n) {
		return
	}
	var text []byte
	escaped := c.nodes[n].escaped
	if c.kind(n) == '"' {
		if text = c.text(n); escaped {
			text, _ = appendText(nil, text)
		}
	}
	switch {
	case bytes.IndexByte(text, ' ') >= 0 || escaped && bytes.ContainsAny(text, "\t\r\n"):
		c.fail(n, CauseURL, "holds a space", "use the Liquid filter url_encode for what is put into it")
	case !isURL(text):
		c.fail(n, CauseURL, "is no URL", "begin it with https://")
	}
}

// isURL reports whether text begins as a URL: with a scheme and a host, or with a scheme of those that have no host.
func isURL(text []byte) bool {
	scheme, rest, _ := bytes.Cut(text, []byte(":"))
	for i, b := range scheme {
		if !isLetter(rune(b)) && (i == 0 || !isDigit(b) && b != '+' && b != '-') {
			return false
		}
	}
	if host, ok := bytes.CutPrefix(rest, []byte("//")); ok {
		return len(scheme) > 0 && len(host) > 0 && host[0] != '/' && host[0] != '?' && host[0] != '#'
	}
	switch strings.ToLower(string(scheme)) {
	case "mailto", "tel", "sms":
		return len(rest) > 0
	}
	return false
}

// says reports whether the value n has something in it.
func (c *checker) says(n int32) bool {
	switch c.kind(n) {
	case 'n':
		return false
	case '"':
		return !c.blank(n)
	case '{', '[':
		return !c.empty(n)
	}
	return true
}

func (c *checker) blank(n int32) bool { return c.kind(n) == '"' && isBlank(c.text(n)) }

// is reports whether n is the word, in letters of either case: the Page messages reference writes enums in capitals, the
// guides write the same ones in small letters, and both work.
func (c *checker) is(n int32, word string) bool {
	return n != 0 && c.kind(n) == '"' && equals(c.text(n), word, true)
}

// enum is the value of n as one of the known words, or else as it stands: Facebook adds words faster than this package
// can, so an unknown one is no fault. It is empty if n is 0.
func enum[T ~string](c *checker, n int32, known ...T) T {
	if n == 0 || c.kind(n) != '"' {
		return ""
	}
	for _, word := range known {
		if equals(c.text(n), string(word), true) {
			return word
		}
	}
	word, _ := c.string(n)
	return T(word)
}

// liquid refuses the first string that holds unrendered Liquid, whatever its field: what was not rendered in one place was
// rendered nowhere, and a campaign that goes out like that cannot be called back.
//
// The price is that a text about templates, a payload in a bot's own template language, and the {{first_name}} of Meta's
// marketing messages, which are another API, cannot be sent from here.
func (c *checker) liquid() {
	for i := range c.nodes {
		if n := int32(i); c.nodes[i].brace && hasLiquid(c.text(n)) {
			c.fail(n, CauseLiquid, unrenderedReason, unrenderedRemedy)
			return
		}
	}
}

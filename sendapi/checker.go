package sendapi

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A checker checks the tree of a request against the rules. It keeps the first fault and drops later ones, so that a rule can
// continue after a fault.
type checker struct {
	tree
	err *InvalidError

	media    bool         // found an audio or video attachment
	template templateType // of the attachment, if it is a template
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

// member returns the member of obj called name. It returns 0, which no member can be, if there is none or it is null.
// Two members of one name are refused, since JSON does not say which of them counts.
func (c *checker) member(obj int32, name string) int32 {
	found := int32(0)
	end := c.nodes[obj].next
	for n := obj + 1; n < end; n = c.nodes[n].next { // not children: most of a check's time goes here
		if c.isNamed(n, name) {
			if found != 0 {
				c.fail(n, causeConflict, "appears twice", "keep one")
			}
			found = n
		}
	}
	if found != 0 && c.kind(found) == 'n' {
		return 0
	}
	return found
}

// only reports whether obj has no other members than the named ones.
func (c *checker) only(obj int32, names ...string) bool {
	for n := range c.children(obj) {
		if !slices.ContainsFunc(names, func(name string) bool { return c.isNamed(n, name) }) {
			return false
		}
	}
	return true
}

// object returns the member of obj called name, which must be an object, or 0 if there is none.
func (c *checker) object(obj int32, name string) int32 {
	return c.structure(obj, name, '{', "must be an object in braces")
}

// array returns the member of obj called name, which must be an array, or 0 if there is none.
func (c *checker) array(obj int32, name string) int32 {
	return c.structure(obj, name, '[', "must be a list in brackets")
}

func (c *checker) structure(obj int32, name string, kind byte, reason string) int32 {
	n := c.member(obj, name)
	if n != 0 && c.kind(n) != kind {
		c.fail(n, causeType, reason, "see the Send API reference for its form")
		return 0
	}
	return n
}

// list returns an array of least to most objects; most is 0 where no limit is known.
func (c *checker) list(obj int32, name string, least, most int) int32 {
	arr := c.array(obj, name)
	if arr == 0 {
		if least > 0 {
			c.failMember(obj, name, causeMissing, "is missing", "add it")
		}
		return 0
	}
	count := 0
	for n := range c.children(arr) {
		if c.kind(n) != '{' {
			c.fail(n, causeType, "must be an object in braces", "see the Send API reference for its form")
			return 0
		}
		count++
	}
	switch {
	case count < least:
		c.fail(arr, causeLimit, fmt.Sprintf("must have at least %s (got %d)", entries(least), count), "add the missing ones")
	case most > 0 && count > most:
		c.fail(arr, causeLimit, fmt.Sprintf("must have at most %s (got %d)", entries(most), count), "remove some")
	}
	return arr
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return strconv.Itoa(n) + " entries"
}

// filled is like list for an array that may be absent but must not be empty: "(#194) param
// name_placeholder[elements][0][buttons] has too few elements" (guidone/node-red-contrib-chatbot#512; howdyai/botkit#936).
// Libraries leave out empty quick_replies too (bottenderjs/messaging-apis#260, theopenconversationkit/tock#102).
func (c *checker) filled(obj int32, name string, most int) int32 {
	arr := c.list(obj, name, 0, most)
	if arr != 0 && c.empty(arr) {
		c.fail(arr, causeEmpty, "must not be an empty list", "leave it out or add an entry")
	}
	return arr
}

// each yields the entries of arr, none if arr is 0.
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

// optional returns the member of obj called name, a text of at most most characters; most is 0 where no limit is known.
// A number or a boolean passes as a text, as it would in a form, for Facebook to judge.
func (c *checker) optional(obj int32, name string, most int) int32 {
	n := c.member(obj, name)
	if n == 0 {
		return 0
	}
	switch c.kind(n) {
	case '{', '[':
		c.fail(n, causeType, "must be text", "put it in quotes")
	case '"':
		if most > 0 && len(c.text(n)) > most {
			if count := utf8.RuneCount(c.text(n)); count > most {
				c.fail(n, causeLimit, fmt.Sprintf("must have at most %d characters (got %d)", most, count), "use the Liquid filter truncate")
			}
		}
	}
	return n
}

// required is like optional for a text that must be there and not be blank.
func (c *checker) required(obj int32, name string, most int) int32 {
	n := c.optional(obj, name, most)
	switch {
	case n == 0:
		c.failMember(obj, name, causeMissing, "is missing", "add it")
	case c.blank(n):
		c.fail(n, causeEmpty, "is empty", defaultRemedy)
	}
	return n
}

// keyword is like required for a value that is one of a list of Facebook's, which seldom comes from an attribute.
func (c *checker) keyword(obj int32, name string) int32 {
	n := c.optional(obj, name, 0)
	switch {
	case n == 0:
		c.failMember(obj, name, causeMissing, "is missing", "add it")
	case c.blank(n):
		c.fail(n, causeEmpty, "is empty", "see the Send API reference for its values")
	}
	return n
}

// url returns the member of obj called name, which must be a URL unless it is blank or missing.
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
	text := c.text(n)
	switch {
	case bytes.ContainsAny(text, " \t\r\n"):
		c.fail(n, causeURL, "contains a space", "apply the Liquid filter url_encode to the values in it")
	case !isURL(text):
		c.fail(n, causeURL, "is not a URL", "start it with https://")
	}
}

// isURL reports whether text begins as a URL does: with a scheme and a host, or with a scheme that has no host.
func isURL(text []byte) bool {
	scheme, rest, _ := bytes.Cut(text, []byte(":"))
	for i, b := range scheme {
		if !isAlpha(rune(b)) && (i == 0 || !isDigit(b) && b != '+' && b != '-') {
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

// hasContent reports whether the value n is neither null, nor blank, nor empty.
func (c *checker) hasContent(n int32) bool {
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

func (c *checker) blank(n int32) bool {
	return c.kind(n) == '"' && len(bytes.TrimSpace(c.text(n))) == 0
}

// isKeyword reports whether n is keyword, in upper or lower case: the Page messages reference writes enums in capitals, the
// guides write the same ones in lower case, and both work.
func (c *checker) isKeyword(n int32, keyword string) bool {
	return n != 0 && c.kind(n) == '"' && equalsFold(c.text(n), keyword)
}

// enum returns the value of n as one of the known ones, or else as it came: Facebook adds values faster than this package
// can, so an unknown one is no fault. It is empty if n is 0.
func enum[T ~string](c *checker, n int32, known ...T) T {
	if n == 0 || c.kind(n) != '"' {
		return ""
	}
	for _, value := range known {
		if equalsFold(c.text(n), string(value)) {
			return value
		}
	}
	return T(c.text(n))
}

// equalsFold reports whether text is the ASCII string ascii, in upper or lower case. The length keeps out characters beyond
// ASCII that fold to one of it, such as the Kelvin sign.
func equalsFold(text []byte, ascii string) bool {
	return len(text) == len(ascii) && strings.EqualFold(string(text), ascii)
}

// liquid refuses the first string that contains unrendered Liquid, whatever its field: if Liquid was not rendered in one field,
// it was rendered in none, and a campaign that was sent like that cannot be recalled.
//
// The price is that Brazier cannot send a text about templates, a payload in a bot's own template language, or the
// {{first_name}} of Meta's marketing messages, which are another API.
func (c *checker) liquid() {
	for i := range c.nodes {
		if n := int32(i); c.kind(n) == '"' && indexLiquid(c.text(n)) >= 0 {
			c.fail(n, causeLiquid, unrenderedReason, unrenderedRemedy)
			return
		}
	}
}

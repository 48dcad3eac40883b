package sendapi

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// A checker walks the tree of a request and holds it against the rules. The first fault found is kept, later ones are
// dropped, so that the rules read straight down.
type checker struct {
	tree
	err *InvalidError

	media    bool         // found an audio or video attachment
	template TemplateType // of the attachment, if it is a template
	quote    int32        // node of a number that has to be sent as a string; 0 for none
}

// text is the text of a string, without its quotes.
func (t *tree) text(n int32) []byte {
	val := t.nodes[n].val
	return t.src[val.start+1 : val.end-1]
}

// string is the text of a string with its escapes undone. It fails at half of a surrogate pair.
func (t *tree) string(n int32) (string, bool) {
	if !t.nodes[n].escaped {
		return string(t.text(n)), true
	}
	text, ok := appendText(make([]byte, 0, len(t.text(n))), t.text(n))
	return string(text), ok
}

func (t *tree) kind(n int32) byte { return t.nodes[n].kind }

// children are the members of an object or the elements of an array.
func (t *tree) children(n int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for child := n + 1; child < t.nodes[n].next; child = t.nodes[child].next {
			if !yield(child) {
				return
			}
		}
	}
}

// empty reports whether an object or an array has nothing in it.
func (t *tree) empty(n int32) bool { return t.nodes[n].next == n+1 }

func (t *tree) isNamed(n int32, name string) bool {
	key := t.nodes[n].key
	if !t.nodes[n].keyEscaped {
		return string(t.src[key.start:key.end]) == name
	}
	return equals(t.src[key.start:key.end], name, false)
}

// path names the place of n as InvalidError.Field does. Below a name it does not know it says no more.
func (t *tree) path(n int32) string {
	if n == 0 {
		return ""
	}
	parent := t.nodes[n].parent
	path := t.path(parent)
	switch {
	case strings.HasSuffix(path, "*"):
		return path
	case t.kind(parent) == '[':
		return path + "[" + strconv.Itoa(t.index(n)) + "]"
	}
	for _, name := range fieldNames {
		if t.isNamed(n, name) {
			return join(path, name)
		}
	}
	return join(path, "*")
}

// index is the place of an element in its array.
func (t *tree) index(n int32) int {
	index := 0
	for child := range t.children(t.nodes[n].parent) {
		if child == n {
			break
		}
		index++
	}
	return index
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldNames are the names that may stand in an error. A name the caller made up could be anything.
var fieldNames = []string{
	"recipient", "id", "user_ref", "comment_id", "post_id", "notification_messages_token", "one_time_notif_token",
	"phone_number", "name", "first_name", "last_name",
	"message", "messaging_type", "tag", "notification_type", "sender_action", "persona_id", "reply_to", "mid", "payload",
	"message_id", "reaction", "thread_control", "access_token", "appsecret_proof", "appsecret_time",
	"text", "dynamic_text", "fallback_text", "attachment", "attachments", "type", "url", "attachment_id", "is_reusable",
	"sticker_id", "metadata", "quick_replies", "content_type", "title", "image_url",
	"template", "language", "code", "components", "parameters",
	"template_type", "elements", "subtitle", "buttons", "default_action", "fallback_url", "media_type", "sharable",
	"images", "action", "is_hero_image",
	"recipient_name", "merchant_name", "order_number", "currency", "payment_method", "order_url", "timestamp", "quantity",
	"price", "address", "street_1", "street_2", "city", "postal_code", "state", "country", "summary", "subtotal",
	"shipping_cost", "total_tax", "total_cost", "adjustments", "amount",
	"coupon_code", "coupon_url", "coupon_url_button_title", "coupon_pre_message",
	"button_title", "feedback_screens", "questions", "score_label", "score_option", "follow_up", "placeholder",
	"business_privacy", "expires_in_days",
}

// fail refuses the value n.
func (c *checker) fail(n int32, reason, remedy string) {
	if c.err == nil {
		c.err = &InvalidError{Field: c.path(n), Reason: reason, Remedy: remedy}
	}
}

// failMember refuses obj for its member name, which may be absent.
func (c *checker) failMember(obj int32, name, reason, remedy string) {
	if c.err == nil {
		c.err = &InvalidError{Field: join(c.path(obj), name), Reason: reason, Remedy: remedy}
	}
}

// member is the member of obj called name. It is 0, which no member can be, if there is none or it is null.
// Two of the name are refused: which of them counts, JSON leaves open.
func (c *checker) member(obj int32, name string) int32 {
	found := int32(0)
	for n := range c.children(obj) {
		if c.isNamed(n, name) {
			if found != 0 {
				c.fail(n, "is there twice", "keep one")
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
		c.fail(n, reason, "see the Send API reference for its form")
		return 0
	}
	return n
}

// list is an array of objects with at least least and at most most entries; most 0 means that no limit is known.
func (c *checker) list(obj int32, name string, least, most int) int32 {
	arr := c.array(obj, name)
	if arr == 0 {
		if least > 0 {
			c.failMember(obj, name, "is missing", "add it")
		}
		return 0
	}
	count := 0
	for n := range c.children(arr) {
		if c.kind(n) != '{' {
			c.fail(n, "must be an object in braces", "see the Send API reference for its form")
			return 0
		}
		count++
	}
	switch {
	case count < least:
		c.fail(arr, fmt.Sprintf("has %d entries, fewer than %d", count, least), "add what is missing")
	case most > 0 && count > most:
		c.fail(arr, fmt.Sprintf("has %d entries, more than %d", count, most), "remove some")
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
		c.fail(n, "must be text", "put it in quotes")
	case '"':
		if most > 0 && len(c.text(n)) > most {
			if count := countRunes(c.text(n), c.nodes[n].escaped); count > most {
				c.fail(n, fmt.Sprintf("has %d characters, more than %d", count, most), "use the Liquid filter truncate")
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
		c.failMember(obj, name, "is missing", "add it")
	case c.blank(n):
		c.fail(n, "is empty", defaultRemedy)
	}
	return n
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
			c.fail(n, unrenderedReason, unrenderedRemedy)
			return
		}
	}
}

package sendapi

import (
	"iter"
	"strconv"
	"strings"
)

// A tree is a JSON text scanned once. Nothing is copied but strings with escapes: nodes are offsets into src, so that what
// goes to Facebook can be the caller's own bytes, with every field, digit and escape as they came.
type tree struct {
	src       []byte
	unescaped []byte // the texts of strings that have escapes, one behind the other
	nodes     []node // in the order of src; nodes[0] is the whole
}

// A node is one value of a tree.
type node struct {
	name   text  // of a member; empty for an element of an array
	val    span  // with its quotes or brackets
	text   text  // of a string
	next   int32 // the first node behind this one and all within it
	parent int32 // of the root: itself
	kind   byte  // '{', '[', '"', '0' for a number, or the first character of true, false, null
}

type span struct{ start, end int32 }

// A text is the value of a string, without its quotes and with its escapes undone.
type text struct {
	span          // of tree.src, or of tree.unescaped if escaped
	escaped  bool // had escapes
	halfPair bool // had half of a surrogate pair, which has no UTF-8 and became U+FFFD
}

func (t *tree) bytes(x text) []byte {
	if x.escaped {
		return t.unescaped[x.start:x.end]
	}
	return t.src[x.start:x.end]
}

// text is the text of a string.
func (t *tree) text(n int32) []byte { return t.bytes(t.nodes[n].text) }

// name is the name of a member.
func (t *tree) name(n int32) []byte { return t.bytes(t.nodes[n].name) }

func (t *tree) isNamed(n int32, name string) bool { return string(t.name(n)) == name }

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

// empty reports whether an object or an array has no entries.
func (t *tree) empty(n int32) bool { return t.nodes[n].next == n+1 }

// path is the path of n as InvalidError.Field has it. It ends at the first name that this package does not know.
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

// index is the index of an element in its array.
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
	"batch", "recipient", "id", "user_ref", "comment_id", "post_id", "notification_messages_token", "one_time_notif_token",
	"phone_number", "name", "first_name", "last_name",
	"message", "messaging_type", "tag", "notification_type", "sender_action", "persona_id", "reply_to", "mid", "payload",
	"message_id", "reaction", "thread_control", "access_token", "appsecret_proof", "appsecret_time",
	"text", "dynamic_text", "fallback_text", "attachment", "attachments", "type", "url", "attachment_id", "is_reusable",
	"sticker_id", "metadata", "quick_replies", "quickReplies", "content_type", "title", "image_url",
	"template", "language", "code", "components", "parameters", "sub_type", "index",
	"template_type", "elements", "subtitle", "buttons", "default_action", "item_url", "fallback_url", "media_type", "sharable",
	"images", "action", "is_hero_image",
	"recipient_name", "merchant_name", "order_number", "currency", "payment_method", "order_url", "timestamp", "quantity",
	"price", "address", "street_1", "street_2", "city", "postal_code", "state", "country", "summary", "subtotal",
	"shipping_cost", "total_tax", "total_cost", "adjustments", "amount",
	"coupon_code", "coupon_url", "coupon_url_button_title", "coupon_pre_message",
	"button_title", "feedback_screens", "questions", "score_label", "score_option", "follow_up", "placeholder",
	"business_privacy", "expires_in_days",
}

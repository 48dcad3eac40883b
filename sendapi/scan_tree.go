package sendapi

import (
	"iter"
	"strconv"
	"strings"
)

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
	member := &t.nodes[n]
	key := t.src[member.key.start:member.key.end]
	if !member.keyEscaped {
		return string(key) == name
	}
	return equals(key, name, false)
}

// name is the name of a member, its escapes undone.
func (t *tree) name(n int32) []byte {
	key := t.nodes[n].key
	name := t.src[key.start:key.end]
	if t.nodes[n].keyEscaped {
		name, _ = appendText(nil, name)
	}
	return name
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

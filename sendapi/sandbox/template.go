package sandbox

import (
	"maps"
	"slices"
	"strings"
)

// templates are Facebook's template types, each with its rules. The rules are nil for types of whose pages only the names were
// looked up.
var templates = map[string]func(*rules, node){
	"generic":              (*rules).genericTemplate,
	"button":               (*rules).buttonTemplate,
	"media":                (*rules).mediaTemplate,
	"receipt":              (*rules).receipt,
	"coupon":               (*rules).coupon,
	"product":              (*rules).product,
	"customer_feedback":    (*rules).feedback,
	"image_grid":           (*rules).imageGrid,
	"airline_boardingpass": nil, "airline_checkin": nil, "airline_itinerary": nil, "airline_update": nil, "notification_messages": nil, "one_time_notif_req": nil,
}

var templateTypes = slices.Sorted(maps.Keys(templates))

// template checks the payload of an attachment of type template and returns its template_type.
func (r *rules) template(n node) string {
	n.at = ""
	kind := strings.ToLower(r.need(n, "template_type", 0))
	if kind == "list" || kind == "open_graph" { // microsoft/botbuilder-js#1686, restfb/restfb#1015
		r.fail(100, 0, "The %s template on Messenger Platform is deprecated on API 4.0.", kind)
	}
	r.keyword(n, "template_type", templateTypes...)
	if rule := templates[kind]; rule != nil {
		rule(r, n)
	}
	return kind
}

// genericTemplate requires of each element one property with content besides its title (vjrantal/account-linking-demo-bot#3).
func (r *rules) genericTemplate(n node) {
	for _, e := range r.list(n, "elements", 1, 10) {
		r.need(e, "title", 80)
		subtitle, image, item := r.text(e, "subtitle", 80), r.file(e, "image_url"), r.link(e, "item_url")
		action, acts := r.object(e, "default_action")
		if acts {
			r.keyword(action, "type", "web_url")
			r.need(action, "url", 0)
			r.link(action, "url")
		}
		r.buttons(e)
		if blank(subtitle) && image == "" && item == "" && !acts && !e.has("buttons") {
			r.fail(100, 2018035, "Incomplete element data: title and at least one other field (image url, subtitle or buttons) is required with non-empty value")
		}
	}
}

func (r *rules) buttonTemplate(n node) {
	r.need(n, "text", 640)
	if !n.has("buttons") {
		r.missing(n.path("buttons"))
	}
	r.buttons(n)
}

// buttonTypes are those of the Buttons guide, and the share button of older pages.
var buttonTypes = []string{"web_url", "postback", "phone_number", "account_link", "account_unlink", "game_play", "element_share"}

// buttons checks the one to three buttons of a template or an element. Facebook accepts a title of more than 20 characters and
// cuts it (microsoft/BotFramework-Services#112).
func (r *rules) buttons(n node) {
	for _, b := range r.filled(n, "buttons", 3) {
		r.need(b, "type", 0)
		kind := r.keyword(b, "type", buttonTypes...)
		switch {
		case kind == "web_url" || kind == "postback" || kind == "phone_number":
			r.need(b, "title", 0)
		case b.has("title") && blank(r.text(b, "title", 0)): // maciekmm/messenger-platform-go-sdk#14
			r.empty(b.path("title"))
		}
		switch kind {
		case "web_url", "account_link":
			r.need(b, "url", 0)
			r.link(b, "url")
			r.link(b, "fallback_url")
		case "postback":
			r.need(b, "payload", 1000)
		case "phone_number":
			r.need(b, "payload", 0)
		}
	}
}

func (r *rules) mediaTemplate(n node) {
	for _, e := range r.list(n, "elements", 1, 1) {
		r.need(e, "media_type", 0)
		r.keyword(e, "media_type", "image", "video")
		url := r.file(e, "url")
		r.id(e, "attachment_id", 2018074)
		if (url != "") == e.has("attachment_id") {
			r.fail(100, 0, "Param %s must have either a url or an attachment_id.", e.at)
		}
		r.buttons(e)
	}
}

// isVideo reports whether a template's first element is a video, which counts as media.
func isVideo(n node) bool {
	list, _ := n.m["elements"].([]any)
	if len(list) == 0 {
		return false
	}
	e, _ := list[0].(map[string]any)
	kind, _ := e["media_type"].(string)
	return strings.EqualFold(kind, "video")
}

func (r *rules) receipt(n node) {
	for _, key := range []string{"recipient_name", "order_number", "currency", "payment_method"} {
		r.need(n, key, 0)
	}
	r.link(n, "order_url")
	for _, e := range r.list(n, "elements", 0, 100) {
		r.need(e, "title", 0)
		r.file(e, "image_url")
	}
	if summary, ok := r.object(n, "summary"); ok {
		r.need(summary, "total_cost", 0)
	} else {
		r.missing(n.path("summary"))
	}
}

func (r *rules) coupon(n node) {
	r.need(n, "title", 80)
	r.text(n, "subtitle", 80)
	r.file(n, "image_url")
	if blank(r.text(n, "coupon_code", 0)) && r.link(n, "coupon_url") == "" {
		r.missing(n.path("coupon_code"))
	}
}

func (r *rules) product(n node) {
	for _, e := range r.list(n, "elements", 1, 10) {
		r.need(e, "id", 0)
		r.id(e, "id", 2018320)
	}
}

func (r *rules) feedback(n node) {
	r.need(n, "title", 65)
	r.need(n, "subtitle", 80)
	r.need(n, "button_title", 20)
	for _, screen := range r.list(n, "feedback_screens", 1, 1) {
		for _, q := range r.list(screen, "questions", 1, 1) {
			r.need(q, "id", 0)
			r.need(q, "type", 0)
			r.keyword(q, "type", "csat", "nps", "ces", "free_form")
			r.text(q, "title", 85)
		}
	}
	if privacy, ok := r.object(n, "business_privacy"); ok {
		r.need(privacy, "url", 0)
		r.link(privacy, "url")
	} else {
		r.missing(n.path("business_privacy"))
	}
}

func (r *rules) imageGrid(n node) {
	for _, e := range r.list(n, "elements", 1, 1) {
		r.text(e, "title", 45)
		r.text(e, "subtitle", 80)
		for _, image := range r.list(e, "images", 2, 6) {
			r.need(image, "url", 0)
			r.file(image, "url")
		}
		r.buttons(e)
	}
}

package sendapi

import (
	"strings"
	"testing"
)

// attach is a request with a template of the type and further members.
func attach(templateType, members string) string {
	if members != "" {
		members = "," + members
	}
	return say(`"attachment":{"type":"template","payload":{"template_type":"` + templateType + `"` + members + `}}`)
}

func list(name string, count int, element string) string {
	return `"` + name + `":[` + strings.TrimSuffix(strings.Repeat(element+",", count), ",") + `]`
}

const (
	urlButton      = `{"type":"web_url","title":"View","url":"https://x.example/"}`
	card           = `{"title":"T-shirt","subtitle":"cotton"}`
	receiptFields  = `"recipient_name":"Ann","order_number":"1","currency":"USD","payment_method":"Visa 1234"`
	feedbackFields = `"title":"Rate us","subtitle":"two questions","button_title":"Rate","business_privacy":{"url":"https://x.example/privacy"}`
	screens        = `"feedback_screens":[{"questions":[{"id":"q1","type":"csat","title":"How was it?"}]}]`
	gridImage      = `{"url":"https://x.example/1.png"}`
)

func TestParseTemplates(t *testing.T) {
	of := func(count int, char string) string { return strings.Repeat(char, count) }
	tests := []struct {
		name, kind, members string
		media               bool
	}{
		{"carousel", "generic", list("elements", 10, card), false},
		{"longest card", "generic", list("elements", 1, `{"title":"`+of(80, "ä")+`","subtitle":"`+of(80, "ä")+`","default_action":{"type":"web_url","url":"https://x.example"},`+list("buttons", 3, urlButton)+`}`), false},
		{"card with something not known yet", "generic", list("elements", 1, `{"title":"t","hologram":1}`), false},
		{"kind in capitals", "GENERIC", list("elements", 1, card), false},
		{"buttons", "button", `"text":"` + of(640, "ä") + `",` + list("buttons", 3, urlButton), false},
		{"every button", "button", `"text":"?","buttons":[{"type":"postback","title":"a","payload":"` + of(1000, "p") + `"},{"type":"phone_number","title":"Call","payload":"+16505551234"},{"type":"account_link","url":"https://x.example"}]`, false},
		{"further buttons", "button", `"text":"?","buttons":[{"type":"account_unlink"},{"type":"game_play","title":"Play"},{"type":"new"}]`, false},
		{"button cut by Facebook", "button", `"text":"?","buttons":[{"type":"postback","title":"` + of(40, "t") + `","payload":"p"}]`, false},
		{"media image", "media", `"elements":[{"media_type":"image","attachment_id":"12",` + list("buttons", 3, urlButton) + `}]`, false},
		{"media video", "media", `"elements":[{"media_type":"video","url":"https://www.facebook.com/x/videos/1"}]`, true},
		{"receipt", "receipt", receiptFields + `,"summary":{"total_cost":56.14}`, false},
		{"long receipt", "receipt", receiptFields + `,"summary":{"total_cost":"56.14"},` + list("elements", 100, `{"title":"Shirt","price":50}`), false},
		{"coupon", "coupon", `"title":"10% off","coupon_code":"10PERCENT"`, false},
		{"coupon by url", "coupon", `"title":"10% off","coupon_url":"https://x.example","coupon_code":""`, false},
		{"products", "product", list("elements", 10, `{"id":"12"}`), false},
		{"product as a number", "product", list("elements", 1, `{"id":12}`), false},
		{"feedback", "customer_feedback", feedbackFields + "," + screens, false},
		{"image grid", "image_grid", `"elements":[{"title":"` + of(45, "t") + `","subtitle":"` + of(80, "s") + `",` + list("images", 6, gridImage) + `,` + list("buttons", 3, urlButton) + `}]`, false},
		{"unknown kind", "hologram", ``, false},
		{"unknown kind with known names", "hologram", `"elements":"none","buttons":17`, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := accepted(t, jsonType, attach(tc.kind, tc.members)); got.Media() != tc.media {
				t.Errorf("Media() = %v", got.Media())
			}
		})
	}
	feedback := attach("customer_feedback", feedbackFields+","+screens)
	tagged := strings.Replace(feedback, `"message"`, `"messaging_type":"MESSAGE_TAG","tag":"CUSTOMER_FEEDBACK","message"`, 1)
	if got := accepted(t, jsonType, tagged); got.tag != customerFeedback {
		t.Errorf("got %v", fields(got))
	}
	accepted(t, jsonType, to(`"messaging_type":"MESSAGE_TAG","tag":"CUSTOMER_FEEDBACK","message":{"attachment":{"type":"template","payload":"{}"}}`))
}

func TestParseRefusesTemplate(t *testing.T) {
	long := func(name string, count int) string { return `"` + name + `":"` + strings.Repeat("ä", count) + `"` }
	tests := []struct{ name, kind, members, field, hint string }{
		{"no cards", "generic", ``, "elements", "missing"},
		{"empty cards", "generic", `"elements":[]`, "elements", "at least 1 entry"},
		{"too many cards", "generic", list("elements", 11, card), "elements", "at most 10 entries (got 11)"},
		{"cards as object", "generic", `"elements":{}`, "elements", "list"},
		{"card without a title", "generic", `"elements":[` + card + `,{"subtitle":"s"}]`, "elements[1].title", "missing"},
		{"card with an empty title", "generic", `"elements":[{"title":"","subtitle":"s"}]`, "elements[0].title", "default"},
		{"long title", "generic", `"elements":[{` + long("title", 81) + `,"subtitle":"s"}]`, "elements[0].title", "at most 80 characters (got 81)"},
		{"long subtitle", "generic", `"elements":[{"title":"t",` + long("subtitle", 81) + `}]`, "elements[0].subtitle", "81"},
		{"nothing but a title", "generic", `"elements":[{"title":"t"}]`, "elements[0]", "nothing but a title"},
		{"too many buttons", "generic", `"elements":[{"title":"t",` + list("buttons", 4, urlButton) + `}]`, "elements[0].buttons", "at most 3 entries (got 4)"},
		{"no text", "button", list("buttons", 1, urlButton), "text", "missing"},
		{"long text", "button", long("text", 641) + `,` + list("buttons", 1, urlButton), "text", "641"},
		{"no buttons", "button", `"text":"?"`, "buttons", "missing"},
		{"empty buttons", "button", `"text":"?","buttons":[]`, "buttons", "at least 1 entry"},
		{"button without a type", "button", `"text":"?","buttons":[{"title":"t"}]`, "buttons[0].type", "missing"},
		{"button without a url", "button", `"text":"?","buttons":[{"type":"web_url","title":"t"}]`, "buttons[0].url", "missing"},
		{"button without a title", "button", `"text":"?","buttons":[{"type":"web_url","url":"https://x.example","title":""}]`, "buttons[0].title", "empty"},
		{"long payload", "button", `"text":"?","buttons":[{"type":"postback","title":"t",` + long("payload", 1001) + `}]`, "buttons[0].payload", "1001"},
		{"call without a number", "button", `"text":"?","buttons":[{"type":"phone_number","title":"t"}]`, "buttons[0].payload", "missing"},
		{"login without a url", "button", `"text":"?","buttons":[{"type":"account_link"}]`, "buttons[0].url", "missing"},
		{"two media", "media", list("elements", 2, `{"media_type":"image","attachment_id":"1"}`), "elements", "at most 1 entry"},
		{"medium without a type", "media", `"elements":[{"attachment_id":"1"}]`, "elements[0].media_type", "missing"},
		{"medium without a source", "media", `"elements":[{"media_type":"image"}]`, "elements[0]", "attachment_id"},
		{"medium with two sources", "media", `"elements":[{"media_type":"image","attachment_id":"1","url":"x"}]`, "elements[0]", "both"},
		{"medium with an empty source", "media", `"elements":[{"media_type":"image","url":""}]`, "elements[0].url", "empty"},
		{"receipt for nobody", "receipt", `"summary":{"total_cost":1}`, "recipient_name", "missing"},
		{"receipt without a summary", "receipt", receiptFields, "summary", "total_cost"},
		{"receipt without a total", "receipt", receiptFields + `,"summary":{}`, "summary.total_cost", "missing"},
		{"receipt too long", "receipt", receiptFields + `,"summary":{"total_cost":1},` + list("elements", 101, `{"title":"t"}`), "elements", "101"},
		{"receipt of something untitled", "receipt", receiptFields + `,"summary":{"total_cost":1},"elements":[{}]`, "elements[0].title", "missing"},
		{"coupon without a title", "coupon", `"coupon_code":"X"`, "title", "missing"},
		{"coupon without a code", "coupon", `"title":"t","coupon_code":" "`, "coupon_code", "coupon_url"},
		{"coupon with a long title", "coupon", long("title", 81) + `,"coupon_code":"X"`, "title", "81"},
		{"coupon with a long subtitle", "coupon", `"title":"t","coupon_code":"X",` + long("subtitle", 81), "subtitle", "81"},
		{"too many products", "product", list("elements", 11, `{"id":"1"}`), "elements", "11"},
		{"product without an id", "product", `"elements":[{"id":""}]`, "elements[0].id", "empty"},
		{"feedback without a privacy policy", "customer_feedback", `"title":"t","subtitle":"s","button_title":"b",` + screens, "business_privacy", "missing"},
		{"feedback with two screens", "customer_feedback", feedbackFields + `,` + list("feedback_screens", 2, `{"questions":[{"id":"q","type":"nps"}]}`), "feedback_screens", "at most 1 entry"},
		{"feedback without questions", "customer_feedback", feedbackFields + `,"feedback_screens":[{}]`, "feedback_screens[0].questions", "missing"},
		{"feedback with a long title", "customer_feedback", long("title", 66), "title", "66"},
		{"feedback with a long button", "customer_feedback", `"title":"t","subtitle":"s",` + long("button_title", 21), "button_title", "21"},
		{"question without a type", "customer_feedback", feedbackFields + `,"feedback_screens":[{"questions":[{"id":"q"}]}]`, "feedback_screens[0].questions[0].type", "missing"},
		{"grid of one", "image_grid", `"elements":[{` + list("images", 1, gridImage) + `}]`, "elements[0].images", "at least 2 entries"},
		{"grid of seven", "image_grid", `"elements":[{` + list("images", 7, gridImage) + `}]`, "elements[0].images", "at most 6 entries"},
		{"grid with a long title", "image_grid", `"elements":[{` + long("title", 46) + `,` + list("images", 2, gridImage) + `}]`, "elements[0].title", "46"},
		{"grid of nothing", "image_grid", `"elements":[{` + list("images", 2, `{}`) + `}]`, "elements[0].images[0].url", "missing"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, jsonType, attach(tc.kind, tc.members), "message.attachment.payload."+tc.field, tc.hint)
		})
	}
	refused(t, jsonType, say(`"attachment":{"type":"template","payload":{}}`), "message.attachment.payload.template_type", "missing")
	refused(t, jsonType, say(`"attachment":{"type":"template"}`), "message.attachment.payload", "missing")
}

package sandbox

import (
	"testing"
)

func TestTemplates(t *testing.T) {
	const grid = `"image_grid","elements":[{"images":[`
	const image = `{"url":"https://example.com/i"}`
	const receipt = `"receipt","recipient_name":"A","order_number":"1","currency":"USD","payment_method":"Visa"`
	media := func(e string) string { return template(`"media","elements":[` + e + `]`) }
	const feedback = `"customer_feedback","title":"t","subtitle":"s","button_title":"b"`
	const screen = `,"feedback_screens":[{"questions":[{"id":"q","type":"csat"}]}]`
	judged(t, []judgement{
		{"no type", attachment(`{"type":"template","payload":{}}`), bad, "parameter template_type is required"},
		{"nonsense", template(`"hologram"`), bad, "[template_type] must be one of"},
		{"list, gone with Graph 4.0", template(`"list","elements":[` + times(2, goodCard) + `]`), bad, "deprecated"},
		{"open graph, gone with Graph 4.0", template(`"open_graph","elements":[{"url":"https://example.com"}]`), bad, "deprecated"},
		{"utility message as an attachment", template(`"utility_messages","name":"n"`), bad, "[template_type] must be one of"},
		{"airline", template(`"airline_checkin","intro_message":"x"`), taken, ""},

		{"ten cards", card(times(10, goodCard)), taken, ""},
		{"eleven cards", card(times(11, goodCard)), tooMany, "[elements] has too many elements"},
		{"no cards", card(``), bad, "[elements] must be a non-empty array"},
		{"null for cards", template(`"generic","elements":null`), bad, "[elements] must be a non-empty array"},
		{"card of the wrong kind", card(`1`), bad, "[elements][0] must be a JSON object"},
		{"card without a title", card(`{"subtitle":"s"}`), bad, "[elements][0][title] is required"},
		{"title of 80 characters", card(`{"title":"` + characters(80) + `","subtitle":"s"}`), taken, ""},
		{"title of 81 characters", card(`{"title":"` + characters(81) + `","subtitle":"s"}`), bad, "equal to 80"},
		{"subtitle of 81 characters", card(`{"title":"t","subtitle":"` + characters(81) + `"}`), bad, "equal to 80"},
		{"title alone", card(`{"title":"t"}`), incomplete, "title and at least one other field"},
		{"title and nulls", card(`{"title":"t","subtitle":null,"image_url":null}`), incomplete, "title and at least one other field"},
		{"title and blanks", card(`{"title":"t","subtitle":" ","item_url":"","image_url":""}`), incomplete, "title and at least one other field"},
		{"title and no buttons", card(`{"title":"t","buttons":[]}`), bad, "[buttons] must be a non-empty array"},
		{"title and image", card(`{"title":"t","image_url":"https://example.com/i"}`), taken, ""},
		{"title and action", card(`{"title":"t","default_action":{"type":"web_url","url":"https://example.com"}}`), taken, ""},
		{"action without a url", card(`{"title":"t","default_action":{"type":"web_url"}}`), bad, "[default_action][url] is required"},
		{"action of another type", card(`{"title":"t","default_action":{"type":"postback","url":"https://example.com"}}`), bad, "[default_action][type] must be one of"},
		{"image that is no URL", card(`{"title":"t","image_url":"cap.png"}`), bad, "[image_url] must be a valid URL"},
		{"empty title of a card", card(`{"title":"","subtitle":"s"}`), bad, "Param [elements][0][title] must be a non-empty UTF-8 encoded string"},
		{"third card at fault", card(times(2, goodCard) + `,{"subtitle":"s"}`), bad, "[elements][2][title]"},

		{"button template", button(goodButton), taken, ""},
		{"four buttons", button(times(4, goodButton)), tooMany, "[buttons] has too many elements"},
		{"no buttons", button(``), bad, "[buttons] must be a non-empty array"},
		{"no list of buttons", template(`"button","text":"x"`), bad, "parameter buttons is required"},
		{"text of 641 characters", template(`"button","text":"` + characters(641) + `","buttons":[` + goodButton + `]`), bad, "equal to 640"},
		{"no text", template(`"button","buttons":[` + goodButton + `]`), bad, "parameter text is required"},

		{"media by id", media(`{"media_type":"image","attachment_id":"123"}`), taken, ""},
		{"media by url", media(`{"media_type":"video","url":"https://www.facebook.com/v/1"}`), taken, ""},
		{"media by both", media(`{"media_type":"image","attachment_id":"123","url":"https://www.facebook.com/v/1"}`), bad, "either"},
		{"media by nothing", media(`{"media_type":"image"}`), bad, "either"},
		{"media of another type", media(`{"media_type":"audio","attachment_id":"123"}`), bad, "[media_type] must be one of"},
		{"two media", media(times(2, `{"media_type":"image","attachment_id":"123"}`)), tooMany, "too many"},

		{"receipt", template(receipt + `,"summary":{"total_cost":12.5}`), taken, ""},
		{"empty receipt", template(`"receipt"`), bad, "parameter recipient_name is required"},
		{"receipt without a sum", template(receipt), bad, "parameter summary is required"},
		{"receipt without its total", template(receipt + `,"summary":{"subtotal":1}`), bad, "[summary][total_cost] is required"},
		{"receipt of nothing named", template(receipt + `,"summary":{"total_cost":1},"elements":[{"price":1}]`), bad, "[elements][0][title] is required"},

		{"coupon by code", template(`"coupon","title":"t","coupon_code":"SALE"`), taken, ""},
		{"coupon by url", template(`"coupon","title":"t","coupon_url":"https://example.com"`), taken, ""},
		{"coupon without either", template(`"coupon","title":"t"`), bad, "parameter coupon_code is required"},
		{"product", template(`"product","elements":[{"id":"4711"}]`), taken, ""},
		{"product by name", template(`"product","elements":[{"id":"cap"}]`), "400 100/2018320", "[elements][0][id]"},

		{"feedback", template(feedback + screen + `,"business_privacy":{"url":"https://example.com"}`), taken, ""},
		{"feedback without questions", template(feedback + `,"business_privacy":{"url":"https://example.com"}`), bad, "[feedback_screens] must be a non-empty array"},
		{"feedback without privacy", template(feedback + screen), bad, "parameter business_privacy is required"},
		{"image grid", template(grid + times(2, image) + `]}]`), taken, ""},
		{"image grid of one", template(grid + image + `]}]`), bad, "[images] must have at least 2"},
		{"image grid of seven", template(grid + times(7, image) + `]}]`), tooMany, "[images] has too many"},
		{"one-time notification", template(`"one_time_notif_req","title":"t","payload":"p"`), taken, ""},
	})
}

func TestButtons(t *testing.T) {
	at := func(what string) string { return "[buttons][0][" + what + "]" }
	judged(t, []judgement{
		{"link", button(`{"type":"web_url","title":"b","url":"https://example.com"}`), taken, ""},
		{"type in capitals", button(`{"type":"WEB_URL","title":"b","url":"HTTPS://example.com"}`), taken, ""},
		{"link to a path", button(`{"type":"web_url","title":"b","url":"/sale"}`), bad, at("url") + " must be a valid URL"},
		{"link to a telephone", button(`{"type":"web_url","title":"b","url":"tel:+16505551234"}`), taken, ""},
		{"link to nothing", button(`{"type":"web_url","title":"b"}`), bad, at("url") + " is required"},
		{"no title", button(`{"type":"web_url","url":"https://example.com"}`), bad, at("title") + " is required"},
		{"title of 25 characters", button(`{"type":"postback","title":"` + characters(25) + `","payload":"p"}`), taken, ""},
		{"no payload", button(`{"type":"postback","title":"b"}`), bad, at("payload") + " is required"},
		{"payload of 1001 characters", button(`{"type":"postback","title":"b","payload":"` + characters(1001) + `"}`), bad, "equal to 1000"},
		{"call", button(`{"type":"phone_number","title":"b","payload":"+16505551234"}`), taken, ""},
		{"call to nobody", button(`{"type":"phone_number","title":"b"}`), bad, at("payload") + " is required"},
		{"login", button(`{"type":"account_link","url":"https://example.com"}`), taken, ""},
		{"login with an empty title", button(`{"type":"account_link","title":"","url":"https://example.com"}`), bad, at("title") + " must be a non-empty UTF-8"},
		{"empty title", button(`{"type":"web_url","title":" ","url":"https://example.com"}`), bad, at("title") + " must be a non-empty UTF-8"},
		{"login to nothing", button(`{"type":"account_link"}`), bad, at("url") + " is required"},
		{"logout", button(`{"type":"account_unlink"}`), taken, ""},
		{"no type", button(`{"title":"b"}`), bad, at("type") + " is required"},
		{"unknown type", button(`{"type":"hologram","title":"b"}`), bad, at("type") + " must be one of"},
		{"of the wrong kind", button(`"b"`), bad, "[buttons][0] must be a JSON object"},
	})
}

func TestUtilityMessages(t *testing.T) {
	named := func(components string) string {
		return utility(`{"name":"order_shipped","language":{"code":"en_US"},"components":[` + components + `]}`)
	}
	judged(t, []judgement{
		{"template", utility(`{"name":"order_shipped","language":{"code":"en_US"}}`), taken, ""},
		{"parameters", named(`{"type":"body","parameters":[{"type":"text","text":"Ann"}]},{"type":"buttons","parameters":[{"type":"POSTBACK","payload":"p"}]}`), taken, ""},
		{"plain text", toOne(`"messaging_type":"UTILITY","message":{"text":"x"}`), bad, "message[template] is required"},
		{"template beside the message", toOne(`"messaging_type":"UTILITY","message":{"text":"x"},"template":{"name":"n"}`), bad, "message[template] is required"},
		{"no name", utility(`{"language":{"code":"en_US"}}`), bad, "message[template][name] is required"},
		{"no language", utility(`{"name":"n"}`), bad, "message[template][language] is required"},
		{"language as text", utility(`{"name":"n","language":"en_US"}`), bad, "message[template][language] must be a JSON object"},
		{"language without a code", utility(`{"name":"n","language":{}}`), bad, "[language][code] is required"},
		{"components as WhatsApp has them", named(`{"type":"button","sub_type":"url","index":0,"parameters":[{"type":"text","text":"x"}]}`), bad, `Invalid keys "index, sub_type"`},
		{"no parameters", named(`{"type":"body","parameters":[]}`), taken, ""},
		{"no components", named(``), taken, ""},
		{"component without a type", named(`{"parameters":[]}`), bad, "[components][0][type] is required"},
		{"button without its payload", named(`{"type":"buttons","parameters":[{"type":"POSTBACK"}]}`), "400 100/1893029", "less payload"},
	})
}

package sendapi

import (
	"strconv"
	"strings"
	"testing"
)

// say is a request with the members of its message.
func say(members string) string { return to(`"message":{` + members + `}`) }

func quickReplies(count int) string {
	return `"quick_replies":[` + strings.TrimSuffix(strings.Repeat(`{"content_type":"text","title":"Yes","payload":"y"},`, count), ",") + `]`
}

func TestParseMessage(t *testing.T) {
	long := strings.Repeat("ä", maxText)
	tests := []struct {
		name, message string
		media         bool
	}{
		{"longest text", `"text":"` + long + `"`, false},
		{"longest text in surrogate pairs", `"text":"` + strings.Repeat(`\ud83d\ude00`, maxText) + `"`, false},
		{"number for text", `"text":12`, false},
		{"metadata", `"text":"Hi","metadata":"` + strings.Repeat("m", maxMetadata) + `"`, false},
		{"text beside an attachment", `"text":"","attachment":{"type":"image","payload":{"url":"https://x.example/a.png"}}`, false},
		{"image", `"attachment":{"type":"image","payload":{"url":"https://x.example/a.png","is_reusable":true}}`, false},
		{"file by id", `"attachment":{"type":"file","payload":{"attachment_id":"12"}}`, false},
		{"file by a number", `"attachment":{"type":"file","payload":{"attachment_id":12}}`, false},
		{"file by a way not known yet", `"attachment":{"type":"file","payload":{"asset":"12"}}`, false},
		{"payload as text", `"attachment":{"type":"image","payload":"{}"}`, false},
		{"audio", `"attachment":{"type":"audio","payload":{"url":"https://x.example/a.mp3"}}`, true},
		{"video", `"attachment":{"type":"video","payload":{"attachment_id":"12"}}`, true},
		{"video in capitals and escapes", `"attachment":{"type":"VID\u0045O","payload":{"attachment_id":"12"}}`, true},
		{"unknown type", `"attachment":{"type":"hologram"}`, false},
		{"images", `"attachments":[{"type":"image","payload":{"url":"https://x.example/1"}},{"type":"image","payload":{"url":"https://x.example/2"}}]`, false},
		{"images and a video", `"attachments":[{"type":"image","payload":{"url":"https://x.example/1"}},{"type":"video","payload":{"url":"https://x.example/2"}}]`, true},
		{"sticker", `"sticker_id":"369239263222822"`, false},
		{"dynamic text", `"dynamic_text":{"text":"Hi","fallback_text":"Hi"}`, false},
		{"something not known yet", `"hologram":{}`, false},
		{"most quick replies", `"text":"?",` + quickReplies(maxQuickReplies), false},
		{"other quick replies", `"text":"?","quick_replies":[{"content_type":"user_email"},{"content_type":"user_phone_number"},{"content_type":"new"},{}]`, false},
		{"quick reply of an image", `"text":"?","quick_replies":[{"content_type":"text","title":"","image_url":"https://x.example/1","payload":""}]`, false},
		{"quick reply cut by Facebook", `"text":"?","quick_replies":[{"content_type":"text","title":"` + strings.Repeat("t", 40) + `","payload":"p"}]`, false},
		{"quick reply with a number", `"text":"?","quick_replies":[{"content_type":"text","title":"One","payload":1}]`, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := accepted(t, jsonType, say(tc.message)); got.Media() != tc.media {
				t.Errorf("Media() = %v", got.Media())
			}
		})
	}
}

func TestParseRefusesMessage(t *testing.T) {
	const payload = "message.attachment.payload"
	tests := []struct{ name, message, field, hint string }{
		{"nothing", ``, "message", "has no content"},
		{"null text", `"text":null`, "message", "has no content"},
		{"metadata only", `"metadata":"m"`, "message", "has no content"},
		{"quick replies only", quickReplies(1), "message", "has no content"},
		{"empty attachments", `"attachments":[]`, "message", "has no content"},
		{"empty text", `"text":""`, "message.text", "default"},
		{"blank text", `"text":" \n\u00a0"`, "message.text", "empty"},
		{"object for text", `"text":{"a":1}`, "message.text", "quotes"},
		{"long text", `"text":"` + strings.Repeat("ä", maxText+1) + `"`, "message.text", "must have at most 2000 characters (got 2001)"},
		{"long text in escapes", `"text":"` + strings.Repeat(`\u00e4`, maxText+1) + `"`, "message.text", "2001"},
		{"long metadata", `"text":"Hi","metadata":"` + strings.Repeat("m", maxMetadata+1) + `"`, "message.metadata", "1001"},
		{"attachment without a type", `"attachment":{"payload":{"url":"x"}}`, "message.attachment.type", "missing"},
		{"attachment as list", `"attachment":[]`, "message.attachment", "object"},
		{"file without a payload", `"attachment":{"type":"file"}`, payload, "missing"},
		{"file with a list", `"attachment":{"type":"file","payload":[]}`, payload, "object"},
		{"file to upload", `"attachment":{"type":"image","payload":{"is_reusable":true}}`, payload, "attachment_id"},
		{"empty url", `"attachment":{"type":"image","payload":{"url":""}}`, payload + ".url", "default"},
		{"empty attachment_id", `"attachment":{"type":"image","payload":{"attachment_id":" "}}`, payload + ".attachment_id", "default"},
		{"second of several", `"attachments":[{"type":"image","payload":{"url":"https://x.example/1"}},{"type":"image","payload":{}}]`, "message.attachments[1].payload", "names no file"},
		{"several of no objects", `"attachments":["x"]`, "message.attachments[0]", "object"},
		{"too many quick replies", `"text":"?",` + quickReplies(maxQuickReplies+1), "message.quick_replies", "must have at most 13 entries (got 14)"},
		{"long quick reply payload", `"text":"?","quick_replies":[{},{"content_type":"text","title":"t","payload":"` + strings.Repeat("p", 1001) + `"}]`, "message.quick_replies[1].payload", "1001"},
		{"quick reply without a title", `"text":"?","quick_replies":[{"content_type":"text","title":" ","payload":"p"}]`, "message.quick_replies[0].title", "image_url"},
		{"quick reply without a payload", `"text":"?","quick_replies":[{"content_type":"text","title":"t"}]`, "message.quick_replies[0].payload", "missing"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { refused(t, jsonType, say(tc.message), tc.field, tc.hint) })
	}
}

func TestParseUtility(t *testing.T) {
	utility := func(template string) string {
		return to(`"messaging_type":"UTILITY","message":{"template":` + template + `}`)
	}
	for i, template := range []string{
		`{"name":"order_shipped","language":{"code":"en_US"}}`,
		`{"name":"order_shipped","language":{"code":"en_US"},"components":[{"type":"body","parameters":[{"type":"text","text":"Ann"}]},{"type":"buttons","parameters":[{"type":"POSTBACK","payload":"p"}]}]}`,
		`{"name":"n","language":{"code":"en"},"components":[{"type":"new","parameters":[{"type":"new","new":[]}]}],"new":1}`,
	} {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if got := accepted(t, jsonType, utility(template)); got.messagingType != utilityType || got.Media() {
				t.Errorf("got %v", fields(got))
			}
		})
	}
	accepted(t, jsonType, say(`"template":{"name":"n","language":{"code":"en"}}`)) // the type is Facebook's to miss

	for _, tc := range []struct{ template, field, hint string }{
		{`"order_shipped"`, "message.template", "object"},
		{`{"language":{"code":"en"}}`, "message.template.name", "missing"},
		{`{"name":" ","language":{"code":"en"}}`, "message.template.name", "empty"},
		{`{"name":"n"}`, "message.template.language", `{"code":"en_US"}`},
		{`{"name":"n","language":"en"}`, "message.template.language", "object"},
		{`{"name":"n","language":{}}`, "message.template.language.code", "missing"},
		{`{"name":"n","language":{"code":"en"},"components":{}}`, "message.template.components", "list"},
		{`{"name":"n","language":{"code":"en"},"components":[{}]}`, "message.template.components[0].type", "missing"},
		{`{"name":"n","language":{"code":"en"},"components":[{"type":"body","parameters":[{"text":"x"}]}]}`, "message.template.components[0].parameters[0].type", "missing"},
	} {
		refused(t, jsonType, utility(tc.template), tc.field, tc.hint)
	}
	refused(t, jsonType, to(`"messaging_type":"UTILITY","message":{"attachment":{"type":"template","payload":{"template_type":"new"}}}`), "message.template", "approved")
}

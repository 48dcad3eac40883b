package sandbox

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// judgement is a body and what Facebook makes of it: 200, or status, code, subcode and part of the message.
type judgement struct{ name, body, want, says string }

// judged posts each body and compares. What was taken must be in the record, what was refused must not have reached anybody.
func judged(t *testing.T, tests []judgement) {
	t.Helper()
	r := start(t, Config{AnyPage: Page{Rate: Off, MediaRate: Off, HighVolume: Off}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rep, err := r.do(r.request("/v26.0/me/messages?access_token=token", jsonBody, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if rep.code() != tt.want {
				t.Fatalf("got %s, want %s: %s", rep.code(), tt.want, rep.raw)
			}
			call := r.Find(Query{Limit: 1})[0]
			if taken := tt.want == "200"; call.Accepted != taken || call.Status != rep.status {
				t.Errorf("recorded as %+v", call)
			}
			if rep.body.Error == nil {
				return
			}
			if got := rep.body.Error; got.Type != "OAuthException" || !strings.Contains(got.Message, tt.says) {
				t.Errorf("type %s, message %q, want …%s…", got.Type, got.Message, tt.says)
			}
		})
	}
}

// Parts of bodies.

func toOne(rest string) string { return `{"recipient":{"id":"1"},` + rest + `}` }

func message(m string) string { return toOne(`"message":` + m) }

func beside(params string) string { return toOne(`"message":{"text":"x"},` + params) }

func recipient(r string) string { return `{"recipient":` + r + `,"message":{"text":"x"}}` }

func attachment(a string) string { return message(`{"attachment":` + a + `}`) }

func template(p string) string {
	return attachment(`{"type":"template","payload":{"template_type":` + p + `}}`)
}

func card(c string) string { return template(`"generic","elements":[` + c + `]`) }

func button(b string) string { return template(`"button","text":"x","buttons":[` + b + `]`) }

func quickReply(q string) string { return message(`{"text":"x","quick_replies":[` + q + `]}`) }

func utility(t string) string {
	return toOne(`"messaging_type":"UTILITY","message":{"template":` + t + `}`)
}

func characters(n int) string { return strings.Repeat("é", n) }

func times(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }

const (
	goodCard   = `{"title":"t","subtitle":"s"}`
	goodButton = `{"type":"postback","title":"b","payload":"p"}`
	goodReply  = `{"content_type":"text","title":"q","payload":"p"}`
	goodImage  = `{"type":"image","payload":{"url":"https://example.com/i.png"}}`
)

// Refusals that say no more than their code.
const (
	taken   = "200"
	bad     = "400 100/0"
	tooMany = "400 105/0"
	// incomplete is a card with nothing but its title.
	incomplete = "400 100/2018035"
)

func TestRecipients(t *testing.T) {
	const notID = `recipient[id] must be a valid ID string`
	tests := []judgement{
		{"id", recipient(`{"id":"1234567890123456"}`), taken, ""},
		{"number for id", recipient(`{"id":1234567890123456}`), taken, ""},
		{"none", `{"message":{"text":"x"}}`, bad, "parameter recipient is required"},
		{"empty body", ``, bad, "parameter recipient is required"},
		{"of the wrong kind", recipient(`7`), bad, "recipient must be a JSON object"},
		{"empty", recipient(`{}`), bad, "exactly one"},
		{"null id", recipient(`{"id":null}`), bad, "exactly one"},
		{"null beside id", recipient(`{"id":"1","user_ref":null}`), taken, ""},
		{"two", recipient(`{"id":"1","user_ref":"2"}`), bad, "exactly one"},
		{"user_ref", recipient(`{"user_ref":"abc"}`), taken, ""},
		{"comment_id", recipient(`{"comment_id":"1_2"}`), taken, ""},
		{"phone number and name", recipient(`{"phone_number":"+1(212)555-2368","name":{"first_name":"A"}}`), taken, ""},
		{"name that is text", recipient(`{"phone_number":"+1(212)555-2368","name":"A"}`), bad, "recipient[name] must be a JSON object"},
		{"blank user_ref", recipient(`{"user_ref":" "}`), bad, "recipient[user_ref] must be a non-empty string"},
		{"long user_ref", recipient(`{"user_ref":"` + strings.Repeat("x", 1001) + `"}`), bad, "recipient[user_ref]"},
		{"object for id", recipient(`{"id":{}}`), bad, notID},
		{"long id", recipient(`{"id":"` + strings.Repeat("1", 33) + `"}`), bad, notID},
	}
	for _, id := range []string{"", "  ", "0", "000", "PSID", "undefined", "null", "USER_ID", "<PSID>", "12 34", "-1", "1.5e15",
		"0b7cf1c2-6d0f-4a55-9a52-5d8a2f4d8a11", "{{custom_attribute.${messenger_id}}}"} {
		tests = append(tests, judgement{"id " + id, recipient(fmt.Sprintf(`{"id":%q}`, id)), bad, notID})
	}
	judged(t, tests)
}

func TestMessages(t *testing.T) {
	const notEmpty = "message[text] must be a non-empty"
	judged(t, []judgement{
		{"text", message(`{"text":"hi"}`), taken, ""},
		{"2000 characters", message(`{"text":"` + characters(2000) + `"}`), taken, ""},
		{"2001 characters", message(`{"text":"` + characters(2001) + `"}`), bad, "Length of param message[text] must be less than or equal to 2000"},
		{"empty text", message(`{"text":""}`), "400 100/2018034", notEmpty},
		{"blank text", message(`{"text":" \n"}`), "400 100/2018034", notEmpty},
		{"empty text beside an image", message(`{"text":"","attachment":` + goodImage + `}`), taken, ""},
		{"text of the wrong kind", message(`{"text":{}}`), bad, "message[text] must be a string"},
		{"number for text", message(`{"text":7}`), taken, ""},
		{"null for text", message(`{"text":null}`), "400 100/2018032", "Invalid data"},
		{"empty", message(`{}`), "400 100/2018032", "Invalid data"},
		{"metadata alone", message(`{"metadata":"m"}`), "400 100/2018032", "Invalid data"},
		{"of the wrong kind", message(`[1]`), bad, "message must be a JSON object"},
		{"null", message(`null`), bad, "parameter message is required"},
		{"none", toOne(`"foo":1`), bad, "parameter message is required"},
		{"not JSON", `{"recipient":{"id":"1"},"message":{"text":"Jon "the man" Doe"}}`, bad, "not valid JSON"},
		{"line feed in a string", message("{\"text\":\"a\nb\"}"), bad, "not valid JSON"},
		{"Latin-1", message("{\"text\":\"Gr\xfc\xdfe\"}"), bad, "not valid JSON"},
		{"flat JSON", `{"recipient":"{\"id\":\"1\"}","message":"{\"text\":\"hi\"}"}`, taken, ""},
		{"encoded twice", `{"recipient":{"id":"1"},"message":"\"{\\\"text\\\":\\\"hi\\\"}\""}`, bad, "message must be a JSON object"},
		{"too large", message(`{"text":"` + strings.Repeat("x", maxBody) + `"}`), "413 1/0", "too large"},
		{"metadata", message(`{"text":"x","metadata":"` + characters(999) + `"}`), taken, ""},
		{"long metadata", message(`{"text":"x","metadata":"` + characters(1000) + `"}`), bad, "message[metadata] must be less than 1000"},
		{"metadata of the wrong kind", message(`{"text":"x","metadata":[]}`), bad, "message[metadata] must be a string"},
		{"sticker", message(`{"sticker_id":"369239263222822"}`), taken, ""},
		{"sticker without number", message(`{"sticker_id":"thumb"}`), bad, "message[sticker_id] must be a valid ID"},
		{"unknown key", message(`{"text":"x","preview":true}`), bad, `Invalid keys "preview" were found in param "message"`},
		{"several unknown keys", message(`{"text":"x","url":"u","type":"t","title":"t"}`), bad, `Invalid keys "title, type, url" were found in param "message"`},
		{"messaging_type at the wrong level", message(`{"text":"x","messaging_type":"UPDATE"}`), bad, `"messaging_type"`},
		{"tag at the wrong level", message(`{"text":"x","tag":"HUMAN_AGENT"}`), bad, `"tag"`},
		{"persona at the wrong level", message(`{"text":"x","persona_id":"1"}`), bad, `"persona_id"`},
		{"reply_to at the wrong level", message(`{"text":"x","reply_to":{"mid":"m"}}`), bad, `"reply_to"`},
		{"quick replies misspelt", message(`{"text":"x","quickReplies":[` + goodReply + `]}`), bad, `"quickReplies"`},
		{"keys unknown beside it", beside(`"foo":{"bar":[1,2]},"baz":null`), taken, ""},
	})
}

func TestParametersBesideTheMessage(t *testing.T) {
	const feedback = `"customer_feedback","title":"t","subtitle":"s","button_title":"b","feedback_screens":[{"questions":[{"id":"q","type":"csat"}]}],` +
		`"business_privacy":{"url":"https://example.com"}`
	withTag := func(body string) string { return strings.TrimSuffix(body, "}") + `,"tag":"CUSTOMER_FEEDBACK"}` }
	const retired = "400 100/1893061"
	judged(t, []judgement{
		{"no messaging type", message(`{"text":"x"}`), taken, ""},
		{"response", beside(`"messaging_type":"RESPONSE"`), taken, ""},
		{"lower case", beside(`"messaging_type":"update"`), taken, ""},
		{"unknown messaging type", beside(`"messaging_type":"SPAM"`), bad, "messaging_type must be one of"},
		{"messaging type of 2018", beside(`"messaging_type":"NON_PROMOTIONAL_SUBSCRIPTION"`), bad, "messaging_type must be one of"},
		{"placeholder for a messaging type", beside(`"messaging_type":"<MESSAGING_TYPE>"`), bad, "messaging_type must be one of"},
		{"tag", beside(`"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT"`), taken, ""},
		{"null tag", beside(`"messaging_type":"RESPONSE","tag":null`), taken, ""},
		{"no tag", beside(`"messaging_type":"MESSAGE_TAG"`), bad, "parameter tag is required"},
		{"tag with another type", beside(`"messaging_type":"UPDATE","tag":"HUMAN_AGENT"`), bad, "should be MESSAGE_TAG"},
		{"retired tag", beside(`"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE"`), retired, "Invalid parameter"},
		{"retired tag with another type", beside(`"messaging_type":"RESPONSE","tag":"CONFIRMED_EVENT_UPDATE"`), retired, "Invalid parameter"},
		{"third retired tag", beside(`"messaging_type":"MESSAGE_TAG","tag":"POST_PURCHASE_UPDATE"`), retired, "Invalid parameter"},
		{"tag of 2019", beside(`"messaging_type":"MESSAGE_TAG","tag":"SHIPPING_UPDATE"`), bad, "tag must be one of"},
		{"feedback tag", withTag(template(feedback)), taken, ""},
		{"feedback tag on a text", withTag(message(`{"text":"x"}`)), bad, "CUSTOMER_FEEDBACK"},
		{"notification type", beside(`"notification_type":"SILENT_PUSH"`), taken, ""},
		{"unknown notification type", beside(`"notification_type":"LOUD"`), bad, "notification_type must be one of"},
		{"persona", beside(`"persona_id":"1029384756"`), taken, ""},
		{"persona by name", beside(`"persona_id":"anna"`), bad, "persona_id must be a valid ID"},
		{"reply", beside(`"reply_to":{"mid":"m_1"}`), taken, ""},
		{"reply to nothing", beside(`"reply_to":{}`), bad, "reply_to[mid] is required"},
		{"sender action", toOne(`"sender_action":"typing_on"`), taken, ""},
		{"sender action in capitals", toOne(`"sender_action":"MARK_SEEN"`), taken, ""},
		{"unknown sender action", toOne(`"sender_action":"wave"`), bad, "sender_action must be one of"},
		{"message and sender action", beside(`"sender_action":"typing_on"`), "400 100/2018014", "together"},
		{"reaction", toOne(`"sender_action":"react","payload":{"message_id":"m","reaction":"😊"}`), taken, ""},
		{"reaction without one", toOne(`"sender_action":"react","payload":{"message_id":"m"}`), bad, "payload[reaction]"},
		{"reaction to nothing", toOne(`"sender_action":"react"`), bad, "parameter payload is required"},
		{"reaction taken back", toOne(`"sender_action":"unreact","payload":{"message_id":"m"}`), taken, ""},
		{"reaction taken back from nothing", toOne(`"sender_action":"unreact","payload":{}`), bad, "payload[message_id]"},
	})
}

func TestQuickReplies(t *testing.T) {
	judged(t, []judgement{
		{"13", quickReply(times(13, goodReply)), taken, ""},
		{"14", quickReply(times(14, goodReply)), tooMany, "message[quick_replies] has too many elements"},
		{"none", quickReply(``), bad, "message[quick_replies] must be a non-empty array"},
		{"without a text", message(`{"quick_replies":[` + goodReply + `]}`), "400 100/2018032", "Invalid data"},
		{"of the wrong kind", quickReply(`"yes"`), bad, "message[quick_replies][0] must be a JSON object"},
		{"without content_type", quickReply(`{"title":"q","payload":"p"}`), bad, "[content_type] is required"},
		{"location", quickReply(`{"content_type":"location"}`), bad, "[content_type] must be one of {TEXT, USER_PHONE_NUMBER, USER_EMAIL}"},
		{"no title", quickReply(`{"content_type":"text","payload":"p"}`), bad, "[title] is required"},
		{"blank title", quickReply(`{"content_type":"text","title":" ","payload":"p"}`), bad, "[title] is required"},
		{"an image for a title", quickReply(`{"content_type":"text","title":"","image_url":"https://example.com/i","payload":"p"}`), taken, ""},
		{"title of 23 characters", quickReply(`{"content_type":"text","title":"Yes, send it to my home","payload":"p"}`), taken, ""},
		{"empty payload and image", quickReply(`{"content_type":"text","title":"q","payload":"","image_url":""}`), taken, ""},
		{"null payload", quickReply(`{"content_type":"text","title":"q","payload":null}`), bad, "[payload] is required"},
		{"number for a payload", quickReply(`{"content_type":"text","title":"q","payload":7}`), taken, ""},
		{"long payload", quickReply(`{"content_type":"text","title":"q","payload":"` + characters(1001) + `"}`), bad, "equal to 1000"},
		{"image that is no URL", quickReply(`{"content_type":"text","title":"q","payload":"p","image_url":"/i.png"}`), bad, "[image_url] must be a valid URL"},
		{"e-mail, empty title and payload", quickReply(`{"content_type":"user_email","title":"","payload":""}`), taken, ""},
		{"phone number", quickReply(`{"content_type":"user_phone_number"}`), taken, ""},
		{"second at fault", quickReply(goodReply + `,{"content_type":"text"}`), bad, "message[quick_replies][1][title]"},
	})
}

func TestAttachments(t *testing.T) {
	file := func(payload string) string { return attachment(`{"type":"file","payload":{` + payload + `}}`) }
	const noURL = "[payload][url] must be a valid URL"
	judged(t, []judgement{
		{"image", attachment(goodImage), taken, ""},
		{"type in capitals", attachment(`{"type":"IMAGE","payload":{"url":"http://example.com/i"}}`), taken, ""},
		{"file by id", file(`"attachment_id":"1857777774821032"`), taken, ""},
		{"id that is text", file(`"attachment_id":"ATTACHMENT_ID"`), "400 100/2018074", "[attachment_id] must be a valid ID"},
		{"nothing in the payload", file(``), bad, "[payload][url] is required"},
		{"empty url", file(`"url":""`), bad, "[payload][url] is required"},
		{"path for a url", file(`"url":"/i.png"`), bad, noURL},
		{"url without a scheme", file(`"url":"www.example.com/i.png"`), bad, noURL},
		{"url without a host", file(`"url":"https://"`), bad, noURL},
		{"url with a space", file(`"url":"https://example.com/my file.pdf"`), bad, noURL},
		{"url of another kind", file(`"url":"ftp://example.com/i.png"`), bad, noURL},
		{"no payload", attachment(`{"type":"image"}`), bad, "parameter message[attachment][payload] is required"},
		{"no type", attachment(`{"payload":{"url":"https://example.com"}}`), bad, "[type] is required"},
		{"unknown type", attachment(`{"type":"hologram","payload":{}}`), bad, "[type] must be one of"},
		{"of the wrong kind", attachment(`"x"`), bad, "message[attachment] must be a JSON object"},
		{"several", message(`{"attachments":[` + times(2, goodImage) + `]}`), taken, ""},
		{"several, the second at fault", message(`{"attachments":[` + goodImage + `,{"type":"image","payload":{}}]}`), bad, "message[attachments][1][payload][url]"},
	})
}

// A refusal repeats nothing of what it refuses but the names of keys, and those cut short.
func TestRefusalsRepeatNoValues(t *testing.T) {
	const secret = "hunter2hunter2"
	long := strings.Repeat("k", 5000)
	r := start(t, Config{AnyPage: Page{Rate: Off, HighVolume: Off}})
	for _, body := range []string{
		recipient(`{"id":"` + secret + `"}`), beside(`"messaging_type":"` + secret + `"`), beside(`"tag":"` + secret + `"`),
		template(`"` + secret + `"`), button(`{"type":"` + secret + `"}`), attachment(`{"type":"image","payload":{"url":"` + secret + `"}}`),
		message(`{"text":"` + secret + `","` + long + `":1}`), toOne(`"sender_action":"` + secret + `"`),
	} {
		rep, err := r.do(r.request("/me/messages?access_token=token", jsonBody, body))
		if err != nil || rep.status != http.StatusBadRequest {
			t.Errorf("%.80s: %s, %v", body, rep.code(), err)
		}
		if strings.Contains(rep.raw, secret) || len(rep.raw) > 1000 {
			t.Errorf("%.80s: answered with %.200s", body, rep.raw)
		}
	}
}

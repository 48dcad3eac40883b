package sendapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const jsonType = "application/json"

// accepted parses a body that must pass.
func accepted(t *testing.T, contentType, body string) *Request {
	t.Helper()
	r, err := Parse(contentType, []byte(body))
	if err != nil {
		t.Fatalf("Parse(%s): %v", body, err)
	}
	return r
}

// refused parses a body that must be refused for field, with an error that contains hint.
func refused(t *testing.T, contentType, body, field, hint string) *InvalidError {
	t.Helper()
	r, err := Parse(contentType, []byte(body))
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("Parse(%s) = %v, %v; want an InvalidError", body, r, err)
	}
	if invalid.Field != field {
		t.Errorf("Parse(%s): field %q, want %q (%v)", body, invalid.Field, field, err)
	}
	if !strings.Contains(err.Error(), hint) {
		t.Errorf("Parse(%s): %v\nwant %q in it", body, err, hint)
	}
	return invalid
}

// to is a request to a PSID with further members.
func to(members string) string {
	return `{"recipient":{"id":"1254477777772919"},` + members + `}`
}

func TestParseReads(t *testing.T) {
	tests := []struct {
		name, body string
		want       Request // but for Body
	}{
		{"template without a messaging type", to(`"message":{"text":"Hi"}`), Request{}},
		{"update", to(`"messaging_type":"UPDATE","message":{"text":"Hi"}`), Request{messagingType: updateType}},
		{"either case", to(`"messaging_type":"update","message":{"text":"Hi"}`), Request{messagingType: updateType}},
		{"unknown messaging type", to(`"messaging_type":"NEW","message":{"text":"Hi"}`), Request{messagingType: "NEW"}},
		{"tag", to(`"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT","message":{"text":"Hi"}`), Request{messagingType: taggedType, tag: humanAgent}},
		{"unknown tag", to(`"messaging_type":"MESSAGE_TAG","tag":"NEW","message":{"text":"Hi"}`), Request{messagingType: taggedType, tag: "NEW"}},
		{"tag alone", to(`"tag":"HUMAN_AGENT","message":{"text":"Hi"}`), Request{tag: humanAgent}},
		{"notification type", to(`"notification_type":"NO_PUSH","message":{"text":"Hi"}`), Request{}},
		{"typing", to(`"sender_action":"typing_on"`), Request{action: typingOn}},
		{"typing in capitals", to(`"sender_action":"TYPING_ON"`), Request{action: typingOn}},
		{"null counts as absent", to(`"sender_action":"mark_seen","message":null,"tag":null`), Request{action: markSeen}},
		{"unknown action", to(`"sender_action":"wave"`), Request{action: "wave"}},
		{"reaction", to(`"sender_action":"react","payload":{"message_id":"m_1","reaction":"😊"}`), Request{action: react}},
		{"reaction with a string", to(`"sender_action":"react","payload":"m_1"`), Request{action: react}},
		{"no reaction any more", to(`"sender_action":"unreact","payload":{"message_id":"m_1"}`), Request{action: unreact}},
		{"escaped value", to(`"messaging_type":"UPD\u0041TE","message":{"text":"Hi"}`), Request{messagingType: updateType}},
		{"escaped name", to(`"messaging\u005ftype":"UPDATE","message":{"text":"Hi"}`), Request{messagingType: updateType}},
		{"reply and persona", to(`"reply_to":{"mid":"m_1"},"persona_id":"12","message":{"text":"Hi"}`), Request{}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := accepted(t, jsonType, tc.body)
			if string(got.Body) != tc.body {
				t.Errorf("Body = %s\nwant   %s", got.Body, tc.body)
			}
			want := tc.want
			want.Recipient = Recipient{Kind: byPSID, Value: "1254477777772919"}
			if fmt.Sprint(fields(got)) != fmt.Sprint(fields(&want)) {
				t.Errorf("got  %v\nwant %v", fields(got), fields(&want))
			}
		})
	}
}

// fields is all of a request but its body.
func fields(r *Request) []any {
	return []any{r.Recipient.Kind, r.Recipient.Value, r.messagingType, r.tag, r.action, r.media}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, body, field, hint string }{
		{"neither message nor action", to(`"x":1`), "message", "missing"},
		{"message and action", to(`"message":{"text":"Hi"},"sender_action":"typing_on"`), "sender_action", "request of its own"},
		{"message as text", to(`"message":["Hi"]`), "message", "object"},
		{"messaging type as object", to(`"messaging_type":{},"message":{"text":"Hi"}`), "messaging_type", "text"},
		{"tag type without a tag", to(`"messaging_type":"MESSAGE_TAG","message":{"text":"Hi"}`), "tag", "HUMAN_AGENT"},
		{"tag with another type", to(`"messaging_type":"UPDATE","tag":"HUMAN_AGENT","message":{"text":"Hi"}`), "tag", "MESSAGE_TAG"},
		{"retired tag", to(`"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE","message":{"text":"Hi"}`), "tag", "2026-04-27"},
		{"retired tag without a type", to(`"tag":"CONFIRMED_EVENT_UPDATE","message":{"text":"Hi"}`), "tag", "UTILITY"},
		{"retired tag in lower case", to(`"tag":"post_purchase_update","message":{"text":"Hi"}`), "tag", "POST_PURCHASE_UPDATE was retired"},
		{"feedback tag on a text", to(`"messaging_type":"MESSAGE_TAG","tag":"CUSTOMER_FEEDBACK","message":{"text":"Hi"}`), "tag", "customer_feedback"},
		{"utility without a template", to(`"messaging_type":"UTILITY","message":{"text":"Hi"}`), "message.template", "approved"},
		{"reaction without a payload", to(`"sender_action":"react"`), "payload", "message_id"},
		{"reaction to nothing", to(`"sender_action":"react","payload":{"reaction":"x"}`), "payload.message_id", "missing"},
		{"reaction with nothing", to(`"sender_action":"react","payload":{"message_id":"m_1","reaction":" "}`), "payload.reaction", "empty"},
		{"reply to nothing", to(`"reply_to":{"mid":""},"message":{"text":"Hi"}`), "reply_to.mid", "empty"},
		{"name twice", to(`"message":{"text":"Hi"},"message":{"text":"Ho"}`), "message", "twice"},
		{"name twice, once escaped", to(`"message":{"text":"Hi","te\u0078t":"Ho"}`), "message.text", "twice"},
		{"name twice, once null", to(`"message":{"text":"Hi","text":null}`), "message.text", "twice"},
		{"list", `[` + to(`"message":{"text":"Hi"}`) + `]`, "", "one request per call"},
		{"number", `12`, "", "not an object"},
		{"empty", " \n", "", "is empty"},
		{"prose", "hello there", "", "not JSON"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { refused(t, jsonType, tc.body, tc.field, tc.hint) })
	}
}

// TestParseKeepsBytes checks that what is accepted is not rewritten.
func TestParseKeepsBytes(t *testing.T) {
	for _, body := range []string{
		"{\n\t\"recipient\" : { \"id\" : \"1254477777772919\" } ,\r\n \"message\" : { \"text\" : \"a\" }\n}",
		to(`"message":{"text":"\ud83d\ude00 \u00e4 \/ ä 😀","new_field":{"z":1,"a":1.000000000000000000001e+99,"z":2}}`),
		to(`"big":123456789012345678901234567890,"message":{"text":"x"},"other":[null,true,false,-0.0]`),
		`{"message":{"text":"order"},"recipient":{"extra":[],"id":"1254477777772919"},"dispatch_id":"d"}`,
		to(`"message":{"text":"half a pair \ud83d"}`),
	} {
		if got := accepted(t, jsonType, body); string(got.Body) != body {
			t.Errorf("Body = %s\nwant   %s", got.Body, body)
		}
		around := "\xef\xbb\xbf \n" + body + "\r\n "
		if got := accepted(t, "", around); string(got.Body) != body {
			t.Errorf("Body = %q, want it without what stands around it", got.Body)
		}
	}
}

func TestParseRefusesSecrets(t *testing.T) {
	const secret = "sEcReT"
	for name, tc := range map[string]struct{ contentType, body string }{
		"token":        {jsonType, to(`"access_token":"` + secret + `","message":{"text":"Hi"}`)},
		"escaped name": {jsonType, to(`"access\u005ftoken":"` + secret + `","message":{"text":"Hi"}`)},
		"proof":        {jsonType, to(`"message":{"text":"Hi"},"appsecret_proof":"` + secret + `"`)},
		"form":         {"application/x-www-form-urlencoded", `recipient={"id":"1"}&message={"text":"Hi"}&access_token=` + secret},
		"null":         {jsonType, to(`"access_token":null,"message":{"text":"Hi"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(tc.contentType, []byte(tc.body))
			if err == nil || !strings.Contains(err.Error(), "Authorization") {
				t.Fatalf("err = %v, want the Authorization header named", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v holds the secret", err)
			}
		})
	}
}

func TestParseRefusesUnrenderedLiquid(t *testing.T) {
	tests := []struct{ name, body, field string }{
		{"recipient", `{"recipient":{"id":"{{custom_attribute.${messenger_id}}}"},"message":{"text":"Hi"}}`, "recipient.id"},
		{"text", to(`"message":{"text":"Hi {{${first_name}}}"}`), "message.text"},
		{"tag", to(`"message":{"text":"{% if x %}Hi{% endif %}"}`), "message.text"},
		{"tag with a dash", to(`"message":{"text":"{%- if x %}Hi{% endif %}"}`), "message.text"},
		{"tag cut off", to(`"message":{"text":"Hi {%"}`), "message.text"},
		{"escaped", to(`"message":{"text":"\u007b\u007Bx}}"}`), "message.text"},
		{"half escaped", to(`"message":{"text":"{\u0025 if x %}"}`), "message.text"},
		{"button", to(`"message":{"attachment":{"type":"template","payload":{"template_type":"button","text":"x","buttons":[{"type":"web_url","title":"t","url":"https://x.example/{{id}}"}]}}}`), "message.attachment.payload.buttons[0].url"},
		{"payload", to(`"message":{"text":"Hi","quick_replies":[{"content_type":"text","title":"a","payload":"{{x}}"}]}`), "message.quick_replies[0].payload"},
		{"unknown field", to(`"message":{"text":"Hi","made_up":{"deep":"{{x}}"}}`), "message.*"},
		{"unknown field at the top", to(`"message":{"text":"Hi"},"dispatch":"{{campaign.${dispatch_id}}}"`), "*"},
		{"outside strings", to(`"message":{{x}}`), ""},
		{"tag between members", `{ {% assign a = 1 %} "recipient":{"id":"1"}}`, ""},
		{"breaks the JSON elsewhere", to(`"message":{"text":"{{'now' | date: "%s"}}"}`), ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { refused(t, jsonType, tc.body, tc.field, "Liquid") })
	}
	for _, text := range []string{"{", "{ {", "}}", "%}", "{ %", `{\"a\":{\"b\":1}}`, "https://x.example/?q={%22a%22:1}", "100%"} {
		accepted(t, jsonType, to(`"message":{"text":"`+text+`"}`))
	}
}

func TestRequestString(t *testing.T) {
	const psid = "1254477777772919"
	message := accepted(t, jsonType, to(`"message":{"text":"private"}`))
	action := accepted(t, jsonType, to(`"sender_action":"typing_on"`))
	if got := message.String(); got != "message to …2919" {
		t.Errorf("String() = %q", got)
	}
	if got := action.String(); got != "sender action to …2919" {
		t.Errorf("String() = %q", got)
	}
	for _, format := range []string{"%v", "%+v", "%s", "%#v", "%q"} {
		if got := fmt.Sprintf(format, message.Recipient); strings.Contains(got, psid) {
			t.Errorf("%s prints the PSID: %s", format, got)
		}
	}
}

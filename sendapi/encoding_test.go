package sendapi

import (
	"net/url"
	"strings"
	"testing"
)

const formType = "application/x-www-form-urlencoded"

func TestParseEncodings(t *testing.T) {
	const recipient, message = `{"id":"1254477777772919"}`, `{"text":"Hi \"Ann\" \u00e4 & co"}`
	const nested = `{"recipient":` + recipient + `,"message":` + message + `,"messaging_type":"UPDATE"}`
	form := "recipient=" + url.QueryEscape(recipient) + "&message=" + url.QueryEscape(message) + "&messaging_type=UPDATE"
	flat := `{"recipient":"{\"id\":\"1254477777772919\"}","message":"{\"text\":\"Hi \\\"Ann\\\" \\u00e4 & co\"}","messaging_type":"UPDATE"}`
	bodies := map[string]string{"nested": nested, "flat": flat, "form": form, "form with an empty pair": "&" + form + "&"}
	types := []string{"", jsonType, "application/json; charset=utf-8", "text/plain", formType, "application/x-www-form-url-encoded", "nonsense"}
	for name, body := range bodies {
		for _, contentType := range types {
			t.Run(name+" as "+contentType, func(t *testing.T) {
				got := accepted(t, contentType, body)
				if string(got.Body) != nested {
					t.Errorf("Body = %s\nwant   %s", got.Body, nested)
				}
				if got.messagingType != updateType || got.Recipient.Value != "1254477777772919" {
					t.Errorf("got %v", fields(got))
				}
			})
		}
	}
}

func TestParseUnfolds(t *testing.T) {
	const psid = `{"id":"1254477777772919"}`
	tests := []struct{ name, body, want string }{
		{"message alone in a string", `{"recipient":` + psid + `,"message":"{\"text\":\"Hi\"}"}`, `{"recipient":` + psid + `,"message":{"text":"Hi"}}`},
		{"number as PSID", `{"recipient":"{\"id\":1254477777772919}","message":"{\"text\":\"Hi\"}"}`, `{"recipient":` + psid + `,"message":{"text":"Hi"}}`},
		{"others keep their order and form", `{ "x" : "1", "recipient": "{\"id\":\"12\"}" ,"y":"{not json","message":"{\"text\":\"Hi\"}","z":1.50}`,
			`{ "x" : "1", "recipient": {"id":"12"} ,"y":"{not json","message":{"text":"Hi"},"z":1.50}`},
		{"other objects too", `{"recipient":"{\"id\":\"12\"}","sender_action":"react","payload":"{\"message_id\":\"m\",\"reaction\":\"x\"}"}`,
			`{"recipient":{"id":"12"},"sender_action":"react","payload":{"message_id":"m","reaction":"x"}}`},
		{"form", `recipient={"id":"12"}&message={"text":"a+b%2Bc"}&persona_id=7&note=a"b\%0A`,
			`{"recipient":{"id":"12"},"message":{"text":"a b+c"},"persona_id":"7","note":"a\"b\\\u000a"}`},
		{"form with a JSON list", `recipient={"id":"12"}&message={"text":"x"}&list=[1]`, `{"recipient":{"id":"12"},"message":{"text":"x"},"list":[1]}`},
		{"single quotes, as the Send API reference has them", `recipient={'id':'12'}&messaging_type=RESPONSE&message={'text':'hello, "world" it\'s %5C%5C %5Cn'}`,
			`{"recipient":{"id":"12"},"messaging_type":"RESPONSE","message":{"text":"hello, \"world\" it's \\ \n"}}`},
		{"single quotes and double ones", `recipient={ 'id':"1'2"}&message={'text':"x\"y"}`, ``},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.want == "" {
				refused(t, "", tc.body, "recipient.id", "not a PSID")
				return
			}
			if got := accepted(t, "", tc.body); string(got.Body) != tc.want {
				t.Errorf("Body = %s\nwant   %s", got.Body, tc.want)
			}
		})
	}
}

func TestParseRefusesEncoding(t *testing.T) {
	tests := []struct{ name, contentType, body, field, hint string }{
		{"multipart", "multipart/form-data; boundary=x", "--x", "", "attachment_id"},
		{"multipart in capitals", " Multipart/Form-Data", to(`"message":{"text":"Hi"}`), "", "url"},
		{"flat recipient without JSON", jsonType, `{"recipient":"1254477777772919","message":"{\"text\":\"Hi\"}"}`, "recipient", `{"id":"…"}`},
		{"flat message without JSON", jsonType, `{"recipient":{"id":"12"},"message":"Hi"}`, "message", `{"text":"…"}`},
		{"flat empty recipient", jsonType, `{"recipient":" ","message":"{\"text\":\"Hi\"}"}`, "recipient", "empty"},
		{"flat list", jsonType, `{"recipient":"[]","message":"{\"text\":\"Hi\"}"}`, "recipient", "object"},
		{"flat quote inside", jsonType, `{"recipient":{"id":"12"},"message":"{\"text\":\"Hi \"Ann\"\"}"}`, "message", "json_escape"},
		{"flat line break inside", jsonType, `{"recipient":{"id":"12"},"message":"{\"text\":\"Hi\nAnn\"}"}`, "message", "json_escape"},
		{"flat quote outside", jsonType, `{"recipient":{"id":"12"},"message":"{"text":\"Hi\"}"}`, "", "json_escape"},
		{"flat half a pair", jsonType, `{"recipient":{"id":"12"},"message":"{\"text\":\"\ud83d\"}"}`, "message", "UTF-8"},
		{"flat with more behind", jsonType, `{"recipient":"{\"id\":\"12\"},\"x\":{}","message":"{\"text\":\"Hi\"}"}`, "recipient", "remove"},
		{"flat and nested", jsonType, `{"message":{"text":"a"},"message":"{\"text\":\"b\"}","recipient":{"id":"1"}}`, "message", "twice"},
		{"form twice", formType, `recipient={"id":"1"}&recipient={"id":"2"}&message={"text":"x"}`, "recipient", "twice"},
		{"form array", formType, `recipient[id]=12&message[text]=Hi`, "recipient", "as one field"},
		{"form array encoded", formType, `recipient%5Bid%5D=12&message={"text":"Hi"}`, "recipient", "as one field"},
		{"form array of the unknown", formType, `to[id]=12`, "*", "as one field"},
		{"form badly encoded", formType, `recipient={"id":"1"}&message={"text":"100% off"}`, "message", "url_encode"},
		{"form with a bare ampersand", formType, `recipient={"id":"1"}&message={"text":"Tom & Ann"}`, "message", "url_encode"},
		{"form not UTF-8", formType, `recipient={"id":"1"}&message={"text":"%FF"}`, "message", "UTF-8"},
		{"form unknown not UTF-8", formType, `recipient={"id":"1"}&message={"text":"x"}&note=%FF`, "", "UTF-8"},
		{"form without a message", formType, `recipient={"id":"1"}`, "message", "missing"},
		{"form with Liquid", formType, `recipient={"id":"{{x}}"}&message={"text":"x"}`, "recipient.id", "Liquid"},
		{"form that is Liquid", formType, `recipient={{x}}&message={"text":"x"}`, "recipient", "Liquid"},
		{"not UTF-8", jsonType, to(`"message":{"text":"` + "\xff" + `"}`), "", "UTF-8"},
		{"UTF-16", jsonType, "\xff\xfe{\x00", "", "UTF-8"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { refused(t, tc.contentType, tc.body, tc.field, tc.hint) })
	}
}

func TestParseRefusesDepth(t *testing.T) {
	nested := func(depth int) string {
		return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1)
	}
	body := func(depth int) string { return to(`"message":{"text":"x"},"deep":` + nested(depth)) }
	accepted(t, jsonType, body(maxDepth-1))
	refused(t, jsonType, body(maxDepth), "", "too deep")
	refused(t, jsonType, strings.Repeat("[", 1e6), "", "too deep")
	// Folded, the message is one level higher than it will be.
	flat := `{"recipient":{"id":"12"},"message":` + string(appendQuoted(nil, nested(maxDepth))) + `}`
	refused(t, jsonType, flat, "", "too deep")
}

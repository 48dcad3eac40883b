package sendapi

import "testing"

func TestParseRecipient(t *testing.T) {
	tests := []struct {
		name, recipient string
		want            Recipient
		sent            string // if not as it came
	}{
		{"psid", `{"id":"1254477777772919"}`, Recipient{byPSID, "1254477777772919"}, ""},
		{"escaped digits", `{"id":"\u0031254477777772919"}`, Recipient{byPSID, "1254477777772919"}, ""},
		{"escaped name", `{"\u0069d":"1254477777772919"}`, Recipient{byPSID, "1254477777772919"}, ""},
		{"number", `{"id":1254477777772919}`, Recipient{byPSID, "1254477777772919"}, `{"id":"1254477777772919"}`},
		{"number beyond a float", `{ "id" : 12544777777729191254477777772919 }`, Recipient{byPSID, "12544777777729191254477777772919"}, `{ "id" : "12544777777729191254477777772919" }`},
		{"user_ref", `{"user_ref":"a-b_c d"}`, Recipient{byUserRef, "a-b_c d"}, ""},
		{"comment", `{"comment_id":"12_34"}`, Recipient{byCommentID, "12_34"}, ""},
		{"post", `{"post_id":1234}`, Recipient{byPostID, "1234"}, `{"post_id":"1234"}`},
		{"notification token", `{"notification_messages_token":"tok"}`, Recipient{byNotificationToken, "tok"}, ""},
		{"one-time token", `{"one_time_notif_token":"tok"}`, Recipient{byOneTimeToken, "tok"}, ""},
		{"phone number", `{"phone_number":"+1(212)555-2368","name":{"first_name":"A","last_name":"B"}}`, Recipient{byPhoneNumber, "+1(212)555-2368"}, ""},
		{"others are null", `{"user_ref":null,"id":"12"}`, Recipient{byPSID, "12"}, ""},
		{"unknown beside", `{"id":"12","new":{}}`, Recipient{byPSID, "12"}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			body := func(recipient string) string {
				return `{"recipient":` + recipient + `,"message":{"text":"Hi"}}`
			}
			got := accepted(t, jsonType, body(tc.recipient))
			if got.Recipient.Kind != tc.want.Kind || got.Recipient.Value != tc.want.Value {
				t.Errorf("recipient %s %q, want %s %q", got.Recipient.Kind, got.Recipient.Value, tc.want.Kind, tc.want.Value)
			}
			want := body(tc.recipient)
			if tc.sent != "" {
				want = body(tc.sent)
			}
			if string(got.Body) != want {
				t.Errorf("Body = %s\nwant   %s", got.Body, want)
			}
		})
	}
}

func TestParseRefusesRecipient(t *testing.T) {
	tests := []struct{ name, recipient, field, hint string }{
		{"null", `null`, "recipient", "PSID"},
		{"list", `[]`, "recipient", "object"},
		{"nobody", `{}`, "recipient", "names no recipient"},
		{"unknown form", `{"login_id":"1"}`, "recipient", "names no recipient"},
		{"null id", `{"id":null}`, "recipient", "names no recipient"},
		{"two forms", `{"id":"1","user_ref":"x"}`, "recipient", "must name one recipient (got id and user_ref)"},
		{"twice", `{"id":"1","id":"2"}`, "recipient.id", "twice"},
		{"empty", `{"id":""}`, "recipient.id", `"messenger_id is not blank"`},
		{"blank", `{"id":" \t\u00a0\u0020"}`, "recipient.id", `"messenger_id is not blank"`},
		{"blank user_ref", `{"user_ref":" "}`, "recipient.user_ref", "not blank"},
		{"fraction", `{"id":12544777777729.5}`, "recipient.id", "whole number"},
		{"exponent", `{"id":1.254477777772919e15}`, "recipient.id", "whole number"},
		{"negative", `{"id":-1254477777772919}`, "recipient.id", "whole number"},
		{"exponent in a string", `{"id":"1.254477777772919e+15"}`, "recipient.id", "whole number"},
		{"fraction in a string", `{"id":"1254477777772919.0"}`, "recipient.id", "whole number"},
		{"true", `{"id":true}`, "recipient.id", "text"},
		{"object", `{"id":{"id":"1"}}`, "recipient.id", "text"},
		{"placeholder", `{"id":"<PSID>"}`, "recipient.id", "not a PSID"},
		{"e-mail", `{"id":"ann@example.com"}`, "recipient.id", "not a PSID"},
		{"space inside", `{"id":"1254477 777772919"}`, "recipient.id", "not a PSID"},
		{"half a pair", `{"user_ref":"\ud83d"}`, "recipient.user_ref", "UTF-8"},
		{"name as text", `{"phone_number":"+1","name":"Ann"}`, "recipient.name", "object"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, jsonType, `{"recipient":`+tc.recipient+`,"message":{"text":"Hi"}}`, tc.field, tc.hint)
		})
	}
	refused(t, jsonType, `{"message":{"text":"Hi"}}`, "recipient", "missing")
}

func TestRecipientShort(t *testing.T) {
	for value, want := range map[string]string{
		"":                 "…",
		"1234567":          "…",
		"12345678":         "…5678",
		"1254477777772919": "…2919",
		"äöüßäöüß":         "…äöüß",
	} {
		if got := (Recipient{byPSID, value}).Short(); got != want {
			t.Errorf("Short of %q = %q, want %q", value, got, want)
		}
	}
}

// The digest is stored with messages: by it those of one person are found.
func TestRecipientDigest(t *testing.T) {
	if got := PSID("2003004005006007").Digest(); got != "8wZOu+ykavNw" {
		t.Errorf("the digest of a PSID is %s: messages that are stored already have another", got)
	}
	got := accepted(t, jsonType, `{"recipient":{"id":2003004005006007},"message":{"text":"Hi"}}`)
	if got.Recipient.Digest() != PSID("2003004005006007").Digest() {
		t.Error("a request to the PSID has another digest")
	}
	if (Recipient{byUserRef, "2003004005006007"}).Digest() == PSID("2003004005006007").Digest() {
		t.Error("a user_ref has the digest of a PSID")
	}
}

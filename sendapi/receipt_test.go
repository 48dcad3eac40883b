package sendapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeReceipt(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   Receipt
	}{
		{"message", 200, `{"recipient_id":"1254477777772919","message_id":"AG5Hz2Uq7tuwNEhXfYYKj8mJEM"}`,
			Receipt{RecipientID: "1254477777772919", MessageID: "AG5Hz2Uq7tuwNEhXfYYKj8mJEM"}},
		{"attachment", 200, `{"recipient_id":"1","message_id":"m_1","attachment_id":"687"}`, Receipt{RecipientID: "1", MessageID: "m_1"}},
		{"user_ref or phone number", 200, `{"message_id":"m_1"}`, Receipt{MessageID: "m_1"}},
		{"sender action", 200, `{"recipient_id":"1"}`, Receipt{RecipientID: "1"}},
		{"201", 201, `{"message_id":"m_1"}`, Receipt{MessageID: "m_1"}},
		{"ids as numbers", 200, `{"recipient_id":12544777777729190001,"message_id":42}`,
			Receipt{RecipientID: "12544777777729190001", MessageID: "42"}},
		{"id of an odd type", 200, `{"recipient_id":"1","message_id":{"mid":"m_1"}}`, Receipt{RecipientID: "1"}},
		{"id twice", 200, `{"message_id":"m_1","message_id":"m_2"}`, Receipt{MessageID: "m_2"}},
		{"no error", 200, `{"message_id":"m_1","error":null}`, Receipt{MessageID: "m_1"}},
		{"more fields", 200, "\n {\"message_id\":\"m_1\",\"thread_key\":\"t\",\"gchat_space_name\":\"s\"}\n", Receipt{MessageID: "m_1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, e := decodeAnswer(tt.status, nil, []byte(tt.body), time.Now())
			if e != nil {
				t.Fatal(e)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || got.Unnamed() {
				t.Errorf("%s, unnamed %v", diff, got.Unnamed())
			}
		})
	}
}

// Answers of success in forms that Meta does not document.
func TestReceiptWithoutIDs(t *testing.T) {
	for _, body := range []string{
		`{}`, ` {"success":true} `, `{"error":null}`, `{"recipient_id":"","message_id":""}`, `{"recipient_id":null,"message_id":true}`,
		`{"attachment_id":"1"}`,
	} {
		for _, status := range []int{200, 201, 204} {
			if got, e := decodeAnswer(status, nil, []byte(body), time.Now()); e != nil || !got.Unnamed() {
				t.Errorf("HTTP %d %s: unnamed %v, error %v", status, body, got.Unnamed(), e)
			}
		}
	}
}

func TestReceiptHeaders(t *testing.T) {
	header := http.Header{}
	header.Set("X-App-Usage", `{"call_count":28}`)
	got, e := decodeAnswer(200, header, []byte(`{"recipient_id":"1254477777772919","message_id":"m_1"}`), time.Now())
	if e != nil {
		t.Fatal(e)
	}
	if got.Usage.App != 28 {
		t.Errorf("usage %+v", got.Usage)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, got); strings.Contains(s, got.RecipientID) || !strings.Contains(s, "m_1") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

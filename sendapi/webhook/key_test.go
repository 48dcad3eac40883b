package webhook_test

import (
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// The first of each pair is not the second: they must not have the same key.
func TestKeysTellApart(t *testing.T) {
	const at = `"timestamp":1795600000123,`
	for name, pair := range map[string][2]string{
		"mid":                    {at + `"message":{"mid":"m_1"}`, at + `"message":{"mid":"m_2"}`},
		"kind":                   {at + `"message":{"mid":"m_1"}`, at + `"postback":{"mid":"m_1"}`},
		"echo":                   {at + `"message":{"mid":"m_1"}`, at + `"message":{"mid":"m_1","is_echo":true}`},
		"time of a message":      {at + `"message":{}`, `"timestamp":1795600000124,"message":{}`},
		"time of a postback":     {at + `"postback":{"title":"a"}`, `"timestamp":1795600000124,"postback":{"title":"a"}`},
		"title":                  {at + `"postback":{"title":"a"}`, at + `"postback":{"title":"b"}`},
		"payload":                {at + `"postback":{"payload":"a"}`, at + `"postback":{"payload":"b"}`},
		"where a part ends":      {at + `"postback":{"title":"a","payload":"bc"}`, at + `"postback":{"title":"ab","payload":"c"}`},
		"ref":                    {at + `"referral":{"ref":"a"}`, at + `"referral":{"ref":"b"}`},
		"type of a referral":     {at + `"referral":{"type":"OPEN_THREAD"}`, at + `"referral":{"type":"LEAD_COMPLETE"}`},
		"status of an opt-in":    {at + `"optin":{"type":"a"}`, at + `"optin":{"type":"a","notification_messages_status":"STOP NOTIFICATIONS"}`},
		"payload of an opt-in":   {at + `"optin":{"payload":{"a":1}}`, at + `"optin":{"payload":{"a":2}}`},
		"reaction":               {at + `"reaction":{"mid":"m_1","action":"react","reaction":"love"}`, at + `"reaction":{"mid":"m_1","action":"react","reaction":"sad"}`},
		"time of a reaction":     {at + `"reaction":{"mid":"m_1","action":"react"}`, `"timestamp":1795600000124,"reaction":{"mid":"m_1","action":"react"}`},
		"account linking status": {at + `"account_linking":{"status":"linked"}`, at + `"account_linking":{"status":"unlinked"}`},
		"watermark":              {at + `"read":{"watermark":1795600000001}`, at + `"read":{"watermark":1795600000002}`},
		"mids":                   {`"delivery":{"mids":["m_1"],"watermark":1795600000001}`, `"delivery":{"mids":["m_2"],"watermark":1795600000001}`},
		"odd mids":               {at + `"message":{"mid":"m 1"}`, at + `"message":{"mid":"m 2"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := parse(t, inEntry(event(pair[0])+`,`+event(pair[1])))
			if len(b.Events) != 2 || b.Events[0].Key == b.Events[1].Key {
				t.Errorf("%+v, want two events", b)
			}
		})
	}
	b := parse(t, inEntry(event(hello)+`,`+strings.Replace(event(hello), psid, psid+"1", 1)))
	if len(b.Events) != 2 {
		t.Errorf("%+v, want an event for each person", b)
	}
}

// The second of each pair is the first again, as Facebook repeats it.
func TestKeysRecogniseRepetitions(t *testing.T) {
	for name, pair := range map[string][2]string{
		"mid, whatever the time":   {hello, strings.Replace(hello, "1795600000123", "1795600000", 1)},
		"receipt without its time": {`"delivery":{"mids":["m_1"],"watermark":1795600000001}`, `"timestamp":1795600000555,"delivery":{"mids":["m_1"],"watermark":1795600000001}`},
		"order of members":         {`"timestamp":1795600000123,"referral":{"ref":"a","type":"b"}`, `"referral":{"type":"b","ref":"a"},"timestamp":1795600000123`},
		"spelling of a time":       {`"timestamp":1795600000000,"optin":{"ref":"a"}`, `"timestamp":"1795600000","optin":{"ref":"a"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := parse(t, inEntry(event(pair[0])+`,`+event(pair[1])))
			if len(b.Events) != 1 || len(b.Skipped) != 1 || b.Skipped[0].Why != webhook.WhyDuplicate {
				t.Errorf("%+v, want one event and one duplicate", b)
			}
		})
	}
	// Without any time, the time of receipt is no part of the key: it differs each time.
	body := []byte(`{"object":"page","entry":[{"id":"` + page + `","messaging":[` + event(`"optin":{"ref":"a"}`) + `]}]}`)
	first, err := webhook.Parse(body, received)
	if err != nil {
		t.Fatal(err)
	}
	again, err := webhook.Parse(body, received.Add(99))
	if err != nil || first.Events[0].Key != again.Events[0].Key {
		t.Errorf("%v and %v, %v; want the same key", first, again, err)
	}
}

// A message that was deleted at once: its deletion carries its mid, and may come first.
func TestDeletionDoesNotMeetItsMessage(t *testing.T) {
	deletion := event(`"timestamp":1795600000999,"message":{"mid":"m_1","is_deleted":true}`)
	for _, events := range []string{event(hello) + `,` + deletion, deletion + `,` + event(hello)} {
		b := parse(t, inEntry(events))
		if len(b.Events) != 1 || b.Events[0].MID != "m_1" || len(b.Skipped) != 1 || b.Skipped[0].Kind != webhook.KindUnsend {
			t.Errorf("%+v, want the message, and the deletion skipped", b)
		}
	}
}

func TestKeyIsBounded(t *testing.T) {
	digits, long := strings.Repeat("7", 32), "m_"+strings.Repeat("x", 218)
	longest := `{"sender":{"id":"` + digits + `"},"recipient":{"id":"` + digits + `1"},`
	longest = strings.Replace(longest, digits+`1`, digits[:31]+"1", 1)
	entry := `{"object":"page","entry":[{"id":"` + digits[:31] + `1","messaging":[` + longest
	e := one(t, entry+`"postback":{"mid":"`+long+`"}}]}]}`)
	if e.MID != long || len(e.Key) > webhook.MaxKey {
		t.Errorf("mid of %d bytes, key of %d", len(e.MID), len(e.Key))
	}
	for _, mid := range []string{long + "x", "m|1", "m 1", "m\\n1", "mü"} {
		e := one(t, entry+`"postback":{"mid":"`+mid+`"}}]}]}`)
		if e.MID != "" || strings.Contains(e.Key, mid) || len(e.Key) > webhook.MaxKey {
			t.Errorf("mid %q gives mid %q, key %s", mid, e.MID, e.Key)
		}
	}
}

func TestMIDsAreBounded(t *testing.T) {
	mids := strings.Repeat(`"m_1",`, webhook.MaxMIDs) + `"m_2"`
	e := one(t, inEntry(event(`"delivery":{"mids":[`+mids+`],"watermark":1795600000001}`)))
	if len(e.MIDs) != webhook.MaxMIDs {
		t.Errorf("%d mids, want %d", len(e.MIDs), webhook.MaxMIDs)
	}
	if e := one(t, inEntry(event(`"delivery":{"mids":7,"watermark":1795600000001}`))); e.MIDs != nil || e.Watermark.IsZero() {
		t.Errorf("%+v, want the watermark in spite of broken mids", e)
	}
}

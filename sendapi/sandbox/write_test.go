package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refPositions reports where in an event a reference is.
func refPositions(e eventJSON, ref string) []string {
	var found []string
	add := func(where, value string) {
		if value == ref || value == `{"referral": {"ref": "`+ref+`"}}` {
			found = append(found, where)
		}
	}
	if r := e.Referral; r != nil {
		add("referral", r.Ref)
	}
	if m := e.Message; m != nil {
		if m.Referral != nil {
			add("message.referral", m.Referral.Ref)
		}
		if m.QuickReply != nil {
			add("quick_reply", m.QuickReply.Payload)
		}
	}
	if p := e.Postback; p != nil {
		if p.Referral != nil {
			add("postback.referral", p.Referral.Ref)
		}
		add("postback.payload", p.Payload)
	}
	add("optin", e.Optin["ref"])
	add("account_linking", e.Linking["authorization_code"])
	return found
}

// The reference is where Facebook puts it for each kind, and nowhere else, whatever varies.
func TestWriteReference(t *testing.T) {
	const ref = "b1-6650f1a2b3c4d5e6f7a8b9c0-1795596400-18c9"
	tests := []struct {
		w    Write
		want string
	}{
		{Write{Ref: ref}, "referral"},
		{Write{Ref: ref, Kind: KindReferral}, "referral"},
		{Write{Ref: ref, New: true}, "postback.referral"},
		{Write{Ref: ref, Kind: KindGetStarted}, "postback.referral"},
		{Write{Ref: ref, Text: "How much is it?"}, "message.referral"},
		{Write{Ref: ref, Kind: KindMessage}, "message.referral"},
		{Write{Ref: ref, Kind: KindQuickReply}, "quick_reply"},
		{Write{Payload: ref, Kind: KindQuickReply}, "quick_reply"},
		{Write{Ref: ref, Kind: KindPostback}, "postback.payload"},
		{Write{Payload: ref}, "postback.payload"},
		{Write{Ref: ref, Kind: KindPostback, New: true}, "postback.referral"},
		{Write{Ref: ref, Payload: "MORE"}, "postback.referral"},
		{Write{Ref: ref, Kind: KindOptin}, "optin"},
		{Write{Ref: ref, Kind: KindAccountLinking}, "account_linking"},
	}
	r, c := startHooked(t, Webhook{Fields: knownFields, Parallel: 1})
	for i, tt := range tests {
		name := fmt.Sprintf("%+v", tt.w)
		tt.w.Times = 20
		before := len(c.received())
		if out := r.write("77", tt.w); out.Events != 20 {
			t.Errorf("%s: %+v", name, out)
		}
		r.settled()
		list := events(t, c.received()[before:])
		if len(list) != 20 {
			t.Fatalf("%d: %s: %d events", i, name, len(list))
		}
		for _, e := range list {
			if got := strings.Join(refPositions(e, ref), ", "); got != tt.want || e.Sender.ID != "77" {
				t.Errorf("%s: in %q, want %q: %+v", name, got, tt.want, e)
				break
			}
		}
	}
}

// What a kind consists of beside the reference.
func TestWriteKinds(t *testing.T) {
	at := time.UnixMilli(1795600000123)
	tests := []struct {
		w    Write
		want func(e eventJSON) bool
	}{
		{Write{}, func(e eventJSON) bool {
			return e.Message.Text == "Hello" && e.Message.MID != "" && e.Message.QuickReply == nil
		}},
		{Write{Text: "schön / gut 😀", MID: "m_1"}, func(e eventJSON) bool { return e.Message.Text == "schön / gut 😀" && e.Message.MID == "m_1" }},
		{Write{Text: "Hi", Ref: "r"}, func(e eventJSON) bool {
			return e.Message.Text == "Hi" && e.Message.Referral.AdID != "" && *e.Message.Referral.Source == "ADS"
		}},
		{Write{Kind: KindQuickReply}, func(e eventJSON) bool { return e.Message.Text == "Yes" && e.Message.QuickReply.Payload == "YES" }},
		{Write{Kind: KindPostback, MID: "m_2"}, func(e eventJSON) bool { return e.Postback.Title == "Sandbox" && e.Postback.MID == "m_2" }},
		{Write{Kind: KindPostback, Text: "More", Payload: "P"}, func(e eventJSON) bool { return e.Postback.Title == "More" && e.Postback.Payload == "P" }},
		{Write{Kind: KindGetStarted}, func(e eventJSON) bool {
			return e.Postback.Title == "Get Started" && e.Postback.Payload == "GET_STARTED" && e.Postback.Referral == nil
		}},
		{Write{Kind: KindReferral}, func(e eventJSON) bool { return e.Referral.Ref == "" && e.Referral.Type == "OPEN_THREAD" }},
		{Write{Kind: KindOptin, Payload: "NEWS"}, func(e eventJSON) bool {
			return e.Optin["type"] == "notification_messages" && e.Optin["payload"] == "NEWS" && e.Optin["notification_messages_token"] != ""
		}},
		{Write{Kind: KindReaction, MID: "m_3"}, func(e eventJSON) bool {
			return e.Reaction["mid"] == "m_3" && e.Reaction["action"] == "react" && e.Reaction["emoji"] == "❤️"
		}},
		{Write{Kind: KindAccountLinking, Ref: "code"}, func(e eventJSON) bool { return e.Linking["status"] == "linked" }},
		{Write{Kind: KindDelivery, MID: "m_4"}, func(e eventJSON) bool {
			return cmp.Equal(e.Delivery, &receiptJSON{[]string{"m_4"}, at.UnixMilli()})
		}},
		{Write{Kind: KindRead}, func(e eventJSON) bool { return cmp.Equal(e.Read, &receiptJSON{nil, at.UnixMilli()}) }},
	}
	r, c := startHooked(t, Webhook{Fields: knownFields})
	for i, tt := range tests {
		tt.w.At = at
		r.write("77", tt.w)
		r.settled()
		e := events(t, c.received()[i:])[0]
		if !tt.want(e) {
			t.Errorf("%+v: %s", tt.w, c.received()[i])
		}
		if e.Timestamp != at.UnixMilli() && e.Delivery == nil {
			t.Errorf("%+v: timestamp %d", tt.w, e.Timestamp)
		}
	}
}

// What may vary does: a source is sometimes absent, a postback sometimes has no mid, a payload holds the reference in both forms.
func TestWriteVaries(t *testing.T) {
	r, c := startHooked(t, Webhook{})
	r.write("1", Write{Ref: "r", Times: 60})
	r.write("2", Write{Ref: "r", Kind: KindPostback, Times: 60})
	r.settled()
	seen := map[string]bool{}
	for _, e := range events(t, c.received()) {
		switch {
		case e.Referral != nil:
			seen[fmt.Sprintf("source %v", e.Referral.Source != nil)] = true
		case e.Postback != nil:
			seen[fmt.Sprintf("mid %v", e.Postback.MID != "")] = true
			seen["payload "+e.Postback.Payload] = true
		}
	}
	want := map[string]bool{"source true": true, "source false": true, "mid true": true, "mid false": true, "payload r": true,
		`payload {"referral": {"ref": "r"}}`: true}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

// People, times and repetitions multiply. A repetition is the same event; all others differ in person, or in id and time.
func TestWriteMany(t *testing.T) {
	r, c := startHooked(t, Webhook{Batch: 7})
	out := r.write("9007199254740993", Write{Persons: 5, Times: 3, Repeat: 2})
	if out.Events != 45 || len(out.MIDs) != 15 {
		t.Errorf("%+v", out)
	}
	if n := r.settled(); n.DeliveredEvents != 45 || n.Events != 45 {
		t.Errorf("%+v", n)
	}
	people, times, mids := map[string]int{}, map[string]map[int64]bool{}, map[string]int{}
	for _, e := range events(t, c.received()) {
		people[e.Sender.ID]++
		mids[e.Message.MID]++
		if times[e.Sender.ID] == nil {
			times[e.Sender.ID] = map[int64]bool{}
		}
		times[e.Sender.ID][e.Timestamp] = true
	}
	for i := range 5 {
		id := fmt.Sprint(9007199254740993 + i)
		if people[id] != 9 || len(times[id]) != 3 {
			t.Errorf("person %s: %d events at %d times", id, people[id], len(times[id]))
		}
	}
	for _, mid := range out.MIDs {
		if mids[mid] != 3 {
			t.Errorf("mid %s came %d times", mid, mids[mid])
		}
	}
	if len(mids) != 15 {
		t.Errorf("%d mids", len(mids))
	}
}

func TestWriteRefuses(t *testing.T) {
	r, _ := startHooked(t, Webhook{})
	for _, tt := range []struct {
		psid string
		w    Write
		want string
	}{
		{"", Write{}, "PSID: must be 1 to 32 digits"},
		{"jon", Write{}, "PSID: must be 1 to 32 digits"},
		{strings.Repeat("1", 33), Write{}, "PSID: must be 1 to 32 digits"},
		{"9223372036854775808", Write{Persons: 2}, "PSID: must be a number below 2^63"},
		{"1", Write{Kind: "wave"}, "Kind: must be one of account_linking, "},
		{"1", Write{Page: "11"}, `no such page: "11"`},
		{"1", Write{Times: -1}, "Times: must be between 1 and 1000000 (got -1)"},
		{"1", Write{Repeat: -1}, "Repeat: must be between 0 and"},
		{"1", Write{Persons: 1_000_001}, "Persons: must be between 1 and"},
		{"1", Write{Persons: 1000, Times: 1000, Repeat: 1}, "Times: must make at most 1000000 events"},
		{"1", Write{MID: "m", Times: 2}, "MID: must not be given"},
		{"1", Write{At: time.Unix(-1, 0)}, "At: must not be before 1970"},
	} {
		if _, err := r.Write(tt.psid, tt.w); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %+v: error %v, want %q", tt.psid, tt.w, err, tt.want)
		}
	}
	if n := r.WebhookCounts(); n != (WebhookCounts{}) {
		t.Errorf("%+v", n)
	}
}

func TestWriteNeedsWebhookAndPage(t *testing.T) {
	r := start(t, Config{})
	if _, err := r.Write("1", Write{}); err == nil || !strings.Contains(err.Error(), "there is no webhook") {
		t.Errorf("without a webhook: %v", err)
	}
	c := newCallback(t)
	if err := r.SetWebhook(within(t), Webhook{URL: c.url}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write("1", Write{}); err == nil || !strings.Contains(err.Error(), "there are 0 pages") {
		t.Errorf("without a page: %v", err)
	}
	r.send("1", "this makes a page")
	r.write("1", Write{})
	if n := r.settled(); n.DeliveredEvents != 1 {
		t.Errorf("%+v", n)
	}
}

// The same seed gives the same events.
func TestSameSeedSameEvents(t *testing.T) {
	var first []string
	for run := range 2 {
		c := newCallback(t)
		r := start(t, Config{Seed: 7, Pages: []Page{{ID: "10"}}, Webhook: Webhook{URL: c.url, Parallel: 1}})
		for _, w := range []Write{{}, {Ref: "r"}, {Ref: "r", Kind: KindPostback, Times: 5}, {Kind: KindOptin}} {
			w.At = time.UnixMilli(1795600000123)
			r.write("1", w)
		}
		r.settled()
		var got []string
		for _, b := range c.received() {
			_, event, _ := strings.Cut(b, `"messaging"`) // before it is the time of sending
			got = append(got, event)
		}
		if run == 0 {
			first = got
		} else if diff := cmp.Diff(first, got); diff != "" {
			t.Error(diff)
		}
	}
}

package webhook_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

const hello = `"timestamp":1795600000123,"message":{"mid":"m_1","text":"hi"}`

func TestParseRefusesWhatIsNoObject(t *testing.T) {
	for _, body := range []string{``, ` `, `null`, `[]`, `"secret"`, `1`, `{`, `{}}`, `{"object":"page"} x`, `{"entry":[{"secret":}]}`,
		`{"object":"page","entry":[` + event(hello) + `]`, "\xef\xbb\xbf{}"} {
		b, err := webhook.Parse([]byte(body), received)
		if err == nil || len(b.Events)+len(b.Skipped) != 0 {
			t.Errorf("%s: %+v, %v; want an error alone", body, b, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the body: %v", err)
		}
	}
}

// JSON that is not as clean as it may be is no reason to lose a batch.
func TestParseIsLax(t *testing.T) {
	e := one(t, inEntry(event(`"timestamp":1,"timestamp":1795600000123,"message":{"mid":"m_1","text":"`+"\xff"+`","text":"\ud83d"}`)))
	if e.MID != "m_1" || e.At.UnixMilli() != 1795600000123 {
		t.Errorf("%+v", e)
	}
}

// Ids come as strings and as numbers, and some are above 2^53, where a float64 has no precision for the last digit.
func TestIDs(t *testing.T) {
	e := one(t, `{"object":"page","entry":[{"id":104857600000017,"time":1,"messaging":[
		{"sender":{"id":24161803398874989},"recipient":{"id":104857600000017},`+hello+`}]}]}`)
	if e.PSID != "24161803398874989" || e.Page != page {
		t.Errorf("%s on %s", e.PSID, e.Page)
	}
	for _, sender := range []string{`{}`, `null`, `"7003141592653589"`, `{"id":null}`, `{"id":""}`, `{"id":"7003 1"}`, `{"id":1.5}`,
		`{"id":7e15}`, `{"id":-7}`, `{"id":{"id":7}}`, `{"id":"` + strings.Repeat("7", 33) + `"}`, `{"user_ref":"9876543210"}`} {
		s := none(t, inEntry(`{"sender":`+sender+`,"recipient":{"id":"`+page+`"},`+hello+`}`))
		if want := (webhook.Skipped{Page: page, Kind: webhook.KindMessage, Why: webhook.WhyNoPSID}); s != want {
			t.Errorf("%s: %+v, want %+v", sender, s, want)
		}
	}
}

func TestTimes(t *testing.T) {
	const entry = "2026-11-25T09:46:40.523Z"
	for _, c := range []struct{ name, timestamp, want string }{
		{"milliseconds", `1795600000123`, "2026-11-25T09:46:40.123Z"},
		{"seconds", `1795600090`, "2026-11-25T09:48:10Z"},
		{"string of milliseconds", `"1795600000123"`, "2026-11-25T09:46:40.123Z"},
		{"string of seconds", `"1795600090"`, "2026-11-25T09:48:10Z"},
		{"null", `null`, entry},
		{"zero", `0`, entry},
		{"negative", `-1795600000123`, entry},
		{"text", `"yesterday"`, entry},
		{"object", `{"s":1}`, entry},
		{"beyond 64 bits", `99999999999999999999`, entry},
		{"before Messenger had webhooks", `795600000`, entry},
		{"an hour after the receipt", `1795611600000`, "2026-11-25T13:00:00Z"},
		{"later", `1795611600001`, entry},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := one(t, inEntry(event(`"timestamp":`+c.timestamp+`,"message":{"mid":"m_1"}`)))
			if got := e.At.Format(time.RFC3339Nano); got != c.want || e.At.Location() != time.UTC {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	if e := one(t, inEntry(event(`"message":{"mid":"m_1"}`))); e.At.Format(time.RFC3339Nano) != entry {
		t.Errorf("without a timestamp it was at %s, want the entry's time %s", e.At, entry)
	}
	local := time.Date(2026, 11, 25, 13, 0, 0, 123456789, time.FixedZone("", 3600))
	b, err := webhook.Parse([]byte(`{"object":"page","entry":[{"id":"`+page+`","messaging":[`+event(`"message":{"mid":"m_1"}`)+`]}]}`), local)
	if err != nil || b.Events[0].At != received.Add(123*time.Millisecond) {
		t.Errorf("%+v, %v; want the time of receipt", b, err)
	}
}

// Each of these stands between two good events, which must come out.
func TestBadEventSpoilsNoNeighbour(t *testing.T) {
	skipped := func(kind webhook.Kind, why webhook.Why, named string) webhook.Skipped {
		return webhook.Skipped{Page: page, PSID: psid, Kind: kind, Why: why, Name: named}
	}
	nobody := webhook.Skipped{Page: page, Kind: webhook.KindUnknown, Why: webhook.WhyMalformed}
	for _, c := range []struct {
		name, event string
		want        webhook.Skipped
	}{
		{"null", `null`, nobody},
		{"string", `"event"`, nobody},
		{"list", `[]`, nobody},
		{"nothing in it", `{}`, webhook.Skipped{Page: page, Kind: webhook.KindUnknown, Why: webhook.WhyUnknown}},
		{"message that is no object", event(`"message":"hi"`), skipped(webhook.KindMessage, webhook.WhyMalformed, "")},
		{"postback that is no object", event(`"postback":[1]`), skipped(webhook.KindPostback, webhook.WhyMalformed, "")},
		{"order that is no object", event(`"order":1`), skipped(webhook.KindOrder, webhook.WhyMalformed, "")},
		{"a kind of tomorrow", event(`"zap":1,"call_started":{"a":1}`), skipped(webhook.KindUnknown, webhook.WhyUnknown, "call_started")},
		{"a name that is no name", event(`"hello there":1`), skipped(webhook.KindUnknown, webhook.WhyUnknown, "")},
		{"deletion", event(`"message":{"mid":"m_0","is_deleted":true}`), skipped(webhook.KindUnsend, webhook.WhyNothingInIt, "")},
		{"edit", event(`"message_edit":{"mid":"m_0","text":"x","num_edit":1}`), skipped(webhook.KindEdit, webhook.WhyNothingInIt, "")},
		{"unreact", event(`"reaction":{"mid":"m_0","action":"unreact"}`), skipped(webhook.KindReaction, webhook.WhyNothingInIt, "")},
		{"from a guest", event(`"referral":{"ref":"x","is_guest_user":true}`), webhook.Skipped{Page: page, Kind: webhook.KindReferral, Why: webhook.WhyGuest}},
		{"to another page", strings.Replace(event(hello), page, other, 1), webhook.Skipped{Page: page, Kind: webhook.KindMessage, Why: webhook.WhyNotForPage}},
		{"to nobody", strings.Replace(event(hello), `"recipient"`, `"for"`, 1), webhook.Skipped{Page: page, Kind: webhook.KindMessage, Why: webhook.WhyNotForPage}},
		{"from the page", strings.Replace(event(hello), psid, page, 1), webhook.Skipped{Page: page, Kind: webhook.KindMessage, Why: webhook.WhyFromPage}},
		{"echo between other pages", strings.Replace(event(`"message":{"is_echo":true}`), page, other, 1), webhook.Skipped{Page: page, Kind: webhook.KindEcho, Why: webhook.WhyNotForPage}},
		{"policy of another page", strings.Replace(event(`"policy_enforcement":{"action":"block"}`), page, other, 1), webhook.Skipped{Page: page, Kind: webhook.KindPolicy, Why: webhook.WhyNotForPage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := parse(t, inEntry(event(hello)+`,`+c.event+`,`+event(`"read":{"watermark":1795600000000}`)))
			if len(b.Events) != 2 || b.Events[0].Kind != webhook.KindMessage || b.Events[1].Kind != webhook.KindRead {
				t.Errorf("events %+v, want the two neighbours", b.Events)
			}
			if diff := cmp.Diff([]webhook.Skipped{c.want}, b.Skipped); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// A broken list takes neither the other lists of its entry nor the other entries with it.
func TestBrokenLists(t *testing.T) {
	good := `"standby":[` + event(hello) + `]}`
	for _, c := range []struct {
		entry   string
		skipped int
	}{
		{`{"id":"` + page + `","messaging":{},` + good, 1},
		{`{"id":"` + page + `","changes":7,` + good, 1},
		{`{"id":"` + page + `","changes":[7,{"field":7},{"field":"messages","value":7}],` + good, 3},
		{`7,{"id":"` + page + `",` + good, 1},
		{`{"id":"acme","messaging":[]},{"id":"` + page + `",` + good, 1},
		{`{"id":"` + page + `"},{"id":"` + page + `",` + good, 1},
	} {
		b := parse(t, `{"object":"page","entry":[`+c.entry+`]}`)
		if len(b.Events) != 1 || !b.Events[0].Standby || len(b.Skipped) != c.skipped {
			t.Errorf("%s: %+v, want one event and %d skipped", c.entry, b, c.skipped)
		}
	}
	if b := parse(t, `{"object":"page","entry":7}`); len(b.Skipped) != 1 {
		t.Errorf("%+v, want the broken entry counted", b)
	}
}

func TestOtherObjectsAndTests(t *testing.T) {
	const sample = `"changes":[{"field":"messages","value":{"sender":{"id":"12334"},"recipient":{"id":"23245"},"timestamp":"1795600904","message":{"mid":"test_message_id","text":"test_message"}}}]`
	test := webhook.Skipped{Page: "0", Kind: webhook.KindTest, Why: webhook.WhyTest}
	object := webhook.Skipped{Kind: webhook.KindOtherObject, Why: webhook.WhyObject}
	for _, c := range []struct {
		body string
		want webhook.Skipped
	}{
		{`{"object":"page","entry":[{"id":"0","time":1795600904,` + sample + `}]}`, test},
		{`{"entry":[{"id":"0","time":1795600904,` + sample + `}]}`, test}, // launch-vehicle-fbm#73
		{`{"object":"page","entry":[{"id":"` + page + `",` + sample + `}]}`, webhook.Skipped{Page: page, Kind: webhook.KindMessage, Why: webhook.WhyNotForPage}},
		{`{"object":"instagram","entry":[{"id":"` + page + `","messaging":[` + event(hello) + `]}]}`, object},
		{`{"object":"whatsapp_business_account"}`, object},
		{`{}`, object},
		{`{"object":["page"],"entry":[{"id":"` + page + `","messaging":[` + event(hello) + `]}]}`, object},
	} {
		if got := none(t, c.body); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.body, got, c.want)
		}
	}
}

// Postbacks also come as a change, with a string of seconds (messaging_postbacks page).
func TestChanges(t *testing.T) {
	e := one(t, `{"object":"page","entry":[{"id":"`+page+`","time":1795600000,"changes":[{"field":"messaging_postbacks","value":`+
		event(`"timestamp":"1795600000","postback":{"title":"Go","payload":"GO"}`)+`}]}]}`)
	if e.Kind != webhook.KindPostback || e.PSID != psid || !e.Opens || e.At.Unix() != 1795600000 {
		t.Errorf("%+v", e)
	}
	// The sender of a feed's change is in another id space, whatever else the change has.
	s := none(t, `{"object":"page","entry":[{"id":"`+page+`","changes":[{"field":"feed","value":`+event(hello)+`}]}]}`)
	if want := (webhook.Skipped{Page: page, Kind: webhook.KindChange, Why: webhook.WhyNothingInIt, Name: "feed"}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestEcho(t *testing.T) {
	const echo = `"timestamp":1795600000123,"message":{"is_echo":true,"app_id":26390203743090,"metadata":"01JDEXAMPLE","mid":"m_9","referral":{"ref":"b1-x"}}`
	swapped := one(t, inEntry(event(echo))) // nyaruka/courier testdata/fba/echo.json has the person as the sender
	e := one(t, inEntry(`{"sender":{"id":"`+page+`"},"recipient":{"id":"`+psid+`"},`+echo+`}`))
	if diff := cmp.Diff(e, swapped); diff != "" {
		t.Errorf("an echo with its ids swapped differs:\n%s", diff)
	}
	if e.PSID != psid || e.Opens || e.AppID != webhook.PageInbox || e.Metadata != "01JDEXAMPLE" || e.MID != "m_9" || e.Refs != nil {
		t.Errorf("%+v", e)
	}
	if e := one(t, inEntry(event(`"message":{"is_echo":true,"mid":"m_9","metadata":"a text of somebody"}`))); e.Metadata != "" {
		t.Errorf("metadata %q is kept", e.Metadata)
	}
}

func TestPolicy(t *testing.T) {
	long := strings.Repeat("ü", 400)
	for _, member := range []string{"policy_enforcement", "policy-enforcement"} {
		e := one(t, inEntry(`{"recipient":{"id":"`+page+`"},"timestamp":1795600000123,"`+member+`":{"action":"warning","reason":"`+long+`"}}`))
		if e.Kind != webhook.KindPolicy || e.PSID != "" || e.Action != "warning" || e.Reason != long[:500] {
			t.Errorf("%s: %+v", member, e)
		}
	}
	if e := one(t, inEntry(event(`"policy_enforcement":{"action":"block"}`))); e.PSID != "" {
		t.Errorf("an event about the page names %s", e.PSID)
	}
}

func TestReferralOpens(t *testing.T) {
	for referral, want := range map[string]bool{
		`{"ref":"x","source":"SHORTLINK","type":"OPEN_THREAD"}`: true,
		`{"ref":"x","type":"OPEN_THREAD"}`:                      true, // accounts in Europe and Japan
		`{"ref":"x","ad_id":1,"type":"OPEN_THREAD"}`:            false,
		`{"ref":"x","source":"ADS","type":"OPEN_THREAD"}`:       false,
		`{"source":"ADS","type":"LEAD_COMPLETE"}`:               true,
		`{"ref":"x","source":"DISCOVER_TAB"}`:                   false,
	} {
		if e := one(t, inEntry(event(`"referral":`+referral))); e.Opens != want {
			t.Errorf("%s opens: %v, want %v", referral, e.Opens, want)
		}
	}
}

// What is stored keeps its form: events wait in the queue while the program is replaced.
func TestStoredForm(t *testing.T) {
	for _, c := range []struct{ event, want string }{
		{hello, `{"kind":"message","page":"104857600000017","psid":"7003141592653589","at":"2026-11-25T09:46:40.123Z",` +
			`"key":"104857600000017|7003141592653589|message|m_1","opens":true,"mid":"m_1"}`},
		{`"timestamp":1795600000123,"referral":{"ref":"b1-x","source":"SHORTLINK"}`, `{"kind":"referral","page":"104857600000017","psid":"7003141592653589",` +
			`"at":"2026-11-25T09:46:40.123Z","key":"104857600000017|7003141592653589|referral|1795600000123|72f56b3309fe45250053d05b397c85a3","opens":true,` +
			`"refs":[{"ref":"b1-x","from":"referral"}],"source":"SHORTLINK"}`},
		{`"delivery":{"mids":["m_1"],"watermark":1795600000000}`, `{"kind":"delivery","page":"104857600000017","psid":"7003141592653589",` +
			`"at":"2026-11-25T09:46:40.523Z","key":"104857600000017|7003141592653589|delivery|9051fe76a87d276d1945e4c995b4745e","mids":["m_1"],"watermark":"2026-11-25T09:46:40Z"}`},
	} {
		e := one(t, inEntry(event(c.event)))
		got, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back webhook.Event
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Errorf("stored and read again it differs:\n%s", diff)
		}
		if string(got) != c.want {
			t.Errorf("stored as\n%s, want\n%s", got, c.want)
		}
	}
}

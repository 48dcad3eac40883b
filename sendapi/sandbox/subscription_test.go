package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (r *rig) subscribed(page string) []string {
	r.t.Helper()
	fields, err := r.Subscribed(page)
	if err != nil {
		r.t.Fatal(err)
	}
	return fields
}

func TestInitialSubscription(t *testing.T) {
	for _, tt := range []struct {
		name string
		w    Webhook
		want []string
	}{
		{"default", Webhook{}, defaultFields},
		{"receipts", Webhook{Receipts: true}, sortedSet(append(slices.Clone(defaultFields), receiptFields...))},
		{"given", Webhook{Fields: []string{"messages", "message_echoes", "messages"}}, []string{"message_echoes", "messages"}},
		{"none", Webhook{Fields: []string{}}, nil},
	} {
		r := start(t, Config{Pages: []Page{{ID: "10"}}, Webhook: tt.w, AnyToken: true})
		if rep, err := r.do(r.request("/20/messages", "application/json", textBody("1", "x"), "Authorization", "Bearer any")); err != nil || rep.status != 200 {
			t.Fatalf("%+v %v", rep, err)
		}
		for _, page := range []string{"10", "20"} {
			if got := r.subscribed(page); !slices.Equal(got, tt.want) {
				t.Errorf("%s: page %s is subscribed to %q, want %q", tt.name, page, got, tt.want)
			}
		}
	}
}

// A page gets the webhooks of the fields that it is subscribed to, and no others.
func TestSubscriptionDecides(t *testing.T) {
	for kind, field := range fieldOf {
		r, c := startHooked(t, Webhook{Fields: []string{}})
		if err := r.Subscribe("10", slices.DeleteFunc(slices.Clone(knownFields), func(f string) bool { return f == field })...); err != nil {
			t.Fatal(err)
		}
		if out := r.write("1", Write{Kind: kind, Times: 2}); out.Unsubscribed != 2 || out.Events != 0 {
			t.Errorf("%s without %s: %+v", kind, field, out)
		}
		if err := r.Subscribe("10", field); err != nil {
			t.Fatal(err)
		}
		if out := r.write("1", Write{Kind: kind}); out.Unsubscribed != 0 || out.Events != 1 {
			t.Errorf("%s with %s: %+v", kind, field, out)
		}
		if n := r.settled(); n.DeliveredEvents != 1 || n.Unsubscribed != 2 || len(c.received()) != 1 {
			t.Errorf("%s: %+v", kind, n)
		}
	}
}

// The referral of an ad comes with the message only if the page is subscribed to both (messages page).
func TestAdReferralNeedsBothFields(t *testing.T) {
	r, c := startHooked(t, Webhook{Fields: []string{"messages"}})
	r.write("1", Write{Text: "Hi", Ref: "r"})
	r.settled()
	if err := r.Subscribe("10", "messages", "messaging_referrals"); err != nil {
		t.Fatal(err)
	}
	r.write("1", Write{Text: "Hi", Ref: "r"})
	r.settled()
	list := events(t, c.received())
	if list[0].Message.Referral != nil || list[1].Message.Referral == nil {
		t.Errorf("%+v", list)
	}
}

func TestSubscribeRefuses(t *testing.T) {
	r := start(t, Config{Pages: []Page{{ID: "10"}}})
	if err := r.Subscribe("10", "messages", "mesages"); err == nil || !strings.Contains(err.Error(), `"mesages"`) {
		t.Errorf("error %v", err)
	}
	if err := r.Subscribe("11", "messages"); err == nil || !strings.Contains(err.Error(), "no such page") {
		t.Errorf("error %v", err)
	}
	if _, err := r.Subscribed("11"); err == nil {
		t.Error("a page that does not exist has a subscription")
	}
	if got := r.subscribed("10"); !slices.Equal(got, defaultFields) {
		t.Errorf("subscribed to %q", got)
	}
}

func TestPolicy(t *testing.T) {
	r, c := startHooked(t, Webhook{})
	if err := r.Policy("10", "block", "Too many / messages."); err != nil {
		t.Fatal(err)
	}
	r.settled()
	e := events(t, c.received())[0]
	if diff := cmp.Diff(map[string]string{"action": "block", "reason": "Too many / messages."}, e.Policy); diff != "" || e.Sender.ID != "" || e.Timestamp == 0 {
		t.Errorf("%+v: %s", e, diff)
	}
	if err := r.Policy("10", "shout", ""); err == nil || !strings.Contains(err.Error(), "action: must be") {
		t.Errorf("error %v", err)
	}
	if err := r.Subscribe("10", "messages"); err != nil {
		t.Fatal(err)
	}
	if err := r.Policy("10", "warning", ""); err != nil || r.WebhookCounts().Unsubscribed != 1 {
		t.Errorf("not subscribed: %v, %+v", err, r.WebhookCounts())
	}
	if err := r.SetWebhook(within(t), Webhook{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Policy("10", "warning", ""); err == nil || !strings.Contains(err.Error(), "there is no webhook") {
		t.Errorf("error %v", err)
	}
}

package webhook_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

func TestRefsAreFound(t *testing.T) {
	found := func(origin webhook.Origin, refs ...string) (all []webhook.FoundRef) {
		for _, ref := range refs {
			all = append(all, webhook.FoundRef{Ref: ref, From: origin})
		}
		return all
	}
	for _, c := range []struct {
		name, event string
		want        []webhook.FoundRef
		other       bool
	}{
		{"referral", `"referral":{"ref":"b1-a"}`, found(webhook.FromReferral, "b1-a"), false},
		{"postback's referral before its payload", `"postback":{"payload":"e1-b","referral":{"ref":"b1-a"}}`,
			append(found(webhook.FromPostbackReferral, "b1-a"), found(webhook.FromPostback, "e1-b")...), false},
		{"message's referral before its payload", `"message":{"quick_reply":{"payload":"x1-b"},"referral":{"ref":"b1-a"}}`,
			append(found(webhook.FromMessageReferral, "b1-a"), found(webhook.FromQuickReply, "x1-b")...), false},
		{"beside a message", `"message":{"mid":"m_1"},"referral":{"ref":"b1-a"}`, found(webhook.FromReferral, "b1-a"), false},
		{"opt-in", `"optin":{"ref":"b1-a"}`, found(webhook.FromOptin, "b1-a"), false},
		{"opt-in's payload, an object", `"optin":{"payload":{"x":["b1-a"]}}`, found(webhook.FromOptinPayload, "b1-a"), false},
		{"account linking", `"account_linking":{"authorization_code":"b1-a"}`, found(webhook.FromAccountLinking, "b1-a"), false},
		{"account linking with another code", `"account_linking":{"authorization_code":"secret"}`, nil, false},
		{"JSON", `"postback":{"payload":" {\"ref\":\"b1-a\",\"n\":1,\"more\":{\"ref\":\"b1-b\"}}"}`, found(webhook.FromPostback, "b1-a", "b1-b"), false},
		{"JSON that breaks off", `"postback":{"payload":"{\"ref\":\"b1-a\",\"n\""}`, found(webhook.FromPostback, "b1-a"), false},
		{"no JSON", `"postback":{"payload":"{b1-a}"}`, nil, false},
		{"twice", `"postback":{"payload":"b1-a","referral":{"ref":"b1-a"}}`, found(webhook.FromPostbackReferral, "b1-a"), false},
		{"somebody else's", `"referral":{"ref":"summer_coupon"}`, nil, true},
		{"as first drafted", `"referral":{"ref":"ada@example.com.8a94edd47a462bc4"}`, nil, true},
		{"with spaces", `"referral":{"ref":"b1-a and more"}`, nil, true},
		{"upper case", `"referral":{"ref":"B1-a"}`, nil, true},
		{"not rendered", `"referral":{"ref":"b1-{{${braze_id}}}-0-0"}`, found(webhook.FromReferral, "b1-{{${braze_id}}}-0-0"), false},
		{"longest", `"referral":{"ref":"b1-` + strings.Repeat("a", 2080) + `"}`, found(webhook.FromReferral, "b1-"+strings.Repeat("a", 2080)), false},
		{"too long", `"referral":{"ref":"b1-` + strings.Repeat("a", 2081) + `"}`, nil, true},
		{"null", `"postback":{"referral":{"ref":null}}`, nil, false},
		{"no referral", `"postback":{"referral":"b1-a"}`, nil, false},
		{"what a person wrote", `"message":{"mid":"m_1","text":"b1-a"}`, nil, false},
		{"title of a button", `"postback":{"title":"b1-a"}`, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := one(t, inEntry(event(c.event)))
			if diff := cmp.Diff(c.want, e.Refs); diff != "" || e.OtherRef != c.other {
				t.Errorf("other %v, want %v; refs, want -, got +:\n%s", e.OtherRef, c.other, diff)
			}
		})
	}
	var many strings.Builder
	for i := range 10 {
		many.WriteString(`\"b1-` + strconv.Itoa(i) + `\",`)
	}
	e := one(t, inEntry(event(`"postback":{"payload":"{\"refs\":[`+many.String()+`1]}"}`)))
	if len(e.Refs) != webhook.MaxRefs {
		t.Errorf("%d references, want %d", len(e.Refs), webhook.MaxRefs)
	}
}

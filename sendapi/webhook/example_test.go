package webhook_test

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// A person follows a link that was made for a user of Braze, and presses Get Started.
func Example() {
	refSecret := []byte("ref-secret")
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	ref, err := webhook.NewRef(refSecret, webhook.FormBrazeID, "6650f1a2b3c4d5e6f7a8b9c0", now.Add(-time.Hour))
	if err != nil {
		panic(err)
	}
	body := []byte(`{"object":"page","entry":[{"id":"104857600000017","time":1795600800523,"messaging":[
		{"sender":{"id":"7003141592653589"},"recipient":{"id":"104857600000017"},"timestamp":1795600800123,
		 "postback":{"title":"Get Started","payload":"GET_STARTED","referral":{"ref":"` + ref + `","source":"SHORTLINK"}}},
		{"sender":{"id":"7003141592653589"},"recipient":{"id":"104857600000017"},"timestamp":1795600800123,
		 "message_edit":{"mid":"m_1","text":"hello","num_edit":1}}]}]}`)

	// In the ingress, after webhook.Verify.
	batch, err := webhook.Parse(body, now)
	if err != nil {
		panic(err)
	}
	for _, s := range batch.Skipped {
		fmt.Println("skipped:", s.Kind, s.Why)
	}

	// In the worker.
	policy := webhook.RefPolicy{Secrets: [][]byte{refSecret}}
	for _, e := range batch.Events {
		fmt.Println("event:", e.Kind, e.PSID, e.At, e.Opens)
		for _, found := range e.Refs {
			r, err := policy.Check(found.Ref, now)
			var refused *webhook.RefError
			if errors.As(err, &refused) {
				fmt.Println("refused:", refused.Reason)
				continue
			}
			fmt.Println("made for:", r.Form.Field(), r.ID, "found in", found.From)
		}
	}
	// Output:
	// skipped: edit nothing_in_it
	// event: postback 7003141592653589 2026-11-25 10:00:00.123 +0000 UTC true
	// made for: braze_id 6650f1a2b3c4d5e6f7a8b9c0 found in postback.referral
}

func ExampleVerify() {
	secrets := [][]byte{[]byte("app-secret-for-tests"), []byte("app-secret-before-rotation")}
	body := []byte(`{"object":"page","entry":[]}`)
	fmt.Println(webhook.Verify(secrets, "sha256=6a5f0a148836edd071340dcb9d15e1495c2578fcdd886e46cc4f5d0577771513", body))
	fmt.Println(webhook.Verify(secrets, "sha1=b24ed28b82e60821a0436174b75a5ca152c56208", body))
	// Output:
	// true
	// false
}

func ExampleChallenge() {
	query, _ := url.ParseQuery("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock")
	fmt.Println(webhook.Challenge(query, [][]byte{[]byte("meatyhamhock")}))
	// Output: 1158201444 <nil>
}

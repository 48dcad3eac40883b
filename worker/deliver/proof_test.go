package deliver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// A page whose app wants an appsecret_proof: the right secret delivers, and another one or none is the page's fault, not
// the message's.
func TestProof(t *testing.T) {
	const psid = "2000000000000001"
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page, Token: token, AppSecret: "app-secret-of-this-test"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	client, err := sendapi.NewClient(sendapi.Config{GraphURL: fb.URL(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for secret, want := range map[string]worker.Verdict{
		"app-secret-of-this-test": {Outcome: worker.Delivered},
		"another-apps-secret":     {Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 100},
		"":                        {Outcome: worker.Hold, Class: sendapi.ClassPage, Code: 100},
	} {
		credentials := func() (sendapi.Credentials, error) { return sendapi.Credentials{Token: token, AppSecret: secret}, nil }
		h, err := deliver.New(deliver.Config{Client: client}, deliver.Page{ID: page, Credentials: credentials})
		if err != nil {
			t.Fatal(err)
		}
		v := h.Handle(t.Context(), job(psid))
		if v.Outcome != want.Outcome || v.Class != want.Class || v.Code != want.Code {
			t.Errorf("with the secret %q: %+v", secret, v)
		}
		if v.Outcome == worker.Hold && !strings.Contains(v.Text, "appsecret_proof is wrong or missing") {
			t.Errorf("with the secret %q: %s", secret, v.Text)
		}
	}
}

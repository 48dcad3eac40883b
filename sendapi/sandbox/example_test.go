package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// post sends a text through whatever client is under test; here a plain one.
func post(s *sandbox.Sandbox, psid, text string) string {
	body := fmt.Sprintf(`{"recipient":{"id":%q},"messaging_type":"UPDATE","message":{"text":%q}}`, psid, text)
	req, err := http.NewRequest("POST", s.URL()+"/v26.0/me/messages", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer acme-token")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "no answer"
	}
	resp.Body.Close()
	return resp.Status
}

func Example() {
	s, err := sandbox.New(sandbox.Config{
		Pages: []sandbox.Page{{ID: "1029384756", Name: "acme", Token: "acme-token"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	fmt.Println(post(s, "4711000000000001", "Your order is on its way."))
	fmt.Println(post(s, "9000000551000001", "Your order is on its way.")) // a person who cannot be reached

	sum := s.Summary()
	fmt.Println(sum.Calls, "calls,", sum.Accepted, "accepted, refused:", sum.RefusedBy)
	// Output:
	// 200 OK
	// 400 Bad Request
	// 2 calls, 1 accepted, refused: map[551/1545041:1]
}

// The first answer is lost, so the sender tries again, and the person gets the message twice.
func ExampleSandbox_Script() {
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Token: "acme-token"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Script(sandbox.Fault{Action: sandbox.Reset, Accept: true, Recipient: "4711"})

	fmt.Println(post(s, "4711000000000001", "Your order is on its way."))
	fmt.Println(post(s, "4711000000000001", "Your order is on its way."))

	for _, c := range s.Calls() {
		fmt.Println("accepted:", c.Accepted, "lost:", c.Lost)
	}
	body, err := sandbox.MessageDigest([]byte(`{"text":"Your order is on its way."}`))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("delivered:", s.Delivered("1029384756", "4711000000000001", body))
	// Output:
	// no answer
	// 200 OK
	// accepted: true lost: true
	// accepted: true lost: false
	// delivered: 2
}

func ExampleSandbox_Restrict() {
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Token: "acme-token"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	if err := s.Restrict("1029384756", 10, 1893063); err != nil {
		fmt.Println(err)
	}
	fmt.Println(post(s, "4711000000000001", "hello"))
	if err := s.Restrict("1029384756", 0, 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println(post(s, "4711000000000001", "hello"))
	// Output:
	// 400 Bad Request
	// 200 OK
}

// One text is refused like something that Facebook's policies forbid; other texts to the same person are not.
func ExampleFault_text() {
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Token: "acme-token"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Script(sandbox.Fault{Text: "free gift", Times: sandbox.Standing, Code: 368, Subcode: 1346003})

	fmt.Println(post(s, "4711000000000001", "Your free gift!"))
	fmt.Println(post(s, "4711000000000001", "Your order is on its way."))
	// Output:
	// 400 Bad Request
	// 200 OK
}

// A proxy answers instead of Facebook: with HTML and HTTP 200, with nothing but a status, with a refusal of its own.
func ExampleFault_proxy() {
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Token: "acme-token"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Script(sandbox.Fault{Action: sandbox.HTML, Status: http.StatusOK})
	s.Script(sandbox.Fault{Status: http.StatusBadGateway})
	s.Script(sandbox.Fault{Status: http.StatusForbidden, Body: "<h1>blocked</h1>", Header: http.Header{"Server": {"proxy"}}})

	for range 4 {
		fmt.Println(post(s, "4711000000000001", "hello"))
	}
	fmt.Println(s.Counts().Accepted, "accepted")
	// Output:
	// 200 OK
	// 502 Bad Gateway
	// 403 Forbidden
	// 200 OK
	// 1 accepted
}

// Facebook cannot be reached for a while.
func ExampleSandbox_RefuseConnections() {
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Token: "acme-token"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for _, away := range []bool{true, false} {
		if err := s.RefuseConnections(away); err != nil {
			fmt.Println(err)
		}
		fmt.Println(post(s, "4711000000000001", "hello"))
	}
	// Output:
	// no answer
	// 200 OK
}

// A person follows a link into a thread of their own, and Facebook reports that to the app's webhook. Here the webhook prints what
// a real one must verify and store first.
func ExampleSandbox_Write() {
	arrived := make(chan string)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet { // Facebook verifies the URL
			fmt.Fprint(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		var body struct {
			Entry []struct {
				Messaging []struct {
					Sender   struct{ ID string }
					Postback struct{ Referral struct{ Ref string } }
				}
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		e := body.Entry[0].Messaging[0]
		arrived <- e.Sender.ID + " came with " + e.Postback.Referral.Ref
	}))
	defer app.Close()
	s, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: "1029384756", Name: "acme"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	if err := s.SetWebhook(context.Background(), sandbox.Webhook{URL: app.URL + "/webhook"}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Write("4711000000000001", sandbox.Write{Ref: "b1-6650f1a2", New: true}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-arrived)
	// Output: 4711000000000001 came with b1-6650f1a2
}

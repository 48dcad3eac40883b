package sandbox_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/brazier-relay/brazier/worker/braze/sandbox"
)

// write sends attributes through whatever client is under test; here a plain one.
func write(url, object string) string {
	req, err := http.NewRequest("POST", url+"/users/track", strings.NewReader(`{"attributes":[`+object+`]}`))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer any-key")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "no answer"
	}
	resp.Body.Close()
	return resp.Status
}

func Example() {
	s, err := sandbox.New(sandbox.Config{Types: map[string]sandbox.Type{"messenger_id": sandbox.String}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	if _, err := s.Create(sandbox.Profile{ExternalID: "jon"}); err != nil {
		fmt.Println(err)
	}

	fmt.Println(write(server.URL, `{"external_id":"jon","_update_existing_only":true,"messenger_id":"24689753102468975"}`))
	fmt.Println(write(server.URL, `{"external_id":"ann","_update_existing_only":true,"messenger_id":"24689753102468976"}`)) // unknown

	p, err := s.Profile("jon")
	fmt.Println(p.Attributes["messenger_id"], err)
	sum := s.Summary()
	fmt.Println(sum.Calls, "calls,", sum.Attributes, "written,", sum.Ignored, "of users who do not exist,", sum.Created, "made")
	// Output:
	// 201 Created
	// 201 Created
	// 24689753102468975 <nil>
	// 2 calls, 1 written, 1 of users who do not exist, 0 made
}

// The first answer is lost, so the sender writes again: with attributes nothing is changed by it.
func ExampleSandbox_Script() {
	s, err := sandbox.New(sandbox.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	s.Script(sandbox.Fault{Action: sandbox.Reset, Accept: true, User: "jon"})

	for range 2 {
		fmt.Println(write(server.URL, `{"external_id":"jon","messenger_id":"24689753102468975"}`))
	}
	for _, c := range s.Calls() {
		fmt.Println("written:", c.Written, "lost:", c.Lost)
	}
	// Output:
	// no answer
	// 201 Created
	// written: true lost: true
	// written: true lost: false
}

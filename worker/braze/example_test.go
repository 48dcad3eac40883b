package braze_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/brazier-relay/brazier/worker/braze"
	"github.com/brazier-relay/brazier/worker/braze/sandbox"
)

func Example() {
	simulated, err := sandbox.New(sandbox.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer simulated.Close()
	server := httptest.NewServer(simulated)
	defer server.Close()
	if _, err := simulated.Create(sandbox.Profile{ExternalID: "jon"}); err != nil {
		fmt.Println(err)
	}

	client, err := braze.New(braze.Config{URL: server.URL, Key: func() (string, error) { return "a-key", nil }, UserAgent: "brazier/1.0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	jon := braze.UserID{ExternalID: "jon"}
	results, verdict := client.Track(context.Background(), []braze.Object{
		{User: jon, Attributes: map[string]any{"messenger_id": "24689753102468975"}},
		{User: jon, Event: &braze.Event{Name: "messenger_linked", Time: time.Now(), Properties: map[string]any{"how": "link"}}},
		{User: braze.UserID{}, Attributes: map[string]any{"messenger_id": "24689753102468976"}},
	})
	for _, r := range results {
		fmt.Printf("%s %q\n", r.Outcome, r.Cause)
	}
	fmt.Println(verdict.Meaning, verdict.Calls, "call")
	p, err := simulated.Profile("jon")
	fmt.Println(p.Attributes["messenger_id"], len(p.Events), "event", err)
	// Output:
	// done ""
	// done ""
	// dead "invalid"
	// taken 1 call
	// 24689753102468975 1 event <nil>
}

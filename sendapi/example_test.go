package sendapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
)

// facebook stands in for graph.facebook.com.
func facebook(status int, answer string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
}

func ExampleClient_Send() {
	server := facebook(200, `{"recipient_id":"1254477777772919","message_id":"m_AG5Hz2U"}`)
	defer server.Close()

	client, err := sendapi.NewClient(sendapi.Config{GraphURL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	page := sendapi.Credentials{Token: "token"}
	body := []byte(`{"recipient":{"id":"1254477777772919"},"messaging_type":"RESPONSE","message":{"text":"hello"}}`)
	receipt, err := client.Send(context.Background(), page, body)
	fmt.Println(receipt.MessageID, err)
	// Output: m_AG5Hz2U <nil>
}

func ExampleError() {
	server := facebook(400, `{"error":{"message":"(#10) This message is sent outside of allowed window.",
		"type":"OAuthException","code":10,"error_subcode":2018278,"fbtrace_id":"AxIIVeNpuf3y2jeXdufRcEX"}}`)
	defer server.Close()

	client, err := sendapi.NewClient(sendapi.Config{GraphURL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	_, err = client.Send(context.Background(), sendapi.Credentials{Token: "token"}, []byte(`{}`))
	var refusal *sendapi.Error
	if errors.As(err, &refusal) {
		switch refusal.Class {
		case sendapi.ClassTransient, sendapi.ClassThread:
			fmt.Println("try again later")
		case sendapi.ClassInDoubt:
			fmt.Println("may have been sent")
		case sendapi.ClassWindow:
			fmt.Println("too late, code", refusal.Code, refusal.Subcode)
		}
	}
	fmt.Println(err)
	// Output:
	// too late, code 10 2018278
	// sendapi: window: outside the allowed window (code 10/2018278, HTTP 400, OAuthException, fbtrace_id AxIIVeNpuf3y2jeXdufRcEX)
}

func ExampleExplain() {
	row, known := sendapi.Explain(10, 1893063, "OAuthException")
	fmt.Println(row.Class, known)
	fmt.Println(row.Meaning)
	fmt.Println(row.Source)
	// Output:
	// page true
	// the page is restricted from sending for a time
	// Messenger error codes page
}

func ExampleVersionWarning() {
	now := time.Date(2028, 6, 1, 0, 0, 0, 0, time.UTC)
	fmt.Println(sendapi.VersionWarning("v25.0", now))
	// Output: Graph API v25.0 ends on 2028-07-29: choose a newer version
}

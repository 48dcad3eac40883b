package sendapi_test

import (
	"errors"
	"fmt"

	"github.com/brazier-relay/brazier/sendapi"
)

func ExampleParse() {
	body := `{
  "recipient": {"id": 1254477777772919},
  "messaging_type": "UPDATE",
  "message": {"text": "Your order is out"}
}`
	r, err := sendapi.Parse("application/json", []byte(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Recipient.Kind, r.Recipient) // shortened: fmt never prints a recipient in full
	fmt.Println(r.Media())
	fmt.Printf("%s\n", r.Body) // the caller's bytes, with the quotes that the id lacked
	// Output:
	// id …2919
	// false
	// {
	//   "recipient": {"id": "1254477777772919"},
	//   "messaging_type": "UPDATE",
	//   "message": {"text": "Your order is out"}
	// }
}

// The key-value composer of Braze cannot nest: it makes flat JSON, whose values are JSON in strings.
func ExampleParse_flat() {
	body := `{"recipient":"{\"id\":\"1254477777772919\"}","message":"{\"text\":\"Hi\"}","messaging_type":"UPDATE"}`
	r, err := sendapi.Parse("", []byte(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", r.Body)
	// Output:
	// {"recipient":{"id":"1254477777772919"},"message":{"text":"Hi"},"messaging_type":"UPDATE"}
}

func ExampleParse_form() {
	body := `recipient={"id":"1254477777772919"}&message={"text":"Hi"}&messaging_type=UPDATE`
	r, err := sendapi.Parse("application/x-www-form-urlencoded", []byte(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", r.Body)
	// Output:
	// {"recipient":{"id":"1254477777772919"},"message":{"text":"Hi"},"messaging_type":"UPDATE"}
}

func ExampleInvalidError() {
	for _, body := range []string{
		`{"recipient":{"id":""},"message":{"text":"Hi"}}`,
		`{"recipient":{"id":"1254477777772919"},"message":{"text":"Hi Jon "the man" Doe"}}`,
		`{"recipient":{"id":"1254477777772919"},"message":{"text":"Hi {{${first_name}}}"}}`,
		`{"recipient":{"id":"1254477777772919"},"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE","message":{"text":"Hi"}}`,
	} {
		_, err := sendapi.Parse("application/json", []byte(body))
		fmt.Println(err)
	}

	_, err := sendapi.Parse("application/json", []byte(`{"recipient":{"id":"1254477777772919"},"message":{"text":" "}}`))
	if invalid, ok := errors.AsType[*sendapi.InvalidError](err); ok {
		fmt.Println("field:", invalid.Field)
		fmt.Println("reason:", invalid.Reason)
		fmt.Println("remedy:", invalid.Remedy)
	}
	// Output:
	// recipient.id is empty: add a filter "messenger_id is not blank" to the campaign
	// the body is not JSON because a quote inside a value ends it too early (line 1, column 67): use the Liquid filter json_escape
	// message.text contains Liquid that was not rendered: check the braces of the tags in the template
	// tag ACCOUNT_UPDATE was retired on 2026-04-27: use messaging_type UTILITY with an approved template
	// field: message.text
	// reason: is empty
	// remedy: set a fallback with the Liquid filter default
}

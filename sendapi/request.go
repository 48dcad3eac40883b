package sendapi

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A Request is one call of the Send API, checked and ready to store.
type Request struct {
	// Body is what is stored and sent: nested JSON, the caller's own bytes wherever possible. It may alias what Parse was given.
	Body []byte

	Recipient     Recipient
	MessagingType MessagingType // empty where the caller named none
	Tag           Tag           // empty but with MessageTag
	SenderAction  SenderAction  // empty for a message

	media bool
}

// Media reports whether the request sends audio or video, for which Facebook has a limit of its own: 10 calls/s per page.
func (r *Request) Media() bool { return r.media }

// MessagingType says why a message is sent.
type MessagingType string

// Tag is the reason to send outside the 24-hour window.
type Tag string

// SenderAction is a sign of life instead of a message.
type SenderAction string

// An InvalidError says why a request is refused. It holds no value of the caller.
type InvalidError struct {
	Field  string // path of the field, e.g. message.quick_replies[2].title
	Reason string
	Remedy string

	Line, Column int // where the syntax breaks, from 1; 0 = not applicable
}

func (e *InvalidError) Error() string {
	msg := strings.TrimSpace(e.Field + " " + e.Reason)
	if e.Remedy != "" {
		msg += ": " + e.Remedy
	}
	return msg
}

// Parse reads what a caller posted, checks it, and returns it ready to store. The error is always an *InvalidError.
func Parse(contentType string, body []byte) (*Request, error) {
	body = bytes.TrimSpace(body)
	var in struct {
		Recipient struct {
			ID string `json:"id"`
		} `json:"recipient"`
		Message struct {
			Attachment struct {
				Type string `json:"type"`
			} `json:"attachment"`
		} `json:"message"`
		MessagingType MessagingType `json:"messaging_type"`
		Tag           Tag           `json:"tag"`
		SenderAction  SenderAction  `json:"sender_action"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &InvalidError{Reason: "the body is not JSON"}
	}
	if strings.TrimSpace(in.Recipient.ID) == "" {
		return nil, &InvalidError{Field: "recipient.id", Reason: "is empty", Remedy: `add a filter "messenger_id is not blank" to the campaign`}
	}
	return &Request{
		Body:          body,
		Recipient:     Recipient{Kind: ByPSID, Value: in.Recipient.ID},
		MessagingType: in.MessagingType,
		Tag:           in.Tag,
		SenderAction:  in.SenderAction,
		media:         in.Message.Attachment.Type == "audio" || in.Message.Attachment.Type == "video",
	}, nil
}

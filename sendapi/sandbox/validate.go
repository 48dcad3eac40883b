package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// send is what a valid call asks for.
type send struct {
	recipient string // PSID, or key:value for other forms
	person    bool   // recipient is a PSID
	anonymous bool   // the answer has no recipient_id
	action    uint8  // index into senderActions; 0: a message
	body      Digest
	media     bool   // audio or video
	reusable  bool   // the answer has an attachment_id
	unknown   string // a key of the message that is not known, if any
}

// senderActions are those of the Send API reference and its enumeration; index 0 is a message.
var senderActions = [...]string{"", "typing_on", "typing_off", "mark_seen", "react", "unreact"}

// recipientKeys are the forms of recipient of the Send API reference, with whether the answer has a recipient_id.
var recipientKeys = []struct {
	key       string
	anonymous bool
}{
	{"id", false}, {"user_ref", true}, {"comment_id", false}, {"post_id", false}, {"notification_messages_token", false},
	{"one_time_notif_token", false}, {"phone_number", true},
}

// check judges a request as Facebook would. What it could read is returned beside an error too, for the record.
func (p params) check() (send, *graphError) {
	var s send
	if err := s.setRecipient(p); err != nil {
		return s, err
	}
	_, message := p["message"]
	action, acting := p["sender_action"]
	switch {
	case message && acting:
		return s, invalid(100, 2018014, "(#100) Cannot send message and sender action together.")
	case acting:
		i := slices.Index(senderActions[1:], strings.ToLower(action))
		if i < 0 {
			return s, invalid(100, 0, "(#100) Param sender_action must be one of {TYPING_ON, TYPING_OFF, MARK_SEEN, REACT, UNREACT}")
		}
		s.action = uint8(i + 1)
		return s, nil
	case !message:
		return s, missing("message")
	}
	if err := checkTag(p["messaging_type"], p["tag"]); err != nil {
		return s, err
	}
	return s, s.setMessage(p)
}

func (s *send) setRecipient(p params) *graphError {
	if p["recipient"] == "" {
		return missing("recipient")
	}
	m, err := p.object("recipient")
	if err != nil {
		return invalid(100, 0, "(#100) Param recipient must be a JSON object.")
	}
	found := 0
	for _, k := range recipientKeys {
		v, given := m[k.key]
		if !given {
			continue
		}
		found++
		id, ok := text(v)
		if k.key == "id" && (!ok || id == "" || len(id) > 32 || !digits(id)) {
			return invalid(100, 0, `(#100) Param recipient[id] must be a valid ID string (e.g., "123")`)
		}
		if !ok || strings.TrimSpace(id) == "" || len(id) > 1000 {
			return invalid(100, 0, "(#100) Param recipient["+k.key+"] must be a non-empty string.")
		}
		s.person, s.anonymous, s.recipient = k.key == "id", k.anonymous, id
		if !s.person {
			s.recipient = k.key + ":" + id
		}
	}
	if found != 1 {
		return invalid(100, 0, "(#100) Param recipient must name exactly one recipient.")
	}
	return nil
}

func checkTag(messagingType, tag string) *graphError {
	switch messagingType {
	case "", "RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY":
	default:
		return invalid(100, 0, "(#100) Param messaging_type must be one of {RESPONSE, UPDATE, MESSAGE_TAG, UTILITY}")
	}
	switch tag {
	case "HUMAN_AGENT", "CUSTOMER_FEEDBACK":
		return nil
	case "CONFIRMED_EVENT_UPDATE", "ACCOUNT_UPDATE", "POST_PURCHASE_UPDATE": // retired on 2026-04-27
		return invalid(100, 1893061, "Invalid parameter")
	case "":
		if messagingType == "MESSAGE_TAG" {
			return missing("tag")
		}
		return nil
	}
	return invalid(100, 0, "(#100) Param tag must be one of {CUSTOMER_FEEDBACK, HUMAN_AGENT}")
}

// messageKeys are the keys of a message that the Send API reference names.
var messageKeys = []string{"text", "attachment", "attachments", "quick_replies", "metadata", "template", "sticker_id", "dynamic_text"}

func (s *send) setMessage(p params) *graphError {
	m, err := p.object("message")
	if err != nil {
		return invalid(100, 0, "(#100) Param message must be a JSON object.")
	}
	s.body = digest(m)
	for k := range m {
		if !slices.Contains(messageKeys, k) {
			s.unknown = k
		}
	}
	if err := checkText(m); err != nil {
		return err
	}
	if v, given := m["metadata"]; given {
		if meta, ok := v.(string); !ok || runes(meta) >= 1000 {
			return invalid(100, 0, "(#100) Length of param message[metadata] must be less than 1000")
		}
	}
	if v, given := m["quick_replies"]; given {
		if err := checkList("message[quick_replies]", v, 13); err != nil {
			return err
		}
	}
	if v, given := m["attachment"]; given {
		return s.setAttachment(v)
	}
	return nil
}

func errUnknownKey(key string) *graphError {
	return invalid(100, 0, fmt.Sprintf("(#100) Invalid keys %q were found in param \"message\".", clip(key, 100)))
}

func checkText(m map[string]any) *graphError {
	v, given := m["text"]
	if !given {
		for _, k := range []string{"attachment", "attachments", "template", "sticker_id", "dynamic_text"} {
			if _, ok := m[k]; ok {
				return nil
			}
		}
		return invalid(100, 2018032, "(#100) The message must not be empty.")
	}
	t, ok := text(v)
	switch {
	case !ok:
		return invalid(100, 0, "(#100) Param message[text] must be a string.")
	case t == "":
		return invalid(100, 2018034, "(#100) Param message[text] must be a non-empty UTF-8 encoded string")
	case runes(t) > 2000:
		return invalid(100, 0, "(#100) Length of param message[text] must be less than or equal to 2000")
	}
	return nil
}

func (s *send) setAttachment(v any) *graphError {
	a, ok := v.(map[string]any)
	if !ok {
		return invalid(100, 0, "(#100) Param message[attachment] must be a JSON object.")
	}
	kind, _ := a["type"].(string)
	payload, ok := a["payload"].(map[string]any)
	switch kind {
	case "image", "audio", "video", "file", "template":
	default:
		return invalid(100, 0, "(#100) Param message[attachment][type] must be one of {AUDIO, FILE, IMAGE, TEMPLATE, VIDEO}")
	}
	if !ok {
		return missing("message[attachment][payload]")
	}
	s.media = kind == "audio" || kind == "video"
	if kind == "template" {
		return checkTemplate(payload)
	}
	s.reusable, _ = payload["is_reusable"].(bool)
	_, url := payload["url"]
	_, id := payload["attachment_id"]
	if !url && !id {
		return missing("message[attachment][payload][url]")
	}
	return nil
}

// checkTemplate knows the limits that the pages of the template kinds give.
func checkTemplate(payload map[string]any) *graphError {
	const at = "message[attachment][payload]"
	kind, _ := payload["template_type"].(string)
	switch kind {
	case "":
		return missing(at + "[template_type]")
	case "generic":
		return checkList(at+"[elements]", payload["elements"], 10)
	case "media":
		return checkList(at+"[elements]", payload["elements"], 1)
	case "button":
		t, _ := payload["text"].(string)
		if t == "" {
			return missing(at + "[text]")
		}
		if runes(t) > 640 {
			return invalid(100, 0, "(#100) Length of param "+at+"[text] must be less than or equal to 640")
		}
		return checkList(at+"[buttons]", payload["buttons"], 3)
	}
	return nil
}

func checkList(name string, v any, most int) *graphError {
	list, ok := v.([]any)
	switch {
	case !ok || len(list) == 0:
		return invalid(100, 0, "(#100) Param "+name+" must be a non-empty array.")
	case len(list) > most:
		return invalid(105, 0, "(#105) param "+name+" has too many elements.")
	}
	return nil
}

// digest is the SHA-256 of a message written with sorted keys and without spaces, so that a message has the same digest whether it
// came as JSON, as a form, or re-encoded on its way.
func digest(message map[string]any) Digest {
	canonical, err := json.Marshal(message)
	if err != nil {
		// What was decoded from JSON can be encoded again.
		panic("sandbox: digest: " + err.Error())
	}
	return sha256.Sum256(canonical)
}

// MessageDigest returns the digest under which a message object, given as JSON, appears in the record: the value of the
// request's "message", such as {"text":"hi"}.
func MessageDigest(message []byte) (Digest, error) {
	m, err := parseObject(message)
	if err != nil {
		return Digest{}, fmt.Errorf("sandbox: message digest: %w", err)
	}
	return digest(m), nil
}

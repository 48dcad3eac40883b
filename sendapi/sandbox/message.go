package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
)

// messageKeys are the keys of a message that the Send API reference names. Facebook refuses any other.
var messageKeys = []string{"text", "attachment", "attachments", "quick_replies", "metadata", "template", "sticker_id", "dynamic_text"}

// contents are the keys of which a message needs one.
var contents = []string{"text", "attachment", "attachments", "template", "sticker_id", "dynamic_text"}

func (r *rules) message(s *send, p params) {
	m, err := p.object("message")
	if err != nil {
		r.fail(100, 0, "Param message must be a JSON object.")
		return
	}
	s.message, s.body = m, digest(m)
	n := node{"message", m}
	r.only(n, messageKeys...)
	r.content(n)
	if meta := r.text(n, "metadata", 0); runes(meta) >= 1000 {
		r.fail(100, 0, "Length of param message[metadata] must be less than 1000")
	}
	for _, reply := range r.filled(n, "quick_replies", 13) {
		r.quickReply(reply)
	}
	if a, ok := r.object(n, "attachment"); ok {
		r.attachment(s, a)
	}
	for _, a := range r.list(n, "attachments", 0, 0) {
		r.attachment(s, a)
	}
	if t, ok := r.object(n, "template"); ok {
		r.utility(t)
	}
	r.id(n, "sticker_id", 0)
}

// content checks a message's text, and requires another content if there is none.
func (r *rules) content(n node) {
	given := 0
	for _, k := range contents {
		if n.has(k) {
			given++
		}
	}
	switch t := r.text(n, "text", 2000); {
	case given == 0:
		r.fail(100, 2018032, "Invalid data") // pimax/fb-messenger-php-example#27
	case n.has("text") && blank(t) && given == 1:
		r.fail(100, 2018034, "Param message[text] must be a non-empty UTF-8 encoded string")
	}
}

// quickReply checks a quick reply by the Quick replies guide. Facebook accepts a title of more than 20 characters and cuts it
// (restfb/restfb#913).
func (r *rules) quickReply(n node) {
	if !n.has("content_type") {
		r.missing(n.path("content_type"))
	}
	kind := r.keyword(n, "content_type", "text", "user_phone_number", "user_email") // location went with Graph 4.0
	title := r.text(n, "title", 0)
	r.text(n, "payload", 1000)
	image := r.file(n, "image_url")
	if kind != "text" {
		return
	}
	if blank(title) && image == "" {
		r.missing(n.path("title"))
	}
	if !n.has("payload") { // an empty one is accepted (pimax/fb-messenger-php#101)
		r.missing(n.path("payload"))
	}
}

func (r *rules) attachment(s *send, n node) {
	if !n.has("type") {
		r.missing(n.path("type"))
	}
	kind := r.keyword(n, "type", "audio", "file", "image", "template", "video")
	payload, ok := r.object(n, "payload")
	switch {
	case !ok:
		r.missing(n.path("payload"))
		return
	case kind == "template":
		s.template = r.template(payload)
		s.media = s.media || isVideo(payload)
		return
	}
	s.media = s.media || kind == "audio" || kind == "video"
	reusable, _ := payload.m["is_reusable"].(bool)
	s.reusable = s.reusable || reusable
	r.id(payload, "attachment_id", 2018074)
	if url := r.file(payload, "url"); blank(url) && !payload.has("attachment_id") {
		r.missing(payload.path("url"))
	}
}

// utility checks message.template, a template that Facebook approved beforehand (Utility messages guide). The sandbox does not
// simulate which templates there are and how many parameters they take.
func (r *rules) utility(n node) {
	r.need(n, "name", 0)
	if language, ok := r.object(n, "language"); ok {
		r.need(language, "code", 0)
	} else {
		r.missing(n.path("language"))
	}
	for _, component := range r.list(n, "components", 0, 0) {
		r.only(component, "type", "parameters")
		r.need(component, "type", 0)
		for _, parameter := range r.list(component, "parameters", 0, 0) {
			kind := strings.ToLower(r.need(parameter, "type", 0))
			if payload := r.text(parameter, "payload", 1000); kind == "postback" && blank(payload) && r.err == nil {
				r.err = invalid(100, 1893029, "User pass less payload than required for POSTBACK button") // vlab-research/fly
			}
			r.text(parameter, "text", 0)
		}
	}
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

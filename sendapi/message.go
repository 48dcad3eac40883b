package sendapi

import "slices"

// The limits of a message. Facebook's pages say "characters", and whether these are bytes, UTF-16 units or code points was
// not measured. They are counted here as Unicode code points, which come to the least of the three: Facebook may refuse
// what passes here, and nothing it takes is refused.
const (
	// MaxText is the characters of message.text. The Send API reference says "less than 2000", Facebook's own error says
	// "must be less than or equal to 2000"; the error is believed.
	MaxText = 2000

	// MaxMetadata is the characters of message.metadata ("less than 1000", Send API reference; 1000 passes here, by
	// analogy with MaxText). It comes back in the message_echoes webhook and is never shown.
	MaxMetadata = 1000

	// MaxQuickReplies and MaxQuickReplyPayload are of the Quick replies guide.
	//
	// It also gives a title 20 characters. That is not enforced, as for the title of a button (see MaxButtonPayload):
	// Facebook refused a longer one in 2016, and has been seen to cut it with three dots since (Charca/bootbot#2,
	// restfb/restfb#913).
	MaxQuickReplies      = 13
	MaxQuickReplyPayload = 1000
)

// An AttachmentType is what message.attachment carries. One message has one attachment, or several images in
// message.attachments (Meta's samples, "Multi Image Message", 2025; its limit is not known).
//
// A file is named by url or by attachment_id, the answer to an earlier request with is_reusable; such an id expires after
// 90 days. Sizes, which only Facebook can check: 25 MB, an image by url 8 MB, and a video must be fetched within 75 s
// (Send API reference, Saving assets guide, error code 100/2018294).
type AttachmentType string

// The attachment types (Send API reference). The Page messages reference lists more, such as LOCATION and REEL, without a
// word of explanation; they and unknown ones are accepted, for Facebook to judge.
const (
	Image    AttachmentType = "image"
	Audio    AttachmentType = "audio"
	Video    AttachmentType = "video"
	File     AttachmentType = "file"
	Template AttachmentType = "template" // see TemplateType
)

// A ContentType is what a quick reply asks for. Quick replies are buttons under a text or an attachment, which vanish once
// one is tapped: {"content_type":"text","title":"Yes","payload":"…","image_url":"…"}. One of type text needs a payload,
// text or number, which comes back in the webhook, and a title or an image_url.
type ContentType string

// The content types of a quick reply (Quick replies guide). The Page messages reference lists many more without a word of
// explanation; they and unknown ones are accepted, for Facebook to judge.
const (
	TextReply        ContentType = "text"
	PhoneNumberReply ContentType = "user_phone_number"
	EmailReply       ContentType = "user_email"

	// locationReply asked for a place until Graph 4.0 of 2019 (guidone/node-red-contrib-chatbot#495,
	// claudiajs/claudia-bot-builder#135).
	locationReply ContentType = "location"
)

// message checks message; the package comment lists its fields. Whether text may stand beside an attachment is not known;
// it is let through.
func (c *checker) message(msg int32) {
	text := c.optional(msg, "text", MaxText)
	attachment := c.object(msg, "attachment")
	attachments := c.list(msg, "attachments", 0, 0)
	template := c.object(msg, "template")
	other := slices.ContainsFunc([]string{"sticker_id", "dynamic_text"}, func(name string) bool {
		n := c.member(msg, name)
		return n != 0 && c.says(n)
	})

	switch {
	case attachment != 0 || template != 0 || other:
	case attachments != 0 && !c.empty(attachments):
	case text != 0 && c.blank(text):
		c.fail(text, CauseEmpty, "is empty", defaultRemedy)
	case text == 0 && c.only(msg, "text", "attachment", "attachments", "template", "sticker_id", "dynamic_text", "metadata", "quick_replies"):
		c.fail(msg, CauseEmpty, "says nothing", "give it a text, an attachment or a template")
	}
	if attachment != 0 {
		c.attachment(attachment)
	}
	for n := range c.each(attachments) {
		c.attachment(n)
	}
	if template != 0 {
		c.utility(template)
	}
	c.quickReplies(msg)
	c.optional(msg, "metadata", MaxMetadata)
}

func (c *checker) attachment(n int32) {
	kind := c.word(n, "type")
	switch enum(c, kind, Image, Audio, Video, File, Template) {
	case Audio, Video:
		c.media = true
		c.file(n)
	case Image, File:
		c.file(n)
	case Template:
		if payload := c.payload(n); payload != 0 {
			c.attachmentTemplate(payload)
		}
	}
}

// payload is the payload of an attachment, 0 if it has to be left to Facebook: the Page messages reference calls it a
// string. Without one: "(#100) The parameter message[attachment][payload] is required" (pimax/fb-messenger-php#20).
func (c *checker) payload(attachment int32) int32 {
	n := c.member(attachment, "payload")
	switch {
	case n == 0:
		c.failMember(attachment, "payload", CauseMissing, "is missing", "add it")
	case c.kind(n) == '{':
		return n
	case c.kind(n) == '"':
		c.opaque = true
	default:
		c.fail(n, CauseType, "must be an object in braces", "see the Send API reference for its form")
	}
	return 0
}

// file checks the payload of an attachment that is a file. A payload that names none is for a file in the same
// multipart request.
func (c *checker) file(attachment int32) {
	payload := c.payload(attachment)
	if payload == 0 {
		return
	}
	url, id := c.url(payload, "url"), c.optional(payload, "attachment_id", 0)
	switch {
	case url != 0 && c.blank(url):
		c.fail(url, CauseEmpty, "is empty", defaultRemedy)
	case id != 0 && c.blank(id):
		c.fail(id, CauseEmpty, "is empty", defaultRemedy)
	case url == 0 && id == 0 && c.only(payload, "url", "attachment_id", "is_reusable"):
		c.fail(payload, CauseMissing, "names no file", "give it a url or an attachment_id; a file itself cannot be sent")
	}
}

// quickReplies checks message.quick_replies, see ContentType.
func (c *checker) quickReplies(msg int32) {
	for n := range c.each(c.filled(msg, "quick_replies", MaxQuickReplies)) {
		kind := c.optional(n, "content_type", 0)
		title := c.optional(n, "title", 0)
		payload := c.optional(n, "payload", MaxQuickReplyPayload)
		image := c.url(n, "image_url")
		switch enum(c, kind, TextReply, locationReply) {
		case TextReply:
		case locationReply:
			c.fail(kind, CauseRetired, "is location, which was retired with Graph 4.0", "ask for it in a text")
			continue
		default:
			continue
		}
		if (image == 0 || c.blank(image)) && (title == 0 || c.blank(title)) {
			c.failMember(n, "title", CauseEmpty, "is empty", "a quick reply of content_type text needs a title or an image_url")
		}
		if payload == 0 {
			c.failMember(n, "payload", CauseMissing, "is missing", "a quick reply of content_type text needs one")
		}
	}
}

// utility checks message.template, see Utility. How many parameters it takes only Facebook knows.
func (c *checker) utility(template int32) {
	c.required(template, "name", 0)
	if language := c.object(template, "language"); language != 0 {
		c.required(language, "code", 0)
	} else {
		c.failMember(template, "language", CauseMissing, "is missing", `write "language":{"code":"en_US"}`)
	}
	for component := range c.each(c.list(template, "components", 0, 0)) {
		c.word(component, "type")
		// WhatsApp's templates have these, Messenger's have not.
		for _, name := range [...]string{"sub_type", "index"} {
			if n := c.member(component, name); n != 0 {
				c.fail(n, CauseMisplaced, "is of a WhatsApp template", "remove it: parameters go in the order of the buttons")
			}
		}
		for parameter := range c.each(c.list(component, "parameters", 0, 0)) {
			c.word(parameter, "type")
			c.optional(parameter, "text", 0)
		}
	}
}

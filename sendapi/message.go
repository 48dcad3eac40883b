package sendapi

import "slices"

// The limits of a message. Facebook's pages say "characters", and whether these are bytes, UTF-16 units or code points was
// not measured. This package counts Unicode code points, the least of the three: it refuses no text that Facebook accepts, and
// may accept one that Facebook refuses.
const (
	// maxText is the most characters of message.text. The Send API reference says "less than 2000", Facebook's own error says
	// "must be less than or equal to 2000"; this package follows the error.
	maxText = 2000

	// maxMetadata is the most characters of message.metadata ("less than 1000", Send API reference; 1000 passes here, by
	// analogy with maxText). Metadata comes back in the message_echoes webhook and is never shown to the person.
	maxMetadata = 1000

	// maxQuickReplies and maxQuickReplyPayload are from the Quick replies guide.
	//
	// The guide also limits a title to 20 characters. This package does not, as for the title of a button (see
	// maxButtonPayload): Facebook refused a longer title in 2016, and has been seen to cut it with three dots since
	// (Charca/bootbot#2, restfb/restfb#913).
	maxQuickReplies      = 13
	maxQuickReplyPayload = 1000
)

// An attachmentType is what message.attachment carries. One message has one attachment, or several images in
// message.attachments (Meta's samples, "Multi Image Message", 2025; its limit is not known).
//
// A file is named by url or by attachment_id, the answer to an earlier request with is_reusable; such an id expires after
// 90 days. Sizes, which only Facebook can check: 25 MB, an image by url 8 MB, and a video must be fetched within 75 s
// (Send API reference, Saving assets guide, error code 100/2018294).
type attachmentType string

// The attachment types (Send API reference). The Page messages reference lists more, such as LOCATION and REEL, without
// explanation; they and unknown ones are accepted, for Facebook to judge.
const (
	imageAttachment    attachmentType = "image"
	audioAttachment    attachmentType = "audio"
	videoAttachment    attachmentType = "video"
	fileAttachment     attachmentType = "file"
	templateAttachment attachmentType = "template" // see the type templateType
)

// A contentType is what a quick reply asks for. Quick replies are buttons under a text or an attachment, which vanish once
// one is tapped: {"content_type":"text","title":"Yes","payload":"…","image_url":"…"}. One of type text needs a payload,
// text or number, which comes back in the webhook, and a title or an image_url.
type contentType string

// The content types of a quick reply (Quick replies guide). The Page messages reference lists many more without
// explanation; they and unknown ones are accepted, for Facebook to judge.
const (
	textReply contentType = "text"

	// locationReply asked for a location until Graph 4.0 of 2019 (guidone/node-red-contrib-chatbot#495,
	// claudiajs/claudia-bot-builder#135).
	locationReply contentType = "location"
)

// message checks message; the package comment lists its fields. A text together with an attachment passes, as it is not known
// whether Facebook takes the two together.
func (c *checker) message(msg int32) {
	text := c.optional(msg, "text", maxText)
	attachment := c.object(msg, "attachment")
	attachments := c.list(msg, "attachments", 0, 0)
	template := c.object(msg, "template")
	other := slices.ContainsFunc([]string{"sticker_id", "dynamic_text"}, func(name string) bool {
		n := c.member(msg, name)
		return n != 0 && c.hasContent(n)
	})

	switch {
	case attachment != 0 || template != 0 || other:
	case attachments != 0 && !c.empty(attachments):
	case text != 0 && c.blank(text):
		c.fail(text, causeEmpty, "is empty", defaultRemedy)
	case text == 0 && c.only(msg, "text", "attachment", "attachments", "template", "sticker_id", "dynamic_text", "metadata", "quick_replies"):
		c.fail(msg, causeEmpty, "has no content", "add a text, an attachment or a template")
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
	c.optional(msg, "metadata", maxMetadata)
}

func (c *checker) attachment(n int32) {
	kind := c.keyword(n, "type")
	switch enum(c, kind, imageAttachment, audioAttachment, videoAttachment, fileAttachment, templateAttachment) {
	case audioAttachment, videoAttachment:
		c.media = true
		c.file(n)
	case imageAttachment, fileAttachment:
		c.file(n)
	case templateAttachment:
		if payload := c.payload(n); payload != 0 {
			c.attachmentTemplate(payload)
		}
	}
}

// payload is the payload of an attachment. It is 0 for a string, which is left to Facebook, since the Page messages reference
// calls the payload a string. Without a payload Facebook answers "(#100) The parameter message[attachment][payload] is required" (pimax/fb-messenger-php#20).
func (c *checker) payload(attachment int32) int32 {
	n := c.member(attachment, "payload")
	switch {
	case n == 0:
		c.failMember(attachment, "payload", causeMissing, "is missing", "add it")
	case c.kind(n) == '{':
		return n
	case c.kind(n) == '"':
		c.opaque = true
	default:
		c.fail(n, causeType, "must be an object in braces", "see the Send API reference for its form")
	}
	return 0
}

// file checks the payload of an attachment that is a file. A payload that names no file would be for one in the same multipart
// request, which Parse refuses.
func (c *checker) file(attachment int32) {
	payload := c.payload(attachment)
	if payload == 0 {
		return
	}
	url, id := c.url(payload, "url"), c.optional(payload, "attachment_id", 0)
	switch {
	case url != 0 && c.blank(url):
		c.fail(url, causeEmpty, "is empty", defaultRemedy)
	case id != 0 && c.blank(id):
		c.fail(id, causeEmpty, "is empty", defaultRemedy)
	case url == 0 && id == 0 && c.only(payload, "url", "attachment_id", "is_reusable"):
		c.fail(payload, causeMissing, "names no file", "add a url or an attachment_id; Brazier takes no uploads")
	}
}

// quickReplies checks message.quick_replies, see the type contentType.
func (c *checker) quickReplies(msg int32) {
	for n := range c.each(c.filled(msg, "quick_replies", maxQuickReplies)) {
		kind := c.optional(n, "content_type", 0)
		title := c.optional(n, "title", 0)
		payload := c.optional(n, "payload", maxQuickReplyPayload)
		image := c.url(n, "image_url")
		switch enum(c, kind, textReply, locationReply) {
		case textReply:
		case locationReply:
			c.fail(kind, causeRetired, "is location, which was retired with Graph 4.0", "ask for the location in a text")
			continue
		default:
			continue
		}
		if (image == 0 || c.blank(image)) && (title == 0 || c.blank(title)) {
			c.failMember(n, "title", causeEmpty, "is empty", "a quick reply of content_type text needs a title or an image_url")
		}
		if payload == 0 {
			c.failMember(n, "payload", causeMissing, "is missing", "a quick reply of content_type text needs one")
		}
	}
}

// utility checks message.template, see utilityType. How many parameters it takes only Facebook knows.
func (c *checker) utility(template int32) {
	c.required(template, "name", 0)
	if language := c.object(template, "language"); language != 0 {
		c.required(language, "code", 0)
	} else {
		c.failMember(template, "language", causeMissing, "is missing", `write "language":{"code":"en_US"}`)
	}
	for component := range c.each(c.list(template, "components", 0, 0)) {
		c.keyword(component, "type")
		// Templates of WhatsApp have these, templates of Messenger do not.
		for _, name := range [...]string{"sub_type", "index"} {
			if n := c.member(component, name); n != 0 {
				c.fail(n, CauseMisplaced, "belongs to WhatsApp templates", "remove it; parameters follow the order of the buttons")
			}
		}
		for parameter := range c.each(c.list(component, "parameters", 0, 0)) {
			c.keyword(parameter, "type")
			c.optional(parameter, "text", 0)
		}
	}
}

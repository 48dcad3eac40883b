package sendapi

// A TemplateType is a template of an attachment: message.attachment.payload.template_type.
// Not to be confused with message.template, which is a Utility message's.
type TemplateType string

// The template types (Message templates guide, 2026-06-30, and the page of each). An unknown type is accepted with
// whatever payload it has, for Facebook to judge.
const (
	// GenericTemplate is a card, or a carousel of up to 10 of them: elements with title, subtitle, image_url,
	// default_action (a URL button without a title) and buttons. One property besides the title must be there.
	GenericTemplate TemplateType = "generic"

	// ButtonTemplate is a text with one to three buttons.
	ButtonTemplate TemplateType = "button"

	// MediaTemplate is one image or video with up to three buttons: an element with media_type, and a url of Facebook's
	// own or an attachment_id, not both. No audio.
	MediaTemplate TemplateType = "media"

	// ReceiptTemplate is an order confirmation. Its order_number must be unique. Amounts are decimal numbers with a dot.
	ReceiptTemplate TemplateType = "receipt"

	// CouponTemplate is a coupon_code to reveal, a coupon_url, or both. A code cannot have spaces.
	CouponTemplate TemplateType = "coupon"

	// ProductTemplate is a carousel of up to 10 products of the page's catalog, by id. Graph v8.0 or later.
	ProductTemplate TemplateType = "product"

	// FeedbackTemplate is a survey: one screen with one question of type csat, nps, ces or free_form. It expires after
	// expires_in_days, 1 to 7. "In development", says its page: Meta may change it.
	FeedbackTemplate TemplateType = "customer_feedback"

	// ImageGridTemplate is 2 to 6 images in one element, since 2026-06-30. An image has a url, an action
	// (web_url or postback) and at most one of them is_hero_image.
	ImageGridTemplate TemplateType = "image_grid"

	// These two went with Graph 4.0 of 2019 (microsoft/botbuilder-js#1686, restfb/restfb#1015).
	listTemplate      TemplateType = "list"
	openGraphTemplate TemplateType = "open_graph"
)

// The limits of templates, in characters or entries, by the page of each template.
const (
	MaxElements      = 10  // generic, product
	MaxReceiptItems  = 100 // receipt elements
	MaxButtons       = 3   // of an element or a button template
	MaxElementTitle  = 80  // generic, coupon
	MaxSubtitle      = 80  // generic, coupon, feedback, image grid
	MaxButtonText    = 640 // text of a button template
	MaxFeedbackTitle = 65
	MaxFeedbackLabel = 20 // button_title of a feedback template
	MaxQuestionTitle = 85
	MaxGridTitle     = 45
	MinGridImages    = 2
	MaxGridImages    = 6
)

// MaxButtonPayload is the characters of a postback button's payload (Postback button page, 2026-06-17).
//
// The title of a button has 20, say the same pages. That one is not enforced: a longer title was delivered and shown with
// three dots (microsoft/BotFramework-Services#112, 2019), as that of a quick reply is.
const MaxButtonPayload = 1000

// A ButtonType is what a button of a template does.
type ButtonType string

// The button types (Buttons guide, 2026-04-22). An unknown type is accepted, for Facebook to judge.
const (
	URLButton      ButtonType = "web_url"        // opens url
	PostbackButton ButtonType = "postback"       // sends payload to the webhook
	CallButton     ButtonType = "phone_number"   // dials payload, such as +16505551234
	LoginButton    ButtonType = "account_link"   // opens url to link an account
	LogoutButton   ButtonType = "account_unlink" // has nothing but its type
	GameButton     ButtonType = "game_play"      // starts an Instant Game
)

// attachmentTemplate checks the payload of an attachment of type template.
func (c *checker) attachmentTemplate(payload int32) {
	kind := c.word(payload, "template_type")
	c.template = enum(c, kind, GenericTemplate, ButtonTemplate, MediaTemplate, ReceiptTemplate, CouponTemplate, ProductTemplate,
		FeedbackTemplate, ImageGridTemplate, listTemplate, openGraphTemplate)
	switch c.template {
	case listTemplate, openGraphTemplate:
		c.fail(kind, CauseRetired, "is "+string(c.template)+", which was retired with Graph 4.0", "use template_type generic")
	case GenericTemplate:
		c.generic(payload)
	case ButtonTemplate:
		c.required(payload, "text", MaxButtonText)
		c.buttons(payload, 1)
	case MediaTemplate:
		c.mediaTemplate(payload)
	case ReceiptTemplate:
		c.receipt(payload)
	case CouponTemplate:
		c.coupon(payload)
	case ProductTemplate:
		for element := range c.each(c.list(payload, "elements", 1, MaxElements)) {
			c.required(element, "id", 0)
		}
	case FeedbackTemplate:
		c.feedback(payload)
	case ImageGridTemplate:
		c.imageGrid(payload)
	}
}

func (c *checker) generic(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, MaxElements)) {
		c.required(element, "title", MaxElementTitle)
		c.optional(element, "subtitle", MaxSubtitle)
		c.buttons(element, 0)
		if !c.cardSays(element) {
			c.fail(element, CauseEmpty, "has nothing but a title", "add a subtitle, an image_url, a default_action or buttons")
		}
	}
}

// cardSays checks the URLs of a card, and reports whether it has anything besides its title: "(#100) Incomplete element data:
// title and at least one other field (image url, subtitle or buttons)" (tgallice/fb-messenger-sdk#13). What is null, blank
// or empty says nothing.
func (c *checker) cardSays(element int32) (says bool) {
	for n := range c.children(element) {
		switch string(c.name(n)) {
		case "title":
			continue
		case "image_url", "item_url":
			if c.kind(n) != 'n' {
				c.checkURL(n)
			}
		case "default_action":
			if c.kind(n) == '{' {
				c.url(n, "url")
			}
		}
		says = says || c.says(n)
	}
	return says
}

func (c *checker) mediaTemplate(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, 1)) {
		kind := c.word(element, "media_type")
		if c.is(kind, "video") {
			c.media = true
		}
		url, id := c.optional(element, "url", 0), c.optional(element, "attachment_id", 0)
		switch {
		case url != 0 && id != 0:
			c.fail(element, CauseConflict, "has both a url and an attachment_id", "keep one of them")
		case url == 0 && id == 0:
			c.fail(element, CauseMissing, "names no image or video", "give it a url on facebook.com or an attachment_id")
		case url != 0 && c.blank(url), id != 0 && c.blank(id):
			c.fail(max(url, id), CauseEmpty, "is empty", defaultRemedy)
		}
		c.url(element, "url")
		c.buttons(element, 0)
	}
}

// receipt leaves prices, currencies and the address to Facebook: their exact form is not known.
func (c *checker) receipt(payload int32) {
	for _, name := range [...]string{"recipient_name", "order_number", "currency", "payment_method"} {
		c.required(payload, name, 0)
	}
	c.url(payload, "order_url")
	for element := range c.each(c.list(payload, "elements", 0, MaxReceiptItems)) {
		c.required(element, "title", 0)
		c.url(element, "image_url")
	}
	if summary := c.object(payload, "summary"); summary != 0 {
		c.required(summary, "total_cost", 0)
	} else {
		c.failMember(payload, "summary", CauseMissing, "is missing", "add it with a total_cost")
	}
}

func (c *checker) coupon(payload int32) {
	c.required(payload, "title", MaxElementTitle)
	c.optional(payload, "subtitle", MaxSubtitle)
	c.url(payload, "image_url")
	code, url := c.optional(payload, "coupon_code", 0), c.url(payload, "coupon_url")
	if (code == 0 || c.blank(code)) && (url == 0 || c.blank(url)) {
		c.failMember(payload, "coupon_code", CauseMissing, "is missing", "give it, or a coupon_url")
	}
}

func (c *checker) feedback(payload int32) {
	c.required(payload, "title", MaxFeedbackTitle)
	c.required(payload, "subtitle", MaxSubtitle)
	c.required(payload, "button_title", MaxFeedbackLabel)
	for screen := range c.each(c.list(payload, "feedback_screens", 1, 1)) {
		for question := range c.each(c.list(screen, "questions", 1, 1)) {
			c.required(question, "id", 0)
			c.word(question, "type")
			c.optional(question, "title", MaxQuestionTitle)
		}
	}
	if privacy := c.object(payload, "business_privacy"); privacy != 0 {
		c.requiredURL(privacy, "url")
	} else {
		c.failMember(payload, "business_privacy", CauseMissing, "is missing", "add it with the url of the privacy policy")
	}
}

func (c *checker) imageGrid(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, 1)) {
		c.optional(element, "title", MaxGridTitle)
		c.optional(element, "subtitle", MaxSubtitle)
		for image := range c.each(c.list(element, "images", MinGridImages, MaxGridImages)) {
			c.requiredURL(image, "url")
		}
		c.buttons(element, 0)
	}
}

// buttons checks the buttons of a template or of one of its elements.
func (c *checker) buttons(obj int32, least int) {
	var buttons int32
	if least > 0 {
		buttons = c.list(obj, "buttons", least, MaxButtons)
	} else {
		buttons = c.filled(obj, "buttons", MaxButtons)
	}
	for button := range c.each(buttons) {
		switch enum(c, c.word(button, "type"), URLButton, PostbackButton, CallButton, LoginButton, LogoutButton, GameButton) {
		case URLButton:
			c.required(button, "title", 0)
			c.requiredURL(button, "url")
		case PostbackButton:
			c.required(button, "title", 0)
			c.required(button, "payload", MaxButtonPayload)
		case CallButton:
			c.required(button, "title", 0)
			c.required(button, "payload", 0)
		case LoginButton:
			c.requiredURL(button, "url")
		}
	}
}

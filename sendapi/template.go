package sendapi

// A templateType is a template of an attachment: message.attachment.payload.template_type.
// Not to be confused with message.template, which is a Utility message's.
type templateType string

// The template types (Message templates guide, 2026-06-30, and the page of each). An unknown type is accepted with
// whatever payload it has, for Facebook to judge.
const (
	// genericTemplate is a card, or a carousel of up to 10 of them: elements with title, subtitle, image_url,
	// default_action (a URL button without a title) and buttons. One property besides the title must be there.
	genericTemplate templateType = "generic"

	// buttonTemplate is a text with one to three buttons.
	buttonTemplate templateType = "button"

	// mediaTemplate is one image or video with up to three buttons: an element with media_type, and a url of Facebook's
	// own or an attachment_id, not both. No audio.
	mediaTemplate templateType = "media"

	// receiptTemplate is an order confirmation. Its order_number must be unique. Amounts are decimal numbers with a dot.
	receiptTemplate templateType = "receipt"

	// couponTemplate is a coupon_code to reveal, a coupon_url, or both. A code cannot have spaces.
	couponTemplate templateType = "coupon"

	// productTemplate is a carousel of up to 10 products of the page's catalog, by id. Graph v8.0 or later.
	productTemplate templateType = "product"

	// feedbackTemplate is a survey: one screen with one question of type csat, nps, ces or free_form. It expires after
	// expires_in_days, 1 to 7. "In development", says its page: Meta may change it.
	feedbackTemplate templateType = "customer_feedback"

	// imageGridTemplate is 2 to 6 images in one element, since 2026-06-30. An image has a url, an action
	// (web_url or postback) and at most one of them is_hero_image.
	imageGridTemplate templateType = "image_grid"

	// These two were retired with Graph 4.0 of 2019 (microsoft/botbuilder-js#1686, restfb/restfb#1015).
	listTemplate      templateType = "list"
	openGraphTemplate templateType = "open_graph"
)

// The limits of templates, in characters or entries, by the page of each template.
const (
	maxElements      = 10  // generic, product
	maxReceiptItems  = 100 // receipt elements
	maxButtons       = 3   // of an element or a button template
	maxElementTitle  = 80  // generic, coupon
	maxSubtitle      = 80  // generic, coupon, feedback, image grid
	maxButtonText    = 640 // text of a button template
	maxFeedbackTitle = 65
	maxFeedbackLabel = 20 // button_title of a feedback template
	maxQuestionTitle = 85
	maxGridTitle     = 45
	minGridImages    = 2
	maxGridImages    = 6
)

// maxButtonPayload is the most characters of a postback button's payload (Postback button page, 2026-06-17).
//
// The same pages limit the title of a button to 20 characters. This package does not: a longer title was delivered and shown
// with three dots (microsoft/BotFramework-Services#112, 2019), as that of a quick reply is.
const maxButtonPayload = 1000

// A buttonType is what a button of a template does.
type buttonType string

// The button types (Buttons guide, 2026-04-22). An unknown type is accepted, for Facebook to judge.
const (
	webURLButton   buttonType = "web_url"        // opens url
	postbackButton buttonType = "postback"       // sends payload to the webhook
	callButton     buttonType = "phone_number"   // dials payload, such as +16505551234
	loginButton    buttonType = "account_link"   // opens url to link an account
	logoutButton   buttonType = "account_unlink" // has nothing but its type
	gameButton     buttonType = "game_play"      // starts an Instant Game
)

// attachmentTemplate checks the payload of an attachment of type template.
func (c *checker) attachmentTemplate(payload int32) {
	kind := c.keyword(payload, "template_type")
	c.template = enum(c, kind, genericTemplate, buttonTemplate, mediaTemplate, receiptTemplate, couponTemplate, productTemplate,
		feedbackTemplate, imageGridTemplate, listTemplate, openGraphTemplate)
	switch c.template {
	case listTemplate, openGraphTemplate:
		c.fail(kind, causeRetired, "is "+string(c.template)+", which was retired with Graph 4.0", "use template_type generic")
	case genericTemplate:
		c.generic(payload)
	case buttonTemplate:
		c.required(payload, "text", maxButtonText)
		c.buttons(payload, 1)
	case mediaTemplate:
		c.mediaTemplate(payload)
	case receiptTemplate:
		c.receipt(payload)
	case couponTemplate:
		c.coupon(payload)
	case productTemplate:
		for element := range c.each(c.list(payload, "elements", 1, maxElements)) {
			c.required(element, "id", 0)
		}
	case feedbackTemplate:
		c.feedback(payload)
	case imageGridTemplate:
		c.imageGrid(payload)
	}
}

func (c *checker) generic(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, maxElements)) {
		c.required(element, "title", maxElementTitle)
		c.optional(element, "subtitle", maxSubtitle)
		c.buttons(element, 0)
		if !c.cardHasContent(element) {
			c.fail(element, causeEmpty, "has nothing but a title", "add a subtitle, an image_url, a default_action or buttons")
		}
	}
}

// cardHasContent checks the URLs of a card, and reports whether the card has content besides its title: "(#100) Incomplete element data:
// title and at least one other field (image url, subtitle or buttons)" (tgallice/fb-messenger-sdk#13).
func (c *checker) cardHasContent(element int32) (found bool) {
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
		found = found || c.hasContent(n)
	}
	return found
}

func (c *checker) mediaTemplate(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, 1)) {
		kind := c.keyword(element, "media_type")
		if c.isKeyword(kind, "video") {
			c.media = true
		}
		url, id := c.optional(element, "url", 0), c.optional(element, "attachment_id", 0)
		switch {
		case url != 0 && id != 0:
			c.fail(element, causeConflict, "has both a url and an attachment_id", "keep one of them")
		case url == 0 && id == 0:
			c.fail(element, causeMissing, "names no image or video", "give it a url on facebook.com or an attachment_id")
		case url != 0 && c.blank(url), id != 0 && c.blank(id):
			c.fail(max(url, id), causeEmpty, "is empty", defaultRemedy)
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
	for element := range c.each(c.list(payload, "elements", 0, maxReceiptItems)) {
		c.required(element, "title", 0)
		c.url(element, "image_url")
	}
	if summary := c.object(payload, "summary"); summary != 0 {
		c.required(summary, "total_cost", 0)
	} else {
		c.failMember(payload, "summary", causeMissing, "is missing", "add it with a total_cost")
	}
}

func (c *checker) coupon(payload int32) {
	c.required(payload, "title", maxElementTitle)
	c.optional(payload, "subtitle", maxSubtitle)
	c.url(payload, "image_url")
	code, url := c.optional(payload, "coupon_code", 0), c.url(payload, "coupon_url")
	if (code == 0 || c.blank(code)) && (url == 0 || c.blank(url)) {
		c.failMember(payload, "coupon_code", causeMissing, "is missing", "give it, or a coupon_url")
	}
}

func (c *checker) feedback(payload int32) {
	c.required(payload, "title", maxFeedbackTitle)
	c.required(payload, "subtitle", maxSubtitle)
	c.required(payload, "button_title", maxFeedbackLabel)
	for screen := range c.each(c.list(payload, "feedback_screens", 1, 1)) {
		for question := range c.each(c.list(screen, "questions", 1, 1)) {
			c.required(question, "id", 0)
			c.keyword(question, "type")
			c.optional(question, "title", maxQuestionTitle)
		}
	}
	if privacy := c.object(payload, "business_privacy"); privacy != 0 {
		c.requiredURL(privacy, "url")
	} else {
		c.failMember(payload, "business_privacy", causeMissing, "is missing", "add it with the url of the privacy policy")
	}
}

func (c *checker) imageGrid(payload int32) {
	for element := range c.each(c.list(payload, "elements", 1, 1)) {
		c.optional(element, "title", maxGridTitle)
		c.optional(element, "subtitle", maxSubtitle)
		for image := range c.each(c.list(element, "images", minGridImages, maxGridImages)) {
			c.requiredURL(image, "url")
		}
		c.buttons(element, 0)
	}
}

// buttons checks the buttons of a template or of one of its elements.
func (c *checker) buttons(obj int32, least int) {
	var buttons int32
	if least > 0 {
		buttons = c.list(obj, "buttons", least, maxButtons)
	} else {
		buttons = c.filled(obj, "buttons", maxButtons)
	}
	for button := range c.each(buttons) {
		switch enum(c, c.keyword(button, "type"), webURLButton, postbackButton, callButton, loginButton, logoutButton, gameButton) {
		case webURLButton:
			c.required(button, "title", 0)
			c.requiredURL(button, "url")
		case postbackButton:
			c.required(button, "title", 0)
			c.required(button, "payload", maxButtonPayload)
		case callButton:
			c.required(button, "title", 0)
			c.required(button, "payload", 0)
		case loginButton:
			c.requiredURL(button, "url")
		}
	}
}

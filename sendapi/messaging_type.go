package sendapi

import "strings"

// A messagingType is the ground on which a message is sent.
//
// The Send API reference calls it required. The oldest published Braze template has none, and it is not known whether Facebook
// still takes a request without one. So such a request is accepted and sent as it is: to add UPDATE would be a claim in the
// caller's name.
type messagingType string

// The messaging types (Send API reference, Page messages reference). Upper and lower case are taken. An unknown type is
// accepted, for Facebook to judge.
const (
	// responseType answers a message, updateType does not. Both are allowed only within 24 hours of the person's last message
	// to the page. Later they fail with code 10, subcode 2018278.
	responseType messagingType = "RESPONSE"
	updateType   messagingType = "UPDATE"

	// taggedType is for messages outside the 24 hours, on the ground that tag names.
	taggedType messagingType = "MESSAGE_TAG"

	// utilityType sends a template of the page that Facebook approved beforehand, also outside the 24 hours. The template is in
	// message.template, not in an attachment (Utility messages guide, Page messages reference):
	//
	//	{"name":"order_shipped","language":{"code":"en_US"},"components":[
	//	  {"type":"body","parameters":[{"type":"text","text":"Ann"}]},
	//	  {"type":"buttons","parameters":[{"type":"POSTBACK","payload":"…"}]}]}
	//
	// A component is a header, body, title or buttons; a parameter has text, payload or url. Parameters that do not fit the
	// template fail with code 100, subcodes 1893029, 1893043, 2018416, 2388051. The guide calls the permission
	// page_utility_messaging, others call it pages_utility_messaging.
	utilityType messagingType = "UTILITY"
)

// A messageTag is the ground of a taggedType message.
type messageTag string

// The tags that are not retired (Send API reference). An unknown tag is accepted, for Facebook to judge.
const (
	// humanAgent is for a person's answer within 7 days, never an automated one. The app needs a review for it.
	humanAgent messageTag = "HUMAN_AGENT"

	// customerFeedback is for a survey within 7 days, and only with the feedback template.
	customerFeedback messageTag = "CUSTOMER_FEEDBACK"
)

// When Facebook retired tags and a messaging type, and what replaces them.
const (
	retired2020   = "2020-03-04"
	retired2026   = "2026-04-27"
	retiredRemedy = "use messaging_type UTILITY with an approved template"
)

// subscription is the messaging type of 2018 for what is now a Utility message or none.
const subscriptionType messagingType = "NON_PROMOTIONAL_SUBSCRIPTION"

// retiredTags is when a tag was retired. Those of 2026 fail with code 100, seen with subcode 1893061 (Send API reference;
// chatwoot/chatwoot#14669). Those of 2020 are no longer in any reference, and fail like unknown tags
// (theopenconversationkit/tock#701, ker0x/messenger#142).
var retiredTags = map[string]string{
	"CONFIRMED_EVENT_UPDATE":       retired2026,
	"ACCOUNT_UPDATE":               retired2026,
	"POST_PURCHASE_UPDATE":         retired2026,
	"APPLICATION_UPDATE":           retired2020,
	"APPOINTMENT_UPDATE":           retired2020,
	"BUSINESS_PRODUCTIVITY":        retired2020,
	"COMMUNITY_ALERT":              retired2020,
	"CONFIRMED_EVENT_REMINDER":     retired2020,
	"FEATURE_FUNCTIONALITY_UPDATE": retired2020,
	"GAME_EVENT":                   retired2020,
	"ISSUE_RESOLUTION":             retired2020,
	"NON_PROMOTIONAL_SUBSCRIPTION": retired2020,
	"PAIRING_UPDATE":               retired2020,
	"PAYMENT_UPDATE":               retired2020,
	"PERSONAL_FINANCE_UPDATE":      retired2020,
	"RESERVATION_UPDATE":           retired2020,
	"SHIPPING_UPDATE":              retired2020,
	"TICKET_UPDATE":                retired2020,
	"TRANSPORTATION_UPDATE":        retired2020,
}

func (c *checker) checkMessagingType(r *Request, message int32) {
	if r.messagingType == subscriptionType {
		c.failMember(0, "messaging_type", causeRetired, string(subscriptionType)+" was retired on "+retired2020, retiredRemedy)
	}
	if r.messagingType == utilityType && c.member(message, "template") == 0 {
		c.failMember(message, "template", causeMissing, "is missing", "messaging_type UTILITY needs the name of an approved template there")
	}
}

func (c *checker) checkTag(r *Request) {
	if r.tag != "" {
		tag := strings.ToUpper(string(r.tag))
		if retired := retiredTags[tag]; retired != "" {
			c.failMember(0, "tag", causeRetired, tag+" was retired on "+retired, retiredRemedy)
		}
	}
	switch r.tag {
	case customerFeedback:
		// "Use in any other form is prohibited and will fail" (Customer feedback template page).
		if c.template != feedbackTemplate && !c.opaque {
			c.failMember(0, "tag", causeConflict, "CUSTOMER_FEEDBACK is only for the feedback template", "use template_type customer_feedback")
		}
	case "":
		if r.messagingType == taggedType {
			c.failMember(0, "tag", causeMissing, "is missing", "messaging_type MESSAGE_TAG needs one, HUMAN_AGENT or CUSTOMER_FEEDBACK")
		}
		return
	}
	// "(#100) Messaging type should be MESSAGE_TAG for tagged messages." (ker0x/messenger#106, 2018). Whether a tag
	// without any messaging_type passes is not known.
	switch r.messagingType {
	case responseType, updateType, utilityType:
		c.failMember(0, "tag", causeConflict, "is only for messaging_type MESSAGE_TAG", "change the type or remove the tag")
	}
}

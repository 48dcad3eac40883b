// Package sendapi is what Facebook's Messenger Send API accepts and answers, as far as it is known.
//
// # The API
//
// The Send API sends one message, or one sender action, of a Facebook page to one person in Messenger. It has one
// endpoint:
//
//	POST https://graph.facebook.com/v25.0/{page}/messages
//	Authorization: Bearer {page access token}
//	Content-Type: application/json
//
//	{
//	  "recipient":      {"id": "1254477777772919"},   whom: see RecipientKind
//	  "messaging_type": "UPDATE",                     on what ground: see MessagingType and Tag
//	  "message":        {"text": "Your order is out"} what: see Request, AttachmentType, TemplateType
//	}
//
// "me" in place of the page means the page of the token. The token may also stand in the query or in a form as
// access_token; the header keeps it out of logs. It is the token of someone with the MESSAGE task on the page, for an app
// with the permission pages_messaging. The body may also be a form whose objects are JSON, or multipart/form-data to
// upload a file along. The answer to a message is
//
//	{"recipient_id": "1254477777772919", "message_id": "m_…"}
//
// # The fields of a request
//
//	recipient          whom, in exactly one form: see RecipientKind
//	messaging_type     on what ground: see MessagingType
//	tag                and on which of MESSAGE_TAG: see Tag
//	message            what; or else
//	sender_action      a sign of life: see SenderAction
//	payload            of the sender actions react and unreact
//	notification_type  how the device announces it: see NotificationType
//	persona_id         numeric string: under which persona of the page
//	reply_to           {"mid":"…"}: to which message
//	thread_control     an object, explained nowhere
//
// A message has one of the first six, and may have the last two:
//
//	text               plain text: see MaxText
//	attachment         {"type":"…","payload":{…}}, a file or a template: see AttachmentType and TemplateType
//	attachments        several images
//	template           an approved template: see Utility
//	sticker_id         a sticker, since 2026-06-01 (Sticker API guide)
//	dynamic_text       {"text":"…","fallback_text":"…"}, explained nowhere
//	quick_replies      buttons under it: see ContentType
//	metadata           for the sender's own use: see MaxMetadata
//
// Fields that are not in these lists pass through [Parse] as they are.
//
// # What a sender has to know
//
// A person is a page-scoped id, PSID, another one for every page. A page may write to a person only after the person has
// written to it: freely within 24 hours of the person's last message, later only with a Tag or a Utility template. What
// opens the window is the person's message, not the page's; postbacks are said to open it too, which was not verified.
//
// There is no idempotency key. A call whose answer was lost may have been sent, and only the message_echoes webhook
// tells, where message.metadata comes back.
//
// A message goes to one person; there is no body for many. A Graph batch carries up to 50 such calls, but each counts by
// itself against the limits and they run in no order, so it saves connections and nothing else.
//
// # The package
//
// [Parse] reads a request in any of its encodings, refuses what Facebook would certainly refuse, with a remedy for whoever
// wrote the template, and leaves the rest to Facebook byte by byte. The other half of the package makes the call and
// reads the answer: success, or an error with the class that says what to do about it.
//
// It knows nothing of queues, retries, pacing, or of which pages there are and whose their tokens are: it says what
// Facebook says, and others decide.
//
// # Sources
//
// Facts are of Meta's documentation as of November 2026, the newest pages being of mid-2026: the Send API reference, the
// Page messages reference of the Graph API, the guides and the page of each template, the error codes page (2026-06-25),
// the Messenger and Graph rate limiting guides (2026-03-23), the webhooks guide (2026-05-05) and the changelogs up to
// v26.0 (2026-07-29); and of real answers that people pasted into public issues, which are named where they are used.
//
// # What is not known
//
// Whether a character of the limits is a byte, a UTF-16 unit or a code point. Whether messaging_type may really be left
// out. Whether Facebook cuts or refuses most texts that are too long: titles of buttons and quick replies were seen cut.
// Whether a text may stand beside an attachment, and how many images a message may have. What becomes of white space
// round an id. Whether a video in a media template counts as video for the rate limit. The state of one-time
// notifications. The forms of a recipient, types of an attachment and content types of a quick reply that the Page
// messages reference lists without a word. Where it matters, the comments say what was chosen.
package sendapi

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
//	  "recipient":      {"id": "1254477777772919"},   to whom
//	  "messaging_type": "UPDATE",                     on what ground
//	  "message":        {"text": "Your order is out"} what
//	}
//
// "me" instead of the page means the page of the token. The token may also stand in the query or in a form as
// access_token; the header keeps it out of logs. It is the token of someone with the MESSAGE task on the page, for an app
// with the permission pages_messaging. The body may also be a form whose objects are JSON, or multipart/form-data to
// upload a file along. The answer to a message is
//
//	{"recipient_id": "1254477777772919", "message_id": "m_…"}
//
// # The fields of a request
//
//	recipient          to whom, in exactly one form: see RecipientKind
//	messaging_type     on what ground: RESPONSE, UPDATE, MESSAGE_TAG or UTILITY
//	tag                the ground of MESSAGE_TAG: HUMAN_AGENT or CUSTOMER_FEEDBACK
//	message            what; or else
//	sender_action      typing_on, typing_off, mark_seen, react or unreact
//	payload            of the sender actions react and unreact
//	notification_type  REGULAR (the default: with sound or vibration), SILENT_PUSH (on the screen only), NO_PUSH
//	persona_id         numeric string: under which persona of the page
//	reply_to           {"mid":"…"}: to which message
//	thread_control     an object, explained nowhere
//
// A message has one of the first six, and may have the last two:
//
//	text               plain text of at most 2000 characters
//	attachment         {"type":"…","payload":{…}}, an image, audio, video, file or template
//	attachments        several images
//	template           an approved template, for messaging_type UTILITY
//	sticker_id         a sticker, since 2026-06-01 (Sticker API guide)
//	dynamic_text       {"text":"…","fallback_text":"…"}, explained nowhere
//	quick_replies      buttons under it, which vanish once one is tapped
//	metadata           at most 1000 characters for the sender's own use: see [WithMetadata]
//
// Fields that are not in these lists pass through [Parse] as they are.
//
// # What a sender has to know
//
// A person has a page-scoped id (PSID), which differs from page to page. A page may write to a person only after the person
// has written to the page: without conditions within 24 hours of the person's last message, later only with a tag or an
// approved template. Only the person's own messages open this window. Reports say that postbacks open it too, which was not
// verified.
//
// There is no idempotency key. A message whose answer was lost may have been sent, and only the message_echoes webhook,
// which returns message.metadata, can tell.
//
// A message goes to one person; there is no body for several. A Graph batch carries up to 50 such calls, but each of them
// counts against the limits and their order is not defined, so a batch saves connections and nothing else.
//
// # The package
//
// [Parse] reads a request in any of its encodings, refuses what Facebook would certainly refuse, with a remedy for whoever
// wrote the template, and leaves the rest to Facebook byte by byte. The other half of the package makes the call and
// reads the answer: success, or an error with the class that says what to do about it.
//
// The package knows nothing of queues, retries, pacing, pages or where their tokens come from: it reports what Facebook
// says, and its callers decide.
//
// # Sources
//
// Facts come from Meta's documentation as of November 2026, whose newest pages are of mid-2026: the Send API reference, the
// Page messages reference of the Graph API, the guides and the page of each template, the error codes page (2026-06-25),
// the Messenger and Graph rate limiting guides (2026-03-23), the webhooks guide (2026-05-05) and the changelogs up to
// v26.0 (2026-07-29); and from real answers that people pasted into public issues, which are named where they are used.
//
// # What is not known
//
// Where it matters, the comments say what was chosen.
//
//   - Whether the limits count bytes, UTF-16 units or code points.
//   - Whether messaging_type may be left out.
//   - Whether Facebook cuts or refuses most texts that are too long. It was seen to cut titles of buttons and quick replies.
//   - Whether a message may have both a text and an attachment, and how many images it may have.
//   - What Facebook makes of white space around an id.
//   - Whether a video in a media template counts as video for the rate limit.
//   - Whether one-time notifications still work.
//   - The forms of a recipient, types of an attachment and content types of a quick reply that the Page messages reference
//     lists without an explanation.
package sendapi

package sendapi

// Class says what an answer of the Send API means for the sender. The set is
// closed: every [Error] carries one of the constants below, and nothing else.
//
// A class is decided from the error's code, subcode, type and is_transient, and
// from the HTTP status only where the body does not decide. It is never decided
// from Facebook's text, which is localised and changes.
type Class string

const (
	// ClassTransient: the call failed in a way that may pass, and nothing was
	// sent. Try again with backoff. Where [Error.Unreachable], Facebook is away and
	// every message meets the same; where [Error.Silent] with HTTP 401, 403, 404 or
	// 405, something in front of Facebook refuses, which may be for good.
	ClassTransient Class = "transient"

	// ClassThrottle: the page calls too fast. Stop sending for this page for as
	// long as [Usage.RegainAfter] says, else for a growing pause. Every further
	// call counts and lengthens the block (Graph rate limiting guide), so the
	// page has to stop, not just this message. The message itself is fine.
	ClassThrottle Class = "throttle"

	// ClassThrottleApp: the app calls too fast. As ClassThrottle, for every page
	// that uses a token of the app.
	ClassThrottleApp Class = "throttle_app"

	// ClassAuth: the page access token is dead (expired, revoked, password
	// changed, app removed). Nothing will go out for this page before somebody
	// puts a new token in place. The message itself is fine.
	ClassAuth Class = "auth"

	// ClassPage: the page, its app or a setting of ours keeps messages from being
	// sent: a permission is missing, the app is not live, a policy restriction is in
	// force, the Graph API version is wrong. Stop sending for the page and probe
	// slowly; restrictions end by themselves, the others do not. Another token does
	// not mend it, or is not the only thing that does. The message itself is fine,
	// unless the page takes others: codes 10, 200, 230 and 368 were seen for one kind
	// of message too.
	ClassPage Class = "page"

	// ClassRecipient: this person cannot be reached: blocked the page, left
	// Facebook, stopped this topic, is unknown to this page. Do not send again.
	ClassRecipient Class = "recipient"

	// ClassWindow: the person's last message is too long ago for this kind of
	// message. Only a new message from the person opens the window again, so a
	// repetition changes nothing.
	//
	// RESPONSE and UPDATE are allowed within 24 hours of the person's last
	// inbound message. The tag HUMAN_AGENT allows 7 days, written by a human and
	// after app review (Send API reference). Whether a postback opens the window
	// too is generally held, and not found in Meta's pages.
	ClassWindow Class = "window"

	// ClassThread: another app, or Messenger's own automated answers, holds this
	// conversation at the moment (handover protocol). Try again later, a limited
	// number of times; the holder hands the thread back or lets it run out.
	ClassThread Class = "thread"

	// ClassMessage: this message is wrong and will be refused each time. Do not
	// send again unchanged.
	ClassMessage Class = "message"

	// ClassInDoubt: the request left, and what became of it is not known: no
	// answer, half an answer, or an answer that says neither sent nor refused.
	// The Send API has no idempotency key (neither the Send API reference nor the
	// Page/messages reference lists one), so repeating may send twice and not
	// repeating may send never. That choice is the sender's. Webhooks may settle it
	// later: message_echoes brings back the metadata that a message was sent with,
	// though not for every kind of message.
	ClassInDoubt Class = "in_doubt"

	// ClassDeliveredAnyway: an error of which Facebook itself says that the
	// message was sent. Treat it as success without a message id. It is one error of
	// the table; somebody else saw messages arrive in spite of errors as well, and
	// did not say which errors. A success that names no message is a [Receipt]: see
	// [Receipt.Unnamed].
	ClassDeliveredAnyway Class = "delivered_anyway"

	// ClassExpired: the message ran out of time before it was sent. Facebook never
	// says this and this package never returns it. It stands here so that
	// everything which can become of a message has its word in one list.
	ClassExpired Class = "expired"
)

// Classes returns every class, in the order in which they are declared. The
// caller owns the slice.
func Classes() []Class {
	return []Class{
		ClassTransient, ClassThrottle, ClassThrottleApp, ClassAuth, ClassPage, ClassRecipient,
		ClassWindow, ClassThread, ClassMessage, ClassInDoubt, ClassDeliveredAnyway, ClassExpired,
	}
}

// terminal reports whether the class condemns the one message for good. An
// error of a code that the table knows only in general, and that Facebook
// calls transient, is not allowed to do that; see classify.
func (c Class) terminal() bool {
	return c == ClassMessage || c == ClassRecipient || c == ClassWindow
}

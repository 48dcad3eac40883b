package sendapi

// A Class is what an answer of the Send API means for the sender. The set is
// closed: every [Error] carries one of the constants below, and nothing else.
//
// A class is decided from the error's code, subcode, type and is_transient, and
// from the HTTP status only where the body does not decide. It is never decided
// from Facebook's text, which is localised and changes.
type Class string

const (
	// ClassTransient: the call failed for a reason that may pass, and nothing was
	// sent. Try again with backoff. If [Error.Unreachable] is true, Facebook cannot be
	// reached and every other message fails too. If [Error.Silent] is true and the
	// status is HTTP 401, 403, 404 or 405, something in front of Facebook refuses the
	// call, perhaps for good.
	ClassTransient Class = "transient"

	// ClassThrottle: the page makes calls too fast. Stop sending for this page for as
	// long as [Usage.RegainAfter] says, or for a growing pause where it is 0. Each
	// further call lengthens the block (Graph rate limiting guide), so all messages of
	// the page have to stop. The message itself is fine.
	ClassThrottle Class = "throttle"

	// ClassThrottleApp: the app makes calls too fast. It means the same as
	// ClassThrottle, for every page that uses a token of the app.
	ClassThrottleApp Class = "throttle_app"

	// ClassAuth: the page access token is dead (expired, revoked, password
	// changed, app removed). No message of the page can be sent before somebody sets a
	// new token. The message itself is fine.
	ClassAuth Class = "auth"

	// ClassPage: the page, its app or a setting on our side keeps messages from being
	// sent: a permission is missing, the app is not live, a policy restriction is in
	// force, the Graph API version is wrong. Stop sending for the page and probe
	// slowly. Restrictions end by themselves; the other causes need a person, and a new
	// token alone seldom helps. The message itself is fine, unless the page accepts
	// other messages: codes 10, 200, 230 and 368 were seen for one kind of message too.
	ClassPage Class = "page"

	// ClassRecipient: this person cannot be reached. The person blocked the page, left
	// Facebook, stopped this topic or is unknown to the page. Do not send again.
	ClassRecipient Class = "recipient"

	// ClassWindow: the person's last message is too old for this kind of message.
	// Only a new message from the person opens the window again, so do not retry.
	//
	// RESPONSE and UPDATE are allowed within 24 hours of the person's last
	// inbound message. The tag HUMAN_AGENT allows 7 days for messages that a person
	// writes, after an app review (Send API reference). It is generally believed that
	// a postback opens the window too; Meta's pages do not say so.
	ClassWindow Class = "window"

	// ClassThread: another app, or Messenger's own automated answers, holds this
	// conversation now (handover protocol). Try again later, a limited
	// number of times; the holder returns the thread or lets it expire.
	ClassThread Class = "thread"

	// ClassMessage: this message is invalid and would be refused each time. Do not
	// send it again unchanged.
	ClassMessage Class = "message"

	// ClassInDoubt: the request was transmitted and its outcome is not known: there
	// was no answer, half an answer, or one that says neither sent nor refused. The
	// Send API has no idempotency key (neither the Send API reference nor the
	// Page/messages reference lists one), so the sender must choose: to repeat the
	// message may send it twice, not to repeat it may send it never. A message_echoes
	// webhook may settle the doubt later, as it returns the metadata of the message,
	// though not for every kind of message.
	ClassInDoubt Class = "in_doubt"

	// ClassDeliveredAnyway: Facebook answered with an error that it documents as
	// "sent". Treat it as success without a message id. One code has this class; others
	// report messages that arrived in spite of an error, without the code. A success
	// without a message id is a [Receipt]: see [Receipt.Unnamed].
	ClassDeliveredAnyway Class = "delivered_anyway"

	// ClassExpired: the message expired before it was sent. This package never returns
	// it. It is declared here so that one list has all the reasons why a message is not
	// delivered.
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

// terminal reports whether a message with this class is dead for good. See classify
// for the errors that are kept from such a class.
func (c Class) terminal() bool {
	return c == ClassMessage || c == ClassRecipient || c == ClassWindow
}

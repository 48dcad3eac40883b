package webhook

// Kind is what an event is about. The values are stable: they are stored, and they are labels of metrics.
type Kind string

// What a person did. Each has a PSID. The comment says whether it opens the window of 24 hours in which the page may send
// ordinary messages (send-messages page, 2026-05-05).
const (
	KindMessage        Kind = "message"         // wrote, or sent a file or a sticker; opens (messages page)
	KindPostback       Kind = "postback"        // pressed a button, or Get Started; opens (messaging_postbacks page)
	KindReferral       Kind = "referral"        // followed a link or an ad into an existing thread; see Event.Opens (messaging_referrals page)
	KindOptin          Kind = "optin"           // used a plugin, or opted in to marketing messages; not known to open (messaging_optins page)
	KindReaction       Kind = "reaction"        // put a reaction under a message; opens (message_reactions page)
	KindAccountLinking Kind = "account_linking" // logged in to, or out of, the page's own site; not known to open (messaging_account_linking page)
	KindOrder          Kind = "order"           // sent a cart of the page's shop; taken to open, as a message does (ker0x/messenger)
)

// What became of a message of the page. Each has a PSID, and none opens the window.
const (
	KindDelivery Kind = "delivery" // arrived at the person's device: see Event.MIDs, Event.Watermark (message_deliveries page)
	KindRead     Kind = "read"     // was read: see Event.Watermark (message_reads page)
	KindEcho     Kind = "echo"     // was sent, by whatever app or by people in the inbox: see Event.AppID (message-echoes page)
)

// KindPolicy is about the page: Facebook warns, blocks or unblocks it. There is no PSID. See Event.Action, Event.Reason
// (messaging_policy_enforcement page).
const KindPolicy Kind = "policy"

// Kinds of which no event is made; they are in Skipped only.
const (
	KindEdit        Kind = "edit"         // the person changed a message (message_edits page)
	KindUnsend      Kind = "unsend"       // the person deleted a message; it has the mid of that message (restfb/restfb)
	KindHandover    Kind = "handover"     // another app took or gave control of the thread (messaging_handovers page)
	KindFeedback    Kind = "feedback"     // the person rated a message (response_feedback page)
	KindChange      Kind = "change"       // changes[] of another field: feed, leadgen, message_template_status_update
	KindTest        Kind = "test"         // the test button of the app dashboard: page 0
	KindOtherObject Kind = "other_object" // not a page's event: instagram, whatsapp_business_account
	KindUnknown     Kind = "unknown"      // none of these
)

// ByPerson reports whether a person did it. Such events may hold a reference, and those that open the window show that the
// person can be reached.
func (k Kind) ByPerson() bool {
	switch k {
	case KindMessage, KindPostback, KindReferral, KindOptin, KindReaction, KindAccountLinking, KindOrder:
		return true
	}
	return false
}

// IsReceipt reports whether it tells what became of a message of the page.
func (k Kind) IsReceipt() bool { return k == KindDelivery || k == KindRead || k == KindEcho }

// Why says why no event was made. The values are stable labels of metrics.
type Why string

// The reasons to skip an event.
const (
	WhyNothingInIt Why = "nothing_in_it" // the kind neither opens the window nor can hold a reference or a receipt
	WhyUnknown     Why = "unknown"       // no kind that this package knows; Skipped.Name has its name
	WhyMalformed   Why = "malformed"     // a member that the kind needs has another type, or the event is no object
	WhyNoPSID      Why = "no_psid"       // no sender, a user_ref instead of an id, or an id that is not digits
	WhyNotForPage  Why = "not_for_page"  // the page of the entry is not the other party
	WhyFromPage    Why = "from_page"     // the sender is the page itself, and it is no echo
	WhyGuest       Why = "guest"         // the id of a guest's session, which ends with it (messaging_referrals page)
	WhyDuplicate   Why = "duplicate"     // the same key stands earlier in the same body
	WhyObject      Why = "object"        // the body is about another object than a page
	WhyTest        Why = "test"          // it comes from the test button
)

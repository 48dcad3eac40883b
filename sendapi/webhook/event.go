package webhook

import "time"

// A Batch is what one body holds: Facebook puts up to 1,000 events of several pages into one (Graph API, webhooks getting
// started). Both lists are in the order of the body, which is not the order of the events: sort by Event.At where order
// matters (webhooks page).
type Batch struct {
	Events  []Event
	Skipped []Skipped
}

// Skipped is an event of which no Event was made. It is for counters, and for a line at debug level.
type Skipped struct {
	Page string // id of the page, as far as known
	PSID string // the person's id, as far as known
	Kind Kind
	Why  Why

	// Name is the event's member or the change's field where Kind does not say it, such as "game_play" or "feed": at most
	// 64 letters, digits and underscores. It is for logs. It is no label of a metric, as Facebook adds names at will.
	Name string
}

// An Event is one thing that happened on a page's threads.
//
// Its JSON is what is stored. Names of members are never changed or used anew, and zero values are left out.
type Event struct {
	Kind Kind   `json:"kind"`
	Page string `json:"page"`          // id of the page: 1 to 32 digits
	PSID string `json:"psid,omitzero"` // the person's page-scoped id: 1 to 32 digits; empty for KindPolicy alone

	// At is when it happened, in UTC, to the millisecond: the event's timestamp, else the entry's time, else the time of
	// receipt. A time before 2016, or more than an hour after the receipt, is taken for none.
	At time.Time `json:"at"`

	// Key is the same for each repetition of the event and differs from that of every other event: page, PSID, kind, and
	// the mid where there is one, else the time and a hash of what tells the event from others. At most MaxKey bytes of
	// printable ASCII without spaces. A deletion is never an event, so it does not meet the key of the deleted message.
	Key string `json:"key"`

	// Opens reports that the event opens, or renews, the 24-hour window of the person. Of the referrals, those of m.me links
	// (SHORTLINK, or no source and no ad) and of a completed lead form do; an ad does only once the person writes
	// (send-messages page; m-me-links page; lead ads page). Where Facebook's pages are silent it is false, but for KindOrder.
	Opens bool `json:"opens,omitzero"`

	// Standby reports that another app had control of the thread (standby page).
	Standby bool `json:"standby,omitzero"`

	// Refs are strings in the form of a reference, not checked, the most trusted origin first, at most MaxRefs.
	Refs []FoundRef `json:"refs,omitempty"`

	// OtherRef reports a ref that has not the form of a reference: a coupon's name, or a template that is wrong.
	OtherRef bool `json:"other_ref,omitzero"`

	// Source is where a referral comes from, as Facebook names it: SHORTLINK, ADS and others. It is absent for accounts in
	// Europe and Japan (europe-japan-updates page). After an ad the window may last up to 7 days (policy page, 2026-09-28).
	Source string `json:"source,omitzero"`

	// MID is the id of the message: of the person's for KindMessage and KindPostback, of the page's for KindEcho, of the one
	// reacted to for KindReaction. It may be empty: old postbacks and those in standby have none.
	MID string `json:"mid,omitzero"`

	// MIDs are the messages that a KindDelivery names. It may name none, and the first MaxMIDs are kept; Watermark covers
	// the others.
	MIDs []string `json:"mids,omitempty"`

	// Watermark is the time up to which everything sent to the person has been delivered or read. Zero where there is none.
	Watermark time.Time `json:"watermark,omitzero"`

	// AppID is which app sent the message of a KindEcho; see PageInbox.
	AppID string `json:"app_id,omitzero"`

	// Metadata is what the sender of a KindEcho put into message.metadata, if it looks like an id: at most 64 letters,
	// digits and -_.: of ASCII.
	Metadata string `json:"metadata,omitzero"`

	// Action is warning, block or unblock, and Reason is Facebook's sentence about it, at most 500 bytes. KindPolicy alone.
	Action string `json:"action,omitzero"`
	Reason string `json:"reason,omitzero"`
}

// A FoundRef is a string in the form of a reference, and where it stood.
type FoundRef struct {
	Ref  string `json:"ref"`
	From Origin `json:"from"`
}

// Origin is the member of an event in which a reference stood. The values are stable.
type Origin string

// The origins, the most trusted first. Facebook fills in the referrals from the link. The payloads are whatever the page
// put under its buttons: ads put the reference there as JSON, {"referral":{"ref":"…"}} (vlab-research/fly). An authorization
// code comes from the page's own login, which alone proves who clicks.
const (
	FromReferral         Origin = "referral"                           // messaging_referrals page
	FromPostbackReferral Origin = "postback.referral"                  // messaging_postbacks page: the first contact
	FromMessageReferral  Origin = "message.referral"                   // messages page: the first message after an ad
	FromOptin            Origin = "optin"                              // messaging_optins page, legacy plugins
	FromQuickReply       Origin = "message.quick_reply.payload"        // messages page
	FromPostback         Origin = "postback.payload"                   // messaging_postbacks page
	FromOptinPayload     Origin = "optin.payload"                      // messaging_optins page
	FromAccountLinking   Origin = "account_linking.authorization_code" // messaging_account_linking page
)

// PageInbox is the AppID of messages that people write in the page's inbox (message-echoes page).
const PageInbox = "26390203743090"

// Bounds of an Event, so that what is stored stays small whatever arrives.
const (
	MaxKey  = 320  // bytes of a Key: two ids, a kind and a mid with three bars between them
	MaxRefs = 4    // references of one event; more than two in one event were never seen
	MaxMIDs = 1000 // mids of one KindDelivery

	maxID     = 32  // digits of an id; 17 were seen
	maxMID    = 220 // bytes of a mid; about 150 were seen
	maxReason = 500 // bytes of Reason
)

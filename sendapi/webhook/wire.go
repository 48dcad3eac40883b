package webhook

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The wire format. Only members that an Event needs are here; the others, texts and attachments among them, are passed
// over. No type of this file fails on a value of an unexpected type, so that decoding fails only on what is not JSON.

// lax accepts what Facebook has no reason to send but what would cost a whole batch: a name twice (the last one counts),
// and bytes that are not UTF-8.
var lax = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

type wireBody struct {
	Object text                      `json:"object"`
	Entry  maybe[[]maybe[wireEntry]] `json:"entry"`
}

type wireEntry struct {
	ID        id                         `json:"id"`
	Time      stamp                      `json:"time"`
	Messaging maybe[[]maybe[wireEvent]]  `json:"messaging"`
	Standby   maybe[[]maybe[wireEvent]]  `json:"standby"`
	Changes   maybe[[]maybe[wireChange]] `json:"changes"`
}

type wireChange struct {
	Field text             `json:"field"`
	Value maybe[wireEvent] `json:"value"`
}

type wireEvent struct {
	Sender    maybe[wireParty] `json:"sender"`
	Recipient maybe[wireParty] `json:"recipient"`
	Timestamp stamp            `json:"timestamp"`

	Message        maybe[wireMessage]  `json:"message"`
	Postback       maybe[wirePostback] `json:"postback"`
	Referral       maybe[wireReferral] `json:"referral"`
	Optin          maybe[wireOptin]    `json:"optin"`
	Reaction       maybe[wireReaction] `json:"reaction"`
	AccountLinking maybe[wireLinking]  `json:"account_linking"`
	Order          maybe[struct{}]     `json:"order"`
	Delivery       maybe[wireDelivery] `json:"delivery"`
	Read           maybe[wireRead]     `json:"read"`
	Policy         maybe[wirePolicy]   `json:"policy_enforcement"`
	OldPolicy      maybe[wirePolicy]   `json:"policy-enforcement"` // restfb/restfb

	Others map[string]skip `json:",embed"`
}

type wireParty struct {
	ID id `json:"id"`
}

type wireMessage struct {
	MID        text                  `json:"mid"`
	IsEcho     flag                  `json:"is_echo"`
	IsDeleted  flag                  `json:"is_deleted"`
	AppID      text                  `json:"app_id"` // a number in some echoes, a string in others
	Metadata   text                  `json:"metadata"`
	QuickReply maybe[wireQuickReply] `json:"quick_reply"`
	Referral   maybe[wireReferral]   `json:"referral"`
}

type wireQuickReply struct {
	Payload payload `json:"payload"`
}

type wirePostback struct {
	MID      text                `json:"mid"`
	Title    text                `json:"title"`
	Payload  payload             `json:"payload"`
	Referral maybe[wireReferral] `json:"referral"`
}

type wireReferral struct {
	Ref     text `json:"ref"`
	Source  text `json:"source"`
	Type    text `json:"type"`
	AdID    text `json:"ad_id"`
	IsGuest flag `json:"is_guest_user"`
}

type wireOptin struct {
	Ref     text    `json:"ref"`
	Type    text    `json:"type"`
	Payload payload `json:"payload"`
	Status  text    `json:"notification_messages_status"`
}

type wireReaction struct {
	MID      text `json:"mid"`
	Action   text `json:"action"`
	Reaction text `json:"reaction"`
}

type wireLinking struct {
	Status text `json:"status"`
	Code   text `json:"authorization_code"`
}

type wireDelivery struct {
	MIDs      maybe[[]text] `json:"mids"`
	Watermark stamp         `json:"watermark"`
}

type wireRead struct {
	Watermark stamp `json:"watermark"`
}

type wirePolicy struct {
	Action text `json:"action"`
	Reason text `json:"reason"`
}

// maybe is a value that may be absent, or of another type than T.
type maybe[T any] struct {
	present bool // the member is there and not null
	broken  bool // and it is no T; v is zero
	v       T
}

func (m *maybe[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*m = maybe[T]{present: raw.Kind() != 'n'}
	m.broken = m.present && json.Unmarshal(raw, &m.v, lax) != nil
	return nil
}

// text is a string, or a number as it is written; anything else is empty. Ids come in both forms, and numbers above 2^53
// keep their digits.
type text string

func (t *text) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	*t = text(scalar(raw))
	return err
}

func scalar(raw jsontext.Value) string {
	switch raw.Kind() {
	case '"':
		unquoted, _ := jsontext.AppendUnquote(nil, raw) // an error means invalid UTF-8, which is replaced
		return string(unquoted)
	case '0':
		return string(raw)
	}
	return ""
}

// id is an id of Facebook: digits. Anything else is empty.
type id string

func (i *id) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	if s := scalar(raw); isID(s) {
		*i = id(s)
	} else {
		*i = ""
	}
	return err
}

func isID(s string) bool { return len(s) <= maxID && s != "" && consistsOf(s, isDigit) }

// flag is true for true alone.
type flag bool

func (f *flag) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	*f = raw.Kind() == 't'
	return err
}

// payload is a string, or JSON as it stands: some opt-ins have an object for it.
type payload struct {
	s   string
	raw jsontext.Value
}

func (p *payload) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	*p = payload{s: scalar(raw)}
	if raw.Kind() == '{' {
		p.raw = raw.Clone()
	}
	return err
}

// skip is a member of which only the name counts.
type skip struct{}

func (*skip) UnmarshalJSONFrom(dec *jsontext.Decoder) error { return dec.SkipValue() }

// stamp is a time in milliseconds since 1970, zero for none. It comes as a number or as a string, in milliseconds or, in
// lead forms, legacy plugins and changes[], in seconds.
type stamp int64

// secondsBelow tells seconds from milliseconds: as seconds it is the year 51969, as milliseconds the year 2020
// (vlab-research/fly).
const secondsBelow = 1577836800000

func (t *stamp) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	n, bad := strconv.ParseInt(scalar(raw), 10, 64)
	if bad != nil || n < 0 {
		n = 0
	}
	if n < secondsBelow {
		n *= 1000
	}
	*t = stamp(n)
	return err
}

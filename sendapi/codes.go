package sendapi

import "strconv"

// Row is one entry of the table that turns Facebook's error codes into classes.
type Row struct {
	code     int
	lastCode int    // not 0: the row covers the codes from code to lastCode
	subcode  int    // 0: any subcode that has no row of its own
	typ      string // not empty: only with this type of error

	// others is the class of a subcode without a row, for a code whose subcodes mean
	// different things. It is empty for a code that means the same with every subcode.
	others Class
	// aboutOne is set for a row of ClassMessage that concerns one person only: see
	// [Error.AboutOne].
	aboutOne bool

	Class   Class
	Meaning string // what happened, in this package's own sentence
	Source  string // where that is known from
}

// methodException is the type of refusals that are about the call and not about
// its message: the path is unknown for this token or version, the object in the path
// (me) is not a page, appsecret_proof is missing or wrong (howdyai/botkit#1455,
// Yoctol/bottender#271, DiegoRBaquero/node-fb-messenger#15). Refusals of a message
// with code 100 come as OAuthException, and came as FacebookApiException in 2016.
const methodException = "GraphMethodException"

// The sources of the rows. Meta's pages were read in their newest state of November
// 2026. "In production" means that Meta's pages do not list the error and others report
// it in public code or issues.
const (
	ec   = "Messenger error codes page"
	ecx  = "Messenger error codes page, earlier edition"
	ecr  = "Messenger error codes page, and real answers"
	ge   = "Graph error handling guide"
	ger  = "Graph error handling guide, and real answers"
	grl  = "Graph rate limiting guide"
	grlx = "Graph rate limiting guide, Messenger error codes page (earlier edition)"
	pm   = "Page messages reference"
	ecpm = "Messenger error codes page, Page messages reference"
	gepm = "Graph error handling guide, Page messages reference"
	prod = "in production"
	mem  = "from memory, not checked"
)

// rows alone decide which class a code has.
//
// Where Facebook's explanation leaves two classes open, the row has the class that
// costs least when it is wrong. A message wrongly dead can be replayed; a page wrongly
// stopped delays all its messages; a retry costs a call. So a row stops the page only
// where the code can mean nothing else, and retries where a retry can tell. A comment
// says where that choice was made.
//
// The codes 10, 200, 230 and 368 without a subcode mean the page, and were seen for one
// kind of message too (a tag or a template that needs an approval). The table cannot
// tell the two apart; package worker does, by whether other messages are accepted.
//
// One production bot counted in 30 days of mid-2026:
//
//	code   10   551  100  -1   190  200  613  2022  80006
//	times  1783 497  339  119  40   1    0    0     0
//
// No real answer with 80006 was found anywhere.
var rows = []Row{
	{code: -1, Class: ClassTransient, Meaning: "unexpected internal error", Source: prod},

	{code: 1, Class: ClassTransient, Meaning: "unknown error", Source: ger},
	// Often a missing permission, which a retry shows. If an error called unknown
	// stopped the page, one message could stop all others.
	{code: 1, subcode: 99, Class: ClassTransient, Meaning: "unknown error, often a missing permission", Source: ec},
	{code: 1, subcode: 1357046, Class: ClassDeliveredAnyway, Meaning: "sent, though Facebook could not read its own reply", Source: ec}, // documented for a batch of three
	// Some report it for a person who has blocked the business, too. Then retries do not
	// help.
	{code: 2, Class: ClassTransient, Meaning: "service temporarily unavailable", Source: ger},
	{code: 2, subcode: 2018344, Class: ClassPage, Meaning: "a page admin has to accept the terms for inbox labels", Source: ec},
	// A capability missing for one kind of message looks the same as one missing
	// for all of them.
	{code: 3, Class: ClassMessage, Meaning: "unknown method, or a capability that the app lacks", Source: ge},
	{code: 4, Class: ClassThrottleApp, Meaning: "the app makes too many calls", Source: "Messenger error codes page, Graph rate limiting guide, and real answers"},
	{code: 4, subcode: 2018022, Class: ClassThrottle, Meaning: "too many messages to phone numbers", Source: ecx},
	{code: 4, subcode: 2018354, Class: ClassRecipient, Meaning: "too soon after the last marketing message to this person", Source: ec},
	{code: 9, subcode: 2018352, Class: ClassThrottle, Meaning: "too many opt-in requests", Source: ec},

	{code: 10, Class: ClassPage, others: ClassMessage, Meaning: "permission denied", Source: "Graph error handling guide, and in production"},
	{code: 10, subcode: 2018278, Class: ClassWindow, Meaning: "outside the allowed window", Source: ecr},
	{code: 10, subcode: 2018065, Class: ClassWindow, Meaning: "outside the allowed window, and no permission to send there", Source: ecr},
	{code: 10, subcode: 2534022, Class: ClassWindow, Meaning: "outside the allowed window", Source: ec},   // Instagram's form, listed for Messenger too
	{code: 10, subcode: 2534044, Class: ClassWindow, Meaning: "outside the allowed window", Source: prod}, // Instagram's form
	{code: 10, subcode: 2018108, Class: ClassRecipient, Meaning: "this person cannot receive messages right now", Source: ec},
	{code: 10, subcode: 2018028, Class: ClassPage, Meaning: "the app is not live, or pages_messaging was not reviewed", Source: prod}, // Meta lists it under code 200
	{code: 10, subcode: 2018300, Class: ClassThread, Meaning: "another app controls this conversation", Source: prod},
	{code: 10, subcode: 1893063, Class: ClassPage, Meaning: "the page is restricted from sending for a time", Source: ec}, // new on 2026-06-25; another sender probes after 30 minutes
	// Other messages of the page go.
	{code: 10, subcode: 1404170, Class: ClassMessage, Meaning: "the page is restricted from marketing opt-in requests", Source: ec},
	{code: 10, subcode: 1893015, Class: ClassRecipient, Meaning: "this person stopped notifications on this topic", Source: ec},
	// Meta's page names the effect on the person's conversation, real answers name privacy rules.
	{code: 10, subcode: 2018336, Class: ClassMessage, aboutOne: true, Meaning: "privacy rules of Europe or Japan do not allow this message for this person", Source: ecr},
	{code: 10, subcode: 2534077, Class: ClassMessage, Meaning: "not allowed: Instagram link", Source: ec},

	{code: 17, Class: ClassThrottle, Meaning: "the user makes too many calls", Source: grl},
	{code: 32, Class: ClassThrottle, Meaning: "too many calls for the page", Source: "Graph rate limiting guide, and in production"}, // reported for calls with a user token

	// Code 100 covers everything from a missing field to an unknown person. Without a
	// subcode only the text, which decides nothing, could tell; the message is dead in
	// either case.
	{code: 100, Class: ClassMessage, others: ClassMessage, Meaning: "a parameter is missing or wrong, or the recipient is unknown", Source: ecr},
	{code: 100, typ: methodException, Class: ClassPage, Meaning: "the call is refused: appsecret_proof is wrong or missing, the token is not a page's, or the Graph API version or URL is wrong", Source: prod},
	// With the type methodException the object is the one in the path, and so the page.
	// Otherwise it is not known which object is meant, so no person is blamed for it.
	{code: 100, subcode: 33, Class: ClassMessage, Meaning: "no such object, or no permission for it", Source: ec},
	{code: 100, subcode: 33, typ: methodException, Class: ClassPage, Meaning: "the call is refused: the token is not a page's, or the Graph API version or URL is wrong", Source: ecr},
	{code: 100, subcode: 2018001, Class: ClassRecipient, Meaning: "no such person for this page", Source: ec},
	// One retry may help against a slow file server. Facebook has then waited for it already.
	{code: 100, subcode: 2018008, Class: ClassMessage, Meaning: "Facebook could not fetch the URL", Source: ec},
	{code: 100, subcode: 2018014, Class: ClassMessage, Meaning: "message and sender_action together", Source: ec},
	{code: 100, subcode: 2018032, Class: ClassMessage, Meaning: "data is empty or invalid", Source: prod},
	{code: 100, subcode: 2018034, Class: ClassMessage, Meaning: "data is empty or invalid", Source: prod},
	{code: 100, subcode: 2018047, Class: ClassMessage, Meaning: "the attachment could not be uploaded: its type does not match", Source: ecr},
	{code: 100, subcode: 2018048, Class: ClassMessage, Meaning: "the sender action did not work", Source: prod}, // harmless: a decoration is missing
	{code: 100, subcode: 2018074, Class: ClassMessage, Meaning: "the attachment id is invalid, expired or another page's: upload again", Source: ecr},
	{code: 100, subcode: 2018109, Class: ClassMessage, Meaning: "the attachment is too large", Source: ec},
	{code: 100, subcode: 2018164, Class: ClassPage, Meaning: "wrong app id", Source: ec},
	// One retry may help. Facebook has then waited 75 seconds for the file already.
	{code: 100, subcode: 2018294, Class: ClassMessage, Meaning: "the video took too long to upload, or is damaged", Source: ec},
	{code: 100, subcode: 2018276, Class: ClassMessage, Meaning: "the tag needs an approval that the app does not have", Source: prod},
	{code: 100, subcode: 2018320, Class: ClassMessage, Meaning: "the product template is wrong", Source: ec},
	{code: 100, subcode: 2018328, Class: ClassMessage, Meaning: "the product template is wrong", Source: ec},
	{code: 100, subcode: 1893061, Class: ClassMessage, Meaning: "the message tag is retired", Source: prod}, // the three tags retired on 2026-04-27
	{code: 100, subcode: 1893029, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{code: 100, subcode: 1893043, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{code: 100, subcode: 2018416, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{code: 100, subcode: 2388051, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{code: 100, subcode: 1689001, Class: ClassMessage, Meaning: "the utility template is wrong, or the permission for it is missing", Source: prod},
	{code: 100, subcode: 2534001, Class: ClassRecipient, Meaning: "this person archived or deleted the conversation", Source: prod},
	// Instagram's forms of the same faults.
	{code: 100, subcode: 2534013, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{code: 100, subcode: 2534014, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{code: 100, subcode: 2534015, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{code: 100, subcode: 2534025, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{code: 100, subcode: 2534029, Class: ClassPage, Meaning: "the business is blocked from sending", Source: ec},
	{code: 100, subcode: 2534037, Class: ClassThread, Meaning: "another app owns this conversation", Source: ec},

	// The app was deleted or blocked, or Facebook cannot look it up. A token of another
	// app would mend it as well, but the app coming back mends it too.
	{code: 101, Class: ClassPage, Meaning: "Facebook cannot validate the app that the token is of", Source: prod},
	{code: 102, Class: ClassAuth, Meaning: "the session is invalid: a new token is needed", Source: ge},
	// Only another token, or its app's right secret, mends a signature.
	{code: 104, Class: ClassAuth, Meaning: "the signature of the token or its proof is wrong", Source: prod},
	{code: 105, Class: ClassMessage, Meaning: "a parameter has too many elements", Source: prod},

	// Whatever the subcode: Meta's own sample has one that stands in no list.
	{code: 190, Class: ClassAuth, Meaning: "the page access token is invalid", Source: ecr},
	{code: 190, subcode: 458, Class: ClassAuth, Meaning: "the app is no longer installed", Source: ge},
	{code: 190, subcode: 459, Class: ClassAuth, Meaning: "the token's user has to log in to Facebook first", Source: ge},
	{code: 190, subcode: 460, Class: ClassAuth, Meaning: "the token's user changed the password or logged out", Source: ger},
	{code: 190, subcode: 463, Class: ClassAuth, Meaning: "the token has expired", Source: ger},
	{code: 190, subcode: 464, Class: ClassAuth, Meaning: "the token's user is unconfirmed", Source: mem},
	{code: 190, subcode: 467, Class: ClassAuth, Meaning: "the token is invalid", Source: mem},
	{code: 190, subcode: 492, Class: ClassAuth, Meaning: "the token's session is invalid", Source: mem},

	{code: 200, Class: ClassPage, others: ClassMessage, Meaning: "permission missing, or access blocked", Source: ecpm},
	{code: 200, subcode: 33, Class: ClassMessage, Meaning: "a permission for this kind of message is missing", Source: prod}, // pages_utility_messaging, on a utility template
	{code: 200, subcode: 1545041, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	// Messages to persons go.
	{code: 200, subcode: 2018021, Class: ClassMessage, Meaning: "messages to phone numbers need a fee", Source: ec},
	{code: 200, subcode: 2018027, Class: ClassMessage, Meaning: "messages to phone numbers need a permission", Source: ec},
	{code: 200, subcode: 2018028, Class: ClassPage, Meaning: "the app is not live, or pages_messaging was not reviewed", Source: ec},
	{code: 200, subcode: 2534041, Class: ClassPage, Meaning: "the owner of the Instagram account disabled message access", Source: ec},
	{code: 201, lastCode: 299, Class: ClassPage, others: ClassMessage, Meaning: "a permission is missing or was removed", Source: ge},
	{code: 230, Class: ClassPage, others: ClassMessage, Meaning: "pages_messaging is missing, or permissions do not allow the message", Source: "Page messages reference, and real answers"},

	{code: 341, Class: ClassThrottleApp, Meaning: "the app has reached a limit", Source: ge},
	{code: 368, Class: ClassPage, Meaning: "blocked for a time over policy", Source: gepm},                                    // Meta does not say for how long; long
	{code: 368, subcode: 1346003, Class: ClassMessage, Meaning: "people reported content like this as abusive", Source: prod}, // often for the domain of a link
	{code: 506, Class: ClassMessage, Meaning: "the same post twice in a row", Source: ge},
	{code: 546, Class: ClassMessage, Meaning: "this type of file is not allowed", Source: prod},

	// Blocked, deactivated or muted. Others who retry it find that it stays.
	{code: 551, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	{code: 551, subcode: 1545041, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	{code: 551, subcode: 1893047, Class: ClassRecipient, Meaning: "this person isn't available", Source: prod}, // sent with is_transient false

	{code: 613, Class: ClassThrottle, Meaning: "too many calls in a short time", Source: grlx + ", and real answers"}, // its HTTP status is not known
	{code: 613, subcode: 1996, Class: ClassThrottleApp, Meaning: "the app's call volume is inconsistent", Source: grl},
	// Not the page's pace but this person: to go on brings the page a restriction.
	{code: 613, subcode: 2018338, Class: ClassRecipient, Meaning: "too many tagged messages to this person", Source: ec},
	{code: 613, subcode: 1893016, Class: ClassRecipient, Meaning: "too many opt-in requests on one topic to this person", Source: ec},
	{code: 613, subcode: 2534040, Class: ClassThrottle, Meaning: "too many calls in a short time", Source: ec}, // Instagram's form

	{code: 1200, Class: ClassTransient, Meaning: "temporary failure to send", Source: ecx},
	{code: 1200, subcode: 2018024, Class: ClassTransient, Meaning: "temporary failure to send", Source: ecx},
	{code: 2022, Class: ClassPage, Meaning: "sending is disabled for a time after a policy violation", Source: ecpm}, // Meta does not say for how long; long
	// No token came (a proxy drops the header), or the path is unknown (a wrong version or
	// URL). No token mends either.
	{code: 2500, Class: ClassPage, Meaning: "Facebook got no token, or does not know the path: a proxy drops the Authorization header, or the Graph API version or URL is wrong", Source: prod},
	{code: 10303, Class: ClassMessage, aboutOne: true, Meaning: "the account linking token is invalid", Source: ec},
	{code: 10900, Class: ClassMessage, aboutOne: true, Meaning: "this comment or post already has its private reply", Source: pm},
	{code: 10903, Class: ClassRecipient, Meaning: "this person cannot be answered on this comment or post", Source: pm},
	{code: 10904, Class: ClassPage, Meaning: "messages are disabled for the page", Source: pm},
	{code: 36000, Class: ClassMessage, Meaning: "the image is too large", Source: prod}, // from another sender's test, with HTTP 200

	// Business use case limits, one code for each kind of business. 80006 is
	// Messenger's, 80001 the page's; the others are not of sending, and still
	// mean: stop.
	{code: 80000, Class: ClassThrottle, Meaning: "too many calls: ads insights", Source: grl},
	{code: 80001, Class: ClassThrottle, Meaning: "too many calls: the page", Source: grl},
	{code: 80002, Class: ClassThrottle, Meaning: "too many calls: Instagram", Source: grl},
	{code: 80003, Class: ClassThrottle, Meaning: "too many calls: custom audience", Source: grl},
	{code: 80004, Class: ClassThrottle, Meaning: "too many calls: ads management", Source: grl},
	{code: 80004, subcode: 2446079, Class: ClassThrottle, Meaning: "too many calls: ads management", Source: grl},
	{code: 80005, Class: ClassThrottle, Meaning: "too many calls: lead generation", Source: grl},
	{code: 80006, Class: ClassThrottle, Meaning: "too many calls: Messenger", Source: grl},
	{code: 80008, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},
	{code: 80009, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},
	{code: 80014, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},

	{code: 1609005, Class: ClassMessage, Meaning: "the link could not be read", Source: ge},
	// What is a subcode of 10 in production stands as a code in Meta's table.
	{code: 2018300, Class: ClassThread, Meaning: "another app controls this conversation", Source: ec},
	{code: 2018321, Class: ClassThread, Meaning: "Messenger's automated answers hold this conversation", Source: ec},
	{code: 9000001, Class: ClassMessage, aboutOne: true, Meaning: "the message was deleted", Source: ec},

	// Listed by Meta, and not of sending text: payments, extensions, games, calls.
	{code: 24001, lastCode: 24005, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
	{code: 2018144, lastCode: 2018396, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
	{code: 2071010, lastCode: 2071025, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
}

// rowKey is what rows of single codes are found by.
type rowKey struct {
	code, subcode int
	typ           string
}

// rowIndex finds the rows of single codes; rowRanges are the others.
var rowIndex, rowRanges = indexRows()

func indexRows() (map[rowKey]Row, []Row) {
	index := make(map[rowKey]Row, len(rows))
	var ranges []Row
	for _, r := range rows {
		if r.lastCode != 0 {
			ranges = append(ranges, r)
			continue
		}
		index[rowKey{r.code, r.subcode, r.typ}] = r
	}
	return index, ranges
}

// Explain returns what is known of an error, from the first row that there is of
//
//  1. the code with this subcode;
//  2. the code alone;
//  3. a range of codes with the code.
//
// A row for the type of the error precedes one for any type. If no row has the subcode,
// Meaning says so, and Class may differ from the class of the code alone.
//
// Explain reports false for a code without a row, and for 0, which means "no code".
func Explain(code, subcode int, typ string) (Row, bool) {
	for _, key := range []rowKey{{code, subcode, typ}, {code, subcode, ""}, {code, 0, typ}, {code, 0, ""}} {
		if r, ok := rowIndex[key]; ok {
			return r.with(subcode), true
		}
	}
	for _, r := range rowRanges {
		if r.code <= code && code <= r.lastCode {
			return r.with(subcode), true
		}
	}
	return Row{}, false
}

// with returns the row as it applies to a subcode: unchanged for the row's own.
func (r Row) with(subcode int) Row {
	if subcode == r.subcode {
		return r
	}
	unknown := "subcode " + strconv.Itoa(subcode) + " is not known"
	if r.others == "" {
		r.Meaning += "; " + unknown
		return r
	}
	r.Class, r.Meaning = r.others, unknown
	return r
}

package sendapi

import "strconv"

// Row is one entry of the table that turns Facebook's error codes into classes.
type Row struct {
	Code     int
	LastCode int    // not 0: the row covers the codes from Code to LastCode
	Subcode  int    // 0: any subcode that has no row of its own
	Type     string // not empty: only with this type of error
	Class    Class
	// Others is the class of a subcode without a row, where the subcodes of a code
	// mean unlike things and the code says nothing of an unknown one. Empty: the
	// code means the same with every subcode.
	Others Class
	// AboutOne is set where a row of ClassMessage is about what one person is, has
	// or did: see [Error.AboutOne].
	AboutOne bool
	Meaning  string // what happened, in words of this package
	Source   string // where that is known from
}

// methodException is the type of refusals that are about the call and not about
// its message: the path is unknown for this token or version, the object in the path
// (me) is not a page, appsecret_proof is missing or wrong (howdyai/botkit#1455,
// Yoctol/bottender#271, DiegoRBaquero/node-fb-messenger#15). Refusals of a message
// with code 100 come as OAuthException, and came as FacebookApiException in 2016.
const methodException = "GraphMethodException"

// Where the rows come from. Meta's pages were read in their newest state of
// November 2026. "In production" means that others run into it and say so
// in public code or issues; Meta's pages do not list it.
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

// rows is the only place where a code becomes a class.
//
// Where Facebook's explanation leaves two classes open, the row takes the one
// whose error costs least. One message wrongly dead can be replayed; one page
// wrongly stopped delays everybody; a retry costs a call. So a row speaks for
// stopping the page only where the code can mean nothing else, and for a retry
// where a retry can tell. Comments stand where that choice was made.
//
// The codes 10, 200, 230 and 368 without a subcode stand for the page, and were seen
// for one kind of message too (a tag or a template that needs an approval). The
// table cannot tell; package worker does, by whether other messages go.
//
// How often: one production bot counted, in 30 days of mid-2026, code 10 1783
// times, 551 497, 100 339, -1 119, 190 40 and 200 once. 613, 2022 and 80006 did
// not come at all, and no real answer with 80006 was found anywhere.
var rows = []Row{
	{Code: -1, Class: ClassTransient, Meaning: "unexpected internal error", Source: prod},

	{Code: 1, Class: ClassTransient, Meaning: "unknown error", Source: ger},
	// Often a missing permission. A retry tells; stopping the page on an error
	// called unknown would let one message stop everybody.
	{Code: 1, Subcode: 99, Class: ClassTransient, Meaning: "unknown error, often a missing permission", Source: ec},
	{Code: 1, Subcode: 1357046, Class: ClassDeliveredAnyway, Meaning: "sent, though Facebook could not read its own reply", Source: ec}, // documented for a batch of three
	// Also said to come when a person has blocked the business, which only shows in
	// that retries do not help.
	{Code: 2, Class: ClassTransient, Meaning: "service temporarily unavailable", Source: ger},
	{Code: 2, Subcode: 2018344, Class: ClassPage, Meaning: "a page admin has to accept the terms for inbox labels", Source: ec},
	// A capability missing for one kind of message looks the same as one missing
	// for all of them.
	{Code: 3, Class: ClassMessage, Meaning: "unknown method, or a capability that the app lacks", Source: ge},
	{Code: 4, Class: ClassThrottleApp, Meaning: "the app makes too many calls", Source: "Messenger error codes page, Graph rate limiting guide, and real answers"},
	{Code: 4, Subcode: 2018022, Class: ClassThrottle, Meaning: "too many messages to phone numbers", Source: ecx},
	{Code: 4, Subcode: 2018354, Class: ClassRecipient, Meaning: "too soon after the last marketing message to this person", Source: ec},
	{Code: 9, Subcode: 2018352, Class: ClassThrottle, Meaning: "too many opt-in requests", Source: ec},

	{Code: 10, Class: ClassPage, Others: ClassMessage, Meaning: "permission denied", Source: "Graph error handling guide, and in production"},
	{Code: 10, Subcode: 2018278, Class: ClassWindow, Meaning: "outside the allowed window", Source: ecr},
	{Code: 10, Subcode: 2018065, Class: ClassWindow, Meaning: "outside the allowed window, and no permission to send there", Source: ecr},
	{Code: 10, Subcode: 2534022, Class: ClassWindow, Meaning: "outside the allowed window", Source: ec},   // Instagram's form, listed for Messenger too
	{Code: 10, Subcode: 2534044, Class: ClassWindow, Meaning: "outside the allowed window", Source: prod}, // Instagram's form
	{Code: 10, Subcode: 2018108, Class: ClassRecipient, Meaning: "this person cannot receive messages right now", Source: ec},
	{Code: 10, Subcode: 2018028, Class: ClassPage, Meaning: "the app is not live, or pages_messaging was not reviewed", Source: prod}, // Meta lists it under code 200
	{Code: 10, Subcode: 2018300, Class: ClassThread, Meaning: "another app controls this conversation", Source: prod},
	{Code: 10, Subcode: 1893063, Class: ClassPage, Meaning: "the page is restricted from sending for a time", Source: ec}, // new on 2026-06-25; another sender probes after 30 minutes
	// Other messages of the page go.
	{Code: 10, Subcode: 1404170, Class: ClassMessage, Meaning: "the page is restricted from marketing opt-in requests", Source: ec},
	{Code: 10, Subcode: 1893015, Class: ClassRecipient, Meaning: "this person stopped notifications on this topic", Source: ec},
	// Meta's page speaks of the effect on the person's conversation, real answers of privacy rules.
	{Code: 10, Subcode: 2018336, Class: ClassMessage, AboutOne: true, Meaning: "privacy rules of Europe or Japan do not allow this message for this person", Source: ecr},
	{Code: 10, Subcode: 2534077, Class: ClassMessage, Meaning: "not allowed: Instagram link", Source: ec},

	{Code: 17, Class: ClassThrottle, Meaning: "the user makes too many calls", Source: grl},
	{Code: 32, Class: ClassThrottle, Meaning: "too many calls for the page", Source: "Graph rate limiting guide, and in production"}, // said of calls with a user token

	// Code 100 covers everything from a missing field to an unknown person. Without
	// a subcode only the text tells which, and text decides nothing; both are dead.
	{Code: 100, Class: ClassMessage, Others: ClassMessage, Meaning: "a parameter is missing or wrong, or the recipient is unknown", Source: ecr},
	{Code: 100, Type: methodException, Class: ClassPage, Meaning: "the call is refused: appsecret_proof is wrong or missing, the token is not a page's, or the Graph API version or URL is wrong", Source: prod},
	// The object is the one in the path, and so the page, where the type says so. Else
	// nobody knows which one is meant, and no person is to blame for it.
	{Code: 100, Subcode: 33, Class: ClassMessage, Meaning: "no such object, or no permission for it", Source: ec},
	{Code: 100, Subcode: 33, Type: methodException, Class: ClassPage, Meaning: "the call is refused: the token is not a page's, or the Graph API version or URL is wrong", Source: ecr},
	{Code: 100, Subcode: 2018001, Class: ClassRecipient, Meaning: "no such person for this page", Source: ec},
	// One retry may help against a slow file server. Facebook has then waited for it already.
	{Code: 100, Subcode: 2018008, Class: ClassMessage, Meaning: "Facebook could not fetch the URL", Source: ec},
	{Code: 100, Subcode: 2018014, Class: ClassMessage, Meaning: "message and sender_action together", Source: ec},
	{Code: 100, Subcode: 2018032, Class: ClassMessage, Meaning: "data is empty or invalid", Source: prod},
	{Code: 100, Subcode: 2018034, Class: ClassMessage, Meaning: "data is empty or invalid", Source: prod},
	{Code: 100, Subcode: 2018047, Class: ClassMessage, Meaning: "the attachment could not be uploaded: its type does not match", Source: ecr},
	{Code: 100, Subcode: 2018048, Class: ClassMessage, Meaning: "the sender action did not work", Source: prod}, // harmless: a decoration is missing
	{Code: 100, Subcode: 2018074, Class: ClassMessage, Meaning: "the attachment id is invalid, expired or another page's: upload again", Source: ecr},
	{Code: 100, Subcode: 2018109, Class: ClassMessage, Meaning: "the attachment is too large", Source: ec},
	{Code: 100, Subcode: 2018164, Class: ClassPage, Meaning: "wrong app id", Source: ec},
	// One retry may help. Facebook has then waited 75 seconds for the file already.
	{Code: 100, Subcode: 2018294, Class: ClassMessage, Meaning: "the video took too long to upload, or is damaged", Source: ec},
	{Code: 100, Subcode: 2018276, Class: ClassMessage, Meaning: "the tag needs an approval that the app does not have", Source: prod},
	{Code: 100, Subcode: 2018320, Class: ClassMessage, Meaning: "the product template is wrong", Source: ec},
	{Code: 100, Subcode: 2018328, Class: ClassMessage, Meaning: "the product template is wrong", Source: ec},
	{Code: 100, Subcode: 1893061, Class: ClassMessage, Meaning: "the message tag is retired", Source: prod}, // the three tags retired on 2026-04-27
	{Code: 100, Subcode: 1893029, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{Code: 100, Subcode: 1893043, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{Code: 100, Subcode: 2018416, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{Code: 100, Subcode: 2388051, Class: ClassMessage, Meaning: "the utility template or its parameters are wrong", Source: prod},
	{Code: 100, Subcode: 1689001, Class: ClassMessage, Meaning: "the utility template is wrong, or the permission for it is missing", Source: prod},
	{Code: 100, Subcode: 2534001, Class: ClassRecipient, Meaning: "this person archived or deleted the conversation", Source: prod},
	// Instagram's forms of the same faults.
	{Code: 100, Subcode: 2534013, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{Code: 100, Subcode: 2534014, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{Code: 100, Subcode: 2534015, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{Code: 100, Subcode: 2534025, Class: ClassMessage, Meaning: "a parameter is wrong", Source: ec},
	{Code: 100, Subcode: 2534029, Class: ClassPage, Meaning: "the business is blocked from sending", Source: ec},
	{Code: 100, Subcode: 2534037, Class: ClassThread, Meaning: "another app owns this conversation", Source: ec},

	// The app was deleted or blocked, or Facebook cannot look it up. A token of another
	// app would mend it as well, but the app coming back mends it too.
	{Code: 101, Class: ClassPage, Meaning: "Facebook cannot validate the app that the token is of", Source: prod},
	{Code: 102, Class: ClassAuth, Meaning: "the session is invalid: a new token is needed", Source: ge},
	// Only another token, or its app's right secret, mends a signature.
	{Code: 104, Class: ClassAuth, Meaning: "the signature of the token or its proof is wrong", Source: prod},
	{Code: 105, Class: ClassMessage, Meaning: "a parameter has too many elements", Source: prod},

	// Whatever the subcode: Meta's own sample has one that stands in no list.
	{Code: 190, Class: ClassAuth, Meaning: "the page access token is invalid", Source: ecr},
	{Code: 190, Subcode: 458, Class: ClassAuth, Meaning: "the app is no longer installed", Source: ge},
	{Code: 190, Subcode: 459, Class: ClassAuth, Meaning: "the token's user has to log in to Facebook first", Source: ge},
	{Code: 190, Subcode: 460, Class: ClassAuth, Meaning: "the token's user changed the password or logged out", Source: ger},
	{Code: 190, Subcode: 463, Class: ClassAuth, Meaning: "the token has expired", Source: ger},
	{Code: 190, Subcode: 464, Class: ClassAuth, Meaning: "the token's user is unconfirmed", Source: mem},
	{Code: 190, Subcode: 467, Class: ClassAuth, Meaning: "the token is invalid", Source: mem},
	{Code: 190, Subcode: 492, Class: ClassAuth, Meaning: "the token's session is invalid", Source: mem},

	{Code: 200, Class: ClassPage, Others: ClassMessage, Meaning: "permission missing, or access blocked", Source: ecpm},
	{Code: 200, Subcode: 33, Class: ClassMessage, Meaning: "a permission for this kind of message is missing", Source: prod}, // pages_utility_messaging, on a utility template
	{Code: 200, Subcode: 1545041, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	// Messages to persons go.
	{Code: 200, Subcode: 2018021, Class: ClassMessage, Meaning: "messages to phone numbers need a fee", Source: ec},
	{Code: 200, Subcode: 2018027, Class: ClassMessage, Meaning: "messages to phone numbers need a permission", Source: ec},
	{Code: 200, Subcode: 2018028, Class: ClassPage, Meaning: "the app is not live, or pages_messaging was not reviewed", Source: ec},
	{Code: 200, Subcode: 2534041, Class: ClassPage, Meaning: "the owner of the Instagram account disabled message access", Source: ec},
	{Code: 201, LastCode: 299, Class: ClassPage, Others: ClassMessage, Meaning: "a permission is missing or was removed", Source: ge},
	{Code: 230, Class: ClassPage, Others: ClassMessage, Meaning: "pages_messaging is missing, or permissions do not allow the message", Source: "Page messages reference, and real answers"},

	{Code: 341, Class: ClassThrottleApp, Meaning: "the app has reached a limit", Source: ge},
	{Code: 368, Class: ClassPage, Meaning: "blocked for a time over policy", Source: gepm},                                    // for how long is not said; long
	{Code: 368, Subcode: 1346003, Class: ClassMessage, Meaning: "people reported content like this as abusive", Source: prod}, // often for the domain of a link
	{Code: 506, Class: ClassMessage, Meaning: "the same post twice in a row", Source: ge},
	{Code: 546, Class: ClassMessage, Meaning: "this type of file is not allowed", Source: prod},

	// Blocked, deactivated or muted. Others who retry it find that it stays.
	{Code: 551, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	{Code: 551, Subcode: 1545041, Class: ClassRecipient, Meaning: "this person isn't available", Source: ecr},
	{Code: 551, Subcode: 1893047, Class: ClassRecipient, Meaning: "this person isn't available", Source: prod}, // sent with is_transient false

	{Code: 613, Class: ClassThrottle, Meaning: "too many calls in a short time", Source: grlx + ", and real answers"}, // its HTTP status is not known
	{Code: 613, Subcode: 1996, Class: ClassThrottleApp, Meaning: "the app's call volume is inconsistent", Source: grl},
	// Not the page's pace but this person: to go on brings the page a restriction.
	{Code: 613, Subcode: 2018338, Class: ClassRecipient, Meaning: "too many tagged messages to this person", Source: ec},
	{Code: 613, Subcode: 1893016, Class: ClassRecipient, Meaning: "too many opt-in requests on one topic to this person", Source: ec},
	{Code: 613, Subcode: 2534040, Class: ClassThrottle, Meaning: "too many calls in a short time", Source: ec}, // Instagram's form

	{Code: 1200, Class: ClassTransient, Meaning: "temporary failure to send", Source: ecx},
	{Code: 1200, Subcode: 2018024, Class: ClassTransient, Meaning: "temporary failure to send", Source: ecx},
	{Code: 2022, Class: ClassPage, Meaning: "sending is disabled for a time after a policy violation", Source: ecpm}, // for how long is not said; long
	// No token came (a proxy drops the header), or the path is unknown (a wrong version or
	// URL). No token mends either.
	{Code: 2500, Class: ClassPage, Meaning: "Facebook got no token, or does not know the path: a proxy drops the Authorization header, or the Graph API version or URL is wrong", Source: prod},
	{Code: 10303, Class: ClassMessage, AboutOne: true, Meaning: "the account linking token is invalid", Source: ec},
	{Code: 10900, Class: ClassMessage, AboutOne: true, Meaning: "this comment or post already has its private reply", Source: pm},
	{Code: 10903, Class: ClassRecipient, Meaning: "this person cannot be answered on this comment or post", Source: pm},
	{Code: 10904, Class: ClassPage, Meaning: "messages are disabled for the page", Source: pm},
	{Code: 36000, Class: ClassMessage, Meaning: "the image is too large", Source: prod}, // from another sender's test, with HTTP 200

	// Business use case limits, one code for each kind of business. 80006 is
	// Messenger's, 80001 the page's; the others are not of sending, and still
	// mean: stop.
	{Code: 80000, Class: ClassThrottle, Meaning: "too many calls: ads insights", Source: grl},
	{Code: 80001, Class: ClassThrottle, Meaning: "too many calls: the page", Source: grl},
	{Code: 80002, Class: ClassThrottle, Meaning: "too many calls: Instagram", Source: grl},
	{Code: 80003, Class: ClassThrottle, Meaning: "too many calls: custom audience", Source: grl},
	{Code: 80004, Class: ClassThrottle, Meaning: "too many calls: ads management", Source: grl},
	{Code: 80004, Subcode: 2446079, Class: ClassThrottle, Meaning: "too many calls: ads management", Source: grl},
	{Code: 80005, Class: ClassThrottle, Meaning: "too many calls: lead generation", Source: grl},
	{Code: 80006, Class: ClassThrottle, Meaning: "too many calls: Messenger", Source: grl},
	{Code: 80008, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},
	{Code: 80009, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},
	{Code: 80014, Class: ClassThrottle, Meaning: "too many calls: another business use case", Source: grl},

	{Code: 1609005, Class: ClassMessage, Meaning: "the link could not be read", Source: ge},
	// What is a subcode of 10 in production stands as a code in Meta's table.
	{Code: 2018300, Class: ClassThread, Meaning: "another app controls this conversation", Source: ec},
	{Code: 2018321, Class: ClassThread, Meaning: "Messenger's automated answers hold this conversation", Source: ec},
	{Code: 9000001, Class: ClassMessage, AboutOne: true, Meaning: "the message was deleted", Source: ec},

	// Listed by Meta, and not of sending text: payments, extensions, games, calls.
	{Code: 24001, LastCode: 24005, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
	{Code: 2018144, LastCode: 2018396, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
	{Code: 2071010, LastCode: 2071025, Class: ClassMessage, Meaning: "not an error of sending messages", Source: ec},
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
		if r.LastCode != 0 {
			ranges = append(ranges, r)
			continue
		}
		index[rowKey{r.Code, r.Subcode, r.Type}] = r
	}
	return index, ranges
}

// Explain returns what is known of an error: the row for the code with this
// subcode, else the code's own row, else the row of the range that the code falls
// in. Of two rows for one code and subcode the one for the type of the error goes
// first. Where the subcode has no row, Meaning says so, and Class is the row's
// Others where it has one.
//
// It reports false for a code that the table does not hold, 0 among them, which
// stands for "no code".
func Explain(code, subcode int, typ string) (Row, bool) {
	for _, key := range []rowKey{{code, subcode, typ}, {code, subcode, ""}, {code, 0, typ}, {code, 0, ""}} {
		if r, ok := rowIndex[key]; ok {
			return r.with(subcode), true
		}
	}
	for _, r := range rowRanges {
		if r.Code <= code && code <= r.LastCode {
			return r.with(subcode), true
		}
	}
	return Row{}, false
}

// with returns the row as it stands for a subcode: itself for its own.
func (r Row) with(subcode int) Row {
	if subcode == r.Subcode {
		return r
	}
	unknown := "subcode " + strconv.Itoa(subcode) + " is not known"
	if r.Others == "" {
		r.Meaning += "; " + unknown
		return r
	}
	r.Class, r.Meaning = r.Others, unknown
	return r
}

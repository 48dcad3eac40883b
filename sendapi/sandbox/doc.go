// Package sandbox simulates Facebook's Messenger Send API: real HTTP on a loopback port, real connection resets, limits over a
// true sliding second, and a record of every call that tells which message reached whom. It is a library for tests first; the
// command "brazier sandbox" only wraps it. Nothing that is sent to a sandbox reaches a person: every response has the header
// X-Sandbox, message ids contain "sandbox", and a sandbox refuses real page tokens and addresses that other machines can reach.
//
// The package was written from Meta's documentation and from responses that people pasted, not from package sendapi, with which
// it shares no code: two readings of the same facts that test each other. Where the facts leave a choice, responses vary, so
// that nobody relies on what Facebook does not promise: the order of JSON fields, the form of ids, the text and language of
// messages, the presence of is_transient, error_data and error_user_title, the code of a throttled call. The type of an error
// does not vary, since it can tell whose fault a refusal is.
//
// Some recipients have special behaviour, which Help lists. Script adds faults for calls chosen by page, recipient or text: any
// answer, such as one of a proxy, or none. RefuseConnections makes the sandbox refuse connections. Summary, Find, Delivered and
// Duplicates report what happened.
//
// A sandbox also simulates the other direction: Write makes a person write to a page, follow a link or press a button, and the
// sandbox reports that to Config.Webhook in signed requests, which it repeats until they are answered 200. Pages are subscribed to
// fields of the webhook; subscribed_apps of the Graph API reads and changes that. What varies there: the order of JSON fields,
// how events share entries, the source of a link, the mid of a postback, whether a payload holds a reference plain or as JSON,
// and what receipts lack.
//
// A sandbox refuses what Facebook is known to refuse, and accepts what Facebook is known to accept; a test of package
// queue/ingress compares sandbox and ingress for all known bodies.
//
// Facts, by source:
//   - Send API reference: paths, parameters, answers, the 2000 characters, one recipient, tags and their retirement.
//   - Page/messages reference, the template pages and the guides of buttons and quick replies: types, required members, limits.
//   - Bug reports, named beside each rule: keys of a message that are not known, retired templates and tags, cards with nothing
//     but a title, tags without MESSAGE_TAG, long titles that are cut.
//   - Messenger error codes page: codes and subcodes, also that 1/1357046 means sent.
//   - Messenger rate limits page: 300 and 10 calls a second, the mark of 40 messages a second.
//   - Graph rate limiting guide: 4, 32, 613, 80006, the usage headers, minutes, and that calls while blocked count.
//   - Webhooks pages: signatures and escapes, verification, 200 within 5 s, an hour of failures, the events and their fields.
//   - Page subscribed_apps reference: methods and fields.
//   - Pasted responses: HTTP 400 for most refusals, 400 and 500 for code 2, 403 for code 4, HTML with 502, code -1, percents
//     above 100, type "pages", messages in the reader's language.
//
// Guesses, where the facts are silent:
//   - The high-volume block answers 613, comes after HighVolumeFor above the mark, and ends at the first call at which the last
//     second holds no more messages than the mark. Refused messages count.
//   - A page above its rate is blocked for Block after its last call; any of 613, 80006 and 32 says so. Real blocks take minutes.
//   - Blocks below one minute show as 0 minutes to regain access, longer ones are rounded up. Usage headers begin at 50 %.
//   - Characters of a text are counted as Unicode code points. A missing messaging_type is accepted. Values of an enumeration are
//     taken in upper and lower case.
//   - A refused request has code 100, or 105 where a list is too long, and a subcode only where one was seen. Of several faults the
//     first in the order of the fields is reported.
//   - Codes and statuses of a call to a page without token (104), with an unknown one (190, HTTP 400 or 401), with an unreadable or
//     compressed body (100), to a page that is not the token's (100/33), of a batch (3).
//   - HTTP statuses of 200/1545041 (403), of 2018321, 613/2018338, 1/1357046 and -1 (400).
//   - Versions that have ended are served as the oldest version that has not. A page's old tokens die when it gets a new one (190/460).
//   - An appsecret_time more than five minutes ahead is refused like one too old. Order of checks: token, page, limits, request,
//     recipient.
//   - The first three repetitions of a webhook come at once, further ones after a pause that doubles. An event that fails alone
//     is dropped after the time after which a page loses its subscription. POST to subscribed_apps replaces the fields.
//
// Not simulated: batch requests, uploads, Facebook's alert after 15 minutes of failed webhooks, subscriptions of the app as such,
// HTTPS as a condition for a webhook, threads held by another app, the 24-hour window as such, limits per thread or per day, HTTP/2.
package sandbox

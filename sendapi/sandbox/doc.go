// Package sandbox simulates Facebook's Messenger Send API: real HTTP on a loopback port, real connection resets, limits over a
// true sliding second, and a record of every call to ask what reached whom. It is a library for tests first; the command
// "brazier sandbox" only wraps it. Nothing that is sent to it reaches a person, every response of its own says so (X-Sandbox), message
// ids contain "sandbox", and it refuses real page tokens and addresses that other machines can reach.
//
// It was built from Meta's documentation and from responses that people pasted, not from package sendapi, with which it shares
// no code: two readings of the same facts that test each other. Where those facts leave a choice it varies, so that nobody
// relies on what Facebook does not promise: the order of JSON fields, the form of ids, the wording and language of messages,
// the presence of is_transient, error_data and error_user_title, the code of a throttled call. The type of an error is Facebook's,
// since it can tell whose fault a refusal is.
//
// Persons lists the recipients that behave in a way of their own. Script adds faults for all else, chosen by page, recipient or text:
// any answer, such as a proxy's in Facebook's place, or none. RefuseConnections makes it a host where nobody listens. Summary, Find,
// Delivered and Duplicates ask what happened.
//
// It refuses what Facebook is known to refuse, and takes what Facebook is known to take; a test of package queue/ingress compares
// the two for all bodies that are known.
//
// Facts, by source:
//   - Send API reference: paths, parameters, answers, the 2000 characters, one recipient, tags and their retirement.
//   - Page/messages reference, the template pages and the guides of buttons and quick replies: types, required members, limits.
//   - Bug reports, named where the rule stands: keys of a message that are not known, retired templates and tags, cards with nothing
//     but a title, tags without MESSAGE_TAG, long titles that are cut.
//   - Messenger error codes page: codes and subcodes, also that 1/1357046 means sent.
//   - Messenger rate limits page: 300 and 10 calls a second, the mark of 40 messages a second.
//   - Graph rate limiting guide: 4, 32, 613, 80006, the usage headers, minutes, and that calling on while blocked counts.
//   - Pasted responses: HTTP 400 for most refusals, 400 and 500 for code 2, 403 for code 4, HTML with 502, code -1, percents
//     above 100, type "pages", messages in the reader's language.
//
// Guesses, where the facts are silent:
//   - The high-volume block answers 613, comes after HighVolumeFor above the mark, and ends at the first call at which the last
//     second holds no more messages than the mark. Refused messages count.
//   - A page above its rate is blocked for Block after its last call; any of 613, 80006 and 32 says so. Real blocks take minutes.
//   - Blocks below one minute show as 0 minutes to regain access, longer ones are rounded up. Usage headers begin at 50 %.
//   - Characters of a text are counted as Unicode code points. A missing messaging_type is accepted. Words of an enumeration may be
//     written in letters of either case.
//   - A refused request has code 100, or 105 where a list is too long, and a subcode only where one was seen. Of several faults the
//     first by the order of the fields is told.
//   - Codes and statuses of a call to a page without token (104), with an unknown one (190, HTTP 400 or 401), with an unreadable or
//     compressed body (100), to a page that is not the token's (100/33), of a batch (3).
//   - HTTP statuses of 200/1545041 (403), of 2018321, 613/2018338, 1/1357046 and -1 (400).
//   - Versions that have ended are served as the oldest one left. A page's old tokens die when it gets a new one (190/460).
//   - An appsecret_time more than five minutes ahead is refused like one too old. Order of checks: token, page, limits, request,
//     recipient.
//
// Not simulated: batch requests, uploads, webhooks, the 24-hour window as such, limits per thread or per day, HTTP/2.
package sandbox

// Package webhook reads what Facebook posts to an app's webhook for Messenger: it checks the signature, turns each body
// into events, and checks the references by which a link to Messenger names a user of Braze.
//
// # Why it exists
//
// A webhook is the only source of a PSID, and everything in it is easy to read wrongly: ids that are no float64, times in
// four forms, events in three lists, an echo whose sender is the page, a deletion under the mid of the deleted message. This
// package is the only code that reads the wire format. Everything behind it works with [Event].
//
//	X-Hub-Signature-256, body ──▶ Verify ──▶ Parse ──▶ Batch ──▶ Events, to be stored
//	                                                      └────▶ Skipped, to be counted
//	Event.Refs ──▶ RefPolicy.Check ──▶ Ref: the user of Braze for whom the link was made
//
// # References
//
// A reference is the value of ref in a link m.me/PAGE?ref=…. Liquid makes it in Braze for one user, and Facebook returns
// it with the contact of whoever follows the link:
//
//	b1-<braze_id>-<unix seconds>-<64 lower-case hexadecimal digits>
//	e1-<external_id in base64url>-<unix seconds>-<…>
//	x1-<external_id>-<unix seconds>-<…>
//
// The digits are the HMAC-SHA256, with the page's secret for references, of everything before the last dash. The characters
// are those that Facebook documents for ref: letters, digits, - _ = (messaging_referrals page). Dashes in an id do no harm,
// as references are read from the right.
//
//	{% assign id = {{${braze_id}}} %}{% assign ts = 'now' | date: '%s' %}{% assign m = 'b1-' | append: id | append: '-' | append: ts
//	%}https://m.me/PAGE?ref={{m}}-{{m | hmac_sha256_hex: 'SECRET'}}
//
// A reference proves for whom a link was made. It does not prove who followed it: mails are forwarded.
//
// # Invariants
//
//   - No text of a person is in an [Event], in a [Skipped] or in an error. An event holds ids, times, names that Facebook
//     defines, and strings in the form of a reference. The one sentence in it is [Event.Reason], which Facebook writes
//     about a page.
//   - Event.PSID is never the id of the page, never a user_ref, never the id of a feed's commenter, and never an id of
//     another page: the page of an entry has to be the other party of each event in it.
//   - A member of an unexpected type affects its event at most. The other events of the body come out as if that event
//     were absent.
//   - Each event of the body is either in [Batch.Events] or in [Batch.Skipped].
//   - The same body parsed again gives the same keys.
//   - A reference without a signature of the page's own secrets never yields a [Ref]; nor does an empty id.
//
// # What it does not know
//
// The package does no I/O and has no clock: the current time is an argument. It does not know which pages there are, so
// the caller drops the events of pages that are not its own. It does not remember events: the caller drops duplicates by
// [Event.Key] (those within one body are dropped here). It does not know who has used a reference before.
//
// # Sources
//
// Comments name pages of developers.facebook.com/documentation/business-messaging/messenger-platform as of November 2026
// (webhooks, webhook-events/…, send-messages, discovery/m-me-links), the Graph API page "Webhooks: getting started", and
// the public repositories whose recorded bodies show what those pages leave out.
//
// # What is not known
//
// Which secret signs in the minutes after an app secret is reset: [Verify] takes several. What the dashboard's test button
// posts today: ids 0, 12334 and 23245 were seen. Whether an opt-in, an edit, a deletion, account linking or feedback opens
// the 24-hour window: [Event.Opens] is false for them. The shapes of the newest fields (message_context,
// messaging_integrity, messaging_optouts, call_* and others): they are skipped under their names.
package webhook

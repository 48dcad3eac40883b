// Package sandbox simulates the part of Braze's REST API that writes to user profiles: POST /users/track, over real HTTP, with limits,
// profiles and events to look at afterwards, scripted faults, and a count of calls that held the same user at once. It is a library
// for tests first: a [Sandbox] is an http.Handler, and knows of listeners nothing but that a connection can be cut. Every response of
// its own says that it is none of Braze's (X-Sandbox).
//
// It was built from Braze's documentation and from answers that other clients have on file, not from package braze, with which it
// shares no code: two readings of the same facts that test each other. It is stricter than Braze where the client has a choice, and
// varies where the facts leave one, so that nobody relies on what Braze does not promise.
//
// # Facts
//
//   - /users/track page: arrays, identifiers, the limit of 75 objects and 4 MB, update-only by _update_existing_only, null removes,
//     attributes before events before purchases, an alias makes a profile only with false and through attributes, an external id that
//     is unknown makes one unless the flag is true.
//   - API limits page: the three x-ratelimit headers, windows that end on the clock hour, a burst of 3,000 calls in 3 s.
//   - Event object: name and time required, names and strings of at most 255 characters, property names without a leading $, time and
//     event_name reserved, a time in the future becomes now.
//   - Answers on file: 201 with counters, errors by array and index, 400 where every object was bad, 401 for a key, the texts of both.
//
// # Guesses
//
//   - Bodies of 404 and 429, and what a body that is too large, too long or not JSON is told. They vary.
//   - The headers show whichever of the two limits has less left. A call that is refused counts.
//   - A value of another type than the attribute's first one is converted where it can be, or passed over: pages disagree, so it varies.
//   - An unknown braze_id makes no profile. Objects with more than one identifier, unknown arrays and another Content-Type are refused.
//   - Events that are sent twice are stored twice, and counted.
//
// Not simulated: e-mail and phone as identifiers, operators such as inc and add, merging, other endpoints, blocked attributes.
package sandbox

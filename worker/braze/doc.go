// Package braze writes to user profiles through Braze's REST API: POST /users/track, in batches. It exists because Braze answers in
// ways that a status code does not tell: a call may be taken while single objects of it are refused, a call whose answer was lost may
// have been taken, and a refusal may be about the object, the batch, the key or the whole workspace.
//
//	objects ── Batcher ──▶ batch ── Client.Track ──▶ a Result per object, and a Verdict on the workspace
//
// # What an answer means
//
//	answer                                   objects                                   workspace
//	2xx, message success or queued           done; those named in errors are dead      goes on
//	2xx with another message, or none        in doubt                                  waits, growing
//	400, 422 that names objects              the named are dead, the others sent again goes on
//	400, 422 that names none                 halved; one that is refused alone is dead goes on; held, and none dead, if nothing was taken
//	413                                      likewise; alone above 100 KB it is dead   likewise
//	401, 403, 404, 3xx, another 4xx          again                                     held: a person is needed
//	429                                      again, not an attempt                     waits until the reset, at most a minute
//	408, 425, 5xx                            in doubt                                  waits, growing
//	no answer, the body may have left        in doubt                                  waits, growing
//	no answer, nothing left                  again, not an attempt                     waits, growing
//
// Attributes that are in doubt are written again, which changes nothing. Events that are in doubt are dead, or sent again where
// [Config.RepeatEvents] says so: Braze does not recognise an event that it has already. So are those whose process was killed before
// it settled them; [Sender] begins their updates before the call, by which that is known.
//
// # Order
//
// Braze answers before it writes, and may write two calls for one user in either order. So two calls that are in flight together must
// not hold the same user, which [Batcher] sees to. Even then Braze promises no order between one call and the next; no answer tells
// when a call was written. Within a call it writes all attributes before all events.
//
// # Sending
//
// [Client] and [Batcher] hold no queue, no goroutine and no timer. [Sender] does: it takes the updates of each workspace from their
// lane, one process at a time, and settles them by what became of their objects.
//
// The package does not know what an update says, nor about Facebook. Neither the key nor a user's id is in any error, reason, log line
// or text that it makes.
package braze

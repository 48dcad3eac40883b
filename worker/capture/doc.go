// Package capture makes of what a person does on a Facebook page, and of what became of messages to the person, what Braze is to know:
// whose PSID it is, until when the person may be sent ordinary messages, whether the person can be reached, and events.
//
//	webhook event ───────┐
//	(queue.Events)       ├─▶ Handler.Handle ─▶ entries of the person and the user ─▶ update ─▶ Handler.Resolve ─▶ attributes, events
//	end of a message ────┘     who is it?        (BRAZIER_PEOPLE, BRAZIER_SENT)       (queue.Updates)
//	(Ended, queue.Outcomes)
//
// A PSID is written to the user it belongs to, or to nobody. Only a reference that Braze signed for a user links the two, and
// state.go says which of several counts.
//
// An update names users and attributes, and no values. They are read when it is sent: what Braze is told is always what is known
// then, in whatever order updates are sent or repeated. An update is stored before the entries change, and says which revision they
// have to have left behind, so that neither a crash between the two nor a replica that lags loses a change. An event has its values
// with it, and one id whoever stores it.
//
// It knows the buckets' contents, references, and Braze's attributes and events by name. It knows nothing of HTTP, neither Facebook's
// nor Braze's.
package capture

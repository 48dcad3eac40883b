// Package worker takes jobs from the queue, paces them, hands each to a [Handler], and settles it by the handler's
// [Verdict]. It does not know what a job holds or how it is sent.
//
// The road of a job through a page:
//
//	source urgent ─┐
//	               ├─ dispatch ── expire → begin → slot → send → settle
//	source bulk   ─┘
//	source media  ─── dispatch ── expire → begin → slot → send → settle
//
// Every page has its own sources, slots and places in flight, so that one page's trouble stays its own: a page that is
// held stops fetching, and one whose calls hang fills only its own places. Text and media have their own places too, since
// a call with a video may take a minute.
//
// # Pace
//
// A page's rate is one limit over all workers. A dispatcher reserves slots, moments at which a call may begin, from
// [queue.Pace], which all workers share. It grants them to jobs whose begin is stored already, so that a disk that stalls
// delays calls and does not gather them, and it lets a slot pass that it missed: a call that comes late would share its second
// with the calls after it. Urgent jobs go first, and leave one slot in ten to bulk ones.
//
// # Holds
//
// What keeps a page from being sent for is shared as well, in [queue.PageState]. The worker that meets a throttle, a dead
// token or a restriction stops at once, then writes it down, which stops the others (see hold.go). When its time is over
// one worker tries one message at a time until Facebook takes one; then the page goes on, slowly at first.
//
// # Ends
//
// Two contexts run through it. The one given to [Worker.Run] ends the fetching. What is in flight then goes on under a
// second one, which is cut only when the drain budget is used up; what was fetched and not begun goes back to the queue
// at once, uncounted.
package worker

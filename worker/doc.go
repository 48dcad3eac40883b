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
// # What stops a page
//
//	sign                                             how many       leads to
//	throttle, a dead token, a page's own code        1              hold of the page
//	the app's throttle                               1              hold of all pages of the app
//	a code that is the page's or the message's       3 in a row     hold of the page
//	  again, where others were taken since           1              dead letter
//	deaths of one code; messages in doubt            10 in a row    hold of the page
//	no way to Facebook, or a silent 5xx              5 in a row     circuit: this process sends nothing
//
// How many is the handler's to say ([Verdict].HoldAfter), and in a row means with none taken between. Holds are shared, in
// [queue.PageState]: the worker that meets a sign stops at once, then writes it down, which stops the others. When its time is
// over a worker that has a message claims the hold and tries one at a time until Facebook takes one; then all go on, slowly
// at first. weigh.go has the rows, hold.go the state diagram, circuit.go what is each process's own.
//
// # Ends
//
// Two contexts run through it. The one given to [Worker.Run] ends the fetching. What is in flight then goes on under a
// second one, which is cut only when the drain budget is used up; what was fetched and not begun goes back to the queue
// at once, uncounted.
package worker

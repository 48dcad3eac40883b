// Package worker takes jobs from the queue, paces them, gives each to a [Handler], and settles it by the handler's
// [Verdict]. It does not know what a job holds or how it is sent.
//
// The steps of a job of a page:
//
//	source urgent ─┐
//	               ├─ dispatch ── expire → begin → slot → send → settle
//	source bulk   ─┘
//	source media  ─── dispatch ── expire → begin → slot → send → settle
//
// Every page has its own sources, slots and permits for calls in flight, so that what is wrong with one page stops no other: a page
// that is held stops fetching, and one whose calls hang takes only its own permits. Text and media have permits of their own,
// since a call with a video may take a minute. A lane is fetched from only while it is in use (lane.go).
//
// # Pace
//
// A page's rate is one limit over all workers. A dispatcher reserves slots, times at which a call may begin, from
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
// The handler decides how many ([Verdict].HoldAfter). "In a row" means with none taken between.
//
// Workers share holds, in [queue.PageState]. The worker that meets a sign stops at once, and then stores the hold, which stops
// the others. When the time of a hold is over, a worker that has a message claims the hold and tries one message at a time.
// When Facebook takes one, all workers go on, slowly at first. How many have to be refused until the page is held for longer:
//
//	the hold came of                     tries   not tried
//	one sign, or messages in doubt       1       for a while: messages that were refused before
//	a row of refusals                    10      the same, and 500 messages of campaigns that are refused
//
// weigh.go has the rows, round.go the tries, hold.go the lifecycle of a hold, gate.go when a page is fetched for, and circuit.go
// what concerns one process alone. tuning.go has the numbers.
//
// # Ends
//
// Two contexts run through it. The one given to [Worker.Run] ends the fetching. What is in flight then goes on under a
// second one, which is cut only when the drain budget is used up; what was fetched and not begun goes back to the queue
// at once, uncounted.
package worker

// Package worker takes jobs from the queue, paces them, hands each to a [Handler], and settles it by the handler's
// [Verdict]. It does not know what a job holds or how it is sent.
//
// The road of a job through a page:
//
//	source urgent ─┐
//	               ├─ dispatch ── pace ──┐
//	source bulk   ─┘                     ├─ handle ── settle
//	source media  ─── dispatch ── pace ──┘
//
// Every page has its own sources, pace and places in flight, so that one page's trouble stays its own: a page that is
// held stops fetching, and one whose calls hang fills only its own places.
//
// Two contexts run through it. The one given to [Worker.Run] ends the fetching. What is in flight then goes on under a
// second one, which is cut only when the drain budget is used up; what was fetched and not begun goes back to the queue
// at once, uncounted.
package worker

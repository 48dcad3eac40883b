package deliver

import (
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// How many messages of a page in a row have to be refused in one way until the page is held: our choice, Facebook documents
// nothing of the kind. What is about one person, or can only be the page's own, is not counted.
const (
	// fewInRow is for what is the page's or, less often, the message's, and for what a proxy or a firewall answers.
	fewInRow = 3
	// manyInRow is for what is mostly the message's, or of which nobody knows whether it was sent.
	manyInRow = 10
	// firstProbe is after how long a page that was held by such a row is tried first. It is short, and so are the next ones:
	// behind many messages that are at fault themselves others may wait, and each time ten of them are tried.
	firstProbe = 10 * time.Second
)

// mayBeMessage reports whether an error of class page was also seen where one kind of message was at fault: a permission that
// others of the page do not need, a text that Facebook blocks. With a subcode that says more it was not.
func mayBeMessage(e *sendapi.Error) bool {
	return e.Class == sendapi.ClassPage && e.Subcode == 0 &&
		(e.Code == 10 || e.Code >= 200 && e.Code <= 299 || e.Code == 230 || e.Code == 368)
}

// signs fills in what the worker weighs a verdict by.
func (h *Handler) signs(e *sendapi.Error, v *worker.Verdict) {
	v.Unreachable = e.Unreachable()
	v.HoldDelays = worker.Delays{First: min(firstProbe, h.probeEvery), Max: h.probeEvery}
	switch {
	case mayBeMessage(e):
		v.HoldAfter, v.Delays = fewInRow, v.HoldDelays
	case e.Silent && e.Status >= 400 && e.Status <= 499 && !v.Unreachable:
		v.HoldAfter = fewInRow
	case e.Class == sendapi.ClassMessage && !e.AboutOne(), e.Class == sendapi.ClassInDoubt:
		v.HoldAfter = manyInRow
	}
}

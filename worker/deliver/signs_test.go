package deliver

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// What a verdict is weighed by, and how many in a row it takes to hold a page.
func TestSigns(t *testing.T) {
	t.Parallel()
	h := &Handler{probeEvery: 30 * time.Minute}
	for _, c := range []struct {
		name    string
		err     sendapi.Error
		outcome worker.Outcome
		inRow   int
	}{
		{"permission denied", sendapi.Error{Class: sendapi.ClassPage, Code: 10, Status: 403}, worker.Hold, fewInRow},
		{"permission missing", sendapi.Error{Class: sendapi.ClassPage, Code: 200, Status: 403}, worker.Hold, fewInRow},
		{"another permission", sendapi.Error{Class: sendapi.ClassPage, Code: 230, Status: 403}, worker.Hold, fewInRow},
		{"blocked over policy", sendapi.Error{Class: sendapi.ClassPage, Code: 368, Status: 400}, worker.Hold, fewInRow},
		{"restricted", sendapi.Error{Class: sendapi.ClassPage, Code: 10, Subcode: 1893063, Status: 400}, worker.Hold, 0},
		{"sending disabled", sendapi.Error{Class: sendapi.ClassPage, Code: 2022, Status: 400}, worker.Hold, 0},
		{"no such endpoint", sendapi.Error{Class: sendapi.ClassPage, Code: 2500, Status: 400}, worker.Hold, 0},
		{"throttle", sendapi.Error{Class: sendapi.ClassThrottle, Code: 613, Status: 400}, worker.Hold, 0},
		{"dead token", sendapi.Error{Class: sendapi.ClassAuth, Code: 190, Status: 400}, worker.Hold, 0},
		{"wrong parameter", sendapi.Error{Class: sendapi.ClassMessage, Code: 100, Status: 400}, worker.Dead, manyInRow},
		{"unknown code", sendapi.Error{Class: sendapi.ClassMessage, Code: 4711, Status: 400}, worker.Dead, manyInRow},
		{"no such person", sendapi.Error{Class: sendapi.ClassRecipient, Code: 551, Status: 400}, worker.Dead, 0},
		{"outside the window", sendapi.Error{Class: sendapi.ClassWindow, Code: 10, Subcode: 2018278, Status: 400}, worker.Dead, 0},
		{"a firewall", sendapi.Error{Class: sendapi.ClassTransient, Silent: true, Status: 403}, worker.Retry, fewInRow},
		{"a wrong proxy", sendapi.Error{Class: sendapi.ClassTransient, Silent: true, Status: 404}, worker.Retry, fewInRow},
		{"a proxy that wants credentials", sendapi.Error{Class: sendapi.ClassTransient, Silent: true, Status: 407}, worker.Retry, 0},
		{"Facebook's own fault", sendapi.Error{Class: sendapi.ClassTransient, Code: 2, Status: 500}, worker.Retry, 0},
		{"the answer is lost", sendapi.Error{Class: sendapi.ClassInDoubt}, worker.Retry, manyInRow},
	} {
		v := h.verdict(&c.err, "")
		if v.Outcome != c.outcome || v.HoldAfter != c.inRow || v.Unreachable != c.err.Unreachable() {
			t.Errorf("%s: %s after %d, unreachable %v; want %s after %d", c.name, v.Outcome, v.HoldAfter, v.Unreachable, c.outcome, c.inRow)
		}
	}
}

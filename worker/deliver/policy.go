package deliver

import (
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

// policy is what is done about a class.
type policy struct {
	outcome     worker.Outcome
	delays      worker.Delays
	maxAttempts int
}

// policies are our choice, class by class; Facebook documents no schedule for any of them. Attempts and delays of the
// retried classes sum up to about an hour (transient, in_doubt) and a working day (thread) on average.
var policies = map[sendapi.Class]policy{
	sendapi.ClassTransient: {worker.Retry, worker.Delays{First: time.Second, Max: 30 * time.Minute}, 15},
	sendapi.ClassInDoubt:   {worker.Retry, worker.Delays{First: 2 * time.Second, Max: 10 * time.Minute}, 12},
	// The other app gives the conversation back when its talk is over, which takes as long as people talk.
	sendapi.ClassThread: {worker.Retry, worker.Delays{First: time.Minute, Max: 2 * time.Hour}, 12},

	// Each further call lengthens a throttle, so these stop the page. Usually Facebook says for how long.
	sendapi.ClassThrottle:    {outcome: worker.Hold, delays: worker.Delays{First: 5 * time.Second, Max: 15 * time.Minute}},
	sendapi.ClassThrottleApp: {outcome: worker.Hold, delays: worker.Delays{First: 5 * time.Second, Max: 15 * time.Minute}},
	// Until a probe is taken, every Config.ProbeEvery, and with another token at once.
	sendapi.ClassAuth: {outcome: worker.Hold},
	// Likewise. Where it may be the message's, three in a row have to be refused (see signs.go).
	sendapi.ClassPage: {outcome: worker.Hold},

	sendapi.ClassRecipient: {outcome: worker.Dead},
	sendapi.ClassWindow:    {outcome: worker.Dead},
	sendapi.ClassMessage:   {outcome: worker.Dead},
	sendapi.ClassExpired:   {outcome: worker.Dead},

	sendapi.ClassDeliveredAnyway: {outcome: worker.Delivered},
}

// verdict applies the policy of an error's class.
func (h *Handler) verdict(e *sendapi.Error, text string) worker.Verdict {
	p, ok := policies[e.Class]
	if !ok { // a class that this table forgot; a test keeps that from happening
		p = policies[sendapi.ClassTransient]
	}
	v := worker.Verdict{
		Outcome: p.outcome,
		Class:   e.Class, Code: e.Code, Subcode: e.Subcode, TraceID: e.TraceID, Text: text, Usage: e.Usage,
		Delays: p.delays, MaxAttempts: p.maxAttempts,
	}
	switch e.Class {
	case sendapi.ClassThrottle, sendapi.ClassThrottleApp:
		v.HoldFor = max(e.Usage.RegainAfter, e.Usage.RetryAfter)
	case sendapi.ClassPage, sendapi.ClassAuth: // auth: the same token; another one is tried at once
		v.Delays = worker.Delays{First: h.probeEvery, Max: h.probeEvery}
	}
	h.signs(e, &v)
	return v
}

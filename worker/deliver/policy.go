package deliver

import (
	"net/http"
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

// policies are our choice, class by class; Facebook documents no schedule for any of them.
var policies = map[sendapi.Class]policy{
	// Until it expires: nobody knows how long the fault lasts.
	sendapi.ClassTransient: {outcome: worker.Retry, delays: worker.Delays{First: time.Second, Max: 15 * time.Minute}},
	// As often as [Page.Repeats] says.
	sendapi.ClassInDoubt: {outcome: worker.Retry, delays: worker.Delays{First: 2 * time.Second, Max: 10 * time.Minute}},
	// Some hours, a working day on average. The other app gives the conversation back when its talk is over, which takes as
	// long as people talk.
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

// silentRefusal is for HTTP 401, 403, 404 and 405 without a Graph error: something between us and Facebook says no, a proxy or
// a firewall, and says so to every message. A few attempts, some minutes on average, cover a change of its rules.
var silentRefusal = policy{worker.Retry, worker.Delays{First: 30 * time.Second, Max: 15 * time.Minute}, 5}

// policyOf returns what is done about an error.
func policyOf(e *sendapi.Error) policy {
	if e.Class == sendapi.ClassTransient && e.Silent {
		switch e.Status {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
			return silentRefusal
		}
	}
	if p, ok := policies[e.Class]; ok {
		return p
	}
	return policies[sendapi.ClassTransient] // a class that the table forgot; a test keeps that from happening
}

// verdict applies the policy of an error's class.
func (h *Handler) verdict(e *sendapi.Error, text string) worker.Verdict {
	p := policyOf(e)
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

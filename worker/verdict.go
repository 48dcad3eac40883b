package worker

import (
	"context"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// Handler does the jobs of one page. It is safe for concurrent use.
type Handler interface {
	// Handle does one job. ctx ends when the worker is cut off at the end of its drain budget.
	Handle(ctx context.Context, job *queue.Delivery) Verdict
	// InDoubt returns the verdict on an attempt of which nobody knows whether it did the job: Handle panicked. Cause is for
	// people.
	InDoubt(job *queue.Delivery, cause string) Verdict
}

// Outcome is what is to become of a job.
type Outcome string

const (
	// Delivered ends the job well.
	Delivered Outcome = "delivered"
	// Dead ends it as a dead letter.
	Dead Outcome = "dead"
	// Retry requeues it, counts the attempt for its Class, and makes it a dead letter once MaxAttempts are used up.
	Retry Outcome = "retry"
	// Hold requeues it uncounted and stops its page for a while: the fault is not the job's.
	Hold Outcome = "hold"
	// Release requeues it uncounted and at once: it was not tried.
	Release Outcome = "release"
	// aside requeues it uncounted, for after Delays: the fault may not be the job's.
	aside Outcome = "aside"
)

// Verdict is a handler's answer about one job.
type Verdict struct {
	Outcome Outcome
	// Class, Code, Subcode, TraceID and Text say why, where Outcome is not Delivered. Text is for people and holds no
	// secret, no message text and no full PSID.
	Class         sendapi.Class
	Code, Subcode int
	TraceID, Text string
	// MessageID is Facebook's name of the delivered message, where there is one.
	MessageID string
	// Usage is what Facebook's headers report of the limits, whatever the outcome.
	Usage sendapi.Usage
	// Credentials names those that were refused, as [Page.Credentials] does (Hold of class auth). Empty: they could not be
	// read, so it is this process alone that cannot send.
	Credentials string
	// Took is how long the call to Facebook took, zero if there was none.
	Took time.Duration

	// HoldAfter is how many of a page's messages in a row have to meet a verdict of the same class, code and subcode, with none
	// taken between, until the page is held (Hold, Dead, Retry). A message before counts as not tried (Hold), or its verdict
	// stands. 0 and 1: a Hold comes at once, the others never hold a page. HoldDelays are then between probes (Dead, Retry).
	HoldAfter  int
	HoldDelays Delays
	// Unreachable says that Facebook was not reached, or a server before it or of it failed without an answer of its own. After some in a
	// row this process sends nothing until it is.
	Unreachable bool

	// Delays are between attempts (Retry) or between probes of the page (Hold). A hold without any lasts until the page has
	// other credentials, or a person resumes it.
	Delays Delays
	// MaxAttempts bounds Retry: so many attempts that end with one of this Class. Zero means no bound but the job's time of
	// expiry.
	MaxAttempts int
	// HoldFor is how long Facebook asks to wait (Hold). Zero: it does not say, and Delays decide. They also do when it asks again.
	HoldFor time.Duration

	holds bool // a Retry or Dead that holds the page too
}

// End is how a job ends.
type End struct {
	Delivered bool
	MessageID string       // Facebook's name of a delivered message, where there is one
	Begun     time.Time    // when the call began by which it was delivered, by the server's clock
	Reason    queue.Reason // of the dead letter, where it was not delivered
}

// Delays grow exponentially from First to Max, with full jitter: the n-th is anywhere between nothing and
// First·2^(n-1), so that what failed together does not come back together.
type Delays struct {
	First, Max time.Duration
}

// Next returns the delay after the n-th failure in a row, n counting from 1.
func (d Delays) Next(n int) time.Duration {
	// A randomization factor of 1 spreads an interval over [0, 2·interval].
	return nth(n, d.First/2, d.Max/2, 1)
}

// Steady returns the n-th delay without jitter. Holds use it: a page's workers shall come back together and late
// rather than one of them early.
func (d Delays) Steady(n int) time.Duration { return nth(n, d.First, d.Max, 0) }

func nth(n int, first, longest time.Duration, jitter float64) time.Duration {
	b := queue.Backoff(first, longest)
	b.Multiplier, b.RandomizationFactor = 2, jitter
	for range min(n, 64) - 1 { // 2^64 is beyond every Max
		b.NextBackOff()
	}
	return b.NextBackOff()
}

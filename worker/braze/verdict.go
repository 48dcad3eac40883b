package braze

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Outcome is what became of an object.
type Outcome string

const (
	// Done ends it well: Braze has queued it. A user whom Braze does not know is passed over silently, and looks the same.
	Done Outcome = "done"
	// Dead ends it: sent again it would be refused again, or might count twice.
	Dead Outcome = "dead"
	// Again leaves it to be sent again.
	Again Outcome = "again"
)

// Cause says why an object is dead, or to be sent again.
type Cause string

const (
	Invalid  Cause = "invalid"   // it breaks Braze's rules by [Object.Validate], and was not sent
	Refused  Cause = "refused"   // Braze refused it, by name or because it was refused alone
	TooLarge Cause = "too_large" // it was refused for its size, alone
	InDoubt  Cause = "in_doubt"  // Braze may have it: a call was sent and what it led to is not known
	NotTaken Cause = "not_taken" // it was not sent, or the answer was about the workspace: this was no attempt
)

// Result is what became of one object of [Client.Track].
type Result struct {
	Outcome Outcome
	Cause   Cause  // empty if Done
	Reason  string // for people; empty if Done
}

// Meaning is what an answer says about the workspace.
type Meaning string

const (
	Taken    Meaning = "taken"     // calls are taken, whatever became of single objects
	Rejected Meaning = "rejected"  // nothing of the last calls was taken, down to single objects, and no object was named
	Limited  Meaning = "limited"   // 429: too many calls, by this or any other program of the company
	Denied   Meaning = "denied"    // the key, the permission or the URL is wrong: a person has to act
	Failed   Meaning = "failed"    // 408, 425, 5xx, or a 2xx that is not Braze's
	NoAnswer Meaning = "no_answer" // the call was sent and there was no answer
	Unsent   Meaning = "unsent"    // Braze could not be reached, or the context ended before anything was sent
)

// Unreachable reports that Braze was not reached, or a server before it or of it failed. After some in a row it is fair to say that
// Braze is away.
func (m Meaning) Unreachable() bool { return m == Failed || m == Unsent }

// Verdict is what the last call of a [Client.Track] says about the workspace, and what the log should know of all its calls.
type Verdict struct {
	Meaning Meaning
	// Status is the HTTP status of the last answer, 0 without one.
	Status int
	// Text says why the meaning is not Taken, with the remedy if there is one. It is for people.
	Text string
	// Wait says how long no call is worth making. It is zero if the meaning is Taken, or the context has ended.
	Wait Wait
	// Key tells the key that was used from others, by [Fingerprint]; empty if it could not be read. A denied workspace is worth a
	// call at once when its key has another one.
	Key string
	// Unattributed are errors in answers that took the call, and that name none of its objects: the objects are done, as far as anybody
	// knows. Worth a warning.
	Unattributed []string
	// Calls is how many calls were made, Took how long they lasted together.
	Calls int
	Took  time.Duration
}

// Wait is a pause: For if Braze answered for how long, else delays that double from First to Max while the meaning stays the same.
type Wait struct {
	For        time.Duration
	First, Max time.Duration
}

const (
	// shortestWait keeps a clock that is off by a second from making it two calls in vain.
	shortestWait = time.Second
	// longestWait is our choice. Limits end on the clock hour, which may be far, but burst and hourly limit share their headers and
	// somebody else's calls may be what used them up: one call in a minute costs little.
	longestWait = time.Minute
)

var (
	limitedWait = Wait{First: 5 * time.Second, Max: longestWait}
	failedWait  = Wait{First: time.Second, Max: longestWait}
	deniedWait  = Wait{First: longestWait, Max: longestWait}
)

// judge returns what a reply means for the workspace, and whether it says instead that the call is refused as it stands, which is for
// the objects to answer.
func judge(ctx context.Context, r *reply, a *answer, now time.Time) (v Verdict, refused bool) {
	v = Verdict{Status: r.status, Wait: failedWait}
	var badKey *keyError
	switch status := r.status; {
	case errors.As(r.err, &badKey):
		v.Meaning, v.Text, v.Wait = Denied, "the API key cannot be used: "+badKey.reason, deniedWait
	case status == 0 && !r.sent:
		v.Meaning, v.Text = Unsent, "Braze cannot be reached: "+cause(r.err)
	case status == 0:
		v.Meaning, v.Text = NoAnswer, "the call was sent and not answered: "+cause(r.err)
	case status >= 200 && status < 300 && a.taken:
		v.Meaning, v.Wait = Taken, Wait{}
	case status >= 200 && status < 300:
		v.Meaning, v.Text = Failed, fmt.Sprintf("HTTP %d, but the body is not Braze's: is URL a Braze REST endpoint?", status)
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, status == http.StatusRequestEntityTooLarge:
		return v, true
	case status == http.StatusTooManyRequests:
		v.Meaning, v.Text, v.Wait = Limited, "too many calls: HTTP 429", limitedWait
		v.Wait.For = toReset(r.header, now)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= 500:
		v.Meaning, v.Text = Failed, statusText(status, a)
		v.Wait.For = retryAfter(r.header, now)
	default:
		v.Meaning, v.Text, v.Wait = Denied, statusText(status, a)+remedy(status), deniedWait
	}
	if status := r.status; status == 0 && ctx.Err() != nil {
		v.Wait = Wait{} // the caller has had enough, whatever Braze does
	}
	return v, false
}

// statusText is a status with the message of Braze, if there is one.
func statusText(status int, a *answer) string {
	s := fmt.Sprintf("HTTP %d", status)
	if a.message != "" {
		s += ": " + a.message
	}
	return s
}

// remedy says what a person can do about a refusal of the workspace.
func remedy(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return ": check that the key is valid and has the permission users.track"
	case status == http.StatusForbidden:
		return ": check that the plan allows the call, and that the key's list of IP addresses has this machine"
	case status == http.StatusNotFound:
		return ": the key is unknown at URL; check that URL is the REST endpoint of the key's instance"
	case status >= 300 && status < 400:
		return ": a redirect, not followed since the key would go along; check that URL is the REST endpoint of the key's instance"
	}
	return ": unexpected of Braze; check URL, and what stands between it and this machine"
}

// toReset returns how long a limit still lasts, at least a second and at most a minute; zero if the headers do not say.
func toReset(header http.Header, now time.Time) time.Duration {
	reset, err := strconv.ParseFloat(header.Get("X-Ratelimit-Reset"), 64)
	if err != nil || !(reset > 0 && reset < 1e11) { // beyond it would be milliseconds
		return retryAfter(header, now)
	}
	return within(time.Unix(int64(reset), 0).Sub(serverTime(header, now)))
}

// retryAfter returns the Retry-After, which Braze does not document, within the same bounds.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return within(time.Duration(min(seconds, 3600)) * time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return within(at.Sub(serverTime(header, now)))
	}
	return 0
}

func within(wait time.Duration) time.Duration { return min(max(wait, shortestWait), longestWait) }

// serverTime is the time of the answer by the clock that also made its other times, else by ours.
func serverTime(header http.Header, now time.Time) time.Time {
	if at, err := http.ParseTime(header.Get("Date")); err == nil {
		return at
	}
	return now
}

// doubt is what becomes of an object that Braze may have.
func (c *Client) doubt(o Object, text string) Result {
	if o.Event != nil && !c.cfg.RepeatEvents {
		return Result{Dead, InDoubt, "Braze may have the event, and would count it twice: " + text}
	}
	return Result{Again, InDoubt, text}
}

// refusal returns the text of an answer that refuses a call as it stands.
func refusal(r *reply, a *answer) string {
	if r.status == http.StatusRequestEntityTooLarge {
		return "HTTP 413: too large"
	}
	return fmt.Sprintf("HTTP %d: %s", r.status, cmp.Or(a.message, reasons(a.unattributed), "without a reason"))
}

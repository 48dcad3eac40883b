package admin

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// TracedMessage is what is known of a message under one of its ids, as trace prints it. Its JSON names are those of the log and of dead
// letters.
type TracedMessage struct {
	ID         string           `json:"id"`
	State      queue.TraceState `json:"state"`
	At         time.Time        `json:"at"` // when that became so
	Page       string           `json:"page"`
	PageName   string           `json:"page_name"`
	Lane       queue.Lane       `json:"lane"`
	Class      string           `json:"class"` // why it waits or died
	Code       int              `json:"code"`  // of its death
	Subcode    int              `json:"subcode"`
	FBTraceID  string           `json:"fbtrace_id"`
	Reason     string           `json:"reason"`
	Attempts   int              `json:"attempts"`
	Lost       int              `json:"lost"` // attempts that ended without a result
	Tries      []Try            `json:"tries"`
	LeftOut    int              `json:"tries_left_out"`
	NotBefore  *time.Time       `json:"not_before"` // null: it may be tried now
	Worker     string           `json:"worker"`
	Hold       *TracedHold      `json:"hold"`
	Died       *time.Time       `json:"died"`
	Seq        uint64           `json:"seq"` // of its dead letter
	ReplayedAs string           `json:"replayed_as"`
	// What follows is empty where neither the message nor its dead letter is stored any more.
	Accepted   *time.Time `json:"accepted"`
	Expire     *time.Time `json:"expire"`
	Recipient  string     `json:"recipient"` // shortened
	Campaign   string     `json:"campaign"`
	Canvas     string     `json:"canvas"`
	Dispatch   string     `json:"dispatch"`
	Message    string     `json:"message"` // Braze's id of it
	User       string     `json:"user"`
	ExternalID string     `json:"external_id"`
	Key        string     `json:"idempotency_key"`
}

// Try is a call to Facebook that did not deliver the message.
type Try struct {
	At        time.Time `json:"at"`
	Class     string    `json:"class"`
	Code      int       `json:"code"`
	Subcode   int       `json:"subcode"`
	FBTraceID string    `json:"fbtrace_id"`
	TookMS    int64     `json:"took_ms"`
}

// TracedHold is why nothing is sent for a page.
type TracedHold struct {
	Of      string     `json:"of"` // page, or app: all pages of its app are held
	Class   string     `json:"class"`
	Code    int        `json:"code"`
	Subcode int        `json:"subcode"`
	Reason  string     `json:"reason"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until"` // null: until it has another token, or a person resumes it
}

func newTracedMessage(f *queue.Traced, names pageNames, now time.Time) TracedMessage {
	v := TracedMessage{ID: f.ID, State: f.State, At: f.At.UTC(), Page: f.Page, PageName: names.of(f.Page), Lane: f.Lane, Class: f.Reason, Reason: f.Doubt,
		Attempts: f.Attempts, Lost: f.Lost, Tries: newTries(f.Tries), LeftOut: f.Tries.LeftOut, Worker: f.Worker,
		ReplayedAs: f.Next, Accepted: orNull(f.Accepted), Expire: orNull(f.Expire), Recipient: f.Recipient, Campaign: f.Tracking.Campaign,
		Canvas: f.Tracking.Canvas, Dispatch: f.Tracking.Dispatch, Message: f.Tracking.Message, User: f.Tracking.User, ExternalID: f.Tracking.ExternalID, Key: f.Key}
	if f.NotBefore.After(now) {
		v.NotBefore = orNull(f.NotBefore)
	}
	switch {
	case f.Dead != nil:
		v.Code, v.Subcode, v.FBTraceID, v.Reason, v.Seq, v.Died = f.Dead.Code, f.Dead.Subcode, f.Dead.TraceID, f.Dead.Text, f.Dead.Seq, orNull(f.Dead.Died)
	case f.State == queue.TraceReplayed:
		v.Code, v.Subcode, v.Seq, v.Died = f.Death.Code, f.Death.Subcode, f.Death.Seq, orNull(f.Death.Died)
	}
	return v
}

func newTries(tries queue.Tries) []Try {
	views := []Try{}
	for _, t := range tries.Kept {
		views = append(views, Try{t.At.UTC(), t.Class, t.Code, t.Subcode, t.TraceID, t.Took.Milliseconds()})
	}
	return views
}

func newTracedHold(of string, s queue.PageState) *TracedHold {
	if !s.Held {
		return nil
	}
	return &TracedHold{of, s.Class, s.Code, s.Subcode, s.Reason, s.Since.UTC(), orNull(s.Until)}
}

// orNull is a time as JSON has it: in UTC, and null where there is none.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// says is the state in words.
func (v *TracedMessage) says() string {
	at, why := seconds3339(v.At), v.why()
	switch v.State {
	case queue.TraceWaiting:
		switch {
		case v.NotBefore != nil:
			return fmt.Sprintf("waits, not to be tried before %s: %s", seconds3339(*v.NotBefore), why)
		case v.Class == queue.Released:
			return "waits: a worker took it and gave it back unsent at " + at
		case v.Class != "":
			return "waits to be tried again: " + why
		case v.Attempts > 0:
			return "waits to be tried again, " + v.counted()
		}
		return "waits, and no worker has tried it yet"
	case queue.TraceBegun:
		return fmt.Sprintf("worker %s is sending it, as it said at %s", cmp.Or(v.Worker, "unknown"), at)
	case queue.TraceInDoubt:
		return "in doubt: " + v.Reason + ". The next worker that gets it decides, as the page's in_doubt says"
	case queue.TraceMissing:
		return fmt.Sprintf("its record of %s says that it waits or is being sent, and it is not in the queue: a person removed it there. Run this again to be sure", at)
	case queue.TraceDelivered:
		return fmt.Sprintf("delivered %s, %s. The log has Facebook's message id (mid): search it for the id %s", at, v.counted(), v.ID)
	case queue.TraceDiscarded:
		return "discarded unsent by a person at " + at
	case queue.TraceReplayed:
		return fmt.Sprintf("replayed %s as %s; it had died %s of %s", at, v.ReplayedAs, seconds3339(*v.Died), why)
	}
	if v.Seq == 0 {
		return fmt.Sprintf("dead since %s: %s. Its dead letter is gone: it was discarded or is too old", at, v.Class)
	}
	return fmt.Sprintf("dead since %s: %s", at, why)
}

// why is the class with codes and attempts.
func (v *TracedMessage) why() string {
	why := cmp.Or(v.Class, "no reason was noted")
	if v.Code != 0 {
		why += " " + codes(v.Code, v.Subcode)
	}
	return why + ", " + v.counted()
}

// counted is how many attempts count. Those that a page's hold or an outage of Facebook ended do not.
func (v *TracedMessage) counted() string {
	switch v.Attempts {
	case 0:
		return "no attempt counted"
	case 1:
		return "after 1 attempt"
	}
	return fmt.Sprintf("after %d attempts", v.Attempts)
}

func (h *TracedHold) says(page string) string {
	whose := "page " + page + " is held"
	if h.Of == "app" {
		whose = "all pages of the app of " + page + " are held"
	}
	until := "until it has another token or a person resumes it"
	if h.Until != nil {
		until = "until " + seconds3339(*h.Until)
	}
	why := h.Class
	if h.Code != 0 {
		why += " " + codes(h.Code, h.Subcode)
	}
	return fmt.Sprintf("%s since %s (%s) %s: %s", whose, seconds3339(h.Since), why, until, h.Reason)
}

// print writes what is known for people. w keeps its error.
func (v *TracedMessage) print(w io.Writer, now time.Time) {
	t, row := newRows(w)
	row("id", v.ID)
	row("state", v.says())
	if v.Hold != nil {
		row("hold", v.Hold.says(v.PageName))
	}
	row("page", pageTitle(v.PageName, v.Page))
	row("lane", string(v.Lane))
	if v.State == queue.TraceDead {
		row("reason", v.Reason)
		row("fbtrace id", v.FBTraceID)
	}
	if v.Lost > 0 {
		row("lost", fmt.Sprintf("%d attempt(s) ended without a result, with their worker", v.Lost))
	}
	row("recipient", v.Recipient)
	row("campaign", v.Campaign)
	row("canvas", v.Canvas)
	row("dispatch", v.Dispatch)
	row("message", v.Message)
	row("user", v.User)
	row("external id", v.ExternalID)
	row("idempotency key", v.Key)
	if v.Accepted != nil {
		row("accepted", seconds3339(*v.Accepted))
	}
	switch {
	case v.Expire == nil:
	case v.State == queue.TraceWaiting && v.Expire.Before(now):
		row("expires", seconds3339(*v.Expire)+", which is over: a worker makes it a dead letter")
	default:
		row("expires", seconds3339(*v.Expire))
	}
	_ = t.Flush() // w keeps its error
	printTries(w, v.Tries, v.LeftOut)
}

// printTries writes a table of the calls that did not deliver a message, if there are any. w keeps its error.
func printTries(w io.Writer, tries []Try, leftOut int) {
	if len(tries) == 0 {
		return
	}
	fmt.Fprintln(w, "attempts that did not deliver it:")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  AT\tCLASS\tCODE\tTOOK\tFBTRACE ID")
	for i, try := range tries {
		if i == queue.FirstTries && leftOut > 0 {
			fmt.Fprintf(t, "  … %d more\t\t\t\t\n", leftOut)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%v\t%s\n", seconds3339(try.At), printable(try.Class), codes(try.Code, try.Subcode),
			time.Duration(try.TookMS)*time.Millisecond, printable(cmp.Or(try.FBTraceID, "-")))
	}
	_ = t.Flush()
}

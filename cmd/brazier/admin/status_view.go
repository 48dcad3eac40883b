package admin

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

// Status is everything at a glance, as the command prints it. Fields may be added; those that are there stay.
type Status struct {
	OK    bool   `json:"ok"` // nothing needs a person
	Needs []Need `json:"needs"`

	// The numbers of all pages together.
	Pending  uint64 `json:"pending"`
	InFlight uint64 `json:"in_flight"`
	Retrying uint64 `json:"retrying"`
	Dead     uint64 `json:"dead"`

	Pages []StatusPage `json:"pages"`
	// Processes are those that are alive; null where that is not known.
	Processes []Process           `json:"processes"`
	Streams   []queue.StreamState `json:"streams"`
	// Webhooks is null where no page ever used the way from webhooks to Braze.
	Webhooks *WebhookBacklog `json:"webhooks"`
	// Drift is where NATS is not as the flags say, and where streams differ in their replicas.
	Drift []queue.Difference `json:"drift"`
}

// Need is something that a person has to do.
type Need struct {
	Kind     string `json:"kind"`           // see need… in status_judge.go
	Page     string `json:"page,omitempty"` // the name of the page that it is about
	Sentence string `json:"sentence"`
}

// StatusPage is a page with its numbers.
type StatusPage struct {
	Page
	InFlight  uint64   `json:"in_flight"`              // messages that a worker has, and that none had before
	Retrying  uint64   `json:"retrying"`               // messages that were tried before
	OldestAge *int64   `json:"oldest_age_s,omitempty"` // of the message that waits longest
	Rate      *float64 `json:"rate,omitempty"`         // calls a second of all workers now; missing where the page file has not the page
	RateWhy   string   `json:"rate_why,omitempty"`     // what keeps it below that of the page file: held, usage or slow_start
}

func (p *StatusPage) isHeld() bool { return p.State == stateHeld || p.State == stateProbing }

// Process is an ingress or a worker.
type Process struct {
	Role        string    `json:"role"`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Pages       int       `json:"pages"`
	Started     time.Time `json:"started"`
	Seen        time.Time `json:"seen"`
	ServerAhead float64   `json:"server_ahead_s"`    // by how many seconds the NATS server's clock is ahead of its
	Unready     string    `json:"unready,omitempty"` // why it cannot do its work, as its /readyz says
	Stopped     bool      `json:"stopped"`           // in good order, within the last 30 s
}

// WebhookBacklog is the way from Facebook's webhooks to Braze.
type WebhookBacklog struct {
	Events            uint64        `json:"events"`   // that are not captured
	Updates           uint64        `json:"updates"`  // that Braze does not have
	Outcomes          uint64        `json:"outcomes"` // of messages, and receipts, of which no update is made yet
	EventsOldestAge   *int64        `json:"events_oldest_age_s,omitempty"`
	UpdatesOldestAge  *int64        `json:"updates_oldest_age_s,omitempty"`
	OutcomesOldestAge *int64        `json:"outcomes_oldest_age_s,omitempty"`
	Lost              []LostWebhook `json:"subscriptions_lost"`
}

// LostWebhook is a page whose webhooks Facebook does not send, or not all that are needed.
type LostWebhook struct {
	Page    string   `json:"page"`
	Missing []string `json:"missing"` // fields
}

// status returns what was read, with what a person has to do.
func (s *sight) status() Status {
	v := Status{Pages: append([]StatusPage{}, s.pages...), Streams: append([]queue.StreamState{}, s.streams...), Drift: append([]queue.Difference{}, s.drift...)}
	for _, p := range s.pages {
		v.Pending, v.InFlight, v.Retrying, v.Dead = v.Pending+p.Pending, v.InFlight+p.InFlight, v.Retrying+p.Retrying, v.Dead+p.Dead
	}
	if s.aliveRead {
		v.Processes = []Process{}
		for _, p := range s.alive {
			v.Processes = append(v.Processes, Process{p.Role, p.Name, p.Version, p.Pages, p.Started, p.Seen, p.ServerAhead, p.Unready, p.Stopped})
		}
	}
	v.Webhooks = s.webhooks()
	v.Needs = s.judge()
	v.OK = len(v.Needs) == 0
	return v
}

func (s *sight) webhooks() *WebhookBacklog {
	w, used := WebhookBacklog{Lost: append([]LostWebhook{}, s.lost...)}, len(s.lost) > 0
	age := func(oldest time.Time) *int64 {
		if oldest.IsZero() || s.now.IsZero() {
			return nil
		}
		seconds := max(int64(s.now.Sub(oldest).Seconds()), 0)
		return &seconds
	}
	for _, stream := range s.streams {
		switch stream.Stream {
		case queue.StreamEvents:
			w.Events, w.EventsOldestAge, used = stream.Messages, age(stream.Oldest), true
		case queue.StreamOutcomes:
			w.Outcomes, w.OutcomesOldestAge, used = stream.Messages, age(stream.Oldest), true
		case queue.StreamUpdates:
			w.Updates, w.UpdatesOldestAge, used = stream.Messages, age(stream.Oldest), true
		}
	}
	if !used {
		return nil
	}
	return &w
}

func (v *Status) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	v.printPages(t)
	v.printProcesses(t)
	v.printStreams(t)
	if w := v.Webhooks; w != nil {
		fmt.Fprintf(t, "Webhooks: %d events%s and %d outcomes of messages%s wait to be captured, and %d updates%s wait for Braze.\n\n",
			w.Events, oldestOf(w.EventsOldestAge), w.Outcomes, oldestOf(w.OutcomesOldestAge), w.Updates, oldestOf(w.UpdatesOldestAge))
	}
	if v.OK {
		fmt.Fprintln(t, "Nothing needs a person.")
	} else {
		fmt.Fprintf(t, "%d thing(s) need a person:\n", len(v.Needs))
	}
	for _, n := range v.Needs {
		fmt.Fprintf(t, "- %s\n", n.Sentence)
	}
	return t.Flush()
}

func (v *Status) printPages(w io.Writer) {
	fmt.Fprintln(w, "PAGE\tSTATE\tPENDING\tIN FLIGHT\tRETRYING\tDEAD\tOLDEST\tRATE/S\tWHY\tHELD SINCE\tUNTIL\tREASON")
	for _, p := range v.Pages {
		oldest, rate, since, until, reason := "-", "-", "-", "-", "-"
		if p.OldestAge != nil {
			oldest = approximately(*p.OldestAge * 1000)
		}
		if p.Rate != nil {
			rate = fmt.Sprintf("%.4g", *p.Rate)
		}
		if p.isHeld() {
			since, until = seconds3339(*p.Since), "resumed"
			reason = p.Class
			if p.Code != 0 {
				reason += " " + codes(p.Code, p.Subcode)
			}
			if p.Reason != "" {
				reason += ": " + shorten(printable(p.Reason), 60)
			}
		}
		if p.Until != nil {
			until = seconds3339(*p.Until)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(p.Page.Page), p.State, p.Pending, p.InFlight, p.Retrying, p.Dead,
			oldest, rate, cmp.Or(p.RateWhy, "-"), since, until, reason)
	}
	fmt.Fprintln(w)
}

func (v *Status) printProcesses(w io.Writer) {
	switch {
	case v.Processes == nil:
		fmt.Fprintln(w, "It is not known which processes are alive.")
	case len(v.Processes) == 0:
		fmt.Fprintln(w, "No ingress and no worker is alive.")
	default:
		fmt.Fprintln(w, "ROLE\tMACHINE\tVERSION\tPAGES\tSTARTED\tSEEN\tREADY\tNATS AHEAD")
	}
	for _, p := range v.Processes {
		ready := "yes"
		switch {
		case p.Stopped:
			ready = "stopped"
		case p.Unready != "":
			ready = "no"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", printable(p.Role), printable(p.Name), printable(p.Version), p.Pages, seconds3339(p.Started),
			seconds3339(p.Seen), ready, ahead(p.ServerAhead))
	}
	fmt.Fprintln(w)
}

func (v *Status) printStreams(w io.Writer) {
	fmt.Fprintln(w, "STREAM\tMESSAGES\tSIZE\tLIMIT\tREPLICAS\tLEADER")
	for _, s := range v.Streams {
		replicas := fmt.Sprintf("%d of %d", s.Current, s.Replicas)
		if s.Replicas == 0 {
			replicas = "-"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.Stream, s.Messages, mebibytes(int64(s.Bytes)), limit(s.MaxBytes), replicas, cmp.Or(printable(s.Leader), "-"))
	}
	fmt.Fprintln(w)
}

// ahead writes seconds, without a sign where there are none.
func ahead(seconds float64) string {
	if math.Abs(seconds) < 0.05 {
		return "0.0 s"
	}
	return fmt.Sprintf("%+.1f s", seconds)
}

func oldestOf(age *int64) string {
	if age == nil {
		return ""
	}
	return fmt.Sprintf(" (the oldest for %s)", approximately(*age*1000))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func limit(n int64) string {
	if n <= 0 {
		return "-"
	}
	return mebibytes(n)
}

// enumerate writes a list as a sentence has it.
func enumerate(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

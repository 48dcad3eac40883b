package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// CampaignCommand shows what became of the messages of a campaign.
type CampaignCommand struct {
	ID       string         `arg:"" name:"id" help:"The campaign's or the canvas's API identifier, as the header X-Brazier-Campaign or X-Brazier-Canvas has it."`
	Dispatch string         `name:"dispatch" env:"-" placeholder:"ID" help:"Only this dispatch, as in the header X-Brazier-Dispatch. Default: all of them."`
	Since    *time.Duration `name:"since" env:"-" placeholder:"AGE" help:"Only messages that were accepted since then, such as 7d. Whole days in UTC count: 0s is today. Default: 30 days, as long as counts are kept."`
	JSON     bool           `name:"json" env:"-" help:"Print one JSON object."`
	Watch    bool           `name:"watch" env:"-" help:"Show it again every 2 s, until interrupted."`
	Pages    string         `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"Page file, to name pages. Without it pages are named by id."`
	accessFlags
}

func (CampaignCommand) Help() string {
	return "Braze counts a message as sent once Brazier has accepted it. This command shows what became of it then. Ingresses, workers and " +
		"\"brazier deadletters\" write what they count once a second: a process that is killed loses the counts of its last second, and none " +
		"of its messages. Messages whose request has no campaign and no canvas are not counted.\n\n" +
		"Exit code 1: nothing was counted under the id."
}

// Campaign is what became of the messages of a campaign, as the command prints it.
type Campaign struct {
	ID       string `json:"id"`
	Dispatch string `json:"dispatch,omitempty"`
	CampaignNumbers
	// Classes are the reasons of those that failed, the most frequent first.
	Classes []FailedClass  `json:"failed_by_class"`
	Pages   []CampaignPage `json:"pages"`
	// P50 and P99 are milliseconds from accepted to delivered, within 30 %; null where nothing was delivered.
	P50 *int64 `json:"p50_ms"`
	P99 *int64 `json:"p99_ms"`
	// Others says that some dispatches were counted together: numbers of one dispatch may be too small.
	Others bool `json:"other_dispatches"`
}

// CampaignNumbers are numbers of messages.
type CampaignNumbers struct {
	Accepted   int64 `json:"accepted"`
	Delivered  int64 `json:"delivered"`
	Failed     int64 `json:"failed"` // dead letters that were not replayed
	Waiting    int64 `json:"waiting"`
	Discarded  int64 `json:"discarded"`
	Duplicates int64 `json:"duplicates"`
	InDoubt    int64 `json:"in_doubt"`
	Replayed   int64 `json:"replayed"`
}

// FailedClass is a reason why messages failed.
type FailedClass struct {
	Class    string `json:"class"`
	Count    int64  `json:"count"`
	Sentence string `json:"sentence"`
}

// CampaignPage is the part of a campaign on one page.
type CampaignPage struct {
	Page   string `json:"page"`
	PageID string `json:"page_id"`
	CampaignNumbers
}

func (c CampaignCommand) Run(ctx context.Context, std cli.Stdio) error {
	if c.Since != nil && *c.Since < 0 {
		return cli.Usagef("--since: must not be negative (got %v)", *c.Since)
	}
	names, _ := readNames(c.Pages)
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if c.Watch {
		return c.watch(ctx, std, q, names)
	}
	v, err := c.look(ctx, q, names)
	if errors.Is(err, queue.ErrNoCampaign) { // its first message may have been accepted just now
		select {
		case <-time.After(watchEvery):
			v, err = c.look(ctx, q, names)
		case <-ctx.Done():
		}
	}
	if errors.Is(err, queue.ErrNoCampaign) {
		return errors.New(c.unknown())
	}
	if err != nil {
		return err
	}
	return c.print(std.Out, v)
}

// watch prints again and again. A campaign that is not known yet may begin.
func (c CampaignCommand) watch(ctx context.Context, std cli.Stdio, q *queue.Queue, names pageNames) error {
	return watch(ctx, std, c.JSON, func(ctx context.Context, out io.Writer) error {
		v, err := c.look(ctx, q, names)
		switch {
		case errors.Is(err, queue.ErrNoCampaign) && !c.JSON:
			fmt.Fprintln(out, c.unknown())
			return nil
		case errors.Is(err, queue.ErrNoCampaign):
			return nil
		case err != nil:
			return err
		}
		return c.print(out, v)
	})
}

func (c CampaignCommand) unknown() string {
	of := fmt.Sprintf("campaign or canvas %q", c.ID)
	if c.Dispatch != "" {
		of = fmt.Sprintf("dispatch %q of %s", c.Dispatch, of)
	}
	if c.Since != nil {
		return fmt.Sprintf("nothing was counted of %s since --since; counts are kept for 30 days", of)
	}
	return fmt.Sprintf("nothing was counted of %s in 30 days", of)
}

// look reads the counts. --since counts from the server's now.
func (c CampaignCommand) look(ctx context.Context, q *queue.Queue, names pageNames) (Campaign, error) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	filter := queue.CampaignFilter{Dispatch: c.Dispatch}
	if c.Since != nil {
		now, err := q.ServerTime(ctx)
		if err != nil {
			return Campaign{}, err
		}
		filter.Since = now.Add(-*c.Since)
	}
	counts, err := q.Campaign(ctx, c.ID, filter)
	if err != nil {
		return Campaign{}, err
	}
	return newCampaign(c.ID, c.Dispatch, &counts, names), nil
}

func newCampaign(id, dispatch string, counts *queue.CampaignCounts, names pageNames) Campaign {
	v := Campaign{ID: id, Dispatch: dispatch, CampaignNumbers: numbers(&counts.CampaignTally), Classes: []FailedClass{}, Pages: []CampaignPage{}, Others: counts.Others}
	for class := range counts.Dead {
		if n := counts.Failed(class); n > 0 {
			v.Classes = append(v.Classes, FailedClass{class, n, sendapi.Class(class).Sentence()})
		}
	}
	slices.SortFunc(v.Classes, func(a, b FailedClass) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class, b.Class))
	})
	for page, tally := range counts.Pages {
		v.Pages = append(v.Pages, CampaignPage{names.of(page), page, numbers(tally)})
	}
	slices.SortFunc(v.Pages, func(a, b CampaignPage) int { return cmp.Compare(a.Page, b.Page) })
	if counts.P99 > 0 {
		p50, p99 := counts.P50.Milliseconds(), counts.P99.Milliseconds()
		v.P50, v.P99 = &p50, &p99
	}
	return v
}

func numbers(t *queue.CampaignTally) CampaignNumbers {
	n := CampaignNumbers{Accepted: t.Accepted, Delivered: t.Delivered, Failed: t.AllFailed(), Waiting: t.Waiting(), Discarded: t.Discarded,
		Duplicates: t.Duplicates, InDoubt: t.InDoubt}
	for replayed := range maps.Values(t.Replayed) {
		n.Replayed += replayed
	}
	return n
}

func (c CampaignCommand) print(out io.Writer, v Campaign) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(v)
	}
	return v.print(out)
}

func (v *Campaign) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "campaign\t%s\n", printable(v.ID))
	if v.Dispatch != "" {
		fmt.Fprintf(t, "dispatch\t%s\n", printable(v.Dispatch))
	}
	fmt.Fprintf(t, "accepted\t%d\ndelivered\t%s\nfailed\t%s\nwaiting\t%s\n", v.Accepted, v.share(v.Delivered), v.share(v.Failed), v.share(v.Waiting))
	if v.Discarded > 0 {
		fmt.Fprintf(t, "discarded\t%s\n", v.share(v.Discarded))
	}
	fmt.Fprintf(t, "duplicates\t%d (requests that were answered as such, and sent nothing)\n", v.Duplicates)
	fmt.Fprintf(t, "in doubt\t%d (attempts whose answer was lost, and that were repeated)\n", v.InDoubt)
	if v.P50 != nil {
		fmt.Fprintf(t, "time\t%s from accepted to delivered for half of the messages, %s for 99 %% of them\n", approximately(*v.P50), approximately(*v.P99))
	}
	if len(v.Classes) > 0 {
		fmt.Fprintln(t, "\nFAILED\tCLASS\tREASON")
		for _, f := range v.Classes {
			fmt.Fprintf(t, "%d\t%s\t%s\n", f.Count, printable(f.Class), f.Sentence)
		}
	}
	if len(v.Pages) > 1 {
		fmt.Fprintln(t, "\nPAGE\tACCEPTED\tDELIVERED\tFAILED\tWAITING\tDUPLICATES\tIN DOUBT")
		for _, p := range v.Pages {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", printable(p.Page), p.Accepted, p.Delivered, p.Failed, p.Waiting, p.Duplicates, p.InDoubt)
		}
	}
	if v.Others && v.Dispatch != "" {
		fmt.Fprintln(t, "\nThe campaign has so many dispatches that some were counted together: these numbers may be too small.")
	}
	return t.Flush()
}

// share is a number with its part of the accepted messages.
func (v *Campaign) share(n int64) string {
	if v.Accepted == 0 || n == 0 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%d (%.1f %%)", n, 100*float64(n)/float64(v.Accepted))
}

// approximately writes a time that is known to within 30 % with as many digits.
func approximately(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	for _, unit := range []time.Duration{time.Hour, time.Minute, time.Second, 10 * time.Millisecond, time.Millisecond} {
		if d >= 10*unit || unit == time.Millisecond {
			return d.Round(unit).String()
		}
	}
	return d.String()
}

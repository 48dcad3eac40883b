package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// DeadLettersCommand lists, shows, replays and discards dead letters.
type DeadLettersCommand struct {
	List    listDeadLetters    `cmd:"" help:"List dead letters, oldest first."`
	Show    showDeadLetter     `cmd:"" help:"Show everything that is stored about one message."`
	Replay  replayDeadLetters  `cmd:"" help:"Requeue dead letters for delivery. Shows what it would requeue, and asks first."`
	Discard discardDeadLetters `cmd:"" help:"Delete dead letters for good. Shows what it would delete, and asks first."`
}

func (DeadLettersCommand) Help() string {
	return "A dead letter is a message that could not be delivered. It is stored with the reason until it is replayed, discarded or too old " +
		"(30 days by default). These commands work whether or not Brazier runs."
}

// deadLetterFlags say which dead letters are meant. They have no variables: what is replayed or removed is named on the
// command line.
type deadLetterFlags struct {
	Page     string   `name:"page" env:"-" group:"deadletters" help:"Only of this page: its id, or its name in the page file."`
	Class    string   `name:"class" env:"-" group:"deadletters" help:"Only of this error class: ${classes}."`
	Code     int      `name:"code" env:"-" group:"deadletters" help:"Only with this Facebook error code."`
	Campaign string   `name:"campaign" env:"-" group:"deadletters" help:"Only of this campaign, as in the header X-Brazier-Campaign."`
	Since    timeFlag `name:"since" env:"-" group:"deadletters" placeholder:"WHEN" help:"Only from this time on: 2026-11-22T08:00:00Z, or an age such as 90m, 2h or 3d."`
	Until    timeFlag `name:"until" env:"-" group:"deadletters" placeholder:"WHEN" help:"Only from before this time, written as for --since."`
	Pages    string   `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"Page file, to name pages. Without it pages are named by id."`
}

// timeFlag is a point in time, given as such or as a time before now.
type timeFlag struct {
	time.Time
	ago bool // by this machine's clock
}

func (m *timeFlag) UnmarshalText(text []byte) (err error) {
	s := string(text)
	m.ago = false
	if m.Time, err = time.Parse(time.RFC3339, s); err == nil {
		return nil
	}
	ago, err := cli.ParseDuration(s)
	if err != nil || ago < 0 {
		return fmt.Errorf("must be a time such as 2026-11-22T08:00:00Z, or an age such as 90m, 2h or 3d (got %q)", s)
	}
	m.Time, m.ago = time.Now().Add(-ago), true
	return nil
}

// filter translates the flags.
func (f deadLetterFlags) filter(ids []string) (queue.DeadLetterFilter, pageNames, error) {
	names, err := readNames(f.Pages)
	filter := queue.DeadLetterFilter{IDs: ids, Page: f.Page, Class: f.Class, Code: f.Code, Campaign: f.Campaign, Since: f.Since.Time, Until: f.Until.Time}
	if f.Page != "" {
		if filter.Page, err = names.id(f.Page, f.Pages, err); err != nil {
			return filter, names, cli.Usagef("--page: %w", err)
		}
	}
	if f.Class != "" && !slices.Contains(sendapi.Classes(), sendapi.Class(f.Class)) {
		return filter, names, cli.Usagef("--class: must be one of %s (got %q)", ClassNames(), f.Class)
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, names, cli.Usagef("--since: must be before --until")
	}
	return filter, names, nil
}

// byServer has times before now count from the server's now: by its clock messages have died.
func (f deadLetterFlags) byServer(ctx context.Context, q *queue.Queue, filter *queue.DeadLetterFilter) error {
	if !f.Since.ago && !f.Until.ago {
		return nil
	}
	now, err := q.ServerTime(ctx)
	if err != nil {
		return err
	}
	ahead := time.Until(now)
	if f.Since.ago {
		filter.Since = filter.Since.Add(ahead)
	}
	if f.Until.ago {
		filter.Until = filter.Until.Add(ahead)
	}
	return nil
}

// ClassNames returns the classes of errors that a message can die of, separated by commas.
func ClassNames() string {
	var names []string
	for _, c := range sendapi.Classes() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

type listDeadLetters struct {
	deadLetterFlags
	Limit int  `name:"limit" env:"-" default:"0" help:"Most dead letters to list. 0: all."`
	JSON  bool `name:"json" env:"-" help:"Print one JSON object per line."`
	accessFlags
}

func (listDeadLetters) Help() string {
	return "Message texts and full recipient ids are not listed: see \"deadletters show --body\"."
}

func (c listDeadLetters) Run(ctx context.Context, std cli.Stdio) error {
	filter, names, err := c.filter(nil)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return cli.Usagef("--limit: must not be negative (got %d)", c.Limit)
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if err := c.byServer(ctx, q, &filter); err != nil {
		return err
	}
	out := bufio.NewWriterSize(std.Out, 64<<10)
	var list deadLetterWriter = &deadLetterTable{out: out, names: names}
	if c.JSON {
		list = &jsonLines{json.NewEncoder(out), names}
	}
	n, more := 0, false
	for l, err := range q.DeadLetters(ctx, filter, false) {
		if err != nil {
			_ = out.Flush() // what was found before
			return err
		}
		if more = c.Limit > 0 && n == c.Limit; more {
			break
		}
		n++
		list.write(&l)
	}
	list.end(n, more)
	return out.Flush()
}

// deadLetterWriter lists dead letters. Its errors are those of the bufio.Writer beneath it, which keeps the first.
type deadLetterWriter interface {
	write(l *queue.DeadLetter)
	end(n int, more bool)
}

// jsonLines is one JSON object per dead letter.
type jsonLines struct {
	*json.Encoder
	names pageNames
}

func (w *jsonLines) write(l *queue.DeadLetter) { _ = w.Encode(newDeadLetter(l, w.names)) }
func (w *jsonLines) end(int, bool)             {}

// deadLetterTable is for people. Every tableRows rows are set for themselves, so that memory does not grow with their number.
type deadLetterTable struct {
	out   io.Writer
	names pageNames
	tab   *tabwriter.Writer
	rows  int
}

const tableRows = 500

func (w *deadLetterTable) write(l *queue.DeadLetter) {
	if w.tab == nil {
		w.tab = tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w.tab, "DIED\tPAGE\tCLASS\tCODE\tATTEMPTS\tID\tCAMPAIGN\tRECIPIENT\tREASON")
	}
	v := newDeadLetter(l, w.names)
	reason := strings.TrimPrefix(strings.TrimPrefix(v.Reason, "sendapi: "), v.Class+": ") // the columns have these
	fmt.Fprintf(w.tab, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", seconds3339(v.Died), printable(v.PageName), printable(v.Class), v.code(), v.Attempts,
		printable(v.ID), printable(v.Campaign), printable(v.Recipient), shorten(printable(reason), 60))
	if w.rows++; w.rows%tableRows == 0 {
		_ = w.tab.Flush()
	}
}

func (w *deadLetterTable) end(n int, more bool) {
	if w.tab != nil {
		_ = w.tab.Flush()
		fmt.Fprintln(w.out)
	}
	switch {
	case more:
		fmt.Fprintf(w.out, "These are the oldest %d. Raise --limit to see more.\n", n)
	case n == 1:
		fmt.Fprintln(w.out, "1 dead letter.")
	default:
		fmt.Fprintf(w.out, "%d dead letters.\n", n)
	}
}

// DeadLetter is a dead letter as the commands print it. Its JSON names are those of the log.
type DeadLetter struct {
	ID         string          `json:"id"`
	FirstID    string          `json:"first_id"`
	Seq        uint64          `json:"seq"`
	Died       time.Time       `json:"died"`
	Page       string          `json:"page"`
	PageName   string          `json:"page_name"`
	Lane       queue.Lane      `json:"lane"`
	Class      string          `json:"class"`
	Code       int             `json:"code"`
	Subcode    int             `json:"subcode"`
	FBTraceID  string          `json:"fbtrace_id"`
	Attempts   int             `json:"attempts"`
	Reason     string          `json:"reason"`
	Recipient  string          `json:"recipient"` // shortened
	Campaign   string          `json:"campaign"`
	Canvas     string          `json:"canvas"`
	Dispatch   string          `json:"dispatch"`
	Message    string          `json:"message"` // Braze's id of it
	User       string          `json:"user"`
	ExternalID string          `json:"external_id"`
	Key        string          `json:"idempotency_key"`
	Accepted   time.Time       `json:"accepted"`
	Expire     *time.Time      `json:"expire"`
	Bytes      int             `json:"bytes"`
	Deaths     []queue.Death   `json:"deaths"`
	Tries      []Try           `json:"tries"` // the first ones and the last ones
	LeftOut    int             `json:"tries_left_out"`
	Body       json.RawMessage `json:"body,omitempty"`
}

func newDeadLetter(l *queue.DeadLetter, names pageNames) DeadLetter {
	v := DeadLetter{ID: l.ID, FirstID: l.FirstID(), Seq: l.Seq, Died: l.Died.UTC(), Page: l.Page, PageName: names.of(l.Page), Lane: l.Lane,
		Class: l.Class, Code: l.Code, Subcode: l.Subcode, FBTraceID: l.TraceID, Attempts: l.Attempts, Reason: l.Text, Recipient: l.Recipient,
		Campaign: l.Tracking.Campaign, Canvas: l.Tracking.Canvas, Dispatch: l.Tracking.Dispatch, Message: l.Tracking.Message,
		User: l.Tracking.User, ExternalID: l.Tracking.ExternalID, Key: l.Key, Accepted: l.Accepted.UTC(), Bytes: l.Size, Deaths: l.Deaths,
		Tries: newTries(l.Tries), LeftOut: l.Tries.LeftOut}
	if !l.Expire.IsZero() {
		expire := l.Expire.UTC()
		v.Expire = &expire
	}
	if v.Deaths == nil {
		v.Deaths = []queue.Death{}
	}
	return v
}

func (v *DeadLetter) code() string { return codes(v.Code, v.Subcode) }

// codes writes Facebook's codes as they are spoken of: 551/1545041.
func codes(code, subcode int) string {
	switch {
	case code == 0:
		return "-"
	case subcode == 0:
		return strconv.Itoa(code)
	}
	return fmt.Sprintf("%d/%d", code, subcode)
}

func seconds3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// printable keeps what others wrote from moving the cursor, or the columns.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

func shorten(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes-1]) + "…"
	}
	return s
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

type lettersCommand struct {
	List    listLetters    `cmd:"" help:"List dead letters, oldest first."`
	Show    showLetter     `cmd:"" help:"Show everything that is kept of one message."`
	Replay  replayLetters  `cmd:"" help:"Put messages back into the queue. Shows first what it would replay."`
	Discard discardLetters `cmd:"" help:"Remove dead letters for good. Shows first what it would remove."`
}

func (lettersCommand) Help() string {
	return "A dead letter is a message that could not be delivered, kept whole with the reason until it is replayed, discarded, or too old " +
		"(30 days unless the stream was made otherwise). These commands work while everything runs, and while nothing does."
}

// letterFlags say which dead letters are meant. They have no variables: what is replayed or removed is said on the
// command line.
type letterFlags struct {
	Page     string `name:"page" env:"-" group:"letters" help:"Of this page: its id, or its name in the page file."`
	Class    string `name:"class" env:"-" group:"letters" help:"Of this class: ${classes}."`
	Code     int    `name:"code" env:"-" group:"letters" help:"With this Facebook error code."`
	Campaign string `name:"campaign" env:"-" group:"letters" help:"Of this campaign, as X-Brazier-Campaign had it."`
	Since    moment `name:"since" env:"-" group:"letters" placeholder:"WHEN" help:"Died at this time or later: 2026-11-22T08:00:00Z, or how long ago, as 90m, 2h or 3d."`
	Until    moment `name:"until" env:"-" group:"letters" placeholder:"WHEN" help:"Died before this time."`
	Pages    string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"YAML file with the names of the pages. Not needed: ids do too."`
}

// moment is a point in time, given as such or as a time before now.
type moment struct {
	time.Time
	ago bool // by this machine's clock
}

func (m *moment) UnmarshalText(text []byte) (err error) {
	s := string(text)
	m.ago = false
	if m.Time, err = time.Parse(time.RFC3339, s); err == nil {
		return nil
	}
	ago, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return fmt.Errorf("%q is neither a time like 2026-11-22T08:00:00Z nor how long ago, as 90m, 2h or 3d", s)
	}
	m.Time, m.ago = time.Now().Add(-ago), true
	return nil
}

// filter translates the flags.
func (f letterFlags) filter(ids []string) (queue.LetterFilter, pageNames, error) {
	names, err := readNames(f.Pages)
	filter := queue.LetterFilter{IDs: ids, Page: f.Page, Class: f.Class, Code: f.Code, Campaign: f.Campaign, Since: f.Since.Time, Until: f.Until.Time}
	if f.Page != "" {
		if filter.Page, err = names.id(f.Page, f.Pages, err); err != nil {
			return filter, names, usageError{fmt.Errorf("--page: %w", err)}
		}
	}
	if f.Class != "" && !slices.Contains(sendapi.Classes(), sendapi.Class(f.Class)) {
		return filter, names, usageError{fmt.Errorf("--class: %q is none of %s", f.Class, classNames())}
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, names, usageError{errors.New("--since is not before --until: nothing can have died between them")}
	}
	return filter, names, nil
}

// byServer has times before now count from the server's now: by its clock letters have died.
func (f letterFlags) byServer(ctx context.Context, q *queue.Queue, filter *queue.LetterFilter) error {
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

func classNames() string {
	var names []string
	for _, c := range sendapi.Classes() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

type listLetters struct {
	letterFlags
	Limit int  `name:"limit" env:"-" default:"0" help:"End after so many. 0: all."`
	JSON  bool `name:"json" env:"-" help:"One JSON object per line."`
	accessFlags
}

func (listLetters) Help() string {
	return "Message texts and full recipient ids are not listed. See show --body."
}

func (c listLetters) Run(ctx context.Context, std stdio) error {
	filter, names, err := c.filter(nil)
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return usageError{errors.New("--limit is under 0")}
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if err := c.byServer(ctx, q, &filter); err != nil {
		return err
	}
	out := bufio.NewWriterSize(std.out, 64<<10)
	var list letterWriter = &letterTable{out: out, names: names}
	if c.JSON {
		list = &letterLines{json.NewEncoder(out), names}
	}
	n, more := 0, false
	for l, err := range q.Letters(ctx, filter, false) {
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

// letterWriter lists dead letters. Its errors are those of the bufio.Writer beneath it, which keeps the first.
type letterWriter interface {
	write(l *queue.Letter)
	end(n int, more bool)
}

// letterLines is one JSON object per letter.
type letterLines struct {
	*json.Encoder
	names pageNames
}

func (w *letterLines) write(l *queue.Letter) { _ = w.Encode(newLetterView(l, w.names)) }
func (w *letterLines) end(int, bool)         {}

// letterTable is for people. Every tableRows rows are set for themselves, so that memory does not grow with their number.
type letterTable struct {
	out   io.Writer
	names pageNames
	tab   *tabwriter.Writer
	rows  int
}

const tableRows = 500

func (w *letterTable) write(l *queue.Letter) {
	if w.tab == nil {
		w.tab = tabwriter.NewWriter(w.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w.tab, "DIED\tPAGE\tCLASS\tCODE\tATTEMPTS\tID\tCAMPAIGN\tRECIPIENT\tREASON")
	}
	v := newLetterView(l, w.names)
	reason := strings.TrimPrefix(strings.TrimPrefix(v.Reason, "sendapi: "), v.Class+": ") // the columns have these
	fmt.Fprintf(w.tab, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", seconds3339(v.Died), printable(v.PageName), printable(v.Class), v.code(), v.Attempts,
		printable(v.ID), printable(v.Campaign), printable(v.Recipient), shorten(printable(reason), 60))
	if w.rows++; w.rows%tableRows == 0 {
		_ = w.tab.Flush()
	}
}

func (w *letterTable) end(n int, more bool) {
	if w.tab != nil {
		_ = w.tab.Flush()
		fmt.Fprintln(w.out)
	}
	switch {
	case more:
		fmt.Fprintf(w.out, "The oldest %d. There are more: raise --limit.\n", n)
	case n == 1:
		fmt.Fprintln(w.out, "1 dead letter.")
	default:
		fmt.Fprintf(w.out, "%d dead letters.\n", n)
	}
}

// letterView is a dead letter as the commands print it. Its JSON names are those of the log.
type letterView struct {
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
	TraceID    string          `json:"trace_id"`
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
	Body       json.RawMessage `json:"body,omitempty"`
}

func newLetterView(l *queue.Letter, names pageNames) letterView {
	v := letterView{ID: l.ID, FirstID: l.FirstID(), Seq: l.Seq, Died: l.Died.UTC(), Page: l.Page, PageName: names.of(l.Page), Lane: l.Lane,
		Class: l.Class, Code: l.Code, Subcode: l.Subcode, TraceID: l.TraceID, Attempts: l.Attempts, Reason: l.Text, Recipient: l.Recipient,
		Campaign: l.Tracking.Campaign, Canvas: l.Tracking.Canvas, Dispatch: l.Tracking.Dispatch, Message: l.Tracking.Message,
		User: l.Tracking.User, ExternalID: l.Tracking.ExternalID, Key: l.Key, Accepted: l.Accepted.UTC(), Bytes: l.Size, Deaths: l.Deaths}
	if !l.Expire.IsZero() {
		expire := l.Expire.UTC()
		v.Expire = &expire
	}
	if v.Deaths == nil {
		v.Deaths = []queue.Death{}
	}
	return v
}

func (v *letterView) code() string { return codes(v.Code, v.Subcode) }

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

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/queue"
)

type pagesCommand struct {
	List   listPages  `cmd:"" help:"List the pages: what holds them, and what waits for them."`
	Hold   holdPage   `cmd:"" help:"Stop sending for a page. Its messages are still taken, and wait."`
	Resume resumePage `cmd:"" help:"End a page's hold, whatever it came from."`
}

func (pagesCommand) Help() string {
	return "Workers hold a page by themselves when Facebook throttles or restricts it, or refuses its token, and go on by themselves. " +
		"What holds a page is known to all workers, and kept over restarts."
}

// pageAccess is what all of these commands need.
type pageAccess struct {
	pagesFlags
	accessFlags
}

type listPages struct {
	JSON bool `name:"json" env:"-" help:"One JSON object per line."`
	pageAccess
}

// pageView is a page as the commands print it.
type pageView struct {
	Page     string     `json:"page"`
	ID       string     `json:"id"`
	State    string     `json:"state"` // open, held, probing; or "not in the page file"
	Class    string     `json:"class,omitempty"`
	Code     int        `json:"code,omitempty"`
	Subcode  int        `json:"subcode,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Pending  uint64     `json:"pending"`
	Dead     uint64     `json:"dead"`
	InFile   bool       `json:"in_page_file"`
	HoldsRow int        `json:"holds_in_a_row,omitempty"`
}

func (c listPages) Run(ctx context.Context, std stdio) error {
	names, unread := readNames(c.Pages)
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	views, err := pageViews(ctx, q, names)
	if err != nil {
		return err
	}
	if len(names) == 0 && unread != nil {
		fmt.Fprintf(std.err, "brazier: pages are listed by id: %v\n", unread)
	}
	out := bufio.NewWriter(std.out)
	if c.JSON {
		enc := json.NewEncoder(out)
		for _, v := range views {
			_ = enc.Encode(v) // its error is out's, which Flush returns
		}
		return out.Flush()
	}
	printPages(out, views)
	return out.Flush()
}

// pageViews returns the pages that are in the file, that messages wait for, or that are held.
func pageViews(ctx context.Context, q *queue.Queue, names pageNames) ([]pageView, error) {
	states, err := q.PageStates(ctx)
	if err != nil {
		return nil, err
	}
	totals, err := q.Totals(ctx)
	if err != nil {
		return nil, err
	}
	now, err := q.ServerTime(ctx)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for id := range names {
		ids[id] = true
	}
	for id := range totals.Jobs.ByPage {
		ids[id] = true
	}
	for id, s := range states {
		if s.Held && !queue.IsAppKey(id) {
			ids[id] = true
		}
	}
	views := make([]pageView, 0, len(ids))
	for id := range maps.Keys(ids) {
		state := states[id]
		if page, ok := names[id]; ok && !state.Held {
			if app := states[queue.AppKey(page.app)]; app.Held {
				state = app
			}
		}
		v := newPageView(id, names, state, now)
		v.Pending, v.Dead = totals.Jobs.ByPage[id], totals.Dead.ByPage[id]
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b pageView) int { return cmp.Compare(a.Page, b.Page) })
	return views, nil
}

func newPageView(id string, names pageNames, s queue.PageState, now time.Time) pageView {
	_, inFile := names[id]
	v := pageView{Page: names.of(id), ID: id, State: "open", InFile: inFile}
	switch {
	case s.Held && s.Prober != "" && s.ProbeUntil.After(now):
		v.State = "probing"
	case s.Held:
		v.State = "held"
	case !inFile && len(names) > 0:
		v.State = "not in the page file"
	}
	if !s.Held {
		return v
	}
	v.Class, v.Code, v.Subcode, v.Reason, v.HoldsRow = s.Class, s.Code, s.Subcode, s.Reason, s.Holds
	since := s.Since.UTC()
	v.Since = &since
	if !s.Until.IsZero() {
		until := s.Until.UTC()
		v.Until = &until
	}
	return v
}

func printPages(w io.Writer, views []pageView) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "PAGE\tID\tSTATE\tPENDING\tDEAD\tCLASS\tCODE\tSINCE\tUNTIL\tREASON")
	for _, v := range views {
		since, until := "-", "-"
		if v.Since != nil {
			since, until = seconds3339(*v.Since), "resumed"
		}
		if v.Until != nil {
			until = seconds3339(*v.Until)
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", printable(v.Page), v.ID, v.State, v.Pending, v.Dead, cmp.Or(v.Class, "-"),
			codes(v.Code, v.Subcode), since, until, cmp.Or(shorten(printable(v.Reason), 60), "-"))
	}
	_ = tab.Flush() // w is a bufio.Writer, and keeps its error
}

type holdPage struct {
	Page   string        `arg:"" name:"page" help:"The page: its id, or its name in the page file."`
	For    time.Duration `name:"for" env:"-" placeholder:"2h" help:"How long. Default: until it is resumed."`
	Reason string        `name:"reason" env:"-" help:"Why, for those who look."`
	pageAccess
}

// classManual is the class of holds that a person made.
const classManual = "manual"

func (c holdPage) Run(ctx context.Context, std stdio) error {
	if c.For < 0 {
		return usageError{fmt.Errorf("--for: %v is under 0", c.For)}
	}
	if len(c.Reason) > 500 {
		return usageError{errors.New("--reason: at most 500 bytes")}
	}
	return c.change(ctx, std, c.Page, func(now time.Time, s *queue.PageState) string {
		s.Hold(queue.PageState{Class: classManual, Manual: true, Reason: cmp.Or(c.Reason, "held by hand"), Since: now})
		if c.For == 0 {
			return "is held until you resume it"
		}
		s.Until = now.Add(c.For)
		return "is held until " + seconds3339(s.Until)
	})
}

type resumePage struct {
	Page string `arg:"" name:"page" help:"The page: its id, or its name in the page file."`
	pageAccess
}

func (c resumePage) Run(ctx context.Context, std stdio) error {
	return c.change(ctx, std, c.Page, func(now time.Time, s *queue.PageState) string {
		if !s.Held && s.DeadToken == "" {
			return "was not held"
		}
		s.Resume(now)
		s.Manual = true
		return "is sent for again, slowly at first"
	}, resumeApp)
}

// resumeApp ends the hold that a page shares with the others of its app.
func resumeApp(ctx context.Context, q *queue.Queue, std stdio, page pageName) error {
	key := queue.AppKey(page.app)
	for {
		s, err := q.PageState(ctx, key)
		if err != nil || !s.Held {
			return err
		}
		now, err := q.ServerTime(ctx)
		if err != nil {
			return err
		}
		s.Resume(now)
		s.Manual = true
		switch _, err = q.SetPageState(ctx, key, s); {
		case errors.Is(err, queue.ErrChanged): // a worker was faster
		case err != nil:
			return err
		default:
			fmt.Fprintf(std.out, "The hold of all pages of its app is over too.\n")
			return nil
		}
	}
}

// change writes another state of a page, and says what became of it. Times are the server's: workers compare them with
// theirs, which are too, and this machine's clock may be wrong.
func (c pageAccess) change(ctx context.Context, std stdio, page string, f func(now time.Time, s *queue.PageState) string,
	then ...func(context.Context, *queue.Queue, stdio, pageName) error) error {
	names, unread := readNames(c.Pages)
	id, err := names.id(page, c.Pages, unread)
	if err != nil {
		return usageError{err}
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if _, known := names[id]; !known && len(names) > 0 {
		fmt.Fprintf(std.err, "brazier: page %s is not in %s\n", id, c.Pages)
	}
	for {
		s, err := q.PageState(ctx, id)
		if err != nil {
			return err
		}
		now, err := q.ServerTime(ctx)
		if err != nil {
			return err
		}
		before := s
		did := f(now, &s)
		if s != before {
			_, err = q.SetPageState(ctx, id, s)
		}
		if errors.Is(err, queue.ErrChanged) { // a worker was faster
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "Page %s %s.\n", names.of(id), did)
		for _, f := range then {
			if known, ok := names[id]; ok {
				return f(ctx, q, std, known)
			}
		}
		return nil
	}
}

package admin

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
)

// PagesCommand lists, holds and resumes pages.
type PagesCommand struct {
	List   listPages  `cmd:"" help:"List pages with their backlog, and why they are held."`
	Hold   holdPage   `cmd:"" help:"Pause sending for a page. Its messages are still accepted and stay queued."`
	Resume resumePage `cmd:"" help:"End a page's hold, whatever its cause."`
}

func (PagesCommand) Help() string {
	return "Workers hold a page when Facebook throttles or restricts it or refuses its token, and resume it by themselves. All workers share the " +
		"state of a page, and restarts keep it."
}

// pageAccess is what all of these commands need.
type pageAccess struct {
	process.PagesFlags
	accessFlags
}

type listPages struct {
	JSON bool `name:"json" env:"-" help:"Print one JSON object per line."`
	pageAccess
}

// States of pages, as the commands print them.
const (
	stateOpen    = "open"
	stateHeld    = "held"
	stateProbing = "probing"
	stateMissing = "not in the page file"
)

// Page is a page as the commands print it.
type Page struct {
	Page     string     `json:"page"`
	ID       string     `json:"id"`
	State    string     `json:"state"` // open, held, probing; or "not in the page file"
	Class    string     `json:"class,omitempty"`
	Code     int        `json:"code,omitempty"`
	Subcode  int        `json:"subcode,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	By       string     `json:"by,omitempty"` // who held it by hand
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Pending  uint64     `json:"pending"`
	Dead     uint64     `json:"dead"`
	InFile   bool       `json:"in_page_file"`
	HoldsRow int        `json:"holds_in_a_row,omitempty"`
}

func (c listPages) Run(ctx context.Context, std cli.Stdio) error {
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
		fmt.Fprintf(std.Err, "brazier: pages are listed by id: %v\n", unread)
	}
	out := bufio.NewWriter(std.Out)
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
func pageViews(ctx context.Context, q *queue.Queue, names pageNames) ([]Page, error) {
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
	views := viewPages(names, states, totals.Jobs, now)
	for i, v := range views {
		views[i].Pending, views[i].Dead = totals.Jobs[v.ID], totals.Dead[v.ID]
	}
	return views, nil
}

// viewPages returns the pages that are in the file, that are in pending, or that are held, without their numbers.
func viewPages[N any](names pageNames, states map[string]queue.PageState, pending map[string]N, now time.Time) []Page {
	ids := map[string]bool{}
	for id := range names {
		ids[id] = true
	}
	for id := range pending {
		ids[id] = true
	}
	for id, s := range states {
		if s.Held && !queue.IsAppKey(id) {
			ids[id] = true
		}
	}
	views := make([]Page, 0, len(ids))
	for id := range maps.Keys(ids) {
		state := states[id]
		if page, ok := names[id]; ok && !state.Held {
			if app := states[queue.AppKey(page.app)]; app.Held {
				state = app
			}
		}
		views = append(views, newPage(id, names, state, now))
	}
	slices.SortFunc(views, func(a, b Page) int { return cmp.Compare(a.Page, b.Page) })
	return views
}

func newPage(id string, names pageNames, s queue.PageState, now time.Time) Page {
	_, inFile := names[id]
	v := Page{Page: names.of(id), ID: id, State: stateOpen, InFile: inFile}
	switch {
	case s.Held && s.Prober != "" && s.ProbeUntil.After(now):
		v.State = stateProbing
	case s.Held:
		v.State = stateHeld
	case !inFile && len(names) > 0:
		v.State = stateMissing
	}
	if !s.Held {
		return v
	}
	v.Class, v.Code, v.Subcode, v.Reason, v.HoldsRow = s.Class, s.Code, s.Subcode, s.Reason, s.Holds
	if s.Manual {
		v.By = s.By
	}
	since := s.Since.UTC()
	v.Since = &since
	if !s.Until.IsZero() {
		until := s.Until.UTC()
		v.Until = &until
	}
	return v
}

func printPages(w io.Writer, views []Page) {
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
	For    time.Duration `name:"for" env:"-" placeholder:"2h" help:"How long to hold it. Default: until it is resumed."`
	Reason string        `name:"reason" env:"-" help:"Reason to show to others."`
	pageAccess
}

// classManual is the class of holds that a person made.
const classManual = "manual"

func (c holdPage) Run(ctx context.Context, std cli.Stdio) error {
	if c.For < 0 {
		return cli.Usagef("--for: must not be negative (got %v)", c.For)
	}
	if len(c.Reason) > 500 {
		return cli.Usagef("--reason: must be at most 500 bytes (got %d)", len(c.Reason))
	}
	return c.changeState(ctx, std, c.Page, func(now time.Time, s *queue.PageState) string {
		s.Hold(queue.PageState{Class: classManual, Manual: true, Reason: cmp.Or(c.Reason, "held by hand"), By: operator(), Since: now})
		if c.For == 0 {
			return "is held until you resume it"
		}
		s.Until = now.Add(c.For)
		return "is held until " + seconds3339(s.Until)
	})
}

// operator names who runs the command, for those who find the page held: USER@HOST, as far as the system tells.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}

type resumePage struct {
	Page string `arg:"" name:"page" help:"The page: its id, or its name in the page file."`
	pageAccess
}

func (c resumePage) Run(ctx context.Context, std cli.Stdio) error {
	return c.changeState(ctx, std, c.Page, func(now time.Time, s *queue.PageState) string {
		if !s.Held && s.DeadToken == "" {
			return "was not held"
		}
		s.Resume(now)
		s.Manual, s.By = true, operator()
		return "is delivered to again, slowly at first"
	}, resumeApp)
}

// resumeApp ends the hold that a page shares with the others of its app.
func resumeApp(ctx context.Context, q *queue.Queue, std cli.Stdio, page pageName) error {
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
		s.Manual, s.By = true, operator()
		switch _, err = q.SetPageState(ctx, key, s); {
		case errors.Is(err, queue.ErrChanged): // a worker was faster
		case err != nil:
			return err
		default:
			fmt.Fprintf(std.Out, "The hold of all pages of its app has ended too.\n")
			return nil
		}
	}
}

// changeState writes another state of a page, and says what became of it. Times are the server's: workers compare them with
// theirs, which are too, and this machine's clock may be wrong.
func (c pageAccess) changeState(ctx context.Context, std cli.Stdio, page string, f func(now time.Time, s *queue.PageState) string,
	then ...func(context.Context, *queue.Queue, cli.Stdio, pageName) error) error {
	names, unread := readNames(c.Pages)
	id, err := names.id(page, c.Pages, unread)
	if err != nil {
		return cli.Usage(err)
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if _, known := names[id]; !known && len(names) > 0 {
		fmt.Fprintf(std.Err, "brazier: page %s is not in %s\n", id, c.Pages)
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
		fmt.Fprintf(std.Out, "Page %s %s.\n", names.of(id), did)
		for _, f := range then {
			if known, ok := names[id]; ok {
				return f(ctx, q, std, known)
			}
		}
		return nil
	}
}

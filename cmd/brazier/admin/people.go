package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/capture"
)

// PeopleCommand shows and forgets people.
type PeopleCommand struct {
	Show   showPerson   `cmd:"" help:"Show what is known of a person: page, PSID, Braze user, window."`
	Forget forgetPerson `cmd:"" help:"Forget a person: mapping, attributes in Braze, waiting messages, dead letters. Shows first what it would remove."`
}

func (PeopleCommand) Help() string {
	return "A person is a PSID on one page, and is linked to a Braze user by a reference in an m.me link. Name either of the two."
}

// personFlags say who is meant.
type personFlags struct {
	Who  string `arg:"" name:"who" help:"A PSID (digits), a braze_id (24 hexadecimal digits) or an external id. What could be several is taken for the first of these that is known."`
	Page string `name:"page" env:"-" help:"On this page alone: its id, or its name in the page file. Default: on every page of the page file."`
	process.PagesFlags
	accessFlags
}

// found is a person on a page.
type found struct {
	page   pagefile.Page
	person capture.Person
	known  bool // false: the PSID alone is known
	byPSID bool
}

// isTheirs reports whether what is sent to the PSID is sent to the person who is meant: a user who lost the PSID to another is not.
func (f *found) isTheirs() bool { return f.byPSID || f.person.Linked }

// find opens the queue and looks for the person. The caller calls close.
func (f personFlags) find(ctx context.Context, std cli.Stdio) (q *queue.Queue, people []found, close func(), err error) {
	pages, err := f.pages()
	if err != nil {
		return nil, nil, nil, err
	}
	roadBack := true
	q, close, err = f.openFor(ctx, std, queue.Config{RoadBack: true})
	if errors.Is(err, queue.ErrNoQueue) { // or one in which nobody was ever linked
		roadBack = false
		q, close, err = f.open(ctx, std)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if roadBack {
		people, err = f.lookUp(ctx, q, pages)
	}
	if err != nil {
		close()
		return nil, nil, nil, err
	}
	if len(people) == 0 && isDigits(f.Who) {
		for _, p := range pages {
			people = append(people, found{page: p, person: capture.Person{PSID: f.Who}, byPSID: true})
		}
	}
	return q, people, close, nil
}

// lookUp returns the known people, by the first meaning of the name that is known on any page.
func (f personFlags) lookUp(ctx context.Context, q *queue.Queue, pages []pagefile.Page) (people []found, err error) {
	for _, meaning := range []struct {
		possible bool
		byPSID   bool
		find     func(page string) (capture.Person, bool, error)
	}{
		{isDigits(f.Who), true, func(page string) (capture.Person, bool, error) { return capture.FindPSID(ctx, q, page, f.Who) }},
		{webhook.IsBrazeID(f.Who), false, func(page string) (capture.Person, bool, error) {
			return capture.FindUser(ctx, q, page, capture.User{BrazeID: f.Who})
		}},
		{true, false, func(page string) (capture.Person, bool, error) {
			return capture.FindUser(ctx, q, page, capture.User{ExternalID: f.Who})
		}},
	} {
		if !meaning.possible {
			continue
		}
		for _, p := range pages {
			person, known, err := meaning.find(p.ID)
			if err != nil {
				return nil, err
			}
			if known {
				people = append(people, found{p, person, true, meaning.byPSID})
			}
		}
		if len(people) > 0 {
			return people, nil
		}
	}
	return nil, nil
}

// pages returns the pages that are meant. A page that is given by its id need not be in the file.
func (f personFlags) pages() ([]pagefile.Page, error) {
	pages, unread := pagefile.Read(f.Pages, pagefile.ForIngress())
	if f.Page == "" {
		if len(pages) == 0 {
			return nil, cli.Usagef("on which page? Name it with --page: %w", unread)
		}
		return pages, nil
	}
	for _, p := range pages {
		if p.ID == f.Page || p.Name == f.Page {
			return []pagefile.Page{p}, nil
		}
	}
	if isDigits(f.Page) {
		return []pagefile.Page{{ID: f.Page, Name: f.Page}}, nil
	}
	if len(pages) == 0 && unread != nil {
		return nil, cli.Usagef("--page: %q is no id, and no page file has its name: %w", f.Page, unread)
	}
	return nil, cli.Usagef("--page: %q is neither an id nor a name in %s", f.Page, f.Pages)
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

type showPerson struct {
	JSON bool `name:"json" env:"-" help:"One JSON object per line."`
	personFlags
}

func (showPerson) Help() string {
	return "Exit code 1: nothing is known of such a person. Of people who never followed a link with a valid reference nothing is kept."
}

// Person is a person as the commands print one.
type Person struct {
	Page       string `json:"page"`
	PageID     string `json:"page_id"`
	PSID       string `json:"psid"`
	BrazeID    string `json:"braze_id,omitempty"`
	ExternalID string `json:"external_id,omitempty"`
	Alias      string `json:"alias,omitempty"` // of a person whom no reference links with a user, where the page has alias_users
	Linked     bool   `json:"linked"`
	// Since is when the link was made. It is absent where a message alone says who that is, or an alias does.
	Since       time.Time  `json:"since,omitzero"`
	WindowUntil *time.Time `json:"window_until,omitempty"`
	Reachable   *bool      `json:"reachable,omitempty"` // as far as known, of linked people alone
}

func newPerson(f *found) Person {
	p := f.person
	v := Person{Page: f.page.Name, PageID: f.page.ID, PSID: p.PSID, BrazeID: p.User.BrazeID, ExternalID: p.User.ExternalID, Alias: p.User.Alias, Linked: p.Linked, Since: p.Made}
	if !p.Window.IsZero() {
		v.WindowUntil = &p.Window
	}
	if p.Linked {
		reachable := !p.Unreachable
		v.Reachable = &reachable
	}
	return v
}

func (c showPerson) Run(ctx context.Context, std cli.Stdio) error {
	_, people, done, err := c.find(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	shown := 0
	for i := range people {
		if !people[i].known {
			continue
		}
		v := newPerson(&people[i])
		if c.JSON {
			err = json.NewEncoder(std.Out).Encode(v)
		} else {
			if shown > 0 {
				fmt.Fprintln(std.Out)
			}
			err = v.print(std.Out)
		}
		if err != nil {
			return err
		}
		shown++
	}
	if shown == 0 {
		return fmt.Errorf("nothing is known of %q: no valid reference came from such a PSID, nor one for such a user", c.Who)
	}
	return nil
}

func (v *Person) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	page := v.Page
	if v.Page != v.PageID {
		page += " (" + v.PageID + ")"
	}
	linked, window, reachable := "no: a reference that was made later linked another", "not known", "not known"
	if v.Linked {
		linked = "yes"
	}
	if v.WindowUntil != nil {
		window = seconds3339(*v.WindowUntil)
	}
	if v.Reachable != nil {
		reachable = map[bool]string{true: "yes, as far as is known", false: "no"}[*v.Reachable]
	}
	fmt.Fprintf(t, "page\t%s\n", printable(page))
	fmt.Fprintf(t, "psid\t%s\n", printable(v.PSID))
	if v.BrazeID != "" {
		fmt.Fprintf(t, "braze_id\t%s\n", printable(v.BrazeID))
	}
	if v.ExternalID != "" {
		fmt.Fprintf(t, "external_id\t%s\n", printable(v.ExternalID))
	}
	if v.Alias != "" {
		fmt.Fprintf(t, "alias\t%s, label %s\n", printable(v.Alias), capture.AliasLabel)
	}
	since := "- (by a message: no link was used)"
	if !v.Since.IsZero() {
		since = seconds3339(v.Since) + " (when the link was made)"
	}
	fmt.Fprintf(t, "linked\t%s\nsince\t%s\nwindow until\t%s\nreachable\t%s\n", linked, since, window, reachable)
	return t.Flush()
}

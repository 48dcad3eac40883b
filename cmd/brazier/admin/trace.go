package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// TraceCommand shows where a message is.
type TraceCommand struct {
	ID    string `arg:"" optional:"" name:"id" help:"Id of the message, from the ingress's answer or the log. Any id of a replayed message finds its other ones."`
	User  string `name:"user" env:"-" help:"Instead of an id: list the messages in the queue and the dead letters of a user, as in the header X-Brazier-User or X-Brazier-External-Id."`
	Limit int    `name:"limit" env:"-" default:"50" help:"With --user: most messages to list, from 1 to 1000."`
	JSON  bool   `name:"json" env:"-" help:"Print one JSON object per line."`
	Pages string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"Page file, to name pages, and to know which share an app. Without it pages are named by id."`
	accessFlags
}

func (TraceCommand) Help() string {
	return "Shows whether a message waits, is being sent, was delivered or is dead, its attempts with Facebook's answers, and its replays. Works whether or " +
		"not Brazier runs. What was delivered is known for as long as its idempotency key (--key-window of the roles), without one for ten minutes; after " +
		"that the log alone knows. --user reads the whole queue and all dead letters, which takes about half a minute per million."
}

func (c TraceCommand) Run(ctx context.Context, std cli.Stdio) error {
	switch {
	case (c.ID == "") == (c.User == ""):
		return cli.Usagef("name a message by its id, or a user with --user")
	case c.Limit < 1 || c.Limit > 1000:
		return cli.Usagef("--limit: must be from 1 to 1000 (got %d)", c.Limit)
	}
	names, _ := readNames(c.Pages)
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	now, err := q.ServerTime(ctx)
	if err != nil {
		return err
	}
	t := tracing{q: q, names: names, now: now, holds: map[string]*TracedHold{}}
	if c.User != "" {
		return c.listUser(ctx, std, &t)
	}
	return c.show(ctx, std, &t)
}

// show prints each id that a message has had.
func (c TraceCommand) show(ctx context.Context, std cli.Stdio, t *tracing) error {
	reading, end := readingShown(std)
	found, err := t.q.Trace(ctx, c.ID, reading)
	end()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("nothing is known of the id %[1]s: the message ended longer ago than its idempotency key is remembered (--key-window, 2h by default; "+
			"10 minutes without a key), or was never accepted. Search the log for the id %[1]s", printable(c.ID))
	}
	views, err := t.views(ctx, found)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.Out)
	for i := range views {
		if c.JSON {
			_ = json.NewEncoder(out).Encode(&views[i]) // its error is out's, which Flush returns
			continue
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		views[i].print(out, t.now)
	}
	return out.Flush()
}

// listUser prints one line for each message of a user.
func (c TraceCommand) listUser(ctx context.Context, std cli.Stdio, t *tracing) error {
	reading, end := readingShown(std)
	found, err := t.q.TraceUser(ctx, c.User, c.Limit, reading)
	end()
	if err != nil {
		return err
	}
	if len(found.Messages) == 0 {
		return fmt.Errorf("user %[1]s has no message in the queue and no dead letter. What was delivered is in the log: search it for the user %[1]s", printable(c.User))
	}
	views, err := t.views(ctx, found.Messages)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.Out)
	if c.JSON {
		for i := range views {
			_ = json.NewEncoder(out).Encode(&views[i]) // its error is out's, which Flush returns
		}
		return out.Flush()
	}
	printTraced(out, views)
	if found.More {
		fmt.Fprintf(out, "\nThese are the newest %d. Raise --limit to see more.\n", len(views))
	} else {
		fmt.Fprintf(out, "\n%d message(s), the newest first. \"brazier trace ID\" shows more of one.\n", len(views))
	}
	return out.Flush()
}

func printTraced(w io.Writer, views []TracedMessage) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "ACCEPTED\tPAGE\tID\tCAMPAIGN\tRECIPIENT\tSTATE")
	for i := range views {
		v := &views[i]
		state := v.says()
		if v.Hold != nil {
			state += "; " + v.Hold.says(v.PageName)
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", seconds3339(*v.Accepted), printable(v.PageName), printable(v.ID), printable(v.Campaign), printable(v.Recipient),
			shorten(printable(state), 160))
	}
	_ = tab.Flush() // w is a bufio.Writer, and keeps its error
}

// readingShown returns a function to be called with how much was read, which shows that from time to time, and one to be called at
// the end.
func readingShown(std cli.Stdio) (reading func(n int), end func()) {
	screen := cli.NewScreen(std.Err)
	every, last := screen.Every(200*time.Millisecond, 10*time.Second), time.Now()
	return func(n int) {
		if now := time.Now(); now.Sub(last) >= every {
			last = now
			screen.Live(fmt.Sprintf("read %d messages and dead letters", n))
		}
	}, screen.Clear
}

// tracing makes views of messages.
type tracing struct {
	q     *queue.Queue
	names pageNames
	now   time.Time              // the server's
	holds map[string]*TracedHold // by page id, nil where it is not held
}

func (t *tracing) views(ctx context.Context, found []queue.Traced) ([]TracedMessage, error) {
	views := make([]TracedMessage, len(found))
	for i := range found {
		views[i] = newTracedMessage(&found[i], t.names, t.now)
		if s := found[i].State; s != queue.TraceWaiting && s != queue.TraceInDoubt {
			continue
		}
		var err error
		if views[i].Hold, err = t.hold(ctx, found[i].Page); err != nil {
			return nil, err
		}
	}
	return views, nil
}

// hold returns the hold of a page or, where it has none, of its app; nil if nothing holds it.
func (t *tracing) hold(ctx context.Context, page string) (*TracedHold, error) {
	if h, known := t.holds[page]; known {
		return h, nil
	}
	s, err := t.q.PageState(ctx, page)
	of := "page"
	if known, inFile := t.names[page]; err == nil && inFile && !s.Held {
		s, err = t.q.PageState(ctx, queue.AppKey(known.app))
		of = "app"
	}
	if err != nil {
		return nil, err
	}
	t.holds[page] = newTracedHold(of, s)
	return t.holds[page], nil
}

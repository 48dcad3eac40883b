package admin

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// pageNames are the names of pages, and of their apps, by the page's id.
type pageNames map[string]pageName

type pageName struct {
	name, app string
	webhooks  bool    // are wanted
	rate      float64 // calls a second that the file allows
}

// readNames reads the names from the page file, whatever else is wrong with it: tokens and keys are of no interest here.
// The error is what was wrong.
func readNames(file string) (pageNames, error) {
	names := pageNames{}
	pages, err := pagefile.Read(file, pagefile.ForIngress())
	for _, p := range pages {
		names[p.ID] = pageName{p.Name, p.App, p.Webhooks != nil, p.Rate}
	}
	return names, err
}

func (n pageNames) of(id string) string {
	if page, ok := n[id]; ok {
		return page.name
	}
	return id
}

// id returns the id of a page that is given by its id or its name in the file. unread is what was wrong with the file.
func (n pageNames) id(page, file string, unread error) (string, error) {
	if page != "" && strings.Trim(page, "0123456789") == "" {
		return page, nil
	}
	for id, known := range n {
		if known.name == page {
			return id, nil
		}
	}
	if len(n) == 0 && unread != nil {
		return "", fmt.Errorf("%q is no id, and no page file has its name: %w", page, unread)
	}
	return "", fmt.Errorf("%q is neither an id nor a name in %s", page, file)
}

// pageTitle is how a view of one thing names its page.
func pageTitle(name, id string) string {
	if name == id {
		return id
	}
	return name + " (" + id + ")"
}

// newRows returns a table of two columns, and a function that adds a row unless its value is empty. The caller flushes it.
func newRows(w io.Writer) (t *tabwriter.Writer, row func(name, value string)) {
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	return t, func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, printable(value))
		}
	}
}

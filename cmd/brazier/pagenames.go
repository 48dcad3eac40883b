package main

import (
	"fmt"
	"strings"
)

// pageNames are the names of pages, and of their apps, by the page's id.
type pageNames map[string]pageName

type pageName struct{ name, app string }

// readNames reads the names from the page file, whatever else is wrong with it: tokens and keys are of no interest here.
// The error is what was wrong.
func readNames(file string) (pageNames, error) {
	names := pageNames{}
	pages, err := readPagesOfDoor(file)
	for _, p := range pages {
		names[p.ID] = pageName{p.Name, p.App}
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

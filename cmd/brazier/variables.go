package main

import (
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
)

// variables are the names of the environment's variables that some flag of some command has.
type variables map[string]bool

func variablesOf(node *kong.Node) variables {
	known := make(variables)
	var add func(*kong.Node)
	add = func(n *kong.Node) {
		for _, f := range n.Flags {
			for _, name := range f.Envs {
				known[name] = true
			}
		}
		for _, child := range n.Children {
			add(child)
		}
	}
	add(node)
	return known
}

// unknown returns the names in the environment that look like a flag's variable and are none, sorted: most likely they are
// misspelled. Those that the page file takes tokens from are known.
func (known variables) unknown(pages []pageConfig) []string {
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		ofPage := slices.ContainsFunc(pages, func(p pageConfig) bool { return p.Secrets.Variable == name })
		if strings.HasPrefix(name, "BRAZIER_") && !known[name] && !ofPage {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// warn logs the unknown names, and never a value: it may be a secret under a wrong name.
func (known variables) warn(log *zap.Logger, pages []pageConfig) {
	for _, name := range known.unknown(pages) {
		log.Warn("no flag has this variable", zap.String("event", "unknown_variable"), zap.String("name", name))
	}
}

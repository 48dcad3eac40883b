package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
)

// Variables are the names of the environment's variables that some flag of some command has.
type Variables map[string]bool

// VariablesOf collects the variables of a command and those below it.
func VariablesOf(node *kong.Node) Variables {
	known := make(Variables)
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

// Unknown returns the names in the environment that look like a flag's variable and are none, sorted: most likely they are
// misspelled. also are known too: those that the page file takes tokens from.
func (known Variables) Unknown(also ...string) []string {
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "BRAZIER_") && !known[name] && !slices.Contains(also, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Warn logs the unknown names, and never a value: it may be a secret under a wrong name.
func (known Variables) Warn(log *zap.Logger, also ...string) {
	for _, name := range known.Unknown(also...) {
		log.Warn("no flag has this variable", zap.String("event", "unknown_variable"), zap.String("name", name))
	}
}

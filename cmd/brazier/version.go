package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

type versionCommand struct{}

func (versionCommand) Run(std cli.Stdio) error {
	t := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	for _, row := range cli.Versions() {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	return t.Flush()
}

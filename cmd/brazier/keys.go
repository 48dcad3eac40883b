package main

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

type keysCommand struct {
	New newKeyCommand `cmd:"" help:"Create a key for a caller of the ingress, and its digest for the page file."`
}

type newKeyCommand struct{}

func (newKeyCommand) Help() string {
	return "Prints two lines: the key, which is stored nowhere, and its digest \"sha256:HEX\". The caller sends the key in the header " +
		"\"Authorization: Bearer KEY\". The digest belongs in the list \"keys\" of the page. To replace a key, add the new digest, " +
		"change the caller, and then remove the old digest."
}

// Run writes nothing else to standard output, so that scripts can take the lines apart.
func (newKeyCommand) Run(std cli.Stdio) error {
	key := "brazier_" + rand.Text() // 128 bits or more
	_, err := fmt.Fprintf(std.Out, "%s\nsha256:%x\n", key, sha256.Sum256([]byte(key)))
	if err != nil {
		return fmt.Errorf("print the key: %w", err)
	}
	fmt.Fprintln(std.Err, "The first line is the key, for the caller's header Authorization: Bearer KEY; it is stored nowhere. The second is its digest, for \"keys\" in the page file.")
	return nil
}

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

type keysCommand struct {
	New newKeyCommand `cmd:"" help:"Make a key for a caller of the door, and the digest of it for the page file."`
}

type newKeyCommand struct{}

func (newKeyCommand) Help() string {
	return "Prints two lines: the key, which is shown this once and kept nowhere, and \"sha256:HEX\", its digest. Give the key to " +
		"the caller, for the header Authorization: Bearer. Put the digest into the list \"keys\" of the page. A page may have " +
		"several: add the new one, change the caller, then remove the old one."
}

// Run writes nothing else to standard output, so that scripts can take the lines apart.
func (newKeyCommand) Run(std stdio) error {
	key := "brazier_" + rand.Text() // 128 bits or more
	_, err := fmt.Fprintf(std.out, "%s\nsha256:%x\n", key, sha256.Sum256([]byte(key)))
	if err != nil {
		return fmt.Errorf("print the key: %w", err)
	}
	fmt.Fprintln(std.err, "First the key, for the caller's header Authorization: Bearer KEY. It is kept nowhere. Then its digest, for \"keys\" in the page file.")
	return nil
}

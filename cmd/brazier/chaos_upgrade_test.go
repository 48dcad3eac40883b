package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var chaosFrom = flag.String("chaos.from", "", "revision of git from which TestChaos/upgrade rolls out this one, and to which it goes back; empty: that mode is not run")

// upgrade is the fleet of rolling with the roles of an earlier revision, which are replaced by those of this one, one after the other,
// and then those of the earlier one again.
type upgrade struct{ rolling }

// before is the binary of the earlier revision.
const before = "brazier-before"

func (u *upgrade) raise(c *chaos) {
	if err := buildBefore(c.t, *chaosFrom); err != nil {
		c.t.Fatal(err)
	}
	u.rolling.raise(c)
	for _, m := range u.roles() {
		m.program = before
	}
}

// roles are in the order in which deploy/README.md has them replaced.
func (u *upgrade) roles() []*member { return append(append([]*member{}, u.workers...), u.ingresses...) }

func (u *upgrade) storm(c *chaos) {
	for _, program := range []string{"brazier", before} {
		for _, m := range u.roles() {
			m.program = program
			hits := hitNothing
			if m.kind == "worker" {
				hits = hitTime
			}
			u.restart(c, m, fault{kind: "restart as " + program + " of " + m.kind, hits: hits}, syscall.SIGTERM)
		}
	}
}

// buildBefore builds the binary of a revision from what git has of it.
func buildBefore(t *testing.T, revision string) error {
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	for _, step := range []struct {
		dir  string
		args []string
	}{
		{"../..", []string{"git", "archive", "--output", archive, revision}},
		{dir, []string{"tar", "-xf", archive}},
		{dir, []string{"go", "build", "-o", filepath.Join(bin, before), "./cmd/brazier"}},
	} {
		cmd := exec.Command(step.args[0], step.args[1:]...)
		cmd.Dir, cmd.Env = step.dir, os.Environ()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", step.args, err, out)
		}
	}
	return nil
}

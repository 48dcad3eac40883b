package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// The commands of people take the server's time for the one that workers compare with, whatever this machine's clock
// says.
func TestServersTimeCounts(t *testing.T) {
	t.Parallel()
	page := newTestPage("1029384756", "acme")
	s := newPacing(t, page)
	defer s.end()
	stateAfter := func(args ...string) queue.PageState {
		t.Helper()
		got := withWrongClock(t, append(append([]string{"pages"}, args...), "--nats-url=nats://"+s.address, "--pages="+s.pages)...)
		if got.code != cli.ExitOK {
			t.Errorf("%v: %+v", args, got)
		}
		state, err := s.q.PageState(t.Context(), page.id)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	near := func(what string, got, want time.Time) {
		t.Helper()
		if got.Sub(want).Abs() > 10*time.Minute {
			t.Errorf("%s is %v, want about %v", what, got, want)
		}
	}
	held := stateAfter("hold", "acme", "--for=2h")
	near("since", held.Since, time.Now())
	near("until", held.Until, time.Now().Add(2*time.Hour))
	near("resumed", stateAfter("resume", "acme").Resumed, time.Now())

	s.fb.Script(unreachable(page.id))
	s.publishOne(page, queue.Bulk, "2003004005006007")
	p := s.worker()
	p.log.await(t, "dead")
	got := withWrongClock(t, "deadletters", "list", "--until=0s", "--nats-url=nats://"+s.address, "--pages="+s.pages)
	if !strings.Contains(got.out, "\n1 dead letter.\n") {
		t.Errorf("dead letters from before now: %+v", got)
	}
}

// withWrongClock runs a command where the machine's clock says that it is the year 2000, in a process of its own: nats.go
// keeps timers for all its connections.
func withWrongClock(t *testing.T, args ...string) ended {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWithWrongClock$")
	cmd.Env = append(os.Environ(), wrongClock+"="+strings.Join(args, "\n"))
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return ended{code: cmd.ProcessState.ExitCode(), out: string(out)}
}

const wrongClock = "COMMAND_WITH_WRONG_CLOCK"

// TestWithWrongClock is the process that [withWrongClock] starts. Otherwise it has nothing to do.
func TestWithWrongClock(t *testing.T) {
	args := os.Getenv(wrongClock)
	if args == "" {
		return
	}
	synctest.Test(t, func(*testing.T) {
		if year := time.Now().Year(); year != 2000 {
			t.Errorf("the year is %d", year)
		}
		if code := execute(context.Background(), strings.Split(args, "\n"), cli.Stdio{Out: os.Stdout, Err: os.Stdout}); code != cli.ExitOK {
			t.Errorf("exit code %d", code)
		}
	})
}

// Command brazier relays what Braze webhook campaigns post to Facebook Messenger, through a durable queue.
//
// This package holds flags, environment, the page file, signals, exit codes and wiring. A role (serve, ingress, worker)
// is a list of parts; see parts.go. What the parts do stands in the packages they come from.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
	"golang.org/x/term"
)

// Exit codes. Scripts and orchestrators rely on them.
const (
	exitOK        = 0 // stopped as asked, nothing left in flight; or the command did what it says
	exitFailed    = 1 // something went wrong while it ran, or check found a fault
	exitUsage     = 2 // the command line, the environment or the page file is wrong; nothing was started
	exitUndrained = 3 // ended at once by a later signal, or out of the shutdown budget: what was in flight may be sent again
)

func main() {
	// Where a peer misbehaves, net/http quotes its bytes to the standard logger. Nothing here writes to it on purpose.
	log.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// stdio is where a command writes: answers to out, logs and complaints to err.
type stdio struct {
	out, err io.Writer
	in       io.Reader // nil: nobody is there to answer questions
	signals  *signals  // nil: there are none
	known    variables
}

func run(args []string, stdout, stderr *os.File) int {
	ctx, signals := followSignals(stderr)
	std := stdio{out: stdout, err: stderr, signals: signals}
	if isTerminal(stdout) && term.IsTerminal(int(os.Stdin.Fd())) {
		std.in = os.Stdin
	}
	return execute(ctx, args, std)
}

// execute is run without the process around it, for tests.
func execute(ctx context.Context, args []string, std stdio) int {
	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("brazier"),
		kong.Description(description),
		kong.DefaultEnvars("BRAZIER"),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110}),
		kong.ExplicitGroups(groups),
		kong.Vars(vars),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil { // the struct tags are wrong: a defect, found by every test
		panic(err)
	}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(args[1:], "--help")
	}
	parsed, err := parser.Parse(joinNumbers(args))
	if exited >= 0 { // --help, --version
		return exited
	}
	if err != nil {
		fmt.Fprintf(std.err, "brazier: %v\nSee %s --help.\n", err, selected(err))
		var wrong *kong.ParseError
		if errors.As(err, &wrong) {
			cli.failed(wrong.Context, std, usageError{err})
		}
		return exitUsage
	}
	std.known = variablesOf(parser.Model.Node)
	forget := std.signals.beforeExit(func() { cli.failed(parsed, std, errSecondSignal) })
	err = parsed.Run(std)
	forget()
	code := exitCode(err, std.err)
	cli.failed(parsed, std, err)
	return code
}

// failed logs why a role ends, for those who see nothing but its log. The text on standard error says the same.
func (c *commands) failed(parsed *kong.Context, std stdio, err error) {
	if err == nil || parsed == nil || parsed.Selected() == nil {
		return
	}
	role := parsed.Selected().Name
	var flags logFlags
	switch role {
	case "serve":
		flags = c.Serve.logFlags
	case "ingress":
		flags = c.Ingress.logFlags
	case "worker":
		flags = c.Worker.logFlags
	default:
		return
	}
	if flags.Format == "" { // the command line was wrong before its values were set
		flags.Format = os.Getenv("BRAZIER_LOG_FORMAT")
		for _, step := range parsed.Path {
			if step.Flag != nil && step.Flag.Name == "log-format" {
				flags.Format, _ = parsed.FlagValue(step.Flag).(string)
			}
		}
	}
	if flags.json(std.err) {
		flags.logger(std.err).Error("failed", zap.String("event", "failed"), zap.String("role", role), zap.String("version", version()),
			zap.String("error", err.Error()), zap.Int("exit_code", codeOf(err)))
	}
}

// joinNumbers writes "--flag -1" as "--flag=-1": kong takes -1 for a short flag. It could be told not to, but then a flag
// whose value was forgotten would swallow the flag after it.
func joinNumbers(args []string) []string {
	var joined []string
	for _, arg := range args {
		last := len(joined) - 1
		_, err := strconv.Atoi(arg)
		if err == nil && arg[0] == '-' && last >= 0 && strings.HasPrefix(joined[last], "--") && !strings.Contains(joined[last], "=") {
			joined[last] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

// selected is the command whose help tells more about a wrong command line.
func selected(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil && wrong.Context.Selected() != nil {
		return wrong.Context.Selected().FullPath()
	}
	return "brazier"
}

// usageError is a wrong setting: nothing was started.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silent is an error that has been told to the user already.
type silent struct{ error }

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	if !errors.As(err, new(silent)) {
		fmt.Fprintf(stderr, "brazier: %v\n", err)
	}
	return codeOf(err)
}

func codeOf(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, errUndrained):
		return exitUndrained
	}
	return exitFailed
}

// Command brazier delivers what Braze webhook campaigns post to Facebook Messenger, through a durable queue.
//
// This package is the table of commands, and those that need all flags or no queue: check, keys, ref and sandbox. The others are
// in the packages below, imported one way:
//
//	main → admin, bench, demo → process → pagefile → cli
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
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"go.uber.org/zap"
	"golang.org/x/term"
)

func main() {
	// Where a peer misbehaves, net/http quotes its bytes to the standard logger. Nothing here writes to it on purpose.
	log.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	ctx, signals := cli.FollowSignals(stderr)
	std := cli.Stdio{Out: stdout, Err: stderr, Signals: signals}
	if cli.IsTerminal(stdout) && term.IsTerminal(int(os.Stdin.Fd())) {
		std.In = os.Stdin
	}
	return execute(ctx, args, std)
}

// execute is run without the process around it, for tests.
func execute(ctx context.Context, args []string, std cli.Stdio) int {
	var all commands
	exited := -1
	parser, err := kong.New(&all,
		kong.Name("brazier"),
		kong.Description(description),
		kong.DefaultEnvars("BRAZIER"),
		kong.Writers(std.Out, std.Err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110}),
		kong.ExplicitGroups(groups),
		cli.Units(),
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
		fmt.Fprintf(std.Err, "brazier: %v\nSee %s --help.\n", err, selected(err))
		var wrong *kong.ParseError
		if errors.As(err, &wrong) {
			all.failed(wrong.Context, std, cli.Usage(err))
		}
		return cli.ExitUsage
	}
	std.Variables = cli.VariablesOf(parser.Model.Node)
	forget := std.Signals.BeforeExit(func() { all.failed(parsed, std, cli.ErrSecondSignal) })
	err = parsed.Run(std)
	forget()
	cli.Report(err, std.Err)
	all.failed(parsed, std, err)
	return cli.ExitCode(err)
}

// failed logs why a role ends, for those who see nothing but its log. The text on standard error says the same.
func (c *commands) failed(parsed *kong.Context, std cli.Stdio, err error) {
	if err == nil || parsed == nil || parsed.Selected() == nil {
		return
	}
	role := parsed.Selected().Name
	var flags cli.LogFlags
	switch role {
	case "serve":
		flags = c.Serve.LogFlags
	case "ingress":
		flags = c.Ingress.LogFlags
	case "worker":
		flags = c.Worker.LogFlags
	default:
		return
	}
	if flags.Format == "" { // the command line was wrong before its values were set
		flags.Format, flags.Keys = os.Getenv("BRAZIER_LOG_FORMAT"), os.Getenv("BRAZIER_LOG_KEYS")
		for _, step := range parsed.Path {
			switch {
			case step.Flag == nil:
			case step.Flag.Name == "log-format":
				flags.Format, _ = parsed.FlagValue(step.Flag).(string)
			case step.Flag.Name == "log-keys":
				flags.Keys, _ = parsed.FlagValue(step.Flag).(string)
			}
		}
	}
	if flags.JSON(std.Err) {
		flags.Logger(std.Err).Error("failed", zap.String("event", "failed"), zap.String("role", role), zap.String("version", cli.Version()),
			zap.String("error", err.Error()), zap.Int("exit_code", cli.ExitCode(err)))
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

package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

var commandNames = []string{"demo", "serve", "ingress", "worker", "sandbox", "bench", "check"}

// overviewNames are all that stand alone in the overview.
var overviewNames = append(slices.Clone(commandNames), "trace", "campaign", "health", "status", "setup", "version")

// help returns what brazier COMMAND --help prints.
func help(t *testing.T, command ...string) string {
	t.Helper()
	code, out, complaints := runCommand(t, append(command, "--help")...)
	if code != cli.ExitOK || complaints != "" {
		t.Fatalf("%v --help: code %d, complaints %q", command, code, complaints)
	}
	return out
}

// flagsOf returns the flags of a help text, each with its entry there, in one line.
func flagsOf(text string) map[string]string {
	flags := make(map[string]string)
	_, text, _ = strings.Cut(text, "\nFlags:\n")
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := regexp.MustCompile(`^(?:-\w, )?(--[a-z-]+)`).FindStringSubmatch(line); m != nil {
			name = m[1]
		}
		if line == "" { // a heading may follow
			name = ""
		}
		if name != "" {
			flags[name] = strings.TrimSpace(flags[name] + " " + line)
		}
	}
	return flags
}

func TestHelp(t *testing.T) {
	overview := help(t)
	for _, want := range append(slices.Clone(overviewNames), "brazier demo", "Exit codes: 0 ", "BRAZIER_") {
		if !strings.Contains(overview, want) {
			t.Errorf("brazier --help does not mention %q", want)
		}
	}
	if listed := regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`).FindAllStringSubmatch(overview, -1); len(listed) != len(overviewNames) {
		t.Errorf("brazier --help lists %q, want %q", listed, overviewNames)
	}
	for _, command := range commandNames {
		text := help(t, command)
		if !strings.HasPrefix(text, "Usage: brazier "+command+" ") {
			t.Errorf("%s --help begins with %.60q", command, text)
		}
		for line := range strings.Lines(text) {
			if len([]rune(line)) > 120 {
				t.Errorf("%s --help has a line of %d characters: %s", command, len(line), line)
			}
		}
		for flag, entry := range flagsOf(text) {
			if flag == "--help" || flag == "--version" {
				continue
			}
			variable := "($BRAZIER_" + strings.ToUpper(strings.ReplaceAll(flag[2:], "-", "_")) + ")"
			if command == "sandbox" && (flag == "--listen" || flag == "--pages") { // the ingress's are others
				variable = strings.Replace(variable, "BRAZIER_", "BRAZIER_SANDBOX_", 1)
			}
			if command == "bench" { // what it starts has settings of its own
				variable = strings.Replace(variable, "BRAZIER_", "BRAZIER_BENCH_", 1)
			}
			if !strings.Contains(entry, variable) {
				t.Errorf("%s %s: the variable %s is not shown: %s", command, flag, variable, entry)
			}
			// A default follows the =, or a placeholder in capitals; a switch has none.
			shown, description, _ := strings.Cut(entry, " ")
			_, value, takesValue := strings.Cut(shown, "=")
			if takesValue && strings.ToUpper(value) == value && !regexp.MustCompile(`[0-9:]`).MatchString(value) &&
				!strings.Contains(description, "Default: none") && !strings.Contains(description, "Without one") {
				t.Errorf("%s %s: the default is not shown: %s", command, flag, entry)
			}
			if words := strings.Fields(description); len(words) < 4 {
				t.Errorf("%s %s: no description: %s", command, flag, entry)
			}
		}
	}
}

// Scripts rely on these.
func TestPromisedFlags(t *testing.T) {
	for command, promised := range map[string]string{
		"serve":   "--listen --ops-listen --data --sync --pages --graph-url --graph-version --log-level --log-format",
		"ingress": "--listen --ops-listen --nats-url --pages --log-level --log-format",
		"worker":  "--ops-listen --nats-url --pages --graph-url --graph-version --log-level --log-format",
		"sandbox": "--listen",
		"check":   "--listen --ops-listen --data --sync --nats-url --pages --graph-url --graph-version --log-level --log-format",
	} {
		have := flagsOf(help(t, command))
		for flag := range strings.FieldsSeq(promised) {
			if have[flag] == "" {
				t.Errorf("%s has no %s", command, flag)
			}
		}
	}
	for _, command := range []string{"serve", "ingress", "check"} {
		if entry := flagsOf(help(t, command))["--listen"]; !strings.HasPrefix(entry, `--listen="127.0.0.1:8080" `) {
			t.Errorf("%s: the ingress's default address is not 127.0.0.1:8080: %s", command, entry)
		}
	}
	// check knows every setting of the roles.
	checked := flagsOf(help(t, "check"))
	for _, command := range []string{"serve", "ingress", "worker"} {
		for flag := range flagsOf(help(t, command)) {
			if checked[flag] == "" {
				t.Errorf("check has no %s, which %s has", flag, command)
			}
		}
	}
}

// What the README says of flags and variables exists.
func TestREADMEFlags(t *testing.T) {
	exists := make(map[string]bool)
	for _, command := range commandNames {
		for flag := range flagsOf(help(t, command)) {
			exists[flag] = true
			exists["BRAZIER_"+strings.ToUpper(strings.ReplaceAll(flag[2:], "-", "_"))] = true
		}
	}
	for flag := range flagsOf(help(t, "setup")) {
		exists[flag] = true
	}
	for _, command := range []string{"list", "show", "replay", "discard"} {
		for flag := range flagsOf(help(t, "deadletters", command)) {
			exists[flag] = true
		}
	}
	for _, command := range []string{"list", "hold", "resume"} {
		for flag := range flagsOf(help(t, "pages", command)) {
			exists[flag] = true
		}
	}
	for _, command := range []string{"ref new", "ref check", "people show", "people forget", "webhook status", "webhook subscribe", "campaign", "trace"} {
		for flag := range flagsOf(help(t, strings.Fields(command)...)) {
			exists[flag] = true
		}
	}
	// Streams are called like variables.
	exists["BRAZIER_DEAD"], exists["BRAZIER_JOBS"], exists["BRAZIER_CAMPAIGNS"] = true, true, true
	mentioned := make(map[string]bool)
	for _, name := range regexp.MustCompile(`(?:^|[\s`+"`"+`(])(--[a-z][a-z-]+|BRAZIER_[A-Z_]+)`).FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		mentioned[name[1]] = true
	}
	if len(mentioned) < 5 {
		t.Errorf("the README mentions %v only: is it read rightly?", mentioned)
	}
	for _, name := range slices.Sorted(maps.Keys(mentioned)) {
		if !exists[name] {
			t.Errorf("the README mentions %s, which does not exist", name)
		}
	}
}

// What people try first, before they know anything.
func TestFirstSteps(t *testing.T) {
	_, overview, _ := runCommand(t, "--help")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, overview},
		{[]string{"help"}, overview},
		{[]string{"help", "serve"}, "Usage: brazier serve"},
		{[]string{"--version"}, cli.Version()},
	} {
		if code, out, complaints := runCommand(t, c.args...); code != cli.ExitOK || !strings.HasPrefix(out, c.want) || complaints != "" {
			t.Errorf("%v: code %d, out %.60q, complaints %q", c.args, code, out, complaints)
		}
	}
}

// A number may be negative, whether it is written with = or without.
func TestNegativeNumbers(t *testing.T) {
	for _, args := range [][]string{{"sandbox", "--page-rate=-1", "--high-volume", "3"}, {"sandbox", "--page-rate", "-1", "--high-volume", "3"}} {
		if flags := parseFlags(t, joinNumbers(args)); flags["page-rate"] != "-1" || flags["high-volume"] != "3" {
			t.Errorf("%v: page-rate is %s, high-volume %s", args, flags["page-rate"], flags["high-volume"])
		}
	}
	if code, _, complaints := runCommand(t, "check", "--listen", "--pages=x"); code != cli.ExitUsage || !strings.Contains(complaints, "--listen") {
		t.Errorf("a flag without its value: code %d, %s", code, complaints)
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"srve"}, "unexpected argument srve"},
		{[]string{"serve", "--lisen=:80"}, `did you mean "--listen"?`},
		{[]string{"serve", "now"}, "unexpected argument now"},
		{[]string{"serve", "--sync=sometimes"}, `--sync must be one of "always","interval"`},
		{[]string{"serve", "--log-format=xml"}, `--log-format must be one of "json","console","auto"`},
		{[]string{"serve", "--log-level=loud"}, `--log-level must be one of "debug","info","warn","error"`},
		{[]string{"serve", "--store-wait=soon"}, "--store-wait: must be a time such as 90s, 2h, 3d or 1w (got \"soon\")"},
		{[]string{"serve", "--allow-from=203.0.113.0/24,braze.com"}, `separated by commas (got "braze.com")`},
		{[]string{"ingress", "--trusted-proxy=10.0.0.0/33"}, `separated by commas (got "10.0.0.0/33")`},
		{[]string{"ingress", "--data=here"}, "unknown flag --data"},
		{[]string{"worker", "--replicas=many"}, "--replicas: expected a valid"},
	} {
		code, out, complaints := runCommand(t, c.args...)
		complaints, _, _ = strings.Cut(complaints, "{") // and then the same for the log
		if code != cli.ExitUsage || out != "" {
			t.Errorf("%v: code %d, out %q", c.args, code, out)
		}
		see := "brazier" // or the command, where that much was right
		if slices.Contains(commandNames, c.args[0]) {
			see += " " + c.args[0]
		}
		if !strings.HasPrefix(complaints, "brazier: ") || !strings.Contains(complaints, c.want) || !strings.HasSuffix(complaints, "\nSee "+see+" --help.\n") {
			t.Errorf("%v: %s", c.args, complaints)
		}
	}
	t.Setenv("BRAZIER_SYNC", "sometimes")
	if code, _, complaints := runCommand(t, "check"); code != cli.ExitUsage || !strings.Contains(complaints, "--sync must be one of") {
		t.Errorf("a wrong variable: code %d, %s", code, complaints)
	}
}

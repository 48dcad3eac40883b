package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

var (
	duration = regexp.MustCompile(`N(ms|s)\b`)
	traceID  = regexp.MustCompile(`\bA[\w-]{22}$`)
)

// shape is a line without figures and without what differs from run to run.
func shape(line string) string {
	line = traceID.ReplaceAllString(line, "FBTRACE")
	return duration.ReplaceAllString(spaces.ReplaceAllString(figure.ReplaceAllString(line, "N"), " "), "Ns")
}

// README.md shows what campaign and trace print of the demo's campaign. It may leave lines out.
func TestREADMEForDemo(t *testing.T) {
	t.Parallel()
	demo := startRole(t, "demo")
	eventually(t, "the demo stays up", func() bool { return strings.Contains(demo.log.String(), "stays up until") })
	var shown []string
	asked := regexp.MustCompile(`(?m)^  (brazier (?:campaign|trace) (\S+)) --data (\S+)$`).FindAllStringSubmatch(demo.log.String(), -1)
	for _, m := range asked {
		args := append(strings.Fields(m[1])[1:], "--data", m[3])
		var out []string
		eventually(t, m[1]+" shows it", func() bool { // counts are written once a second
			code, printed, complaints := runCommand(t, args...)
			out = strings.Split(printed, "\n")
			if code != cli.ExitOK && !strings.Contains(complaints, "nothing was counted") {
				t.Fatalf("%s: exit code %d, %s", m[1], code, complaints)
			}
			return m[2] != "order-shipped" || slices.ContainsFunc(out, func(line string) bool { return strings.HasPrefix(line, "waiting") && strings.HasSuffix(line, " 0") })
		})
		shown = append(shown, "$ "+m[1])
		shown = append(shown, out...)
	}
	for i := range shown {
		shown[i] = shape(shown[i])
	}
	lines := strings.Split(block(t, read(t, "../../README.md"), "demo"), "\n")
	for _, line := range lines {
		if !slices.Contains(shown, shape(line)) {
			t.Errorf("README.md shows %q, which is not in\n%s", line, strings.Join(shown, "\n"))
		}
	}
	if len(asked) != 2 || len(lines) < 15 {
		t.Errorf("the demo tells of %d commands, README.md has %d lines", len(asked), len(lines))
	}
}
